//! Who talks to whom, as a NAT sees it.

use std::net::SocketAddrV4;

/// What a NAT can tell conversations apart in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// By its ports.
    Udp,
    /// By its ports.
    Tcp,
    /// ICMP echo, by its identifier, which stands where the asking side's port would; the other side's is 0.
    Echo,
}

/// The two ends of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// In what they talk.
    pub protocol: Protocol,
    /// Who sent it.
    pub source: SocketAddrV4,
    /// To whom.
    pub destination: SocketAddrV4,
}

/// What a packet means for how long its conversation lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Nothing in particular: UDP, echo, and most of TCP.
    Data,
    /// TCP's `SYN`.
    Open,
    /// TCP's `FIN` or `RST`.
    Close,
}
