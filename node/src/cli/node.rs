//! `status` and `peers`.

use std::time::Duration;

use consort_scheduler::units::cpus_text;

use super::output::{Output, or_dash, table, word};
use crate::config::units::{show_duration, show_size};
use crate::control::api::{Peer, Status};
use crate::control::client::Client;
use crate::failure::{Exit, Failure};
use crate::why::Path;

pub(super) async fn status(client: &Client, output: Output) -> Result<Exit, Failure> {
    let status: Status = client.get("/v1/status").await?;
    output.document(&status, |status| {
        let share = &status.share;
        let unknown = "not a member yet".to_owned();
        [
            ("host", status.host.clone()),
            ("overlay", if status.overlay.is_empty() { unknown.clone() } else { status.overlay.clone() }),
            ("tenant", status.tenant.clone()),
            ("control", status.addresses.join(" ")),
            ("data", status.data_address.clone().unwrap_or(unknown)),
            ("state", status.state_dir.clone()),
            (
                "up",
                format!(
                    "{} (pid {}, version {})",
                    show_duration(Duration::from_millis(status.uptime_ms)),
                    status.pid,
                    status.version
                ),
            ),
            ("peers", format!("{} connected, {} hosts known", status.peers_connected, status.hosts_known)),
            ("slices", status.slices.to_string()),
            ("machines", format!("{} here", status.machines)),
            (
                "free",
                format!(
                    "{} of {} CPUs, {} of {} memory, {} of {} disk, {} of {} machines",
                    cpus_text(share.free_cpus_milli),
                    cpus_text(share.cpus_milli),
                    show_size(share.free_memory_bytes),
                    show_size(share.memory_bytes),
                    show_size(share.free_disk_bytes),
                    show_size(share.disk_bytes),
                    share.free_machines,
                    share.machines_max,
                ),
            ),
        ]
        .iter()
        .map(|(name, value)| format!("{name:<9} {value}\n"))
        .collect()
    })?;
    Ok(Exit::Done)
}

pub(super) async fn peers(client: &Client, output: Output) -> Result<Exit, Failure> {
    let peers: Vec<Peer> = client.get("/v1/peers").await?;
    output.document(&peers, |peers| {
        let rows: Vec<[String; 7]> = peers.iter().map(peer_row).collect();
        table(["HOST", "CONTROL", "PATH", "ADDRESS", "NAT", "RTT", "LOSS"], &rows)
    })?;
    Ok(Exit::Done)
}

fn peer_row(peer: &Peer) -> [String; 7] {
    let control = match (&peer.reason, peer.connected) {
        (_, true) => "connected".to_owned(),
        (Some(reason), false) => reason.clone(),
        (None, false) => "not connected".to_owned(),
    };
    let link = peer.link.as_ref();
    let path = match (peer.path, link) {
        (Path::None, Some(link)) if link.state != "idle" => link.state.clone(),
        (path, _) => word(&path),
    };
    let address = link.filter(|_| peer.path != Path::None).and_then(|link| link.address.clone());
    let rtt = link.and_then(|link| link.rtt_ms).or(peer.rtt_ms);
    let loss = link.filter(|link| link.state == "up").map(|link| format!("{:.1}%", link.loss * 100.0));
    [
        peer.host.clone(),
        control,
        path,
        or_dash(address.as_ref().or(peer.addresses.first())),
        word(&peer.nat),
        or_dash(rtt.map(|rtt| format!("{rtt:.1}ms"))),
        or_dash(loss),
    ]
}
