//! Networks by themselves: real nodes make, join and leave them, and the hosts' own sockets reach each other over them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use consort_lab::Netlink;
use consort_lab::wide::Cable;
use consort_node::control::api::{
    NetCreateBody, NetJoinBody, Network, NetworkDevice, Peer, RevokeBody, Revoked, StandaloneNetwork,
};
use consort_node::control::client::segment;
use consort_node::demo::stage::{DEADLINE, Stage, StageHost, awaited};
use consort_node::failure::{Failure, Kind};

use crate::support::{in_lab, status};

const NAME: &str = "office";
/// A transfer that super-frames, several queues and a few rekeys of windows have a part in.
const TRANSFER_BYTES: usize = 32 << 20;
/// How long one try to connect may take: a frame that is lost while a link forms is tried again.
const TRY: Duration = Duration::from_millis(500);

async fn stage(hosts: usize) -> Stage {
    let mut stage = Stage::build(hosts, Cable::default()).unwrap();
    stage.start_overlay().await.unwrap();
    stage
}

async fn create(host: &StageHost, name: &str, ipv4: Option<&str>) -> Result<Network, Failure> {
    let body = NetCreateBody { name: name.into(), ipv4: ipv4.map(Into::into), ipv6: None, mtu: None };
    host.client().post("/v1/nets", &body).await
}

async fn join_as(
    host: &StageHost,
    name: &str,
    ipv4: Option<&str>,
    device: Option<&str>,
) -> Result<Network, Failure> {
    let body = NetJoinBody { ipv4: ipv4.map(Into::into), device: device.map(Into::into) };
    host.client().post(&format!("/v1/nets/{}/join", segment(name)), &body).await
}

async fn join(host: &StageHost) -> NetworkDevice {
    let network = join_as(host, NAME, None, None).await.unwrap();
    network.standalone.unwrap().device.unwrap()
}

async fn leave(host: &StageHost) -> Network {
    host.client().post(&format!("/v1/nets/{NAME}/leave"), &()).await.unwrap()
}

async fn show(host: &StageHost) -> StandaloneNetwork {
    let network: Network = host.client().get(&format!("/v1/nets/{NAME}")).await.unwrap();
    network.standalone.unwrap()
}

/// The device as the node shows it now.
async fn device(host: &StageHost) -> NetworkDevice {
    show(host).await.device.unwrap()
}

fn has_device(host: &StageHost, name: &str) -> bool {
    Netlink::open_in(host.host.netns()).unwrap().link_index(name).is_ok()
}

/// The addresses of a device without their lengths, IPv4 first.
fn addresses(device: &NetworkDevice) -> [IpAddr; 2] {
    [&device.ipv4, &device.ipv6].map(|address| {
        let address = address.as_ref().unwrap_or_else(|| panic!("an address is missing: {device:?}"));
        address.split('/').next().unwrap().parse().unwrap()
    })
}

/// A listener on a host, on any port.
fn listen(host: &StageHost, address: IpAddr) -> TcpListener {
    let listening = host.host.netns().enter(|| TcpListener::bind(SocketAddr::new(address, 0)));
    listening.unwrap().unwrap_or_else(|error| panic!("{address} cannot be listened on: {error}"))
}

/// One try to connect from a host.
fn connect(host: &StageHost, address: SocketAddr) -> std::io::Result<TcpStream> {
    host.host.netns().enter(|| TcpStream::connect_timeout(&address, TRY)).unwrap()
}

/// Connects from a host, trying until it works.
fn reach(from: &StageHost, address: SocketAddr) -> TcpStream {
    let begun = Instant::now();
    loop {
        match connect(from, address) {
            Ok(stream) => return stream,
            Err(error) if begun.elapsed() > DEADLINE => panic!("{address} is not reached: {error}"),
            Err(_) => {}
        }
    }
}

/// Each host reaches each other over both IP versions.
fn assert_all_reach(hosts: &[&StageHost], devices: &[NetworkDevice]) {
    for (to, device) in hosts.iter().zip(devices) {
        for address in addresses(device) {
            let listener = listen(to, address);
            for (from, other) in hosts.iter().zip(devices) {
                if from.host.name() == to.host.name() {
                    continue;
                }
                let mut stream = reach(from, listener.local_addr().unwrap());
                let (mut accepted, peer) = listener.accept().unwrap();
                assert!(addresses(other).contains(&peer.ip()), "{peer}");
                stream.write_all(b"ping").unwrap();
                let mut heard = [0; 4];
                accepted.read_exact(&mut heard).unwrap();
                assert_eq!(&heard, b"ping");
            }
        }
    }
}

/// Bytes that no shift of them resembles.
fn pattern(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

in_lab! {
    async fn hosts_that_join_reach_each_other_and_nobody_else_does() {
        let stage = stage(4).await;
        let (joined, outsider) = stage.hosts.split_at(3);
        let outsider = &outsider[0];
        let made = create(&joined[0], NAME, None).await.unwrap();
        assert_eq!((made.name.as_str(), made.slice.as_deref()), (NAME, None));
        let mut devices = Vec::new();
        for host in joined {
            let device = join(host).await;
            assert_eq!((device.name.as_str(), device.state.as_str()), (NAME, "up"));
            assert!(has_device(host, NAME));
            devices.push(device);
        }
        let hosts: Vec<&StageHost> = joined.iter().collect();
        assert_all_reach(&hosts, &devices);

        let listener = listen(&joined[2], addresses(&devices[2])[0]);
        let mut sender = reach(&joined[0], listener.local_addr().unwrap());
        let sent = pattern(TRANSFER_BYTES);
        let whole = sent.clone();
        let sending = std::thread::spawn(move || sender.write_all(&whole));
        let mut received = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
        sending.join().unwrap().unwrap();
        assert!(received == sent, "{} bytes came of {}", received.len(), sent.len());
        let counted = device(&joined[2]).await.counters.unwrap();
        assert!(counted.received_bytes > TRANSFER_BYTES as u64 && counted.sent_frames > 0, "{counted:?}");

        // Whoever did not join sees the network, and nothing on it.
        let seen = show(outsider).await;
        assert!(seen.device.is_none() && seen.members.len() == 3, "{seen:?}");
        assert!(!has_device(outsider, NAME));
        assert!(connect(outsider, listener.local_addr().unwrap()).is_err());
        let outside = status(&outsider.client()).await.host;
        for host in joined {
            assert!(show(host).await.members.iter().all(|member| member.host != outside));
        }

        leave(&joined[1]).await;
        assert!(!has_device(&joined[1], NAME), "the device is left behind");
        assert!(device_of(&joined[1]).await.is_none());
        awaited("the others know that it left", async || Ok((show(&joined[0]).await.members.len() == 2).then_some(())))
            .await
            .unwrap();
        assert_all_reach(&[hosts[0], hosts[2]], &[devices[0].clone(), devices[2].clone()]);
    }
}

async fn device_of(host: &StageHost) -> Option<NetworkDevice> {
    show(host).await.device
}

in_lab! {
    async fn a_killed_node_leaves_no_device_and_is_on_the_network_again_when_it_is_back() {
        let mut stage = stage(3).await;
        create(&stage.hosts[0], NAME, None).await.unwrap();
        let first = join(&stage.hosts[0]).await;
        let second = join_as(&stage.hosts[1], NAME, None, Some("vpn7")).await.unwrap();
        let second = second.standalone.unwrap().device.unwrap();
        assert_eq!(second.name, "vpn7");

        stage.hosts[1].kill_node().unwrap();
        awaited("the device goes with the process", async || Ok((!has_device(&stage.hosts[1], "vpn7")).then_some(())))
            .await
            .unwrap();
        stage.hosts[1].start_node(&[]).unwrap();
        stage.hosts[1].ready().await.unwrap();
        stage.settled().await.unwrap();
        let back = awaited("the device is back", async || {
            Ok(device_of(&stage.hosts[1]).await.filter(|device| device.state == "up"))
        })
        .await
        .unwrap();
        assert_eq!((back.name, &back.ipv4, &back.ipv6), (second.name.clone(), &second.ipv4, &second.ipv6));
        assert_all_reach(&[&stage.hosts[0], &stage.hosts[1]], &[first, second.clone()]);

        // Somebody takes the device away: it is made again.
        Netlink::open_in(stage.hosts[1].host.netns()).unwrap().delete_link("vpn7").unwrap();
        awaited("the device is made again", async || Ok(has_device(&stage.hosts[1], "vpn7").then_some(()))).await.unwrap();

        // The creator is gone; whoever is on the network can tell of it.
        stage.hosts[0].kill().unwrap();
        let third = join(&stage.hosts[2]).await;
        assert_all_reach(&[&stage.hosts[1], &stage.hosts[2]], &[second, third]);
        assert_eq!(stage.hosts[2].stop_node().unwrap(), Some(0));
        assert!(!has_device(&stage.hosts[2], NAME), "SIGTERM leaves a device behind");
    }
}

in_lab! {
    /// Each host has addresses on the network itself, and its data plane listens on all of them: no link may go through itself.
    async fn no_link_leads_through_the_network_it_carries() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        for host in &stage.hosts {
            let shared = std::fs::read_to_string(host.config()).unwrap();
            std::fs::write(host.config(), format!("{shared}[data]\nlisten = \"0.0.0.0:7441\"\n")).unwrap();
        }
        stage.start_overlay().await.unwrap();
        create(&stage.hosts[0], NAME, None).await.unwrap();
        let mut devices = Vec::new();
        for host in &stage.hosts {
            devices.push(join(host).await);
        }
        let hosts: Vec<&StageHost> = stage.hosts.iter().collect();
        assert_all_reach(&hosts, &devices);
        // A restarted node finds its device and its addresses made before anybody asks it for them.
        stage.hosts[1].kill_node().unwrap();
        stage.hosts[1].start_node(&[]).unwrap();
        stage.hosts[1].ready().await.unwrap();
        stage.settled().await.unwrap();
        let hosts: Vec<&StageHost> = stage.hosts.iter().collect();
        awaited("the device is back", async || Ok(has_device(hosts[1], NAME).then_some(()))).await.unwrap();
        assert_all_reach(&hosts, &devices);
        for (host, other) in [(hosts[0], hosts[1]), (hosts[1], hosts[0])] {
            let peers: Vec<Peer> = host.client().get("/v1/peers").await.unwrap();
            let link = peers.iter().find_map(|peer| peer.link.as_ref()).unwrap();
            let address: SocketAddr = link.address.as_ref().unwrap().parse().unwrap();
            assert_eq!(address.ip(), IpAddr::V4(other.place.ipv4), "{link:?}");
        }
    }
}

in_lab! {
    async fn hosts_that_join_at_the_same_time_end_with_distinct_addresses() {
        let stage = stage(4).await;
        // Four hosts, five addresses to choose from: clashes are likely.
        create(&stage.hosts[0], NAME, Some("10.77.0.0/29")).await.unwrap();
        let joins = stage.hosts.iter().map(|host| {
            let client = host.client();
            tokio::spawn(async move {
                let path = format!("/v1/nets/{NAME}/join");
                client.post::<Network>(&path, &NetJoinBody::default()).await
            })
        });
        for joining in joins.collect::<Vec<_>>() {
            joining.await.unwrap().unwrap();
        }
        let devices = awaited("all have addresses of their own, and know it of each other", async || {
            let mut devices = Vec::new();
            let mut views = BTreeSet::new();
            for host in &stage.hosts {
                let seen = show(host).await;
                let members = seen.members.iter().map(|member| (member.host.clone(), member.ipv4.clone()));
                views.insert(members.collect::<Vec<_>>());
                devices.push(seen.device.unwrap());
            }
            let distinct: BTreeSet<_> = devices.iter().filter_map(|device| device.ipv4.clone()).collect();
            Ok((distinct.len() == 4 && views.len() == 1).then_some(devices))
        })
        .await
        .unwrap();
        assert_all_reach(&stage.hosts.iter().collect::<Vec<_>>(), &devices);
    }
}

in_lab! {
    async fn what_cannot_be_is_refused_with_field_value_and_remedy() {
        let stage = stage(2).await;
        let (one, other) = (&stage.hosts[0], &stage.hosts[1]);
        create(one, NAME, Some("10.77.0.0/24")).await.unwrap();
        let failure = create(other, NAME, None).await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (Kind::Refused, "network_exists"), "{failure}");
        let failure = create(other, "branch", Some("10.77.0.0/16")).await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (Kind::Refused, "prefix_taken"), "{failure}");

        join_as(one, NAME, Some("10.77.0.9/24"), None).await.unwrap();
        let cases = [
            (NAME, Some("10.77.0.9/24"), None, Kind::Refused, "address_taken", "10.77.0.9"),
            (NAME, Some("10.78.0.9/24"), None, Kind::Input, "bad_address", "10.77.0.0/24"),
            (NAME, Some("10.77.0.9/16"), None, Kind::Input, "bad_address", "10.77.0.9/24"),
            (NAME, None, Some("lo"), Kind::Refused, "device_exists", "lo"),
            (NAME, None, Some("a-name-that-is-too-long"), Kind::Input, "bad_device", "15"),
            ("nothing", None, None, Kind::NotFound, "no_network", "nothing"),
        ];
        for (name, ipv4, device, kind, code, said) in cases {
            let failure = join_as(other, name, ipv4, device).await.unwrap_err();
            assert_eq!((failure.kind, failure.code.as_str()), (kind, code), "{failure}");
            assert!(failure.to_string().contains(said) && failure.remedy.is_some(), "{failure}");
        }
        assert!(!has_device(other, NAME), "a refusal leaves a device behind");

        // The network's addresses are those of this host's own link.
        let link = one.place.ipv4.octets();
        let here = format!("{}.{}.{}.0/24", link[0], link[1], link[2]);
        create(one, "clash", Some(&here)).await.unwrap();
        let failure = join_as(one, "clash", None, None).await.unwrap_err();
        assert_eq!((failure.kind, failure.code.as_str()), (Kind::Refused, "prefix_in_use"), "{failure}");
        let failure = join_as(one, NAME, None, None).await.unwrap_err();
        assert_eq!(failure.code, "joined_already");
    }
}

in_lab! {
    async fn a_network_made_twice_in_a_partition_is_two_and_its_id_tells_them_apart() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        // One is away while the other makes the network, and makes it as well when it is alone.
        stage.hosts[1].stop_node().unwrap();
        let first = create(&stage.hosts[0], NAME, None).await.unwrap();
        stage.hosts[0].stop_node().unwrap();
        stage.hosts[1].start_node(&[]).unwrap();
        stage.hosts[1].ready().await.unwrap();
        let alone = stage.hosts[1].client();
        awaited("it is a member", async || Ok(status(&alone).await.data_address.map(drop))).await.unwrap();
        let second = create(&stage.hosts[1], NAME, None).await.unwrap();
        assert_ne!(first.id, second.id);
        stage.hosts[0].start_node(&[]).unwrap();
        stage.hosts[0].ready().await.unwrap();
        stage.settled().await.unwrap();
        let failure = awaited("both are known", async || {
            let joined: Result<Network, Failure> = join_as(&stage.hosts[1], NAME, None, None).await;
            match joined {
                Err(failure) if failure.code == "ambiguous" => Ok(Some(failure)),
                Ok(_) => {
                    leave(&stage.hosts[1]).await;
                    Ok(None)
                }
                Err(failure) => Err(failure),
            }
        })
        .await
        .unwrap();
        assert!(failure.to_string().contains(&format!("{NAME}@{}", first.id)), "{failure}");
        assert!(failure.to_string().contains(&format!("{NAME}@{}", second.id)), "{failure}");
        let mut devices = Vec::new();
        for host in &stage.hosts {
            let joined = join_as(host, &format!("{NAME}@{}", first.id), None, None).await.unwrap();
            devices.push(joined.standalone.unwrap().device.unwrap());
        }
        assert_all_reach(&stage.hosts.iter().collect::<Vec<_>>(), &devices);
    }
}

in_lab! {
    async fn who_is_put_out_of_the_overlay_is_put_out_of_its_networks() {
        let stage = stage(3).await;
        create(&stage.hosts[0], NAME, None).await.unwrap();
        let mut devices = Vec::new();
        for host in &stage.hosts {
            devices.push(join(host).await);
        }
        assert_all_reach(&stage.hosts.iter().collect::<Vec<_>>(), &devices);
        let out = status(&stage.hosts[2].client()).await.host;
        let listener = listen(&stage.hosts[1], addresses(&devices[1])[0]);
        let key = RevokeBody { key: out.clone() };
        let _: Revoked = stage.hosts[0].client().post("/v1/overlay/revoke", &key).await.unwrap();
        let begun = Instant::now();
        awaited("nothing passes any more", async || {
            let known = show(&stage.hosts[1]).await.members.iter().any(|member| member.host == out);
            let passes = connect(&stage.hosts[2], listener.local_addr().unwrap()).is_ok();
            Ok((!known && !passes).then_some(()))
        })
        .await
        .unwrap();
        eprintln!("put out after {} ms, as seen by tries of {} ms", begun.elapsed().as_millis(), TRY.as_millis());
        assert_all_reach(&[&stage.hosts[0], &stage.hosts[1]], &devices[..2]);
    }
}
