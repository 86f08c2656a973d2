//! `addr`: the links of this machine and their addresses.

use std::process::ExitCode;

use super::Failure;
use crate::netlink::{Link, Netlink};
use crate::text::{Arguments, json, json_list, unknown};

/// Runs the command.
///
/// # Errors
/// Bad usage, or the kernel's.
pub fn run(words: Vec<String>) -> Result<ExitCode, Failure> {
    let mut arguments = Arguments::new(words);
    let mut as_json = false;
    while let Some(option) = arguments.option() {
        match option.as_str() {
            "--json" => as_json = true,
            other => return Err(unknown(other)),
        }
    }
    arguments.end()?;
    let links = Netlink::open()
        .and_then(|mut netlink| netlink.links())
        .map_err(Failure::at("ask the kernel for links"))?;
    if as_json {
        println!("{}", json_list(links.iter().map(link_json)));
    } else {
        links.iter().for_each(print_link);
    }
    Ok(ExitCode::SUCCESS)
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn link_json(link: &Link) -> String {
    let mac = link.mac.map_or_else(|| "null".to_owned(), |mac| json(&mac_text(mac)));
    let addresses =
        json_list(link.addresses.iter().map(|(address, prefix)| json(&format!("{address}/{prefix}"))));
    let Link { name, mtu, up, .. } = link;
    format!("{{\"name\":{},\"mac\":{mac},\"mtu\":{mtu},\"up\":{up},\"addresses\":{addresses}}}", json(name))
}

fn print_link(link: &Link) {
    let mac = link.mac.map(mac_text).unwrap_or_default();
    println!("{:<8} {:<4} mtu {:<6} {mac}", link.name, if link.up { "up" } else { "down" }, link.mtu);
    for (address, prefix) in &link.addresses {
        println!("         {address}/{prefix}");
    }
}
