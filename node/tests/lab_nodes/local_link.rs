//! Nodes on one local link find each other by multicast DNS, when nothing else leads them together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use consort_lab::Netlink;
use consort_lab::capture::{Capture, CaptureOptions};
use consort_lab::wide::Cable;
use consort_node::control::api::{JoinBody, Joined, NetCreateBody, NetJoinBody, Network, Peer};
use consort_node::demo::stage::{Stage, awaited};

use crate::support::{in_lab, status};

/// Hosts on one bridge, and on nothing else.
fn stage_on_one_link(hosts: usize) -> Stage {
    stage_on_one_link_of(hosts, false)
}

/// The same; with IPv6 alone, if that is said.
fn stage_on_one_link_of(hosts: usize, ipv6_alone: bool) -> Stage {
    let mut stage = Stage::build(hosts, Cable::default()).unwrap();
    let mut router = Netlink::open().unwrap();
    router.create_bridge("lan").unwrap();
    router.set_up("lan").unwrap();
    for number in 0..hosts {
        let place = &stage.hosts[number].place;
        stage.wide.unplug(place).unwrap();
        let port = format!("lan{number}");
        router.create_veth(&port, "eth1", Some(stage.hosts[number].host.netns()), 1500).unwrap();
        router.set_bridge(&port, "lan").unwrap();
        router.set_up(&port).unwrap();
        let mut inside = Netlink::open_in(stage.hosts[number].host.netns()).unwrap();
        inside.set_up("eth1").unwrap();
        stage.hosts[number].ipv6_alone = ipv6_alone;
        give_address(&mut stage, number, u8::try_from(number + 1).unwrap());
    }
    stage
}

/// Gives a host another address on the link, where its node listens from its next start on.
fn give_address(stage: &mut Stage, number: usize, last: u8) {
    let host = &mut stage.hosts[number];
    let mut inside = Netlink::open_in(host.host.netns()).unwrap();
    if host.ipv6_alone {
        host.place.ipv6 = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, last.into());
        inside.add_address("eth1", host.place.ipv6.into(), 64).unwrap();
    } else {
        host.place.ipv4 = Ipv4Addr::new(10, 9, 0, last);
        inside.add_address("eth1", host.place.ipv4.into(), 24).unwrap();
    }
}

async fn until_connected(stage: &Stage, number: usize, peers: usize) {
    awaited("members on the link are connected", async || {
        let status = status(&stage.hosts[number].client()).await;
        Ok((status.peers_connected >= peers).then_some(()))
    })
    .await
    .unwrap();
}

/// Both nodes begin anew, each with another address: nobody listens any more where it remembers the other. They find each other.
async fn both_elsewhere(stage: &mut Stage) {
    for number in [0, 1] {
        stage.hosts[number].stop_node().unwrap();
    }
    for number in [0, 1] {
        give_address(stage, number, u8::try_from(number + 101).unwrap());
        stage.hosts[number].start_node(&[]).unwrap();
    }
    for number in [0, 1] {
        stage.hosts[number].ready().await.unwrap();
        until_connected(stage, number, 1).await;
    }
}

/// What was said to the group of multicast DNS.
fn multicast(capture: &Capture) -> Vec<Vec<u8>> {
    let to_group =
        |frame: &Vec<u8>| frame.len() > 42 && frame[12..14] == [8, 0] && frame[30..34] == [224, 0, 0, 251];
    capture.recent().into_iter().filter(to_group).collect()
}

in_lab! {
    async fn members_whose_addresses_all_changed_find_each_other_on_the_link() {
        let mut stage = stage_on_one_link(2);
        stage.start_overlay().await.unwrap();
        both_elsewhere(&mut stage).await;
    }
}

in_lab! {
    /// Nobody has an IPv4 address, the wide network is not there, and each remembers the other where he is no more.
    async fn on_a_link_with_ipv6_alone_members_find_each_other_and_use_it() {
        let mut stage = stage_on_one_link_of(2, true);
        stage.start_overlay().await.unwrap();
        both_elsewhere(&mut stage).await;
        let body = NetCreateBody { name: "lan".into(), ipv4: None, ipv6: None, mtu: None };
        let _: Network = stage.hosts[0].client().post("/v1/nets", &body).await.unwrap();
        for number in [0, 1] {
            let client = stage.hosts[number].client();
            awaited("the network is known", async || {
                let joined: Result<Network, _> =
                    client.post("/v1/nets/lan/join", &NetJoinBody::default()).await;
                Ok(joined.is_ok().then_some(()))
            })
            .await
            .unwrap();
        }
        for (number, other) in [(0, 1), (1, 0)] {
            let (client, there) = (stage.hosts[number].client(), IpAddr::V6(stage.hosts[other].place.ipv6));
            awaited("the path is the link itself", async || {
                let peers: Vec<Peer> = client.get("/v1/peers").await?;
                let address = peers.into_iter().find_map(|peer| peer.link).and_then(|link| link.address);
                let address = address.and_then(|address| address.parse::<SocketAddr>().ok());
                Ok((address.map(|address| address.ip()) == Some(there)).then_some(()))
            })
            .await
            .unwrap();
        }
    }
}

in_lab! {
    async fn the_bearer_of_a_ticket_gets_in_on_the_link_when_its_inviter_is_gone() {
        let mut stage = stage_on_one_link(3);
        for number in [0, 1] {
            let ticket = if number == 0 { None } else { Some(stage.hosts[0].invite().await.unwrap()) };
            let more: Vec<&str> = ticket.iter().flat_map(|ticket| ["--join", ticket.as_str()]).collect();
            stage.hosts[number].start_node(&more).unwrap();
            stage.hosts[number].ready().await.unwrap();
        }
        until_connected(&stage, 1, 1).await;
        let overlay = status(&stage.hosts[1].client()).await.overlay;
        let ticket = stage.hosts[0].invite().await.unwrap();
        stage.hosts[0].stop_node().unwrap();

        // What passes on the link tells a stranger neither who is there nor in which overlay.
        let capture = Capture::start(CaptureOptions {
            links: vec!["lan2".to_owned()],
            keep_recent: true,
            ..CaptureOptions::default()
        })
        .unwrap();
        stage.hosts[2].start_node(&[]).unwrap();
        stage.hosts[2].ready().await.unwrap();
        let member = status(&stage.hosts[1].client()).await.host;
        let client = stage.hosts[2].client();
        let joined: Joined = client.post("/v1/overlay/join", &JoinBody { ticket }).await.unwrap();
        assert_eq!(joined.overlay, overlay);
        until_connected(&stage, 2, 1).await;
        awaited("members spoke on the link", async || Ok((!multicast(&capture).is_empty()).then_some(())))
            .await
            .unwrap_or_else(|failure| panic!("{failure}: {} frames", capture.recent().len()));
        let key = member.parse::<libp2p_identity::PeerId>().unwrap().to_bytes();
        let key = &key[key.len() - 32..];
        assert!(multicast(&capture).iter().all(|frame| !frame.windows(key.len()).any(|part| part == key)));
    }
}

in_lab! {
    async fn a_node_that_shall_not_speak_on_the_link_does_not() {
        let mut stage = stage_on_one_link(2);
        for host in &stage.hosts {
            let shared = std::fs::read_to_string(host.config()).unwrap();
            std::fs::write(host.config(), format!("{shared}[overlay]\nmdns = false\n")).unwrap();
        }
        let capture = Capture::start(CaptureOptions {
            links: vec!["lan0".to_owned(), "lan1".to_owned()],
            keep_recent: true,
            ..CaptureOptions::default()
        })
        .unwrap();
        stage.start_overlay().await.unwrap();
        assert_eq!(multicast(&capture).len(), 0);
    }
}
