//! Hosts in the open with real nodes, all of which relay, and the topologies they are given.
//!
//! Owns: the crew, who is called what. Refuses to know: what is measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;

use consort_lab::case::{Case, World};

use super::talk::{self, Connection, Load, Numbered};
use crate::bench::reach::crew::Crew;
use crate::bench::reach::pair;
use crate::control::api::{Peer, TopologyBody, TopologyPlan, TopologyState};
use crate::demo::stage::{awaited, lab_failure};
use crate::failure::Failure;
use crate::why::Path;

/// What each owner lets others send through, as in the configuration: more than any lab carries.
pub const UNCAPPED: &str = "{ rate = \"100Gbit/s\", peers = 64 }";

/// The hosts, by name: `h0` is the founder.
#[derive(Debug)]
pub struct Field {
    /// The nodes.
    pub crew: Crew,
    /// The hosts' ids by name.
    pub ids: BTreeMap<String, String>,
}

/// Empties the state of a host that had its name in an earlier field of the same lab.
fn forget(state: &std::path::Path) -> io::Result<()> {
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl Field {
    /// So many hosts, joined; `cable` as in a case file, `relay` as in the configuration.
    ///
    /// # Errors
    /// If the lab or a node does not come up.
    pub async fn of(hosts: usize, cable: &str, relay: &str) -> Result<Self, Failure> {
        Self::cabled(&vec![cable; hosts], relay).await
    }

    /// The same with a cable for each.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub async fn cabled(cables: &[impl AsRef<str>], relay: &str) -> Result<Self, Failure> {
        let config = format!("[data]\nrelay = {relay}\n");
        let host = |(number, cable): (usize, &_)| {
            let cable = AsRef::<str>::as_ref(cable);
            format!("[host.h{number}]\n{cable}\nconfig = '''\n{config}'''\n")
        };
        let text: String = cables.iter().enumerate().map(host).collect();
        let case = Case::parse(&text).map_err(|faults| lab_failure(format!("{faults:?}")))?;
        let mut crew = Crew::new(World::build(&case).map_err(lab_failure)?);
        for name in crew.names() {
            forget(crew.world().host(&name).map_err(lab_failure)?.host.state()).map_err(lab_failure)?;
        }
        crew.start_overlay().await?;
        let mut ids = BTreeMap::new();
        for name in crew.names() {
            ids.insert(name.clone(), pair::host_id(&crew.client(&name)?).await?);
        }
        Ok(Self { crew, ids })
    }

    /// A topology file: what stands before the hosts, and what after them.
    #[must_use]
    pub fn file(&self, head: &str, tail: &str) -> String {
        let hosts: String = self.ids.iter().map(|(name, id)| format!("{name} = \"{id}\"\n")).collect();
        format!("{head}\n[hosts]\n{hosts}{tail}\n")
    }

    /// Applies a topology on a host; its number.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn apply(&self, on: &str, file: String) -> Result<u64, Failure> {
        let body = TopologyBody { file, force: false };
        let plan: TopologyPlan = self.crew.client(on)?.post("/v1/topology/apply", &body).await?;
        Ok(plan.to_version)
    }

    /// Applies a topology and waits until all act by it.
    ///
    /// # Errors
    /// If it is refused, or does not reach one of them.
    pub async fn shape(&self, head: &str, tail: &str) -> Result<(), Failure> {
        self.take(self.file(head, tail)).await
    }

    /// The same with a whole file.
    ///
    /// # Errors
    /// As [`Self::shape`].
    pub async fn take(&self, file: String) -> Result<(), Failure> {
        let version = self.apply("h0", file).await?;
        for name in self.ids.keys() {
            self.holds(name, version).await?;
        }
        Ok(())
    }

    /// Waits until a host holds a version.
    ///
    /// # Errors
    /// If it does not.
    pub async fn holds(&self, name: &str, version: u64) -> Result<TopologyState, Failure> {
        let client = self.crew.client(name)?;
        awaited(&format!("{name} holds version {version}"), async || {
            let state: TopologyState = client.get("/v1/topology").await?;
            Ok((state.version == Some(version)).then_some(state))
        })
        .await
    }

    /// Puts two on a network of their own; their addresses on it.
    ///
    /// # Errors
    /// If one of them refuses.
    pub async fn network(&self, name: &str, a: &str, b: &str) -> Result<(IpAddr, IpAddr), Failure> {
        pair::join_both(&(self.crew.client(a)?, self.crew.client(b)?), name).await
    }

    /// Puts several on one network; their addresses on it, by name.
    ///
    /// # Errors
    /// If one of them refuses.
    pub async fn common_network(
        &self,
        name: &str,
        hosts: &[String],
    ) -> Result<BTreeMap<String, IpAddr>, Failure> {
        let clients: Vec<_> = hosts.iter().map(|host| self.crew.client(host)).collect::<Result<_, _>>()?;
        for (number, client) in clients.iter().enumerate() {
            if number == 0 {
                pair::create(client, name).await?;
            }
            awaited(&format!("{} joins {name}", hosts[number]), async || {
                match pair::join(client, name).await {
                    Ok(()) => Ok(Some(())),
                    // The news has not come yet.
                    Err(failure) if failure.code == "no_network" => Ok(None),
                    Err(failure) => Err(failure),
                }
            })
            .await?;
        }
        // Who joins before it has heard of the others may have taken the same address as one of them, and gets another.
        awaited(&format!("all have addresses of their own on {name}"), async || {
            let mut all = BTreeMap::new();
            for (host, client) in hosts.iter().zip(&clients) {
                all.extend(pair::address(client, name).await?.map(|address| (host.clone(), address)));
            }
            let own: BTreeSet<&IpAddr> = all.values().collect();
            Ok((own.len() == hosts.len()).then_some(all))
        })
        .await
    }

    /// What a host shows of another.
    ///
    /// # Errors
    /// If its node does not answer.
    pub async fn peer(&self, of: &str, peer: &str) -> Result<Option<Peer>, Failure> {
        let peers: Vec<Peer> = self.crew.client(of)?.get("/v1/peers").await?;
        Ok(peers.into_iter().find(|entry| Some(&entry.host) == self.ids.get(peer)))
    }

    /// The names of the hosts in between on the way that is used; none: there is no way.
    ///
    /// # Errors
    /// If the node does not answer.
    pub async fn hops(&self, from: &str, to: &str) -> Result<Option<Vec<String>>, Failure> {
        let Some(peer) = self.peer(from, to).await? else { return Ok(None) };
        Ok(match peer.path {
            Path::Direct => Some(Vec::new()),
            Path::Relay => peer.relays.first().map(|relays| self.named(relays)),
            _ => None,
        })
    }

    /// Waits until the way that is used is one that `wanted` takes.
    ///
    /// # Errors
    /// If it is not.
    pub async fn way(
        &self,
        from: &str,
        to: &str,
        what: &str,
        wanted: impl Fn(&[String]) -> bool,
    ) -> Result<Vec<String>, Failure> {
        awaited(&format!("{from} goes to {to} {what}"), async || {
            Ok(self.hops(from, to).await?.filter(|hops| wanted(hops)))
        })
        .await
    }

    /// Waits until both go directly to each other.
    ///
    /// # Errors
    /// If they do not.
    pub async fn direct(&self, a: &str, b: &str) -> Result<(), Failure> {
        self.way(a, b, "directly", <[String]>::is_empty).await?;
        self.way(b, a, "directly", <[String]>::is_empty).await.map(drop)
    }

    /// Waits until both go to each other over so many hosts; those on the first's way.
    ///
    /// # Errors
    /// If they do not.
    pub async fn over(&self, a: &str, b: &str, hosts: usize) -> Result<Vec<String>, Failure> {
        let what = format!("over {hosts} hosts");
        self.way(b, a, &what, |hops| hops.len() == hosts).await?;
        self.way(a, b, &what, |hops| hops.len() == hosts).await
    }

    fn named(&self, ids: &[String]) -> Vec<String> {
        let name =
            |id: &String| self.ids.iter().find(|(_, known)| *known == id).map(|(name, _)| name.clone());
        ids.iter().filter_map(name).collect()
    }

    /// Waits until both ends have a spare way to each other.
    ///
    /// # Errors
    /// If one has not.
    pub async fn has_spare(&self, a: &str, b: &str) -> Result<(), Failure> {
        for (from, to) in [(a, b), (b, a)] {
            awaited(&format!("{from} has a spare way to {to}"), async || {
                Ok(self.peer(from, to).await?.filter(|peer| peer.relays.len() >= 2).map(drop))
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until a host's link to another stands and goes directly, or does not.
    ///
    /// # Errors
    /// If it is not so.
    pub async fn stands(&self, of: &str, to: &str, wanted: bool) -> Result<(), Failure> {
        let what = if wanted { "stands" } else { "is down" };
        awaited(&format!("the link of {of} to {to} {what}"), async || {
            let stands = self.hops(of, to).await?.is_some_and(|hops| hops.is_empty());
            Ok((stands == wanted).then_some(()))
        })
        .await
    }

    /// A TCP connection that speaks now and then.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn talk(&mut self, from: &str, to: &str, address: IpAddr) -> Result<Connection, Failure> {
        let listener = talk::listen(&self.crew.world().host(to).map_err(lab_failure)?.host, address)?;
        Connection::open(&self.crew.world().host(from).map_err(lab_failure)?.host, listener)
    }

    /// A TCP connection as fast as it goes.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn load(&mut self, from: &str, to: &str, address: IpAddr) -> Result<Load, Failure> {
        let listener = talk::listen(&self.crew.world().host(to).map_err(lab_failure)?.host, address)?;
        Load::begin(&self.crew.world().host(from).map_err(lab_failure)?.host, listener)
    }

    /// A TCP connection on which so many bits a second are offered.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn offer(&mut self, from: &str, to: &str, address: IpAddr, bits_per_s: u64) -> Result<Load, Failure> {
        let listener = talk::listen(&self.crew.world().host(to).map_err(lab_failure)?.host, address)?;
        Load::offered(&self.crew.world().host(from).map_err(lab_failure)?.host, listener, bits_per_s)
    }

    /// Numbered datagrams.
    ///
    /// # Errors
    /// If none arrives.
    pub fn numbered(&mut self, from: (&str, IpAddr), to: (&str, IpAddr)) -> Result<Numbered, Failure> {
        let sender = talk::socket(&self.crew.world().host(from.0).map_err(lab_failure)?.host, from.1)?;
        let receiver = talk::socket(&self.crew.world().host(to.0).map_err(lab_failure)?.host, to.1)?;
        Numbered::begin(sender, receiver)
    }
}
