//! What somebody may have done to a node's state while it did not run: the lab writes it into the node's store, and the node takes it from there.
//!
//! A certificate with other times is signed by the founder's own key, as the founder's node would have signed it with a wrong clock; it is written here byte by
//! byte after the table in the overlay's `membership`, because no node makes such a one on purpose.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use consort_overlay::{Chain, Membership, OverlayState};
use libp2p_identity::Keypair;
use serde_json::Value;

use crate::demo::stage::lab_failure;
use crate::failure::Failure;
use crate::glue::inbound::STATE_KEY;
use crate::state::store::{Change, Room, Store};

/// A certificate of a member who came by an invitation, and its fields before the signature.
const CERTIFICATE_BYTES: usize = 137;
const FIELDS_BYTES: usize = CERTIFICATE_BYTES - 64;
/// Where its times are.
const ISSUED: std::ops::Range<usize> = 33..37;
const UNTIL: std::ops::Range<usize> = 37..41;
/// An hour: far beyond what clocks may differ.
const FAR_S: u32 = 3_600;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    /// Its certificate ended an hour ago.
    Ended,
    /// Its certificate was made an hour from now.
    Ahead,
    /// The overlay's secret is another one.
    OtherSecret,
    /// The store is gone, the identity is there: it founds an overlay of its own.
    NoStore,
}

/// Does it to the state in `member`; `founder` is the state directory of who let it in. Neither node runs on `member`.
///
/// # Errors
/// If a file cannot be read or written, or is of another form.
pub(super) fn tamper(how: Tamper, member: &Path, founder: &Path) -> Result<(), Failure> {
    if how == Tamper::NoStore {
        return std::fs::remove_file(member.join("state.redb")).map_err(lab_failure);
    }
    let store = Store::open(member)?;
    let bytes = store.read(Room::Overlay, STATE_KEY)?.ok_or_else(|| lab_failure("the node was no member"))?;
    let state: OverlayState = serde_json::from_slice(&bytes).map_err(lab_failure)?;
    let membership = state.membership().ok_or_else(|| lab_failure("the node was no member"))?;
    let now = now()?;
    let field = match how {
        Tamper::Ended => ("chain", dated(membership, founder, now - 2 * FAR_S, now - FAR_S)?),
        Tamper::Ahead => ("chain", dated(membership, founder, now + FAR_S, 0)?),
        Tamper::OtherSecret => {
            ("link_secret", membership.link_secret.expose().iter().map(|byte| !byte).collect())
        }
        Tamper::NoStore => return Ok(()),
    };
    let mut document: Value = serde_json::from_slice(&bytes).map_err(lab_failure)?;
    let place = document.pointer_mut(&format!("/membership/{}", field.0));
    *place.ok_or_else(|| lab_failure("the stored state has another form"))? = Value::from(field.1);
    let value = Some(serde_json::to_vec(&document).map_err(lab_failure)?);
    store.write(&[Change { room: Room::Overlay, key: STATE_KEY.to_owned(), value }])?;
    Ok(())
}

/// The member's chain with its last certificate made anew: issued then, good until then (0: for ever).
fn dated(membership: &Membership, founder: &Path, issued: u32, until: u32) -> Result<Vec<u8>, Failure> {
    let key = std::fs::read(founder.join("identity.key")).map_err(lab_failure)?;
    let issuer = Keypair::from_protobuf_encoding(&key).map_err(lab_failure)?;
    let issuer_key = issuer.clone().try_into_ed25519().map_err(lab_failure)?.public().to_bytes();
    let mut chain = membership.chain.encode();
    let start = chain.len().checked_sub(CERTIFICATE_BYTES).ok_or_else(|| lab_failure("a chain too short"))?;
    let certificate = &mut chain[start..];
    certificate[ISSUED].copy_from_slice(&issued.to_be_bytes());
    certificate[UNTIL].copy_from_slice(&until.to_be_bytes());
    let mut signed = b"consort certificate 1\0".to_vec();
    signed.extend_from_slice(membership.overlay.0.as_bytes());
    signed.extend_from_slice(&issuer_key);
    signed.extend_from_slice(&certificate[..FIELDS_BYTES]);
    let signature = issuer.sign(&signed).map_err(lab_failure)?;
    certificate[FIELDS_BYTES..].copy_from_slice(&signature);
    Chain::decode(&chain).map(|chain| chain.encode()).map_err(lab_failure)
}

fn now() -> Result<u32, Failure> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_err(lab_failure)?;
    u32::try_from(since.as_secs()).map_err(lab_failure)
}
