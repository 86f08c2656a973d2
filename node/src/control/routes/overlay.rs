//! Who is in the overlay.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use consort_overlay::{InviteError, InviteOptions, JoinError, Key, RevokeError, Ticket as OverlayTicket};

use super::node::stopped;
use super::reply::{Answer, Body};
use crate::control::api::{InviteBody, JoinBody, Joined, Member, RevokeBody, Revoked, Ticket};
use crate::daemon::Node;
use crate::failure::Failure;

/// Make a ticket: all that a newcomer needs.
#[utoipa::path(post, path = "/v1/overlay/invite", request_body = InviteBody, responses((status = 200, body = Ticket)))]
pub(super) async fn invite(State(node): State<Arc<Node>>, Body(body): Body<InviteBody>) -> Answer<Ticket> {
    let options =
        InviteOptions { valid_for: Duration::from_millis(body.valid_ms), ..InviteOptions::default() };
    let ticket = node.overlay.invite(options).await.map_err(|error| match error {
        InviteError::NotAMember => {
            Failure::refused("not_a_member", error.to_string()).remedy("join one first with `consort join`")
        }
        InviteError::TooDeep(_) => Failure::refused("too_deep", error.to_string())
            .remedy("ask a host nearer to the founder for a ticket"),
        error => Failure::failed("invite", error.to_string()),
    })?;
    Ok(Json(Ticket { ticket: ticket.to_string() }))
}

/// Join the overlay of a ticket.
#[utoipa::path(post, path = "/v1/overlay/join", request_body = JoinBody, responses((status = 200, body = Joined)))]
pub(super) async fn join(State(node): State<Arc<Node>>, Body(body): Body<JoinBody>) -> Answer<Joined> {
    let ticket: OverlayTicket =
        body.ticket.trim().parse().map_err(|error: consort_overlay::TicketError| {
            Failure::input("bad_ticket", error.to_string())
                .remedy("ask a member for a new one (`consort invite`)")
        })?;
    if let Ok(member) = node.member()
        && member.membership.overlay != ticket.overlay()
        && member.engine.slices().await? > 0
    {
        let failure =
            Failure::refused("slices_exist", "this node takes part in slices of the overlay it would leave");
        return Err(failure.remedy("end them first with `consort slice rm`").into());
    }
    let overlay = node.overlay.join(ticket).await.map_err(|error| match error {
        JoinError::Ticket(_) => Failure::input("bad_ticket", error.to_string())
            .remedy("ask a member for a new one (`consort invite`)"),
        JoinError::MemberOfOther(_) | JoinError::OtherThanPinned { .. } => {
            Failure::refused("other_overlay", error.to_string())
        }
        JoinError::Failed { .. } => Failure::failed("join", error.to_string())
            .remedy("check that the inviter runs and can be reached, and both clocks"),
        error => Failure::failed("join", error.to_string()),
    })?;
    node.member_of(overlay).await;
    Ok(Json(Joined { overlay: overlay.to_string(), host: node.overlay.local_id().to_string() }))
}

/// The members this node knows of.
#[utoipa::path(get, path = "/v1/overlay/members", responses((status = 200, body = Vec<Member>)))]
pub(super) async fn members(State(node): State<Arc<Node>>) -> Answer<Vec<Member>> {
    let members = node.overlay.members().await.map_err(stopped)?;
    Ok(Json(
        members
            .into_iter()
            .map(|member| Member {
                host: member.host.to_string(),
                invited_by: member.admitted_by.map(|host| host.to_string()),
                invitation: member.invitation.map(|key| key.to_string()),
                since_unix_s: u64::from(member.since.0),
                connected: member.connected,
                here: member.local,
            })
            .collect(),
    ))
}

/// Put a member or an invitation out, and all who came by it.
#[utoipa::path(post, path = "/v1/overlay/revoke", request_body = RevokeBody, responses((status = 200, body = Revoked)))]
pub(super) async fn revoke(State(node): State<Arc<Node>>, Body(body): Body<RevokeBody>) -> Answer<Revoked> {
    let key: Key = body.key.trim().parse().map_err(|error: consort_overlay::ParseKeyError| {
        Failure::input("bad_key", format!("`{}` is {error}", body.key))
            .remedy("give what `consort members` shows")
    })?;
    node.overlay.revoke(key).await.map_err(|error| match error {
        RevokeError::Unknown(_) => Failure::not_found("unknown_key", error.to_string()),
        RevokeError::NotAMember | RevokeError::NotAbove { .. } | RevokeError::Full => {
            Failure::refused("not_allowed", error.to_string())
        }
        error => Failure::failed("revoke", error.to_string()),
    })?;
    Ok(Json(Revoked { key: key.to_string() }))
}
