//! The device of a network on this host: a TAP in the daemon's own network namespace, its addresses, what it counted.
//!
//! The TAP is not persistent: the kernel removes it when the last of its queues is closed, however the daemon ends. So nothing is left by
//! `kill -9`, and a name that exists belongs to somebody else. Router advertisements and redirects are switched off on it before it is up: other
//! hosts of the network must not give this one a default route.
//!
//! Owns: names, addresses, settings, and what the kernel says of routes in use. Refuses to know networks and claims. Everything here
//! waits for the kernel for a moment: call it where waiting is right.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use consort_guest::netlink::Netlink;
use consort_vswitch::MacAddr;
use consort_vswitch::tap::{TapError, TapQueue};

use super::prefix::Prefix;
use crate::control::api::DeviceCounters;
use crate::failure::Failure;
use crate::privilege;

/// The longest name of a device (`IFNAMSIZ` without its end).
const NAME_BYTES_MAX: usize = 15;
/// Devices of the default name on one host; more than networks it can be on.
const DEFAULT_NAMES_MAX: usize = 1_000;

/// Queues of a device. With more, the kernel moves a flow to the queue that its answers are written to, and so to another worker, while frames still wait
/// in the first: the order inside the flow would break there. Frames that arrive are written by all workers, whatever the number.
const QUEUES: usize = 1;

/// How a device shall be.
#[derive(Debug, Clone)]
pub(super) struct DeviceSpec {
    pub(super) name: String,
    pub(super) mac: MacAddr,
    pub(super) mtu: u16,
    pub(super) addresses: BTreeSet<(IpAddr, u8)>,
}

/// A device that is there. The descriptors of its queues keep it.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) name: String,
    index: u32,
    addresses: BTreeSet<(IpAddr, u8)>,
    /// Who is where on the network, as the kernel would have been told.
    neighbours: BTreeMap<IpAddr, MacAddr>,
}

impl Device {
    /// Makes the device and brings it up. What it gives beside is what the user should know.
    pub(super) fn open(spec: &DeviceSpec) -> Result<(Self, Vec<OwnedFd>, Vec<String>), Failure> {
        if exists(&spec.name)? {
            let what = format!("`--device`: this host has a device {} already", spec.name);
            return Err(Failure::refused("device_exists", what).remedy("give another name with --device"));
        }
        let queues = TapQueue::open(&spec.name, QUEUES).map_err(|error| not_opened(&spec.name, &error))?;
        let descriptors: io::Result<Vec<OwnedFd>> =
            queues.iter().map(|queue| queue.as_fd().try_clone_to_owned()).collect();
        let descriptors = descriptors.map_err(|error| refused("keep", &spec.name, &error))?;
        let mut netlink = netlink()?;
        let step = |what: &'static str| move |error: io::Error| refused(what, &spec.name, &error);
        let index = netlink.index(&spec.name).map_err(step("find"))?;
        netlink
            .configure(index, Some(spec.mac.0), Some(spec.mtu.into()))
            .map_err(step("set the MAC address and the MTU of"))?;
        let notices = close_to_routers(&spec.name);
        let mut device =
            Self { name: spec.name.clone(), index, addresses: BTreeSet::new(), neighbours: BTreeMap::new() };
        device.readdress(spec.addresses.clone())?;
        netlink.up(index).map_err(step("bring up"))?;
        Ok((device, descriptors, notices))
    }

    /// Whether it is there still.
    pub(super) fn is_there(&self) -> bool {
        netlink().is_ok_and(|mut netlink| netlink.index(&self.name).is_ok_and(|index| index == self.index))
    }

    /// Others that are on the network now. Where a program was quicker than the news of them, the kernel has asked for their Ethernet address and nobody has answered:
    /// it is told now, instead of asking again after a second. Later questions the switch answers.
    pub(super) fn meets(&mut self, neighbours: BTreeMap<IpAddr, MacAddr>) -> io::Result<()> {
        let before = std::mem::replace(&mut self.neighbours, neighbours);
        let is_new = |(address, mac): &(&IpAddr, &MacAddr)| before.get(*address) != Some(*mac);
        let mut new = self.neighbours.iter().filter(is_new).peekable();
        if new.peek().is_none() {
            return Ok(());
        }
        let mut netlink = Netlink::open()?;
        for (address, mac) in new {
            if netlink.answer_for(self.index, *address, mac.0)? {
                tracing::debug!(device = %self.name, %address, "a neighbour that was asked for is known now");
            }
        }
        Ok(())
    }

    /// Gives the device these addresses and no others of those it was given.
    pub(super) fn readdress(&mut self, wanted: BTreeSet<(IpAddr, u8)>) -> Result<(), Failure> {
        if wanted == self.addresses {
            return Ok(());
        }
        let mut netlink = netlink()?;
        for (address, len) in self.addresses.difference(&wanted) {
            match netlink.remove_address(self.index, *address, *len) {
                // Somebody was quicker; it is gone, as wanted.
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                outcome => {
                    outcome.map_err(|error| refused("take an address off", &self.name, &error))?;
                }
            }
        }
        for (address, len) in wanted.difference(&self.addresses) {
            netlink
                .add_address(self.index, *address, *len)
                .map_err(|error| refused("give an address to", &self.name, &error))?;
        }
        self.addresses = wanted;
        Ok(())
    }
}

fn netlink() -> Result<Netlink, Failure> {
    Netlink::open()
        .map_err(|error| Failure::failed("netlink", format!("cannot open a netlink socket: {error}")))
}

fn refused(what: &str, name: &str, error: &io::Error) -> Failure {
    let text = format!("cannot {what} the device {name}: {error}");
    if matches!(error.kind(), io::ErrorKind::PermissionDenied) {
        return no_privilege(text);
    }
    Failure::failed("device", text)
}

fn not_opened(name: &str, error: &TapError) -> Failure {
    let denied = |source: &io::Error| source.kind() == io::ErrorKind::PermissionDenied;
    match error {
        TapError::Name(_) => Failure::input("bad_device", format!("`--device`: {error}")),
        TapError::Attach { source, .. } if denied(source) => {
            no_privilege(format!("cannot make the device {name}: {source}"))
        }
        TapError::Device(_) => match privilege::tun_device() {
            Err(failure) => failure,
            Ok(()) => Failure::failed("device", error.to_string()),
        },
        _ => Failure::failed("device", error.to_string()),
    }
}

/// What is missing, and what to do.
fn no_privilege(text: String) -> Failure {
    let program =
        std::env::current_exe().map_or_else(|_| "consort".to_owned(), |path| path.display().to_string());
    Failure::failed("privilege", format!("{text}; CAP_NET_ADMIN is missing"))
        .remedy(format!("run the node as root, or `setcap cap_net_admin+ep {program}` and start it again"))
}

/// Switches off what routers of the network could do to this host.
fn close_to_routers(device: &str) -> Vec<String> {
    let mut notices = Vec::new();
    for setting in [
        "ipv6/conf/DEVICE/accept_ra",
        "ipv6/conf/DEVICE/accept_redirects",
        "ipv4/conf/DEVICE/accept_redirects",
    ] {
        let path = Path::new("/proc/sys/net").join(setting.replace("DEVICE", device));
        match std::fs::write(&path, "0") {
            Ok(()) => {}
            // A kernel without IPv6 has none of its settings.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => notices.push(format!(
                "{} cannot be set to 0 ({error}): other hosts of the network may change this host's routes",
                path.display()
            )),
        }
    }
    notices
}

/// Whether a device of that name is there.
pub(super) fn exists(name: &str) -> Result<bool, Failure> {
    match netlink()?.index(name) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(false),
        Err(error) => Err(refused("look for", name, &error)),
    }
}

/// Names that the kernel keeps for itself: each device's settings are a directory beside these two.
const KEPT_NAMES: [&str; 4] = [".", "..", "all", "default"];

/// Checks a name given by a user.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if fits && name.bytes().all(good) && !KEPT_NAMES.contains(&name) {
        return Ok(());
    }
    Err(Failure::input("bad_device", format!("`--device`: `{name}` cannot be the name of a device")).remedy(
        format!("give 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' or '.', and neither all nor default"),
    ))
}

/// The name of the device for a network of this name: the same, where it fits and is free.
pub(super) fn default_name(network: &str) -> Result<String, Failure> {
    if check_name(network).is_ok() && !exists(network)? {
        return Ok(network.to_owned());
    }
    for number in 0..DEFAULT_NAMES_MAX {
        let name = format!("consort{number}");
        if !exists(&name)? {
            return Ok(name);
        }
    }
    Err(Failure::refused("device_exists", "this host has a device of every default name")
        .remedy("give a name with --device"))
}

/// Whether addresses of IPv6 can be given to new devices here.
pub(super) fn speaks_ipv6() -> bool {
    ["all", "default"].iter().all(|which| {
        let path = format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6");
        std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "0")
    })
}

/// Prefixes this host reaches otherwise, with the device each is reached by: its main routes but the default ones.
pub(super) fn routes() -> Vec<(Prefix, String)> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/net/{name}")).unwrap_or_default();
    let mut routes = ipv4_routes(&read("route"));
    routes.extend(ipv6_routes(&read("ipv6_route")));
    routes
}

/// `/proc/net/route`: device, destination, gateway, flags, three counts, mask; addresses as the machine has them in memory, in hexadecimal.
fn ipv4_routes(text: &str) -> Vec<(Prefix, String)> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(words.get(at)?, 16).ok().map(u32::from_be);
        let len = u8::try_from(number(7)?.leading_ones()).ok()?;
        let prefix = Prefix::around(Ipv4Addr::from_bits(number(1)?).into(), len)?;
        (len > 0).then(|| (prefix, words[0].to_owned()))
    };
    text.lines().skip(1).filter_map(route).collect()
}

/// `/proc/net/ipv6_route`: destination and its length, source and its length, next hop, four counts, device; in hexadecimal.
fn ipv6_routes(text: &str) -> Vec<(Prefix, String)> {
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let first = Ipv6Addr::from_bits(u128::from_str_radix(words.first()?, 16).ok()?);
        let len = u8::from_str_radix(words.get(1)?, 16).ok()?;
        let device = (*words.get(9)?).to_owned();
        let everywhere = len == 0 || first.is_multicast() || first.is_unicast_link_local() || device == "lo";
        Some((Prefix::around(first.into(), len)?, device)).filter(|_| !everywhere)
    };
    text.lines().filter_map(route).collect()
}

/// What a device counted so far.
pub(super) fn counters(name: &str) -> Option<DeviceCounters> {
    counters_in(&std::fs::read_to_string("/proc/self/net/dev").ok()?, name)
}

/// `/proc/net/dev`: after the name eight numbers received and eight sent: bytes, packets, errors, dropped, …
fn counters_in(text: &str, name: &str) -> Option<DeviceCounters> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let numbers: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
    let at = |index: usize| numbers.get(index).copied();
    Some(DeviceCounters {
        received_bytes: at(0)?,
        received_frames: at(1)?,
        received_dropped: at(3)?,
        sent_bytes: at(8)?,
        sent_frames: at(9)?,
        sent_dropped: at(11)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_not_take_or_would_change_are_refused() {
        for good in ["office", "vpn0", "a-b_c.d", "fifteen-bytes-x"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "tap%d", "a:b", "sixteen-bytes-xx", "büro", "all", "default"]
        {
            assert_eq!(check_name(bad).unwrap_err().code, "bad_device", "{bad}");
        }
    }

    #[test]
    fn a_device_that_exists_is_found_and_its_name_not_given() {
        assert!(exists("lo").unwrap() && !exists("no-such-device").unwrap());
        assert_eq!(default_name("no-such-net").unwrap(), "no-such-net");
        assert!(default_name("lo").unwrap().starts_with("consort"));
        assert!(default_name("a-network-of-a-long-name").unwrap().starts_with("consort"));
    }

    #[test]
    fn routes_are_read_but_for_those_to_everywhere() {
        let text = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                    eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                    eth0\t0000070A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nnonsense\n";
        // As a little-endian machine prints 10.7.0.0 and 255.255.255.0.
        if cfg!(target_endian = "little") {
            assert_eq!(ipv4_routes(text), [("10.7.0.0/24".parse().unwrap(), "eth0".to_owned())]);
        }
        let zero = "0".repeat(32);
        let line = |first: &str, len: &str, device: &str| {
            format!("{first:0<32} {len} {zero} 00 {zero} 00000100 00000001 00000000 00000001 {device}\n")
        };
        let text = [
            line("fd07", "40", "eth0"),
            line("fe80", "40", "eth0"),
            line("ff", "08", "eth0"),
            line("0", "00", "lo"),
            "x y z\n".to_owned(),
        ];
        assert_eq!(ipv6_routes(&text.concat()), [("fd07::/64".parse().unwrap(), "eth0".to_owned())]);
    }

    #[test]
    fn counters_are_those_of_the_device_of_that_very_name() {
        let text = "Inter-|   Receive\n face |bytes packets\n  lan0: 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9 9\n   lan: 10 1 0 2 0 0 0 0 20 3 0 4 0 0 0 0\n";
        let counted = counters_in(text, "lan").unwrap();
        assert_eq!((counted.received_bytes, counted.received_frames, counted.received_dropped), (10, 1, 2));
        assert_eq!((counted.sent_bytes, counted.sent_frames, counted.sent_dropped), (20, 3, 4));
        assert!(counters_in(text, "la").is_none());
        assert!(counters("lo").is_some());
    }
}
