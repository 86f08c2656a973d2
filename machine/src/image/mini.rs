//! The mini image: a small system without a download.
//!
//! Its init is the guest program, which every machine gets from its driver; the image adds `/etc`, mount points, and for looking
//! around a shell with the usual small tools, copied now from what the host has: a static busybox if there is one, else the host's
//! own programs with the libraries they need. Nothing of the host is ever mounted into a machine. On a host with neither, the image
//! works without a shell, and the [`MiniReport`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dynamic::{FILE_BYTES_MAX, Loader, STANDARD};
use super::elf;
use super::tree::copy_file;

/// Bytes of tools and libraries at most: a minute's worth of a slow volunteer's disk would be too much for looking around.
const TOTAL_BYTES_MAX: u64 = 64 << 20;

/// Where hosts keep programs.
const PROGRAM_DIRECTORIES: [&str; 6] =
    ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/local/sbin"];

/// The tools, taken where the host has them. `sh` comes first: without it the others are of little use.
const TOOLS: [&str; 72] = [
    "sh",
    "bash",
    "cat",
    "ls",
    "ps",
    "cp",
    "mv",
    "rm",
    "ln",
    "mkdir",
    "rmdir",
    "touch",
    "chmod",
    "chown",
    "chgrp",
    "echo",
    "printf",
    "env",
    "printenv",
    "pwd",
    "sleep",
    "date",
    "uname",
    "hostname",
    "id",
    "whoami",
    "true",
    "false",
    "test",
    "[",
    "expr",
    "seq",
    "head",
    "tail",
    "wc",
    "sort",
    "uniq",
    "cut",
    "tr",
    "tee",
    "dd",
    "df",
    "du",
    "stat",
    "sync",
    "sha256sum",
    "md5sum",
    "cksum",
    "basename",
    "dirname",
    "readlink",
    "realpath",
    "mktemp",
    "mkfifo",
    "nproc",
    "timeout",
    "yes",
    "kill",
    "free",
    "uptime",
    "top",
    "grep",
    "sed",
    "find",
    "xargs",
    "awk",
    "gzip",
    "tar",
    "less",
    "ip",
    "ss",
    "setpriv",
];

/// Terminals that `less`, `top` and line editing may be asked to drive.
const TERMINALS: [&str; 8] = [
    "x/xterm",
    "x/xterm-256color",
    "l/linux",
    "v/vt100",
    "v/vt220",
    "d/dumb",
    "s/screen",
    "s/screen-256color",
];

const DIRECTORIES: [(&str, u32); 18] = [
    ("bin", 0o755),
    ("consort", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("lib64", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/lib", 0o755),
    ("var", 0o755),
    ("var/log", 0o755),
];

const LINKS: [(&str, &str); 9] = [
    ("sbin", "bin"),
    ("usr/bin", "../bin"),
    ("usr/sbin", "../bin"),
    ("var/run", "../run"),
    ("var/tmp", "../tmp"),
    ("bin/consort-guest", "/consort/guest"),
    ("bin/ping", "/consort/guest"),
    ("etc/mtab", "/proc/self/mounts"),
    ("usr/lib64", "../lib64"),
];

const FILES: [(&str, &str); 9] = [
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/hostname", "machine\n"),
    ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
    ("etc/resolv.conf", ""),
    ("etc/shells", "/bin/sh\n"),
    ("etc/profile", "export PATH=/bin:/consort\nPS1='$HOSTNAME:$PWD# '\n"),
    ("etc/os-release", "NAME=\"Consort mini\"\nID=consort-mini\nPRETTY_NAME=\"Consort mini image\"\n"),
];

/// What is in a mini image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MiniReport {
    /// Where the shell came from.
    pub shell: ShellSource,
    /// The tools' names.
    pub tools: Vec<String>,
    /// Tools that the host has and that could not be taken, with the reason.
    pub left_out: Vec<String>,
    /// Bytes of tools and libraries.
    pub bytes: u64,
}

/// Where a mini image's shell came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShellSource {
    /// A static busybox.
    Busybox(PathBuf),
    /// The host's own programs.
    Host(PathBuf),
    /// There is none: machines run their command and the guest program's own, and nothing else.
    None,
}

/// Fills an empty directory.
pub(super) fn make(root: &Path) -> io::Result<MiniReport> {
    make_from(root, &PROGRAM_DIRECTORIES)
}

fn make_from(root: &Path, programs: &[&str]) -> io::Result<MiniReport> {
    skeleton(root)?;
    let mut making = Making { root, programs, bytes: 0, taken: BTreeMap::new() };
    let report = match static_busybox(programs) {
        Some(busybox) => making.take_busybox(&busybox)?,
        None => making.take_host_tools()?,
    };
    making.take_terminals()?;
    Ok(MiniReport { bytes: making.bytes, ..report })
}

fn skeleton(root: &Path) -> io::Result<()> {
    fs::set_permissions(root, fs::Permissions::from_mode(0o755))?;
    for (path, mode) in DIRECTORIES {
        fs::create_dir(root.join(path))?;
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode))?;
    }
    for (path, target) in LINKS {
        symlink(target, root.join(path))?;
    }
    for (path, content) in FILES {
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(root.join(path))?;
        io::Write::write_all(&mut file, content.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn find_program(programs: &[&str], name: &str) -> Option<PathBuf> {
    programs
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

fn static_busybox(programs: &[&str]) -> Option<PathBuf> {
    ["busybox", "busybox.static", "busybox-static"]
        .iter()
        .filter_map(|name| find_program(programs, name))
        .find(|path| {
            let small = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
            small
                && fs::read(path).is_ok_and(|file| {
                    elf::needs(&file)
                        .is_ok_and(|needs| needs.interpreter.is_none() && needs.libraries.is_empty())
                })
        })
}

struct Making<'a> {
    root: &'a Path,
    /// Where the host keeps programs.
    programs: &'a [&'a str],
    bytes: u64,
    /// Host path → path in the image.
    taken: BTreeMap<PathBuf, PathBuf>,
}

impl Making<'_> {
    fn take_busybox(&mut self, busybox: &Path) -> io::Result<MiniReport> {
        self.bytes += copy_file(busybox, &self.root.join("bin/busybox"), 0o755)?;
        let listed = std::process::Command::new(busybox).arg("--list").output()?;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut tools: BTreeSet<String> = BTreeSet::new();
        for applet in listed.lines().take(1024) {
            let plain = !applet.is_empty()
                && !applet.contains('/')
                && applet != "busybox"
                && !applet.starts_with('.');
            if plain
                && !self.root.join("bin").join(applet).exists()
                && fs::symlink_metadata(self.root.join("bin").join(applet)).is_err()
            {
                symlink("busybox", self.root.join("bin").join(applet))?;
                tools.insert(applet.to_owned());
            }
        }
        let shell =
            if tools.contains("sh") { ShellSource::Busybox(busybox.to_owned()) } else { ShellSource::None };
        Ok(MiniReport { shell, tools: tools.into_iter().collect(), left_out: Vec::new(), bytes: 0 })
    }

    fn take_host_tools(&mut self) -> io::Result<MiniReport> {
        let loader = Loader::of_host();
        let mut tools = Vec::new();
        let mut left_out = Vec::new();
        let mut shell = ShellSource::None;
        for tool in TOOLS {
            let Some(path) = find_program(self.programs, tool) else { continue };
            match self.take_program(&loader, tool, &path)? {
                Ok(()) => {
                    if tool == "sh" {
                        shell = ShellSource::Host(path);
                    }
                    tools.push(tool.to_owned());
                }
                Err(reason) => left_out.push(format!("{tool}: {reason}")),
            }
        }
        Ok(MiniReport { shell, tools, left_out, bytes: 0 })
    }

    /// Takes one program with its libraries, or says why not. Programs that are one file under several names stay one file.
    fn take_program(&mut self, loader: &Loader, name: &str, path: &Path) -> io::Result<Result<(), String>> {
        let real = path.canonicalize()?;
        let target = PathBuf::from("/bin").join(name);
        if let Some(taken) = self.taken.get(&real) {
            let file_name = taken.file_name().expect("taken programs have names").to_owned();
            symlink(file_name, self.root.join("bin").join(name))?;
            return Ok(Ok(()));
        }
        let libraries = match loader.closure(&real) {
            Ok(libraries) => libraries,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let new: u64 = libraries
            .iter()
            .chain([&real])
            .filter(|file| !self.taken.contains_key(*file))
            .map(|file| fs::metadata(file).map(|metadata| metadata.len()))
            .sum::<io::Result<u64>>()?;
        if self.bytes + new > TOTAL_BYTES_MAX {
            return Ok(Err(format!("the image would hold more than {TOTAL_BYTES_MAX} bytes")));
        }
        for library in &libraries {
            self.take_library(library)?;
        }
        self.bytes += copy_file(&real, &self.root.join("bin").join(name), 0o755)?;
        self.taken.insert(real, target);
        Ok(Ok(()))
    }

    /// A library keeps its path. One outside the loader's standard directories gets a link inside them, because the host's cache is
    /// not taken along.
    fn take_library(&mut self, library: &Path) -> io::Result<()> {
        if self.taken.contains_key(library) {
            return Ok(());
        }
        let inside = library.strip_prefix("/").expect("libraries are found by absolute path");
        let target = self.root.join(inside);
        let parent = target.parent().expect("a file has a directory");
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        if fs::symlink_metadata(&target).is_err() {
            self.bytes += copy_file(library, &target, 0o755)?;
        }
        let directory = library.parent().expect("a file has a directory");
        if !STANDARD.iter().any(|standard| directory == Path::new(standard)) {
            let name = library.file_name().expect("a library has a name");
            for standard in ["lib", "lib64"] {
                let link = self.root.join(standard).join(name);
                if fs::symlink_metadata(&link).is_err() {
                    symlink(library, link)?;
                }
            }
        }
        self.taken.insert(library.to_owned(), library.to_owned());
        Ok(())
    }

    fn take_terminals(&mut self) -> io::Result<()> {
        for name in TERMINALS {
            let found = ["/lib/terminfo", "/usr/share/terminfo", "/etc/terminfo"]
                .iter()
                .map(|directory| Path::new(directory).join(name))
                .find(|path| fs::metadata(path).is_ok_and(|m| m.is_file() && m.len() <= 64 * 1024));
            if let Some(path) = found {
                let target = self.root.join("lib/terminfo").join(name);
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(target.parent().expect("a file has a directory"))?;
                self.bytes += copy_file(&path, &target, 0o644)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_dir::TestDir;

    #[test]
    fn what_is_taken_can_be_loaded_from_the_image_alone() {
        let dir = TestDir::new("mini-make");
        let report = make(dir.path()).unwrap();
        let Some(tool) = report.tools.first() else { return };
        let file = fs::read(dir.path().join("bin").join(tool)).unwrap();
        let needs = elf::needs(&file).unwrap();
        if let Some(interpreter) = needs.interpreter {
            assert!(dir.path().join(interpreter.trim_start_matches('/')).exists());
        }
        for library in needs.libraries {
            let found =
                STANDARD.iter().any(|standard| dir.path().join(&standard[1..]).join(&library).exists());
            assert!(found, "{library} is in a standard directory of the image");
        }
        assert!(report.bytes <= TOTAL_BYTES_MAX);
    }

    #[test]
    fn without_programs_on_the_host_the_image_says_so() {
        let dir = TestDir::new("mini-bare");
        let report = make_from(dir.path(), &[]).unwrap();
        assert_eq!((report.shell, report.tools), (ShellSource::None, Vec::new()));
        assert!(dir.path().join("etc/passwd").is_file());
    }

    #[test]
    fn nothing_in_the_image_has_more_rights_than_its_user() {
        let dir = TestDir::new("mini-modes");
        make(dir.path()).unwrap();
        let mut open = vec![dir.path().to_owned()];
        while let Some(path) = open.pop() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                let metadata = entry.metadata().unwrap();
                if metadata.is_dir() {
                    open.push(entry.path());
                } else if metadata.is_file() {
                    assert_eq!(metadata.permissions().mode() & 0o7000, 0, "{:?}", entry.path());
                }
            }
        }
    }
}
