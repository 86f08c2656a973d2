//! `invite`, `join`, `members`, `revoke`.

use std::time::Duration;

use super::output::{Output, or_dash, table};
use crate::config::args::{InviteArgs, JoinArgs, RevokeArgs};
use crate::config::units;
use crate::control::api::{InviteBody, JoinBody, Joined, Member, RevokeBody, Revoked, Ticket};
use crate::control::client::Client;
use crate::failure::{Exit, Failure};

/// A duration given as an argument.
pub(super) fn duration_argument(flag: &str, written: &str) -> Result<Duration, Failure> {
    units::parse_duration(written).map_err(|error| {
        Failure::input("bad_unit", format!("`{flag}`: {error}")).remedy(units::DURATION_REMEDY)
    })
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) async fn invite(client: &Client, args: &InviteArgs, output: Output) -> Result<Exit, Failure> {
    let body = InviteBody { valid_ms: milliseconds(duration_argument("--valid", &args.valid)?) };
    let ticket: Ticket = client.post("/v1/overlay/invite", &body).await?;
    output.document(&ticket, |ticket| ticket.ticket.clone())?;
    Ok(Exit::Done)
}

pub(super) async fn join(client: &Client, args: &JoinArgs, output: Output) -> Result<Exit, Failure> {
    let joined: Joined = client.post("/v1/overlay/join", &JoinBody { ticket: args.ticket.clone() }).await?;
    output.document(&joined, |joined| format!("{} is in the overlay {}", joined.host, joined.overlay))?;
    Ok(Exit::Done)
}

pub(super) async fn members(client: &Client, output: Output) -> Result<Exit, Failure> {
    let members: Vec<Member> = client.get("/v1/overlay/members").await?;
    output.document(&members, |members| {
        let rows: Vec<[String; 4]> = members
            .iter()
            .map(|member| {
                let state = match (member.here, member.connected) {
                    (true, _) => "this host",
                    (false, true) => "connected",
                    (false, false) => "not connected",
                };
                [
                    member.host.clone(),
                    state.to_owned(),
                    or_dash(member.invited_by.as_ref()),
                    or_dash(member.invitation.as_ref()),
                ]
            })
            .collect();
        table(["HOST", "STATE", "INVITED BY", "INVITATION"], &rows)
    })?;
    Ok(Exit::Done)
}

pub(super) async fn revoke(client: &Client, args: &RevokeArgs, output: Output) -> Result<Exit, Failure> {
    let revoked: Revoked = client.post("/v1/overlay/revoke", &RevokeBody { key: args.key.clone() }).await?;
    output.document(&revoked, |revoked| format!("{} is put out", revoked.key))?;
    Ok(Exit::Done)
}
