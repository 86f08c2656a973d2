//! Whether a request may be done here, and as which machine.

use consort_overlay::HostId;
use consort_scheduler::slice::id::SliceId;

use super::message::Request;
use crate::failure::Failure;
use crate::glue::clock;
use crate::glue::engine::EngineHandle;

/// The machine's name on this host, if the slice's tenant wants this from `asking` here and now.
///
/// # Errors
/// If no such machine is here, or the proof does not hold.
pub async fn machine_for(
    request: &Request,
    engine: &EngineHandle,
    me: HostId,
    asking: HostId,
) -> Result<String, Failure> {
    let name = &request.machine;
    let authority = engine.authority(SliceId(name.slice), &name.machine).await?.ok_or_else(|| {
        Failure::not_found("no_machine", format!("no machine {} of that slice is on host {me}", name.machine))
            .remedy("look at `consort machine ls`")
    })?;
    request.proof.verify(&authority.tenant.0, name, me, asking, clock::wall_s()).map_err(|error| {
        tracing::warn!(%asking, machine = %name.machine, %error, "a request for a machine is refused");
        Failure::refused("not_allowed", format!("the machine's host does not let this node in: {error}"))
            .remedy("ask from the node that created the slice, and check both clocks")
    })?;
    Ok(authority.id)
}
