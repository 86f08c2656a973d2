//! `net create|join|leave|ls|show`.
//!
//! A matrix has a row for who sends and a column for who gets it; a dot is nothing.

use super::output::{Output, or_dash, table};
use crate::config::args::{NetCommand, NetCreateArgs, NetJoinArgs};
use crate::control::api::{NetCreateBody, NetJoinBody, Network, NetworkDevice, StandaloneNetwork, Traffic};
use crate::control::client::{Client, segment};
use crate::failure::{Exit, Failure};

pub(super) async fn run(client: &Client, command: &NetCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        NetCommand::Ls => list(client, output).await,
        NetCommand::Show(args) if args.traffic => traffic(client, &args.name, output).await,
        NetCommand::Show(args) => show(client, &args.name, output).await,
        NetCommand::Create(args) => create(client, args, output).await,
        NetCommand::Join(args) => join(client, args, output).await,
        NetCommand::Leave(args) => leave(client, &args.name, output).await,
        NetCommand::Capture(_) => Err(Failure::not_yet_supported("`consort net capture`")
            .remedy("on a network by itself, any capture program works on the device")),
    }
}

async fn create(client: &Client, args: &NetCreateArgs, output: Output) -> Result<Exit, Failure> {
    let NetCreateArgs { name, ipv4, ipv6, mtu } = args;
    let body = NetCreateBody { name: name.clone(), ipv4: ipv4.clone(), ipv6: ipv6.clone(), mtu: *mtu };
    let network: Network = client.post("/v1/nets", &body).await?;
    output.document(&network, |network| {
        let prefixes = prefixes(network.standalone.as_ref());
        format!(
            "network {} is made: {prefixes}, mtu {}, id {}\njoin it on each host with `consort net join {}`\n",
            network.name, network.mtu, network.id, network.name
        )
    })?;
    Ok(Exit::Done)
}

async fn join(client: &Client, args: &NetJoinArgs, output: Output) -> Result<Exit, Failure> {
    let body = NetJoinBody { ipv4: args.ipv4.clone(), device: args.device.clone() };
    let network: Network = client.post(&format!("/v1/nets/{}/join", segment(&args.name)), &body).await?;
    output.document(&network, |network| {
        let standalone = network.standalone.as_ref();
        let device = standalone.and_then(|standalone| standalone.device.as_ref());
        let mut text = format!("this host is on the network {}", network.name);
        if let Some(device) = device {
            text.push_str(&format!(": {}", device_line(device)));
        }
        text.push_str(&format!(", with {} other hosts\n", network.hosts.len()));
        text.push_str(&notices(standalone));
        text
    })?;
    Ok(Exit::Done)
}

async fn leave(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let network: Network = client.post(&format!("/v1/nets/{}/leave", segment(name)), &()).await?;
    output.document(&network, |network| format!("this host left the network {}", network.name))?;
    Ok(Exit::Done)
}

async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let networks: Vec<Network> = client.get("/v1/nets").await?;
    output.document(&networks, |networks| {
        let rows: Vec<[String; 7]> = networks
            .iter()
            .map(|network| {
                let standalone = network.standalone.as_ref();
                let device = standalone.and_then(|standalone| standalone.device.as_ref());
                [
                    full_name(network),
                    device.map_or_else(|| "-".to_owned(), |device| device.name.clone()),
                    standalone.map_or_else(|| "-".to_owned(), |standalone| prefixes(Some(standalone))),
                    network.machines.len().to_string(),
                    network.hosts.len().to_string(),
                    network.mtu.to_string(),
                    network.id.clone(),
                ]
            })
            .collect();
        table(["NETWORK", "DEVICE", "ADDRESSES", "MACHINES", "OTHER HOSTS", "MTU", "ID"], &rows)
    })?;
    Ok(Exit::Done)
}

async fn show(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let network: Network = client.get(&format!("/v1/nets/{}", segment(name))).await?;
    output.document(&network, |network| {
        let mut text = format!("{} {} mtu {}\n", full_name(network), network.id, network.mtu);
        match &network.standalone {
            Some(standalone) => text.push_str(&standalone_text(standalone)),
            None => text.push_str(&machines(network)),
        }
        for kind in ["drops", "events", "refused"] {
            let counts = network.counters[kind].as_object().into_iter().flatten();
            for (name, count) in counts.filter(|(_, count)| count.as_u64() != Some(0)) {
                text.push_str(&format!("{kind} {name} {count}\n"));
            }
        }
        text
    })?;
    Ok(Exit::Done)
}

async fn traffic(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let traffic: Traffic = client.get(&format!("/v1/nets/{}/traffic", segment(name))).await?;
    output.document(&traffic, traffic_text)?;
    Ok(Exit::Done)
}

fn traffic_text(traffic: &Traffic) -> String {
    let names: Vec<String> = traffic.hosts.iter().map(|host| short(&host.name)).collect();
    let width = names.iter().map(String::len).max().unwrap_or_default().max(NUMBER_WIDTH);
    let mut text = format!("{}: {}; Mbit/s from row to column\n", traffic.network, traffic.pattern_words);
    let line = |first: &str, cells: &[String]| {
        let cells: String = cells.iter().map(|cell| format!(" {cell:>width$}")).collect();
        format!("{first:<width$}{cells}\n")
    };
    text.push_str(&line("", &names));
    for (name, row) in names.iter().zip(&traffic.bytes_per_s) {
        text.push_str(&line(name, &row.iter().map(|bytes| megabits(*bytes)).collect::<Vec<_>>()));
    }
    for host in traffic.hosts.iter().filter(|host| host.silent) {
        text.push_str(&format!("{} did not answer: its row is empty\n", host.name));
    }
    if traffic.left_out > 0 {
        text.push_str(&format!("{} more hosts were not asked\n", traffic.left_out));
    }
    text
}

/// Room for a rate of the fastest networks.
const NUMBER_WIDTH: usize = 8;

/// A name that the operator gave as it is; of a host's id the end, which tells ids apart.
fn short(name: &str) -> String {
    const END: usize = 8;
    match name.char_indices().rev().nth(END - 1) {
        Some((at, _)) if name.len() > 2 * END => format!("\u{2026}{}", &name[at..]),
        _ => name.to_owned(),
    }
}

fn megabits(bytes_per_s: u64) -> String {
    // Hundredths of a megabit: eight bits to a byte.
    let hundredths = bytes_per_s / 1_250;
    if hundredths == 0 {
        "\u{b7}".to_owned()
    } else {
        format!("{}.{:02}", hundredths / 100, hundredths % 100)
    }
}

fn full_name(network: &Network) -> String {
    match &network.slice {
        Some(slice) => format!("{}.{slice}", network.name),
        None => network.name.clone(),
    }
}

fn machines(network: &Network) -> String {
    let rows: Vec<[String; 4]> = network
        .machines
        .iter()
        .map(|machine| {
            let addresses: Vec<&str> = machine.ipv4.iter().chain(&machine.ipv6).map(String::as_str).collect();
            [machine.name.clone(), machine.mac.clone(), addresses.join(" "), machine.host.clone()]
        })
        .collect();
    table(["MACHINE", "MAC", "ADDRESSES", "HOST"], &rows)
}

fn standalone_text(standalone: &StandaloneNetwork) -> String {
    let mut text = format!("{}, made by {}\n", prefixes(Some(standalone)), standalone.creator);
    match &standalone.device {
        Some(device) => {
            text.push_str(&format!("device {}\n", device_line(device)));
            if let Some(counters) = &device.counters {
                text.push_str(&format!(
                    "received {} frames, {} bytes, {} dropped; sent {} frames, {} bytes, {} dropped\n",
                    counters.received_frames,
                    counters.received_bytes,
                    counters.received_dropped,
                    counters.sent_frames,
                    counters.sent_bytes,
                    counters.sent_dropped
                ));
            }
        }
        None => text.push_str("this host is not on it\n"),
    }
    text.push_str(&notices(Some(standalone)));
    let rows: Vec<[String; 5]> = standalone
        .members
        .iter()
        .map(|member| {
            let addresses: Vec<&str> = member.ipv4.iter().chain(&member.ipv6).map(String::as_str).collect();
            let link = match (member.here, member.open, &member.link) {
                (true, ..) => "this host".to_owned(),
                (false, true, _) => "open".to_owned(),
                (false, false, Some(link)) => format!("link {link}"),
                (false, false, None) => "no link".to_owned(),
            };
            let round_trip = member.rtt_ms.map(|milliseconds| format!("{milliseconds:.3}"));
            [member.host.clone(), addresses.join(" "), member.mac.clone(), link, or_dash(round_trip)]
        })
        .collect();
    text.push_str(&table(["HOST", "ADDRESSES", "MAC", "STATE", "RTT MS"], &rows));
    text
}

fn device_line(device: &NetworkDevice) -> String {
    let addresses: Vec<&str> = device.ipv4.iter().chain(&device.ipv6).map(String::as_str).collect();
    let mut line = format!("{} {} {}", device.name, device.state, addresses.join(" ")).trim_end().to_owned();
    if let Some(reason) = &device.reason {
        line.push_str(&format!(" ({reason})"));
    }
    line
}

fn prefixes(standalone: Option<&StandaloneNetwork>) -> String {
    let all: Vec<&str> = standalone
        .into_iter()
        .flat_map(|standalone| standalone.ipv4.iter().chain(&standalone.ipv6))
        .map(String::as_str)
        .collect();
    if all.is_empty() { "no addresses".to_owned() } else { all.join(" ") }
}

fn notices(standalone: Option<&StandaloneNetwork>) -> String {
    let all = standalone.into_iter().flat_map(|standalone| &standalone.notices);
    all.map(|notice| format!("note: {notice}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::TrafficHost;
    use crate::topology::adapt::pattern::Pattern;

    #[test]
    fn a_matrix_has_rows_of_who_sends() {
        let host = |name: &str, silent| TrafficHost { host: name.to_owned(), name: name.to_owned(), silent };
        let hosts =
            vec![host("lab-1", false), host("12D3KooWAtz21q8t4VGxxuF1b6srrJ7FTnu3Df3QzyzPnHh8xW6w", true)];
        let pattern = Pattern::HotPair { hosts: ["lab-1", "b"].map(str::to_owned) };
        let said = traffic_text(&Traffic {
            network: "lan.mpi".to_owned(),
            id: "aa".to_owned(),
            bytes_per_s: vec![vec![0, 12_500_000], vec![0, 0]],
            bytes: vec![vec![0, 1], vec![0, 0]],
            pattern_words: pattern.to_string(),
            pattern,
            hosts,
            left_out: 2,
        });
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines[0], "lan.mpi: one hot pair: lab-1 and b; Mbit/s from row to column");
        assert!(lines[1].ends_with("\u{2026}nHh8xW6w"), "{said}");
        assert!(lines[2].starts_with("lab-1") && lines[2].ends_with("100.00"), "{said}");
        assert!(said.contains("did not answer") && said.ends_with("2 more hosts were not asked\n"), "{said}");
    }
}
