//! What the network under the nodes does to them: short packets, loss, and neighbours who repeat and alter what they hear.

use std::time::Duration;

use consort_lab::capture::{Capture, inject};
use consort_lab::middlebox::Impairment;
use consort_lab::wide::{Cable, HOST_LINK};
use consort_node::control::api::Peer;
use consort_node::demo::exec::Background;
use consort_node::demo::stage::{Stage, awaited};

use crate::support::{GUEST, addresses, assert_reaches, capture_of, create, guest, in_lab, slice_file};

/// The data plane is on the port after the control plane's.
const DATA_PORT: [u8; 2] = 7441_u16.to_be_bytes();
/// So many are heard and sent again that those which are genuine meanwhile do not count.
const HEARD_MIN: usize = 300;
/// Ethernet and IPv4 without options.
const UDP_OFFSET: usize = 34;

async fn stage_with(cable: Cable, config: &str) -> Stage {
    let mut stage = Stage::build(2, cable).unwrap();
    for host in &stage.hosts {
        let shared = std::fs::read_to_string(host.config()).unwrap();
        std::fs::write(host.config(), format!("{shared}{config}")).unwrap();
    }
    stage.start_overlay().await.unwrap();
    stage
}

in_lab! {
    async fn frames_of_1500_and_9000_bytes_pass_an_underlay_of_1280() {
        let cable = Cable { mtu: 1280, real_wire: true, ..Cable::default() };
        let stage = stage_with(cable, "[data]\nmtu = 9000\n").await;
        let client = stage.hosts[0].client();
        let slice = create(&client, slice_file("jumbo", 2)).await;
        for (target, headers) in addresses(&slice, 1).iter().zip([28, 48]) {
            for mtu in [1500, 9000] {
                let payload = (mtu - headers).to_string();
                guest(&client, &slice, 0, &["ping", "-D", "-c", "5", "-w", "5000", "-s", &payload, target]).await;
            }
        }
    }
}

in_lab! {
    async fn a_file_is_whole_over_a_path_that_loses_doubles_and_reorders() {
        let impairment = Impairment {
            delay: Duration::from_millis(2),
            jitter: Duration::from_millis(1),
            loss: 0.01,
            duplicate: 0.01,
            reorder: 0.02,
            ..Impairment::default()
        };
        let stage = stage_with(Cable { impairment: Some(impairment), ..Cable::default() }, "").await;
        let client = stage.hosts[0].client();
        let slice = create(&client, slice_file("bad-path", 2)).await;
        let server = format!("{}.{}", slice.machines[1].name, slice.name);
        let serve = [GUEST, "http", "serve", "--port", "8080"];
        let _serving = Background::start(&client, &server, &serve, "serving").await.unwrap();
        let wanted = guest(&client, &slice, 0, &["http", "expect", "2000000"]).await;
        let url = format!("http://{}:8080/bytes/2000000", addresses(&slice, 1)[0]);
        let got = guest(&client, &slice, 0, &["http", "fetch", &url]).await;
        assert!(got.contains(wanted.trim()), "{got} is not {wanted}");
    }
}

in_lab! {
    async fn repeated_and_altered_datagrams_change_nothing_but_counters() {
        let stage = stage_with(Cable { real_wire: true, ..Cable::default() }, "").await;
        let client = stage.hosts[0].client();
        let slice = create(&client, slice_file("replayed", 2)).await;
        let capture = Capture::start(capture_of(&stage)).unwrap();
        assert_reaches(&client, &slice).await;
        let pings = HEARD_MIN.to_string();
        guest(&client, &slice, 0, &["ping", "-c", &pings, "-i", "5", &addresses(&slice, 1)[0]]).await;
        let address = stage.hosts[0].place.ipv4.octets();
        // Sent by host 0, from and to a data port.
        let heard: Vec<Vec<u8>> = capture
            .recent()
            .into_iter()
            .filter(|frame| frame.len() > UDP_OFFSET + 8 && frame[26..30] == address && frame[23] == 17)
            .filter(|frame| frame[UDP_OFFSET..UDP_OFFSET + 2] == DATA_PORT && frame[UDP_OFFSET + 2..UDP_OFFSET + 4] == DATA_PORT)
            .collect();
        assert!(heard.len() >= HEARD_MIN, "{} datagrams of the data plane", heard.len());
        let altered: Vec<Vec<u8>> = heard.iter().enumerate().map(|(number, frame)| alter(frame, number)).collect();
        let (received, crossed) = (received(&stage).await, capture.counters().udp);
        inject(stage.hosts[0].host.netns(), HOST_LINK, &heard).unwrap();
        inject(stage.hosts[0].host.netns(), HOST_LINK, &altered).unwrap();
        let all = crossed + 2 * heard.len() as u64;
        awaited("all of them cross the underlay", async || Ok((capture.counters().udp >= all).then_some(())))
            .await
            .unwrap();
        // What comes after is in order behind them on the same cable, so they have arrived when it is answered.
        let said = guest(&client, &slice, 0, &["ping", "-c", "20", &addresses(&slice, 1)[0]]).await;
        assert!(said.contains("20 sent, 20 received"), "{said}");
        let now = self::received(&stage).await;
        // Twenty pings and some control messages; none of the hundreds that were no one's.
        let genuine = usize::try_from(now - received).unwrap();
        assert!(genuine < HEARD_MIN / 2, "{genuine} taken for genuine, {} sent again", 2 * heard.len());
        assert_reaches(&client, &slice).await;
    }
}

/// One bit turned over at a place that wanders through the datagram, and no UDP checksum, so that the kernel does not notice.
fn alter(frame: &[u8], number: usize) -> Vec<u8> {
    let mut altered = frame.to_vec();
    altered[UDP_OFFSET + 6..UDP_OFFSET + 8].fill(0);
    let payload = UDP_OFFSET + 8;
    let place = payload + (number * 7) % (frame.len() - payload);
    altered[place] ^= 1 << (number % 8);
    altered
}

/// Datagrams that host 1 took for genuine.
async fn received(stage: &Stage) -> u64 {
    let peers: Vec<Peer> = stage.hosts[1].client().get("/v1/peers").await.unwrap();
    peers.iter().filter_map(|peer| peer.link.as_ref()).map(|link| link.received_datagrams).sum()
}
