//! Why a packet was not passed on, and how often.

/// Why a packet was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Refusal {
    /// Nobody inside has this outside endpoint.
    NotMapped,
    /// Somebody has, but lets others in than the sender.
    Filtered,
    /// To an outside address from inside, where that is not allowed.
    NoHairpin,
    /// All mappings are in use.
    TableFull,
    /// The host has as many mappings as it may.
    HostFull,
    /// No outside port is free.
    PortsExhausted,
    /// Not an IPv4 packet, or cut short, or lengths that do not agree.
    Malformed,
    /// Neither UDP nor TCP nor an ICMP echo or error.
    OtherProtocol,
    /// A later part of a packet whose first part did not come by.
    LoneFragment,
}

/// All reasons.
pub const REFUSALS: [Refusal; 9] = [
    Refusal::NotMapped,
    Refusal::Filtered,
    Refusal::NoHairpin,
    Refusal::TableFull,
    Refusal::HostFull,
    Refusal::PortsExhausted,
    Refusal::Malformed,
    Refusal::OtherProtocol,
    Refusal::LoneFragment,
];

/// What a NAT did so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets let out.
    pub out: u64,
    /// Packets let in.
    pub r#in: u64,
    /// Packets from one host inside to another by outside addresses.
    pub hairpinned: u64,
    /// Mappings ever made.
    pub mapped: u64,
    refused: [u64; REFUSALS.len()],
}

impl Counters {
    /// Packets not passed on for this reason.
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }

    pub(super) fn refuse(&mut self, reason: Refusal) {
        self.refused[reason as usize] += 1;
    }
}
