//! Who inside has spoken to whom.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::{Transport, View};

/// How long an answer may take: RFC 4787's two minutes, which stateful firewalls follow.
pub const UDP_MEMORY: Duration = Duration::from_secs(120);
/// A TCP connection may be silent as long as RFC 5382 says of a NAT.
pub const TCP_MEMORY: Duration = Duration::from_secs(7440);
/// Conversations at once; then new ones are not remembered, so their answers are dropped.
const STATES_MAX: usize = 65_536;

/// The protocol and both ends, the inside one first.
type Conversation = (u8, (IpAddr, u16), (IpAddr, u16));

#[derive(Debug, Default)]
pub(super) struct States {
    until: BTreeMap<Conversation, Duration>,
}

impl States {
    pub(super) fn remember(&mut self, now: Duration, view: &View) {
        let Some((source, destination)) = ends(view) else { return };
        if self.until.len() >= STATES_MAX {
            self.until.retain(|_, until| *until > now);
        }
        let key = (view.protocol, source, destination);
        if self.until.len() < STATES_MAX || self.until.contains_key(&key) {
            let memory = match view.transport {
                Transport::Tcp { .. } => TCP_MEMORY,
                _ => UDP_MEMORY,
            };
            self.until.insert(key, now + memory);
        }
    }

    pub(super) fn answers(&self, now: Duration, view: &View) -> bool {
        ends(view).is_some_and(|(source, destination)| {
            self.until.get(&(view.protocol, destination, source)).is_some_and(|until| *until > now)
        })
    }
}

fn ends(view: &View) -> Option<((IpAddr, u16), (IpAddr, u16))> {
    let (source, destination) = match view.transport {
        Transport::Udp { source, destination } | Transport::Tcp { source, destination, .. } => {
            (source, destination)
        }
        Transport::EchoRequest { id } | Transport::EchoReply { id } => (id, id),
        _ => return None,
    };
    Some(((view.source, source), (view.destination, destination)))
}
