//! Mappings that a host asked for (RFC 6887, RFC 6886, UPnP IGD), beside those that its packets make.
//!
//! Such a mapping translates in both directions (RFC 6887, section 3), whomever the host talks with, and lets everybody in. It ends when its time is over,
//! whether it is used or not.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use super::Protocol;

/// Asked-for mappings at once: what small routers ship with.
pub const PINS_MAX: usize = 64;

/// Why a port was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPinned {
    /// There are [`PINS_MAX`], or no port is left.
    Full,
    /// This port, and no other would do, is another host's.
    Taken,
}

#[derive(Debug)]
struct Pin {
    inside: SocketAddrV4,
    until: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Pins(BTreeMap<(Protocol, SocketAddrV4), Pin>);

impl Pins {
    /// Who an outside endpoint is.
    pub(super) fn inside(&self, now: Duration, outside: (Protocol, SocketAddrV4)) -> Option<SocketAddrV4> {
        self.0.get(&outside).filter(|pin| pin.until > now).map(|pin| pin.inside)
    }

    /// The outside endpoint of one inside.
    pub(super) fn outside(
        &self,
        now: Duration,
        (protocol, inside): (Protocol, SocketAddrV4),
    ) -> Option<SocketAddrV4> {
        let is_its = |((of, _), pin): &(&(Protocol, SocketAddrV4), &Pin)| {
            *of == protocol && pin.inside == inside && pin.until > now
        };
        self.0.iter().find(is_its).map(|((_, outside), _)| *outside)
    }

    /// Puts one in, or gives the one that stands there more time; false if there are too many.
    pub(super) fn set(
        &mut self,
        now: Duration,
        outside: (Protocol, SocketAddrV4),
        inside: SocketAddrV4,
        life: Duration,
    ) -> bool {
        self.0.retain(|_, pin| pin.until > now);
        if self.0.len() >= PINS_MAX && !self.0.contains_key(&outside) {
            return false;
        }
        self.0.insert(outside, Pin { inside, until: now + life });
        true
    }

    pub(super) fn remove(&mut self, outside: (Protocol, SocketAddrV4)) -> bool {
        self.0.remove(&outside).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
