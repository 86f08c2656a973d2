//! What each step does to a lab.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use consort_lab::Netlink;
use consort_lab::firewall::Rules;
use consort_lab::middlebox::Impairment;
use consort_lab::netlink::Hop;

use super::tamper::tamper;
use super::{Step, Tamper};
use crate::bench::reach::crew::Crew;
use crate::bench::reach::pair::{self, Conversation};
use crate::control::api::{RevokeBody, Revoked, TopologyBody, TopologyPlan};
use crate::demo::stage::{awaited, lab_failure};
use crate::failure::Failure;
use crate::why::{Code, Path};

/// How long frames may take to pass where they have to.
const PASSING_WITHIN: Duration = Duration::from_secs(30);
/// A ticket nobody is late for.
const TICKET_LONG: Duration = Duration::from_secs(600);
/// A ticket that everybody is late for: tickets count whole seconds.
const TICKET_SHORT: Duration = Duration::from_secs(2);
/// RFC 5737: an address that nobody has.
const NOBODYS_RESOLVER: &str = "nameserver 192.0.2.53\n";

/// A lab in which something happens.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) crew: Crew,
    pub(super) ids: Ids,
    /// Who has wanted frames of whom, and wants them still.
    pub(super) talks: Vec<Conversation>,
}

/// The hosts' ids as they were at the beginning.
#[derive(Debug)]
pub(super) struct Ids {
    pub(super) a: String,
    pub(super) b: String,
    pub(super) founder: String,
}

impl Ids {
    pub(super) async fn of(crew: &Crew) -> Result<Self, Failure> {
        let id = async |name: &str| pair::host_id(&crew.client(name)?).await;
        Ok(Self { a: id("a").await?, b: id("b").await?, founder: id("founder").await? })
    }

    fn named(&self, name: &str) -> &str {
        match name {
            "a" => &self.a,
            "b" => &self.b,
            _ => &self.founder,
        }
    }
}

impl Scene {
    /// Everybody who talks says something.
    pub(super) fn talk(&mut self) -> Result<(), Failure> {
        self.talks.iter_mut().try_for_each(|talk| talk.says_much().map(drop).map_err(lab_failure))
    }

    /// Waits until frames of the newest conversation pass.
    pub(super) async fn pass(&mut self) -> Result<(), Failure> {
        let Some(talk) = self.talks.last_mut() else { return Ok(()) };
        let started = Instant::now();
        while !talk.answered().map_err(lab_failure)? {
            if started.elapsed() > PASSING_WITHIN {
                return Err(lab_failure("no frame passes before the fault"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Puts two on a network of their own.
    pub(super) async fn begin(&mut self, first: &str, second: &str) -> Result<(), Failure> {
        self.talks.push(Conversation::begin(&mut self.crew, first, second).await?);
        Ok(())
    }

    pub(super) async fn happen(&mut self, step: &Step) -> Result<(), Failure> {
        match *step {
            Step::Firewall(site, rules) => self.firewall(site, rules),
            Step::Cable(site, delay, loss, hole) => {
                let impairment = Impairment { delay, loss, mtu: hole, ..Impairment::default() };
                let gateway = self.crew.world().gateway(site).map_err(lab_failure)?;
                gateway.set_impairment(impairment).map_err(lab_failure)
            }
            Step::KeepReaddressing(site) => self.crew.world().readdress(site).map(drop).map_err(lab_failure),
            Step::LinkDown(host) => self.crew.world().set_link(host, false).map_err(lab_failure),
            Step::RoutesGone(host) => self.routes_gone(host),
            Step::ResolverGone(host) => {
                let host = self.crew.world().host(host).map_err(lab_failure)?;
                host.host.set_resolver(NOBODYS_RESOLVER).map_err(lab_failure)
            }
            Step::KillNode(host) => self.crew.kill_node(host),
            Step::Reborn(host) => {
                self.begin_anew(host, TICKET_LONG).await?;
                self.crew.member(host).await.map(drop)
            }
            Step::Tampered(host, how) => self.tampered(host, how).await,
            Step::Newcomer(host) => self.newcomer(host, TICKET_LONG).await,
            Step::LateNewcomer(host) => {
                self.newcomer(host, TICKET_SHORT).await?;
                // The ticket's own time has to pass.
                tokio::time::sleep(TICKET_SHORT + Duration::from_secs(1)).await;
                self.crew.start("founder", &[])?;
                self.crew.member("founder").await.map(drop)
            }
            Step::Talking(first, second) => {
                self.begin(first, second).await?;
                self.pass().await?;
                let client = self.crew.client(first)?;
                let other = pair::host_id(&self.crew.client(second)?).await?;
                awaited("the two talk over a relay", async || {
                    self.talk()?;
                    Ok((pair::way(&client, &other).await? == Path::Relay).then_some(()))
                })
                .await
            }
            Step::Heard(host, other) => {
                let (client, other) = (self.crew.client(host)?, self.ids.named(other).to_owned());
                awaited("the one has heard of the other", async || {
                    Ok((pair::why(&client, &other).await?.code != Code::HostUnknown).then_some(()))
                })
                .await
            }
            Step::Revoke(host) => {
                let body = RevokeBody { key: self.ids.named(host).to_owned() };
                let _: Revoked = self.crew.client("founder")?.post("/v1/overlay/revoke", &body).await?;
                Ok(())
            }
            Step::Topology(text) => self.topology(text).await,
        }
    }

    fn firewall(&mut self, site: &str, rules: &[&str]) -> Result<(), Failure> {
        let mut rules: Vec<String> = rules.iter().map(ToString::to_string).collect();
        for name in ["a", "b"] {
            let address = self.crew.world().host(name).map_err(lab_failure)?.ipv4;
            let address = address.map(|address| address.to_string()).unwrap_or_default();
            rules = rules.iter().map(|rule| rule.replace(&format!("{{{name}}}"), &address)).collect();
        }
        let rules = Rules::parse(rules.iter().map(String::as_str)).map_err(lab_failure)?;
        self.crew.world().gateway(site).map_err(lab_failure)?.set_firewall(rules).map_err(lab_failure)
    }

    fn routes_gone(&mut self, host: &str) -> Result<(), Failure> {
        let host = self.crew.world().host(host).map_err(lab_failure)?;
        let mut netlink = Netlink::open_in(host.host.netns()).map_err(lab_failure)?;
        let (ipv4, ipv6) = (host.ipv4, host.ipv6);
        // A host in the open has the second address of its subnet, the router the first.
        if let Some(own) = ipv4 {
            let router = Ipv4Addr::from_bits(own.to_bits() - 1);
            netlink
                .remove_route(Ipv4Addr::UNSPECIFIED.into(), 0, Hop::Via(router.into()))
                .map_err(lab_failure)?;
        }
        if let Some(own) = ipv6 {
            let router = Ipv6Addr::from_bits(own.to_bits() - 1);
            netlink
                .remove_route(Ipv6Addr::UNSPECIFIED.into(), 0, Hop::Via(router.into()))
                .map_err(lab_failure)?;
        }
        Ok(())
    }

    async fn begin_anew(&mut self, host: &str, ticket: Duration) -> Result<(), Failure> {
        self.crew.kill_node(host)?;
        self.crew.forget(host)?;
        let ticket = self.crew.invite("founder", ticket).await?;
        self.crew.start(host, &["--join", &ticket])
    }

    async fn newcomer(&mut self, host: &str, ticket: Duration) -> Result<(), Failure> {
        self.crew.kill_node(host)?;
        self.crew.forget(host)?;
        let ticket = self.crew.invite("founder", ticket).await?;
        self.crew.kill_node("founder")?;
        self.crew.start(host, &["--join", &ticket])?;
        self.crew.answers(host).await
    }

    async fn tampered(&mut self, name: &str, how: Tamper) -> Result<(), Failure> {
        let founder = self.crew.world().host("founder").map_err(lab_failure)?.host.state().to_owned();
        let member = self.crew.world().host(name).map_err(lab_failure)?.host.state().to_owned();
        self.crew.kill_node(name)?;
        tamper(how, &member, &founder)?;
        self.crew.start(name, &[])?;
        self.crew.answers(name).await
    }

    async fn topology(&mut self, text: &str) -> Result<(), Failure> {
        let (founder, a, b) = (&self.ids.founder, &self.ids.a, &self.ids.b);
        let mut file = text.replace("{founder}", founder).replace("{a}", a).replace("{b}", b);
        if file.contains("{relay}") {
            file = file.replace("{relay}", &pair::host_id(&self.crew.client("relay")?).await?);
        }
        let body = TopologyBody { file, force: true };
        let _: TopologyPlan = self.crew.client("founder")?.post("/v1/topology/apply", &body).await?;
        Ok(())
    }
}
