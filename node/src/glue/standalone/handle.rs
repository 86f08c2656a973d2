//! What the API asks of networks by themselves: texts become checked values, refusals become failures with a remedy.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use consort_overlay::{HostId, Overlay, OverlayKey, Reply};
use consort_scheduler::slice::id::Name;
use consort_vswitch::{Event, NetworkId};
use libp2p_identity::Keypair;
use tokio::sync::{mpsc, watch};

use super::core::{Core, CreateRefusal, JoinRefusal, JoinWish, NetworkWish, Wish};
use super::device;
use super::directory::NoSuch;
use super::exchange::exchange_with_all;
use super::prefix::{Prefix, PrefixError, parse_address};
use super::task::{INPUTS_MAX, Input, NetworkStatus, Parts, Task, ask};
use crate::config::resolved::MTU_RANGE;
use crate::failure::Failure;

/// How long a device may take to be gone after its network was left.
const GONE_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A network that a user wants, as written.
#[derive(Debug, Clone)]
pub struct CreateRequest {
    /// Its name.
    pub name: String,
    /// A prefix, `auto` or `off`.
    pub ipv4: Option<String>,
    /// A prefix, `auto` or `off`.
    pub ipv6: Option<String>,
    /// The largest payload of a frame.
    pub mtu: u16,
}

/// How a user wants to be on a network, as written.
#[derive(Debug, Clone, Default)]
pub struct JoinRequest {
    /// An address, with the network's length or without one.
    pub ipv4: Option<String>,
    /// The device's name.
    pub device: Option<String>,
}

/// The way to the task. Clones share it.
#[derive(Debug, Clone)]
pub struct Standalone {
    inputs: mpsc::Sender<Input>,
    joined: watch::Receiver<BTreeSet<NetworkId>>,
    overlay: Overlay,
}

impl Standalone {
    /// A handle, and the task, which takes up what was kept.
    #[must_use]
    pub fn new(keys: Keypair, overlay_key: OverlayKey, parts: Parts) -> (Self, Task) {
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        let (told, joined) = watch::channel(BTreeSet::new());
        let overlay = parts.overlay.clone();
        let task = Task::new(Core::new(keys, overlay_key), parts, receiver, inputs.downgrade(), told);
        (Self { inputs, joined, overlay }, task)
    }

    /// Makes a network; it is told to every connected member before this returns.
    ///
    /// # Errors
    /// Names the field, the value and the remedy.
    pub async fn create(&self, request: &CreateRequest) -> Result<NetworkStatus, Failure> {
        let wish = network_wish(request)?;
        exchange_with_all(&self.overlay, &self.inputs).await;
        let id = ask(&self.inputs, |reply| Input::Create { wish, reply }).await.ok_or_else(stopping)??;
        exchange_with_all(&self.overlay, &self.inputs).await;
        self.status_of(id).await
    }

    /// Puts this host on a network.
    ///
    /// # Errors
    /// Names the field, the value and the remedy.
    pub async fn join(&self, network: &str, request: &JoinRequest) -> Result<NetworkStatus, Failure> {
        let given = request.ipv4.as_deref().map(given_address).transpose()?;
        if let Some(name) = &request.device {
            device::check_name(name)?;
        }
        // What others did a moment ago counts: they may have made the network, or taken addresses.
        exchange_with_all(&self.overlay, &self.inputs).await;
        let id = self.find(network).await?;
        let status = self.status_of(id).await?;
        if let (Some((address, Some(len))), Some(prefix)) = (given, status.definition.draft.ipv4)
            && len != prefix.length()
        {
            return Err(bad_address(&format!("{address}/{len}"), &format!("the network is {prefix}"))
                .remedy(format!("give {address}/{}", prefix.length())));
        }
        let device = match &request.device {
            Some(name) => name.clone(),
            None => device::default_name(status.definition.draft.name.as_str())?,
        };
        let speaks_ipv6 = device::speaks_ipv6();
        let wish = JoinWish { ipv4: given.map(|(address, _)| address), speaks_ipv6, device };
        ask(&self.inputs, |reply| Input::Join { id, wish, reply }).await.ok_or_else(stopping)??;
        // Whoever took the same address meanwhile is heard of here, and one of the two yields.
        exchange_with_all(&self.overlay, &self.inputs).await;
        self.status_of(id).await
    }

    /// Takes this host off a network; its device is gone when this returns.
    ///
    /// # Errors
    /// If it is not on it.
    pub async fn leave(&self, network: &str) -> Result<NetworkStatus, Failure> {
        let id = self.find(network).await?;
        let left = ask(&self.inputs, |reply| Input::Leave { id, reply }).await.ok_or_else(stopping)?;
        let Some(device) = left else {
            return Err(Failure::refused("not_joined", format!("this host is not on the network {network}"))
                .remedy("look at `consort net ls`"));
        };
        exchange_with_all(&self.overlay, &self.inputs).await;
        let begun = Instant::now();
        while device::exists(&device)? {
            if begun.elapsed() > GONE_WITHIN {
                return Err(Failure::failed("device", format!("the device {device} is not gone yet")));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        self.status_of(id).await
    }

    /// All networks known.
    ///
    /// # Errors
    /// If the node is stopping.
    pub async fn list(&self) -> Result<Vec<NetworkStatus>, Failure> {
        ask(&self.inputs, Input::Show).await.ok_or_else(stopping)
    }

    async fn status_of(&self, id: NetworkId) -> Result<NetworkStatus, Failure> {
        let found = self.list().await?.into_iter().find(|status| status.definition.id == id);
        found.ok_or_else(|| not_known(&id.to_string()))
    }

    /// The network a user means.
    async fn find(&self, text: &str) -> Result<NetworkId, Failure> {
        let looked_up = ask(&self.inputs, |reply| Input::Lookup { text: text.to_owned(), reply });
        match looked_up.await.ok_or_else(stopping)? {
            Ok(id) => Ok(id),
            Err(NoSuch::Unknown) => Err(not_known(text)),
            Err(NoSuch::Ambiguous(ids)) => {
                let name = text.split('@').next().unwrap_or(text);
                let choices: Vec<String> = ids.iter().map(|id| format!("{name}@{id}")).collect();
                Err(Failure::input("ambiguous", format!("{} networks are called {name}", ids.len()))
                    .remedy(format!("say which: {}", choices.join(" or "))))
            }
        }
    }

    /// Whether the data plane's event is about a network by itself that this host is on.
    #[must_use]
    pub fn concerns(&self, event: &Event) -> bool {
        match event {
            Event::ChannelRequested { network, .. } | Event::ChannelRefused { network, .. } => {
                self.joined.borrow().contains(network)
            }
            _ => false,
        }
    }

    /// What the data plane reports.
    pub async fn channel(&self, event: Event) {
        self.put(Input::Channel(event)).await;
    }

    /// A member asks.
    pub fn request(&self, body: Vec<u8>, reply: Reply) {
        // Where too much waits already, the request is dropped: its sender learns that, and a comparison does the rest.
        if self.inputs.try_send(Input::Request { body, reply }).is_err() {
            tracing::debug!("a member's request about networks is dropped: too many wait");
        }
    }

    /// A member is connected.
    pub async fn peer_up(&self, host: HostId) {
        self.put(Input::PeerUp(host)).await;
    }

    /// Somebody was put out of the overlay.
    pub async fn put_out(&self) {
        self.put(Input::PutOut).await;
    }

    async fn put(&self, input: Input) {
        // The task is gone only when the daemon ends.
        let _daemon_ends = self.inputs.send(input).await;
    }
}

fn stopping() -> Failure {
    Failure::failed("stopping", "the node is stopping").remedy("try again when it runs")
}

fn not_known(text: &str) -> Failure {
    Failure::not_found("no_network", format!("no network {text} is known here"))
        .remedy("look at `consort net ls`, and at `consort peers` whether its hosts are connected")
}

fn network_wish(request: &CreateRequest) -> Result<NetworkWish, Failure> {
    let name: Name = request.name.parse().map_err(|error: consort_scheduler::slice::id::NotAName| {
        Failure::input("bad_name", format!("`NAME`: `{}` is no name of a network: {error}", request.name))
            .remedy("write one such as office")
    })?;
    if !MTU_RANGE.contains(&request.mtu) {
        return Err(Failure::input("bad_mtu", format!("`--mtu`: {} is out of range", request.mtu))
            .remedy(format!("give {} to {}", MTU_RANGE.start(), MTU_RANGE.end())));
    }
    let ipv4 = wish("--ipv4", request.ipv4.as_deref(), IpAddr::is_ipv4)?;
    let ipv6 = wish("--ipv6", request.ipv6.as_deref(), IpAddr::is_ipv6)?;
    Ok(NetworkWish { name, ipv4, ipv6, mtu: request.mtu })
}

fn wish(flag: &str, text: Option<&str>, right: fn(&IpAddr) -> bool) -> Result<Wish, Failure> {
    let text = match text {
        None | Some("auto") => return Ok(Wish::Auto),
        Some("off") => return Ok(Wish::Off),
        Some(text) => text,
    };
    let checked = text.parse::<Prefix>().and_then(|prefix| {
        if !right(&prefix.first()) {
            return Err(PrefixError::OtherVersion);
        }
        prefix.check_for_network().map(|()| prefix)
    });
    checked.map(Wish::Given).map_err(|error| {
        Failure::input("bad_prefix", format!("`{flag}`: `{text}`: {error}"))
            .remedy("or leave it away: then it is chosen; `off` for none")
    })
}

/// An address as given to `--ipv4`, with its length if there is one.
fn given_address(text: &str) -> Result<(Ipv4Addr, Option<u8>), Failure> {
    let parsed = match text.parse::<IpAddr>() {
        Ok(address) => Ok((address, None)),
        Err(_) => parse_address(text).map(|(address, len)| (address, Some(len))),
    };
    match parsed {
        Ok((IpAddr::V4(address), len)) => Ok((address, len)),
        Ok((IpAddr::V6(_), _)) | Err(_) => {
            Err(bad_address(text, "it is no IPv4 address").remedy("write one such as 10.7.0.5/24"))
        }
    }
}

fn bad_address(text: &str, why: &str) -> Failure {
    Failure::input("bad_address", format!("`--ipv4`: `{text}`: {why}"))
}

pub(super) fn create_failure(name: &Name, refusal: &CreateRefusal) -> Failure {
    let failure = |code, what: &str| Failure::refused(code, format!("{what}: {refusal}"));
    match refusal {
        CreateRefusal::NameTaken(id) => failure("network_exists", &format!("`NAME`: {name}")).remedy(
            format!("join it with `consort net join {name}` (it is {name}@{id}), or take another name"),
        ),
        CreateRefusal::NoPrefixFree => {
            failure("no_prefix", "`--ipv4`").remedy("give a prefix with --ipv4, or --ipv4 off for none")
        }
        CreateRefusal::PrefixTaken(other, taken) => {
            failure("prefix_taken", &format!("the network {other} is {taken}"))
                .remedy("give another prefix, or leave it away: then it is chosen")
        }
        CreateRefusal::TooMany | CreateRefusal::TooManyOfThisHost => {
            failure("too_many", "no network is made")
                .remedy("networks that nobody is on are forgotten after a week; use one there is")
        }
    }
}

pub(super) fn join_failure(wish: &JoinWish, refusal: &JoinRefusal) -> Failure {
    let given = wish.ipv4.map_or_else(|| "chosen".to_owned(), |address| address.to_string());
    match refusal {
        JoinRefusal::Already => Failure::refused("joined_already", refusal.to_string())
            .remedy("look at `consort net show`, or leave it first with `consort net leave`"),
        JoinRefusal::TooMany => {
            Failure::refused("too_many", refusal.to_string()).remedy("leave one with `consort net leave`")
        }
        JoinRefusal::NoIpv4 => bad_address(&given, &refusal.to_string()).remedy("join without --ipv4"),
        JoinRefusal::Outside(prefix) => bad_address(&given, &refusal.to_string())
            .remedy(format!("give one of {prefix}, or leave it away: then it is chosen")),
        JoinRefusal::AddressTaken(_) => {
            Failure::refused("address_taken", format!("`--ipv4`: `{given}`: {refusal}"))
                .remedy("give another, or leave it away: then a free one is chosen")
        }
        JoinRefusal::Full(_) => Failure::refused("network_full", refusal.to_string())
            .remedy("make a network with a shorter prefix"),
        JoinRefusal::Unknown => {
            Failure::not_found("no_network", refusal.to_string()).remedy("look at `consort net ls`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(ipv4: Option<&str>, ipv6: Option<&str>) -> CreateRequest {
        CreateRequest {
            name: "office".into(),
            ipv4: ipv4.map(Into::into),
            ipv6: ipv6.map(Into::into),
            mtu: 1500,
        }
    }

    #[test]
    fn what_is_not_said_is_chosen_and_off_is_off() {
        let wished = network_wish(&request(None, Some("off"))).unwrap();
        assert_eq!((wished.ipv4, wished.ipv6), (Wish::Auto, Wish::Off));
        let given = network_wish(&request(Some("10.7.0.0/24"), Some("fd07::/64"))).unwrap();
        assert_eq!(given.ipv4, Wish::Given("10.7.0.0/24".parse().unwrap()));
        assert_eq!(given.ipv6, Wish::Given("fd07::/64".parse().unwrap()));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_field_and_a_remedy() {
        let cases = [
            (request(Some("10.7.0.5/24"), None), "bad_prefix", "10.7.0.0/24"),
            (request(Some("10.7.0.0/31"), None), "bad_prefix", "8 to 30"),
            (request(Some("fd07::/64"), None), "bad_prefix", "--ipv4"),
            (request(None, Some("10.7.0.0/24")), "bad_prefix", "--ipv6"),
            (request(None, Some("fe80::/64")), "bad_prefix", "fd07::/64"),
            (CreateRequest { name: "Büro".into(), ..request(None, None) }, "bad_name", "Büro"),
            (CreateRequest { mtu: 100, ..request(None, None) }, "bad_mtu", "1280 to 9000"),
        ];
        for (request, code, said) in cases {
            let failure = network_wish(&request).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.exit().number()), (code, 2), "{failure}");
            assert!(failure.to_string().contains(said), "{failure}");
        }
    }

    #[test]
    fn an_address_may_come_with_a_length_or_without() {
        let address: Ipv4Addr = [10, 7, 0, 5].into();
        assert_eq!(given_address("10.7.0.5"), Ok((address, None)));
        assert_eq!(given_address("10.7.0.5/24"), Ok((address, Some(24))));
        for bad in ["", "10.7.0", "10.7.0.5/33", "fd07::5", "fd07::5/64"] {
            assert_eq!(given_address(bad).unwrap_err().code, "bad_address", "{bad}");
        }
    }
}
