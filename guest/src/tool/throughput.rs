//! `throughput`: how many bytes a second TCP carries, counted where they arrive.
//!
//! A client opens its streams, sends for the wanted time, and shuts each stream's sending side; the server answers each with the number
//! of bytes that came (8 bytes, little endian). The rate is those bytes over the time from the first byte to the last answer.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::http::listen;
use crate::text::{Arguments, json, resolve_port, unknown};

/// Where the server listens unless told otherwise; iperf's.
const PORT: u16 = 5201;
/// Streams at most.
const STREAMS_MAX: usize = 64;
/// Bytes of one read or write: large enough that calls do not count.
const PART: usize = 128 * 1024;
/// A peer silent for this long is given up.
const SILENCE: Duration = Duration::from_secs(30);

/// Runs the command.
///
/// # Errors
/// Bad usage, or the network's.
pub fn run(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    match arguments.word("serve or send")?.as_str() {
        "serve" => serve(arguments),
        "send" => send(arguments),
        other => Err(Failure::Usage(format!("{other}: throughput serves or sends"))),
    }
}

fn serve(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let mut port = PORT;
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--port" => port = arguments.value(&option)?,
            other => return Err(unknown(other)),
        }
    }
    arguments.end()?;
    let listener = listen(port)?;
    println!("serving on port {port}");
    for stream in listener.incoming().flatten() {
        let spawned = thread::Builder::new().stack_size(256 * 1024).spawn(move || receive(stream));
        if let Err(error) = spawned {
            eprintln!("throughput: start a thread: {error}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn receive(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let mut part = vec![0; PART];
    let mut bytes = 0_u64;
    loop {
        match stream.read(&mut part)? {
            0 => break,
            read => bytes += read as u64,
        }
    }
    stream.write_all(&bytes.to_le_bytes())
}

fn send(mut arguments: Arguments) -> Result<ExitCode, Failure> {
    let (mut port, mut seconds, mut streams, mut as_json) = (PORT, 1.0_f64, 1_usize, false);
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--port" => port = arguments.value(&option)?,
            "--seconds" => seconds = arguments.value(&option)?,
            "--streams" => streams = arguments.value(&option)?,
            "--json" => as_json = true,
            other => return Err(unknown(other)),
        }
    }
    let host = arguments.word("the host")?;
    arguments.end()?;
    if !((1..=STREAMS_MAX).contains(&streams) && seconds > 0.0 && seconds <= 3600.0) {
        return Err(Failure::Usage(format!("--streams is 1 to {STREAMS_MAX} and --seconds up to 3600")));
    }
    let address = resolve_port(&host, Some(port))?;
    let (bytes, took) =
        measure(address, Duration::from_secs_f64(seconds), streams).map_err(Failure::at(address))?;
    let (seconds, rate) = (took.as_secs_f64(), bytes as f64 * 8.0 / took.as_secs_f64());
    if as_json {
        let host = json(&host);
        println!(
            "{{\"host\":{host},\"bytes\":{bytes},\"seconds\":{seconds:.6},\"streams\":{streams},\"bits_per_second\":{rate:.0}}}"
        );
    } else {
        println!("{:.3} Gbit/s: {bytes} bytes in {seconds:.3} s, {streams} streams", rate / 1e9);
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(address: SocketAddr, time: Duration, streams: usize) -> io::Result<(u64, Duration)> {
    let open = (0..streams)
        .map(|_| TcpStream::connect_timeout(&address, SILENCE))
        .collect::<io::Result<Vec<_>>>()?;
    let start = Instant::now();
    let senders: Vec<_> =
        open.into_iter().map(|stream| thread::spawn(move || send_on(stream, start + time))).collect();
    let mut bytes = 0;
    for sender in senders {
        bytes += sender.join().map_err(|_| io::Error::other("a sender panicked"))??;
    }
    Ok((bytes, start.elapsed()))
}

fn send_on(mut stream: TcpStream, deadline: Instant) -> io::Result<u64> {
    stream.set_write_timeout(Some(SILENCE))?;
    stream.set_read_timeout(Some(SILENCE))?;
    let part = vec![0x5a; PART];
    // At least one part, however late the thread came to run: a rate of nothing says nothing.
    loop {
        stream.write_all(&part)?;
        if Instant::now() >= deadline {
            break;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    let mut arrived = [0; 8];
    stream.read_exact(&mut arrived)?;
    Ok(u64::from_le_bytes(arrived))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_receiver_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || receive(listener.accept().unwrap().0));
        let (bytes, took) = measure(address, Duration::from_millis(1), 1).unwrap();
        server.join().unwrap().unwrap();
        assert!(bytes >= PART as u64 && bytes.is_multiple_of(PART as u64), "{bytes}");
        assert!(took > Duration::ZERO);
    }
}
