//! What a host knows of itself: its networks, its resolver, its standing.

use std::net::IpAddr;
use std::time::Duration;

use consort_overlay::OverlayStatus;

use crate::why::Standing;

/// How long the resolver may take; it is asked only when somebody asks why.
const LOOKUP_WITHIN: Duration = Duration::from_millis(1_500);

pub(super) fn standing(status: Option<&OverlayStatus>) -> Standing {
    match status {
        Some(status) if status.revoked => Standing::Revoked,
        Some(status) if status.overlay.is_some() => Standing::Member,
        Some(_) | None => Standing::NotYet,
    }
}

/// Whether an interface that is up has an address others could know, by family; what `is_inside` is on a network of this overlay itself.
pub(super) fn families(is_inside: impl Fn(IpAddr) -> bool) -> (bool, bool) {
    use nix::net::if_::InterfaceFlags;
    let (mut ipv4, mut ipv6) = (false, false);
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let is_on = interface.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
        let Some(address) = interface.address.filter(|_| is_on) else { continue };
        let (four, six) = (address.as_sockaddr_in(), address.as_sockaddr_in6());
        ipv4 |= four.is_some_and(|four| {
            !four.ip().is_loopback() && !four.ip().is_link_local() && !is_inside(four.ip().into())
        });
        ipv6 |= six.is_some_and(|six| {
            !six.ip().is_loopback() && !six.ip().is_unicast_link_local() && !is_inside(six.ip().into())
        });
    }
    (ipv4, ipv6)
}

/// Whether the system's resolver answers at all: a name that does not exist (RFC 6761 section 6.4) is answered by every one that works. None where there is
/// nothing to ask.
pub async fn names_can_be_looked_up() -> Option<bool> {
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if !resolver.lines().any(|line| line.trim_start().starts_with("nameserver")) {
        return None;
    }
    let asked = tokio::net::lookup_host(("consort.invalid", 0));
    match tokio::time::timeout(LOOKUP_WITHIN, asked).await {
        Ok(Ok(_)) => Some(true),
        // "Name or service not known" is an answer; "Temporary failure in name resolution" is none.
        Ok(Err(error)) => Some(!error.to_string().to_lowercase().contains("temporary failure")),
        Err(_) => Some(false),
    }
}
