//! The router: the next hop of the default route, and this host's address towards it.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Where the router is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gateway {
    /// The router.
    pub router: Ipv4Addr,
    /// This host's address as the router knows it.
    pub host: Ipv4Addr,
}

impl Gateway {
    /// The default route's, in this process's network namespace.
    ///
    /// # Errors
    /// In words, if there is none.
    pub fn of_default_route() -> Result<Self, String> {
        let table = std::fs::read_to_string("/proc/self/net/route")
            .map_err(|error| format!("the routes cannot be read: {error}"))?;
        let router = default_route(&table).ok_or("there is no default route")?;
        Self::towards(router)
    }

    /// `router` as seen from this host.
    ///
    /// # Errors
    /// In words, if there is no way to it.
    pub fn towards(router: Ipv4Addr) -> Result<Self, String> {
        let no_way = |error: std::io::Error| format!("there is no way to the router {router}: {error}");
        // A UDP socket that is connected sends nothing; it only asks the kernel for the source address.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(no_way)?;
        socket.connect((router, crab_nat::GATEWAY_PORT)).map_err(no_way)?;
        match socket.local_addr().map_err(no_way)?.ip() {
            IpAddr::V4(host) => Ok(Self { router, host }),
            IpAddr::V6(_) => Err(format!("there is no IPv4 way to the router {router}")),
        }
    }
}

/// The gateway of the line with destination and mask 0, the least metric first (numbers in hexadecimal, addresses as the kernel holds them).
fn default_route(table: &str) -> Option<Ipv4Addr> {
    let of = |line: &str| -> Option<(u32, Ipv4Addr)> {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let is_default = number(1)? == 0 && number(7)? == 0 && number(2)? != 0;
        let metric = fields.get(6)?.parse().ok()?;
        is_default.then_some((metric, Ipv4Addr::from(number(2)?.to_ne_bytes())))
    };
    table.lines().skip(1).filter_map(of).min().map(|(_, router)| router)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_of_the_least_metric_is_the_one() {
        let as_held = |address: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(address));
        let (wlan, eth) = (as_held([192, 168, 1, 1]), as_held([10, 0, 0, 1]));
        let table = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             wlan0\t00000000\t{wlan}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{eth}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t0000000A\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n"
        );
        assert_eq!(default_route(&table), Some(Ipv4Addr::new(10, 0, 0, 1)));
        assert_eq!(default_route("Iface\n"), None);
        assert_eq!(default_route("Iface\nbroken line\n"), None);
    }
}
