//! A port at the router, against a router in this process that speaks NAT-PMP (RFC 6886) on the loopback of the test's own lab.

use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use consort_node::glue::mapping::{Gateway, Method, obtain_by_datagram};

use crate::support::in_lab;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

/// Answers PCP by its own version (RFC 6886 section 3.5), the outside address, and mappings; counts those asked for.
fn router(socket: &UdpSocket, mappings: &AtomicU32, dropped: &AtomicU32) {
    let mut asked = [0; 1_100];
    while let Ok((length, from)) = socket.recv_from(&mut asked) {
        let request = &asked[..length];
        let answer: Vec<u8> = match request {
            [2, ..] => vec![0, 0x80, 0, 1, 0, 0, 0, 9],
            [0, 0] => [&[0, 0x80, 0, 0, 0, 0, 0, 9][..], &OUTSIDE.octets()].concat(),
            [0, 1, _, _, inside_high, inside_low, outside_high, outside_low, life @ ..]
                if life.len() == 4 =>
            {
                if life == [0; 4] { dropped } else { mappings }.fetch_add(1, Ordering::SeqCst);
                let outside = if life == [0; 4] { [0, 0] } else { [*outside_high, *outside_low] };
                [&[0, 0x81, 0, 0, 0, 0, 0, 9, *inside_high, *inside_low][..], &outside, life].concat()
            }
            _ => continue,
        };
        if socket.send_to(&answer, from).is_err() {
            return;
        }
    }
}

in_lab! {
    async fn a_router_maps_a_port_renews_it_and_takes_it_back() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, crab_nat::GATEWAY_PORT)).unwrap();
        let counts = Arc::new((AtomicU32::new(0), AtomicU32::new(0)));
        let counted = Arc::clone(&counts);
        // Ends with the test's process.
        std::thread::spawn(move || router(&socket, &counted.0, &counted.1));
        let gateway = Gateway::towards(Ipv4Addr::LOCALHOST).unwrap();
        let mut lease = obtain_by_datagram(gateway, 7_441).await.unwrap();
        assert_eq!(lease.address(), (OUTSIDE, 7_441).into());
        assert_eq!(lease.method(), Method::NatPmp);
        lease.renew().await.unwrap();
        assert_eq!(lease.address(), (OUTSIDE, 7_441).into());
        lease.give_back().await;
        assert_eq!((counts.0.load(Ordering::SeqCst), counts.1.load(Ordering::SeqCst)), (2, 1));
    }
}
