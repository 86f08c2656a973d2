//! What kind of NAT is in the way (RFC 4787 section 4.1).

/// How a NAT gives outside ports to inside ones, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NatKind {
    /// Too few members have answered.
    #[default]
    Unknown,
    /// Members see an address of this host's own.
    None,
    /// All members see the same address and port.
    EndpointIndependent,
    /// Members on other addresses see other ports, those on one address the same.
    AddressDependent,
    /// Each sees another port.
    AddressAndPortDependent,
    /// No member answers at all although they can be reached otherwise.
    Blocked,
}

impl NatKind {
    /// Whether the port that one host is seen with says nothing of the port the next will see.
    pub fn is_hard(self) -> bool {
        matches!(self, Self::AddressDependent | Self::AddressAndPortDependent)
    }
}

/// How outside ports follow each other where each destination sees another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortPattern {
    /// Nothing is known, or they are drawn at random.
    #[default]
    Random,
    /// Each new mapping gets the port `step` after the last, which was `last`.
    Sequential {
        /// The newest port seen.
        last: u16,
        /// From one to the next.
        step: i16,
    },
    /// The inside port, where it is free.
    Preserving,
}

/// What is known of the NAT before a host: published with its candidates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub struct NatView {
    /// See [`NatKind`].
    pub kind: NatKind,
    /// See [`PortPattern`].
    pub ports: PortPattern,
}

/// The NAT before a peer, as its node tells it.
pub type PeerNat = NatView;
