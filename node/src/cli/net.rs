//! `net ls|show`.

use super::output::{Output, table};
use crate::config::args::NetCommand;
use crate::control::api::Network;
use crate::control::client::{Client, segment};
use crate::failure::{Exit, Failure};

pub(super) async fn run(client: &Client, command: &NetCommand, output: Output) -> Result<Exit, Failure> {
    let later = |verb: &str| Failure::not_yet_supported(&format!("`consort net {verb}`"));
    match command {
        NetCommand::Ls => list(client, output).await,
        NetCommand::Show(args) => show(client, &args.name, output).await,
        NetCommand::Create(_) => Err(later("create")),
        NetCommand::Join(_) => Err(later("join")),
        NetCommand::Leave(_) => Err(later("leave")),
        NetCommand::Capture(_) => Err(later("capture")),
    }
}

async fn list(client: &Client, output: Output) -> Result<Exit, Failure> {
    let networks: Vec<Network> = client.get("/v1/nets").await?;
    output.document(&networks, |networks| {
        let rows: Vec<[String; 5]> = networks
            .iter()
            .map(|network| {
                [
                    format!("{}.{}", network.name, network.slice),
                    network.machines.len().to_string(),
                    network.hosts.len().to_string(),
                    network.mtu.to_string(),
                    network.id.clone(),
                ]
            })
            .collect();
        table(["NETWORK", "MACHINES", "OTHER HOSTS", "MTU", "ID"], &rows)
    })?;
    Ok(Exit::Done)
}

async fn show(client: &Client, name: &str, output: Output) -> Result<Exit, Failure> {
    let network: Network = client.get(&format!("/v1/nets/{}", segment(name))).await?;
    output.document(&network, |network| {
        let mut text = format!("{}.{} {} mtu {}\n", network.name, network.slice, network.id, network.mtu);
        let rows: Vec<[String; 4]> = network
            .machines
            .iter()
            .map(|machine| {
                let addresses: Vec<&str> =
                    machine.ipv4.iter().chain(&machine.ipv6).map(String::as_str).collect();
                [machine.name.clone(), machine.mac.clone(), addresses.join(" "), machine.host.clone()]
            })
            .collect();
        text.push_str(&table(["MACHINE", "MAC", "ADDRESSES", "HOST"], &rows));
        for kind in ["drops", "events"] {
            let counts = network.counters[kind].as_object().into_iter().flatten();
            for (name, count) in counts.filter(|(_, count)| count.as_u64() != Some(0)) {
                text.push_str(&format!("{kind} {name} {count}\n"));
            }
        }
        text
    })?;
    Ok(Exit::Done)
}
