//! `http`: serving and fetching over HTTP/1.1 (RFC 9112), one request to a connection.
//!
//! `GET /bytes/N` gives N bytes that follow from N alone, so two machines can compare what was carried without sharing a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Failure;
use crate::hash::Sha256;
use crate::text::{Arguments, json, resolve_port, unknown};

/// Connections served at once; more are closed at once, which a client sees and may try again.
const CONNECTIONS_MAX: usize = 64;
/// A request's or response's head at most.
const HEAD_MAX: u64 = 16 * 1024;
/// Bytes of one read or write.
const PART: usize = 64 * 1024;
/// A peer silent for this long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// Bad usage, or the network's.
pub fn run(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    match arguments.word("serve, fetch or expect")?.as_str() {
        "serve" => serve(arguments),
        "fetch" => fetch(arguments),
        "expect" => {
            let length = arguments.value("expect")?;
            arguments.end()?;
            let mut hash = Sha256::default();
            write_bytes(length, &mut HashWriter(&mut hash)).map_err(Failure::at("hash"))?;
            println!("{}", hash.finish());
            Ok(ExitCode::SUCCESS)
        }
        other => Err(Failure::Usage(format!("{other}: http serves, fetches or expects"))),
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Listens on both families, or on IPv4 alone in a kernel without IPv6.
pub(super) fn listen(port: u16) -> Result<TcpListener, Failure> {
    TcpListener::bind(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port))
        .or_else(|_| TcpListener::bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)))
        .map_err(Failure::at(format!("listen on port {port}")))
}

/// The bytes of `/bytes/N`: a xorshift generator seeded by N.
fn write_bytes(length: u64, out: &mut impl Write) -> io::Result<()> {
    let mut state = length ^ 0x9e37_79b9_7f4a_7c15;
    let mut left = length;
    let mut part = vec![0_u8; PART];
    while left > 0 {
        for word in part.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        let take = usize::try_from(left).unwrap_or(PART).min(PART);
        out.write_all(&part[..take])?;
        left -= take as u64;
    }
    Ok(())
}

fn serve(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut port = 80;
    let mut directory = None;
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--port" => port = arguments.value(&option)?,
            "--dir" => directory = Some(PathBuf::from(arguments.value::<String>(&option)?)),
            other => return Err(unknown(other)),
        }
    }
    arguments.end()?;
    let listener = listen(port)?;
    println!("serving on port {port}");
    let busy = Arc::new(AtomicUsize::new(0));
    let directory = Arc::new(directory);
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        if busy.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
            busy.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (of_thread, directory) = (Arc::clone(&busy), Arc::clone(&directory));
        let spawned = std::thread::Builder::new().spawn(move || {
            if let Err(error) = answer(&stream, directory.as_deref()) {
                eprintln!("http: {error}");
            }
            of_thread.fetch_sub(1, Ordering::Relaxed);
        });
        if let Err(error) = spawned {
            busy.fetch_sub(1, Ordering::Relaxed);
            eprintln!("http: start a thread: {error}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn answer(stream: &TcpStream, directory: Option<&Path>) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream.take(HEAD_MAX));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut out = stream;
    let mut words = first.split(' ');
    let (Some("GET" | "HEAD"), Some(path)) = (words.next(), words.next()) else {
        return out
            .write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let only_head = first.starts_with("HEAD");
    if let Some(length) = path.strip_prefix("/bytes/").and_then(|length| length.parse().ok()) {
        write_head(&mut out, length)?;
        return if only_head { Ok(()) } else { write_bytes(length, &mut out) };
    }
    match directory.and_then(|directory| open_below(directory, path)) {
        Some(file) => {
            let length = file.metadata()?.len();
            write_head(&mut out, length)?;
            if !only_head {
                io::copy(&mut (&file).take(length), &mut out)?;
            }
            Ok(())
        }
        None => out.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
    }
}

fn write_head(out: &mut impl Write, length: u64) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
    );
    out.write_all(head.as_bytes())
}

/// A plain file below the directory; a path that climbs has none.
fn open_below(directory: &Path, path: &str) -> Option<File> {
    let path = Path::new(path.trim_start_matches('/'));
    if !path.components().all(|component| matches!(component, Component::Normal(_))) {
        return None;
    }
    let file = File::open(directory.join(path)).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

struct Fetched {
    status: u16,
    bytes: u64,
    sha256: String,
    seconds: f64,
}

fn fetch(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut as_json = false;
    let mut out = None;
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--json" => as_json = true,
            "--out" => out = Some(arguments.value::<String>(&option)?),
            other => return Err(unknown(other)),
        }
    }
    let url = arguments.word("the address")?;
    arguments.end()?;
    let rest = url
        .strip_prefix("http://")
        .ok_or_else(|| Failure::Usage(format!("{url}: not an http:// address")))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let address = resolve_port(host, Some(80))?;
    let mut file = match &out {
        Some(path) => Some(File::create(path).map_err(Failure::at(path))?),
        None => None,
    };
    let fetched = fetch_from(address, host, path, file.as_mut()).map_err(Failure::at(&url))?;
    let Fetched { status, bytes, sha256, seconds } = &fetched;
    if as_json {
        println!(
            "{{\"url\":{},\"status\":{status},\"bytes\":{bytes},\"sha256\":{},\"seconds\":{seconds:.6}}}",
            json(&url),
            json(sha256)
        );
    } else {
        println!("{status} {bytes} bytes in {seconds:.3} s, sha256 {sha256}");
    }
    Ok(if fetched.status == 200 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn fetch_from(
    address: SocketAddr,
    host: &str,
    path: &str,
    mut file: Option<&mut File>,
) -> io::Result<Fetched> {
    let start = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, SILENCE)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream
        .write_all(format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut reader = BufReader::with_capacity(PART, stream);
    let (status, length) = read_head(&mut reader)?;
    let mut hash = Sha256::default();
    let mut left = length;
    let mut part = vec![0; PART];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(PART).min(PART);
        let read = reader.read(&mut part[..most])?;
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{left} bytes short")));
        }
        hash.update(&part[..read]);
        if let Some(file) = &mut file {
            file.write_all(&part[..read])?;
        }
        left -= read as u64;
    }
    Ok(Fetched { status, bytes: length, sha256: hash.finish(), seconds: start.elapsed().as_secs_f64() })
}

fn read_head(reader: &mut impl BufRead) -> io::Result<(u16, u64)> {
    let bad = |words| io::Error::new(io::ErrorKind::InvalidData, words);
    let mut head = reader.by_ref().take(HEAD_MAX);
    let mut line = String::new();
    head.read_line(&mut line)?;
    let status = line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| bad("not an HTTP/1 response"))?;
    let mut length = None;
    loop {
        line.clear();
        if head.read_line(&mut line)? == 0 {
            return Err(bad("the head does not end"));
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    Ok((status, length.ok_or_else(|| bad("no content length"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_follow_from_their_number_alone() {
        let make = |length| {
            let mut out = Vec::new();
            write_bytes(length, &mut out).unwrap();
            out
        };
        assert_eq!(make(100_003), make(100_003));
        assert_eq!(make(100_003).len(), 100_003);
        assert_ne!(make(64), make(65)[..64]);
        assert!(make(0).is_empty());
    }

    #[test]
    fn heads_are_read_and_refused() {
        assert_eq!(
            read_head(&mut &b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello"[..]).unwrap(),
            (200, 5)
        );
        for bad in
            ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\n\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 xx\r\n\r\n"]
        {
            assert!(read_head(&mut bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_served_is_what_is_expected() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || answer(&listener.accept().unwrap().0, None));
        let fetched = fetch_from(address, "x", "bytes/200000", None).unwrap();
        server.join().unwrap().unwrap();
        let mut hash = Sha256::default();
        write_bytes(200_000, &mut HashWriter(&mut hash)).unwrap();
        assert_eq!((fetched.status, fetched.bytes, fetched.sha256), (200, 200_000, hash.finish()));
    }

    #[test]
    fn a_path_cannot_climb() {
        for path in ["/../etc/passwd", "//etc/passwd/..", "/./x", "/"] {
            assert!(open_below(Path::new("/etc/default"), path).is_none(), "{path}");
        }
        assert!(open_below(Path::new("/etc"), "/passwd").is_some());
    }
}
