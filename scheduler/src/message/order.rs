//! What a tenant orders about slices, and what became of it.

use serde::{Deserialize, Serialize};

use crate::bounded::Blob;
use crate::identity::{self, HostId, NotEd25519, Purpose, Signature, SignatureError, TenantId};
use crate::slice::id::{Name, SliceId};
use crate::slice::record::State;
use crate::units::Millis;

/// Which slices an order is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Selector {
    /// All of the tenant's.
    All,
    /// The one with this name.
    Name(Name),
    /// The one with this id.
    Id(SliceId),
}

impl Selector {
    /// Whether it selects this slice.
    #[must_use]
    pub fn selects(&self, slice: SliceId, name: &Name) -> bool {
        match self {
            Self::All => true,
            Self::Name(wanted) => wanted == name,
            Self::Id(wanted) => *wanted == slice,
        }
    }
}

/// What a tenant orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderKind {
    /// Let the asker see.
    See,
    /// End it.
    Remove,
    /// Let its term be at least this long, counted from its activation.
    Extend(Millis),
}

/// An order, as signed. It names the node that may present it, so that whoever sees it cannot use it. Repeating it
/// does no harm: each kind leads to the same state however often it is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Who orders.
    pub tenant: TenantId,
    /// Which node presents it.
    pub asker: HostId,
    /// About what.
    pub selector: Selector,
    /// What.
    pub kind: OrderKind,
}

/// Bytes of a signed order: two names, a slice's name and a term.
const ORDER_BYTES_MAX: usize = 256;

/// An order as it travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedOrder {
    body: Blob<ORDER_BYTES_MAX>,
    signature: Signature,
}

impl SignedOrder {
    /// Signs an order with the tenant's key.
    ///
    /// # Errors
    /// When the key pair cannot sign.
    pub fn sign(
        tenant: &libp2p_identity::Keypair,
        asker: HostId,
        selector: Selector,
        kind: OrderKind,
    ) -> Result<Self, NotEd25519> {
        let order = Order { tenant: TenantId(tenant.public().to_peer_id()), asker, selector, kind };
        let bytes = postcard::to_stdvec(&order).expect("an order holds nothing postcard cannot write");
        let body = Blob::try_from(bytes).expect("two names and a slice's name are short");
        let signature = identity::sign(tenant, Purpose::Order, &body)?;
        Ok(Self { body, signature })
    }

    /// Checks the signature and that the presenter is the one named.
    ///
    /// # Errors
    /// Says what is not in order.
    pub fn open(&self, presenter: HostId) -> Result<Order, OrderError> {
        let (order, rest): (Order, _) =
            postcard::take_from_bytes(&self.body).map_err(|_| OrderError::Malformed)?;
        if !rest.is_empty() {
            return Err(OrderError::Malformed);
        }
        if order.asker != presenter {
            return Err(OrderError::NotTheAsker);
        }
        identity::verify(&order.tenant.0, Purpose::Order, &self.body, &self.signature)?;
        Ok(order)
    }
}

/// Why an order proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The bytes are not an order.
    #[error("the bytes are not an order")]
    Malformed,
    /// Another node presents it than the one it names.
    #[error("the order names another node")]
    NotTheAsker,
    /// The tenant did not sign it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderResult {
    /// It is so, as of this version of the record.
    Done(u64),
    /// The slice is in a state in which it cannot be.
    WrongState(State),
    /// The steward does not know the slice.
    Unknown,
    /// The order is not the tenant's.
    Forbidden,
    /// No majority of stewards answered the one asked.
    NoMajority,
}
