//! The sockets by which a gateway is asked, each in a thread of its own: the kernel of its namespace has the LAN address for them.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Desk, PORT, PortMapping, igd};
use crate::nat::Nat;

/// The longest datagram or request that is read.
const BYTES_MAX: usize = 8 * 1024;
/// A client that says nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the NAT is that ports are mapped at; none while there is none.
pub(crate) type WithNat = Arc<dyn Fn(&mut dyn FnMut(&mut Nat)) + Send + Sync>;

/// Serves what the gateway speaks until the process ends.
pub(crate) fn start(
    own: Ipv4Addr,
    speaks: Vec<PortMapping>,
    started: Instant,
    nat: &WithNat,
) -> io::Result<()> {
    let desk = Desk::new(speaks);
    let has_igd = desk.does(PortMapping::Upnp);
    let datagrams = UdpSocket::bind((own, PORT))?;
    let desk = Mutex::new(desk);
    let with_nat = Arc::clone(nat);
    std::thread::spawn(move || {
        serve(&datagrams, |from, asked| {
            let mut desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            let mut answer = None;
            with_nat(&mut |nat| answer = desk.answer(started.elapsed(), from, asked, nat));
            answer
        });
    });
    if !has_igd {
        return Ok(());
    }
    let searches = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, igd::SEARCH_PORT))?;
    searches.join_multicast_v4(&igd::GROUP, &own)?;
    std::thread::spawn(move || serve(&searches, |_, search| igd::found(own, search)));
    let listener = TcpListener::bind((own, igd::HTTP_PORT))?;
    let with_nat = Arc::clone(nat);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Who hangs up early gets nothing.
            let _ = attend(client, |request| {
                let mut answer = String::new();
                with_nat(&mut |nat| answer = igd::answer(started.elapsed(), request, nat));
                answer
            });
        }
    });
    Ok(())
}

fn serve(socket: &UdpSocket, mut answer: impl FnMut(Ipv4Addr, &[u8]) -> Option<Vec<u8>>) {
    let mut bytes = [0; BYTES_MAX];
    loop {
        // The cable may be out for a moment.
        let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
        let SocketAddr::V4(from) = from else { continue };
        if let Some(said) = answer(*from.ip(), &bytes[..length]) {
            let _ = socket.send_to(&said, from);
        }
    }
}

fn attend(mut client: TcpStream, answer: impl FnOnce(&str) -> String) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut bytes = [0; 1024];
    while !is_whole(&request) && request.len() < BYTES_MAX {
        match client.read(&mut bytes)? {
            0 => break,
            length => request.extend_from_slice(&bytes[..length]),
        }
    }
    client.write_all(answer(&String::from_utf8_lossy(&request)).as_bytes())
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    body.len() >= length.unwrap_or_default()
}
