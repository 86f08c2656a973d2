//! What a node that runs can say of itself: its overlay, its members, its links, and how others reach it.

use std::path::Path;

use super::{Check, Verdict};
use crate::control::api::{Peer, Reach, Status};
use crate::control::client::Client;
use crate::failure::Failure;
use crate::why::{Nat, Path as Way};

/// Loss worth a word; `why` has the same.
const LOSS: f64 = 0.02;

/// Hosts named in one line; `consort peers` lists all.
const NAMED_MAX: usize = 3;

/// Every check that needs the daemon.
pub(super) fn checks(socket: &Path) -> Vec<Check> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed("runtime", format!("cannot start the runtime: {error}")));
    match runtime.and_then(|runtime| runtime.block_on(ask(&Client::new(socket)))) {
        Ok(checks) => checks,
        Err(failure) => {
            let remedy = failure.remedy.unwrap_or_else(|| "look at the daemon's log".to_owned());
            vec![Check::not("node", Verdict::Warning, failure.message, &remedy)]
        }
    }
}

async fn ask(client: &Client) -> Result<Vec<Check>, Failure> {
    let status: Status = client.get("/v1/status").await?;
    let peers: Vec<Peer> = client.get("/v1/peers").await?;
    let mut checks = vec![overlay(&status, &peers)];
    // A host that is let in nowhere has no data plane.
    if !status.overlay.is_empty() {
        let reach: Reach = client.get("/v1/reach").await?;
        checks.extend([links(&peers), nat(&reach), port_mapping(&reach), relaying(&reach), names(&reach)]);
    }
    Ok(checks)
}

fn overlay(status: &Status, peers: &[Peer]) -> Check {
    const NAME: &str = "overlay";
    let tried = why_not(peers);
    if status.revoked {
        let remedy =
            "ask who runs the overlay; after a mistake, join with a new ticket and a new state directory";
        return Check::not(NAME, Verdict::Warning, "this host was put out of it", remedy);
    }
    if status.overlay.is_empty() {
        let remedy = "if the ticket has ended, get a new one (`consort invite` on a member) and give it to `consort join`; else see that the inviter's node runs and can be reached";
        return Check::not(NAME, Verdict::Warning, format!("not a member yet{tried}"), remedy);
    }
    match (status.peers_connected, peers.len()) {
        (0, 0) => Check::ok(NAME, "a member; nobody else is known yet (`consort invite` makes a ticket)"),
        (0, _) => {
            let remedy =
                "check this host's network and firewall; `consort why HOST` says more of one of them";
            Check::not(NAME, Verdict::Warning, format!("a member, and no other answers{tried}"), remedy)
        }
        (count, _) => Check::ok(NAME, format!("a member; {count} others connected")),
    }
}

/// What stands between this host and some of those it is not connected with.
fn why_not(peers: &[Peer]) -> String {
    let reasons = peers
        .iter()
        .filter(|peer| !peer.connected)
        .filter_map(|peer| peer.reason.as_ref().map(|reason| format!("{}: {reason}", peer.host)));
    let named: Vec<String> = reasons.take(NAMED_MAX).collect();
    if named.is_empty() { String::new() } else { format!(" ({})", named.join("; ")) }
}

fn links(peers: &[Peer]) -> Check {
    const NAME: &str = "links";
    let with_link = || peers.iter().filter_map(|peer| Some((peer, peer.link.as_ref()?)));
    let is_wanted = |state: &str| !matches!(state, "idle" | "down (unused)" | "down (removed)");
    let wanted: Vec<_> = with_link().filter(|(_, link)| is_wanted(&link.state)).collect();
    let is_bad =
        |(peer, link): &&(&Peer, &crate::control::api::Link)| peer.path != Way::Direct || link.loss >= LOSS;
    let bad: Vec<String> = wanted.iter().filter(is_bad).map(|(peer, _)| peer.host.clone()).collect();
    let direct = wanted.iter().filter(|(peer, _)| peer.path == Way::Direct).count();
    if wanted.is_empty() {
        return Check::ok(NAME, "none are wanted: no network is shared with another host");
    }
    let found = format!("{direct} of {} direct", wanted.len());
    if bad.is_empty() {
        return Check::ok(NAME, found);
    }
    let named: Vec<&str> = bad.iter().take(NAMED_MAX).map(String::as_str).collect();
    let found = format!("{found}; not direct, or losing datagrams: {}", named.join(" "));
    Check::not(NAME, Verdict::Warning, found, &format!("`consort why {}` says why and what to do", named[0]))
}

fn nat(reach: &Reach) -> Check {
    const NAME: &str = "NAT";
    let seen: Vec<&str> = reach.observed.iter().map(|observed| observed.address.as_str()).collect();
    let found = if seen.is_empty() {
        reach.nat.words().to_owned()
    } else {
        format!("{}; seen as {}", reach.nat.words(), seen.join(" "))
    };
    match reach.nat {
        Nat::None | Nat::EndpointIndependent => Check::ok(NAME, found),
        Nat::Unknown => Check::not(
            NAME,
            Verdict::Warning,
            found,
            "needs two connected members to learn it from; `consort peers` lists them",
        ),
        Nat::AddressDependent | Nat::AddressAndPortDependent => Check::not(
            NAME,
            Verdict::Warning,
            found,
            "links to hosts behind such a NAT too need a relay; a port opened in the router makes them direct",
        ),
        Nat::Blocked => Check::not(
            NAME,
            Verdict::Warning,
            found,
            "allow outgoing UDP in the firewall; until then links go inside the control plane, slower",
        ),
    }
}

fn port_mapping(reach: &Reach) -> Check {
    const NAME: &str = "port mapping";
    match (&reach.mapped, &reach.not_mapped) {
        (Some(address), _) => Check::ok(NAME, format!("the router forwards {address}")),
        (None, _) if reach.nat == Nat::None => Check::ok(NAME, "not needed: there is no NAT"),
        (None, None) => Check::ok(NAME, "the router has not been asked"),
        (None, Some(why)) => Check::not(
            NAME,
            Verdict::Warning,
            format!("the router opens no port ({why})"),
            "switch NAT-PMP or PCP on in the router, or forward the data port by hand; paths are found without it too",
        ),
    }
}

fn relaying(reach: &Reach) -> Check {
    const NAME: &str = "relaying";
    let known = match reach.relays_known {
        0 => "no other member relays".to_owned(),
        1 => "one other member relays".to_owned(),
        count => format!("{count} other members relay"),
    };
    match (reach.relays, reach.nat) {
        (true, _) => {
            Check::ok(NAME, format!("this host forwards for others within its owner's caps; {known}"))
        }
        (false, Nat::None) => Check::ok(
            NAME,
            format!(
                "off; {known}. Others could reach this host: `[data] relay = true` would help those behind hard NATs"
            ),
        ),
        (false, _) => Check::ok(NAME, format!("off; {known}")),
    }
}

fn names(reach: &Reach) -> Check {
    const NAME: &str = "names";
    match reach.dns {
        Some(false) => Check::not(
            NAME,
            Verdict::Warning,
            "cannot be looked up; nothing of Consort needs them",
            "check /etc/resolv.conf",
        ),
        Some(true) => Check::ok(NAME, "can be looked up"),
        None => Check::ok(NAME, "no resolver is configured; nothing of Consort needs one"),
    }
}
