//! A place where machines can be made: a driver with its directory, and the way into the namespaces of the other worlds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use consort_machine::driver::{ControlError, Driver, Started};
use consort_machine::image::{ImageId, ImageStore};
use consort_machine::sandbox::SandboxDriver;
use consort_machine::session::{ExecRequest, ExecSession};
use consort_machine::spec::{KeeperCommand, MachineId, MachineSpec, Nic, RestartPolicy};
use consort_machine::wire::Frame;
use consort_machine::wire::frame::Decoder;
use nix::sched::{CloneFlags, unshare};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A driver with its own directory.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) driver: SandboxDriver,
    pub(crate) directory: PathBuf,
    pub(crate) image: ImageId,
    pub(crate) has_shell: bool,
    /// Why machines have no devices here, if they have none.
    pub(crate) no_taps: Option<String>,
    runtime: tokio::runtime::Runtime,
}

/// What a program in a machine printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    /// Opens a driver and proves it with one machine.
    pub(crate) fn open(name: &str) -> Result<Self> {
        // The number of a process in a namespace of its own says little; the time tells runs apart.
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos();
        let outer = std::env::temp_dir().join(format!("consort-world-{name}-{time:x}"));
        let directory = outer.join("home");
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
        // As when root's node has its directory in a user's home; where this is not root, it is its own.
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o700))?;
        if name == "here" && nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&outer, Some(1), Some(1))?;
        }
        // Threads of the runtime are made here; keepers are programs of their own.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let guard = runtime.enter();
        let images = ImageStore::open(&directory.join("images"))?;
        let (image, report) = images.ensure_mini()?;
        let driver = open_driver(&directory, images)?;
        drop(guard);
        let no_taps = fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/net/tun")
            .err()
            .map(|e| format!("/dev/net/tun: {e}"));
        let has_shell = report.tools.iter().any(|tool| tool == "sh");
        let name = name.to_owned();
        let world = Self { name, driver, directory, image, has_shell, no_taps, runtime };
        let spec = world.spec();
        world.start(&spec).context("a first machine")?;
        world.remove(&spec.id)?;
        Ok(world)
    }

    pub(crate) fn describe(&self) -> String {
        let spec = self.spec();
        let begun = std::time::Instant::now();
        let Ok(started) = self.start(&spec) else { return "no machine can be made".to_owned() };
        println!("    one machine in {:?}", begun.elapsed());
        let _ = self.remove(&spec.id);
        let taps = self
            .no_taps
            .as_ref()
            .map_or_else(|| "with TAPs".to_owned(), |why| format!("machines without devices ({why})"));
        format!("{taps}; {:?}", started.limits)
    }

    /// A second driver on the same directory: what a restarted daemon is.
    pub(crate) fn restarted(&self) -> Result<SandboxDriver> {
        let _guard = self.runtime.enter();
        open_driver(&self.directory, ImageStore::open(&self.directory.join("images"))?)
    }

    /// A machine with a name of its own, and an `eth0` where devices can be made.
    pub(crate) fn spec(&self) -> MachineSpec {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let nic = Nic {
            name: "eth0".into(),
            mac: [2, 0, 0, 0, 1, number.to_le_bytes()[0]],
            mtu: 1400,
            ipv4: vec![("10.7.0.2".parse().unwrap(), 24)],
            ipv6: vec![("fd00:7::2".parse().unwrap(), 64)],
            queues: 1,
        };
        MachineSpec {
            id: format!("m-{number}").parse().unwrap(),
            hostname: format!("host-{number}"),
            image: self.image,
            cpus_milli: 1000,
            memory_bytes: 64 << 20,
            disk_bytes: 64 << 20,
            pids_max: 64,
            nics: if self.no_taps.is_none() { vec![nic] } else { Vec::new() },
            hosts: vec![("10.7.0.3".parse().unwrap(), "neighbour".into())],
            run: None,
            restart: RestartPolicy::Never,
            start_within: Duration::from_secs(20),
            lease: Duration::from_secs(300),
        }
    }

    /// Machines described so far, in all tests.
    pub(crate) fn machines_so_far() -> u32 {
        NEXT.load(Ordering::Relaxed)
    }

    /// A driver on the same directory with another keeper.
    pub(crate) fn driver_with(&self, keeper: KeeperCommand) -> Result<SandboxDriver> {
        let _guard = self.runtime.enter();
        let images = ImageStore::open(&self.directory.join("images"))?;
        Ok(SandboxDriver::open(&self.directory.join("machines"), images, keeper)?)
    }

    /// A driver of another directory, with the same images.
    pub(crate) fn driver_in(&self, machines: &Path) -> Result<SandboxDriver> {
        let _guard = self.runtime.enter();
        let images = ImageStore::open(&self.directory.join("images"))?;
        let keeper =
            KeeperCommand { program: env!("CARGO_BIN_EXE_consort-keeper").into(), arguments: Vec::new() };
        Ok(SandboxDriver::open(machines, images, keeper)?)
    }

    /// A session whose end is not waited for.
    pub(crate) async fn driver_exec(&self, id: &MachineId, words: &[&str]) -> Result<ExecSession> {
        Ok(self.driver.exec(id, ExecRequest::of(words.iter().copied())).await?)
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn start(&self, spec: &MachineSpec) -> Result<Started> {
        Ok(self.wait(self.driver.start(spec))?)
    }

    pub(crate) fn remove(&self, id: &MachineId) -> Result<(), ControlError> {
        self.wait(self.driver.remove(id))
    }

    /// Starts a machine, does something with it, and removes it whatever came of it.
    pub(crate) fn with_machine<T>(
        &self,
        spec: &MachineSpec,
        body: impl FnOnce(&MachineId, Started) -> Result<T>,
    ) -> Result<T> {
        let started = self.start(spec)?;
        let outcome = body(&spec.id, started);
        let removed = self.remove(&spec.id);
        let value = outcome?;
        removed.context("remove the machine")?;
        Ok(value)
    }

    pub(crate) fn run(&self, id: &MachineId, words: &[&str]) -> Result<Ran> {
        self.run_with(id, ExecRequest::of(words.iter().copied()), b"")
    }

    pub(crate) fn shell(&self, id: &MachineId, script: &str) -> Result<Ran> {
        self.run(id, &["sh", "-c", script])
    }

    /// Runs a program to its end, giving it `input`.
    pub(crate) fn run_with(&self, id: &MachineId, request: ExecRequest, input: &[u8]) -> Result<Ran> {
        let work = async {
            let stream = self.driver.exec(id, request).await?.stream;
            let (read, mut write) = stream.into_split();
            let give = async {
                for part in input.chunks(32 * 1024) {
                    write.write_all(&Frame::Stdin(part.to_vec()).encode()).await?;
                }
                write.write_all(&Frame::StdinEnd.encode()).await
            };
            // A program may end without reading; what it printed and its end are read all the same.
            let (given, ran) = tokio::join!(give, collect(read));
            drop(write);
            ran.with_context(|| format!("input: {given:?}"))
        };
        self.wait(async {
            tokio::time::timeout(Duration::from_secs(60), work).await.context("the program did not end")?
        })
    }
}

/// Reads a session to its end.
pub(crate) async fn collect(mut stream: impl tokio::io::AsyncRead + Unpin) -> Result<Ran> {
    let mut decoder = Decoder::default();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 * 1024];
    loop {
        while let Some(frame) = decoder.next()? {
            match frame {
                Frame::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Frame::Stderr(bytes) => stderr.extend_from_slice(&bytes),
                Frame::Exit(code) => {
                    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                    return Ok(Ran { code, stdout: text(stdout), stderr: text(stderr) });
                }
                other => bail!("{other:?} from a program"),
            }
        }
        match stream.read(&mut buffer).await? {
            0 => bail!("the session ended without an exit"),
            length => decoder.push(&buffer[..length]),
        }
    }
}

fn open_driver(directory: &Path, images: ImageStore) -> Result<SandboxDriver> {
    let keeper =
        KeeperCommand { program: env!("CARGO_BIN_EXE_consort-keeper").into(), arguments: Vec::new() };
    Ok(SandboxDriver::open(&directory.join("machines"), images, keeper)?)
}

impl Drop for World {
    fn drop(&mut self) {
        self.wait(async {
            for found in self.driver.recover().await.unwrap_or_default() {
                let _ = self.driver.remove(&found.id).await;
            }
        });
        let outer = self.directory.parent().unwrap_or(&self.directory);
        if let Err(error) = fs::remove_dir_all(outer) {
            println!("{} is left: {error}", self.directory.display());
        }
    }
}

/// Whether a world has a mount namespace of its own.
pub(crate) fn has_own_mounts(world: &str) -> bool {
    matches!(world, "single" | "nobody")
}

/// Runs all tests in another world; true if none failed.
pub(crate) fn run_in(world: &str, filters: &[String]) -> bool {
    let own = std::env::current_exe().expect("a program knows its file");
    match Command::new(own).args(["--enter", world]).args(filters).status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("world {world}: FAILED to start: {error}");
            false
        }
    }
}

/// Enters a world's namespaces and runs the tests in them as their first process.
pub(crate) fn enter(world: &str, filters: &[String]) -> ExitCode {
    if let Err(error) = enter_namespaces(world) {
        println!("world {world}: SKIPPED: {error:#}");
        return ExitCode::SUCCESS;
    }
    let mut command = Command::new("/proc/self/exe");
    command.args(["--world", world]).args(filters);
    command.arg0("sandbox-tests");
    // The new pid namespace begins with the next process.
    match command.status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("world {world}: FAILED to start: {error}");
            ExitCode::FAILURE
        }
    }
}

fn enter_namespaces(world: &str) -> Result<()> {
    if world != "single" {
        if !nix::unistd::geteuid().is_root() {
            bail!("only root can become nobody; world here is what this would be");
        }
        open_tun_to_all()?;
        let nobody = 65534;
        nix::unistd::setgroups(&[])?;
        nix::unistd::setresgid(nobody.into(), nobody.into(), nobody.into())?;
        nix::unistd::setresuid(nobody.into(), nobody.into(), nobody.into())?;
        // Changing users closed this process, and with it the files in which its maps are written.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::Dumpable)?;
    }
    if world == "plain" {
        return Ok(());
    }
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let own = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET;
    unshare(own).context("make user, mount, pid and network namespaces")?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(())
}

/// Most distributions let every user open `/dev/net/tun`; on a host that does not, root shows these worlds one that does, in a mount
/// namespace of their own.
fn open_tun_to_all() -> Result<()> {
    use nix::mount::{MsFlags, mount};
    use nix::sys::stat::{Mode, SFlag, makedev, mknod, umask};
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make mounts private")?;
    if !Path::new("/dev/net/tun").exists() {
        return Ok(());
    }
    mount(Some("tmpfs"), "/dev/net", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755"))
        .context("mount /dev/net")?;
    let mask = umask(Mode::empty());
    // misc(10), tun(200): the kernel's devices.txt.
    let made = mknod("/dev/net/tun", SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(10, 200));
    umask(mask);
    made.context("make /dev/net/tun")
}

/// The first process of the new pid namespace shows itself its own `/proc`.
pub(crate) fn settle(world: &str) -> Result<()> {
    use nix::mount::{MsFlags, mount};
    if !has_own_mounts(world) {
        return Ok(());
    }
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("make mounts private")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), quiet, None::<&str>).context("mount /proc")
}
