//! From what was written to what is meant; the only place of checks and defaults. Every fault is found in one go.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;

use toml::Spanned;

use super::file::{CableFile, CaseFile, HostFile, NatFile, SiteFile, line_of};
use super::{Case, CaseHost, Fault, SITES_MAX, Site, units};
use crate::firewall::Rules;
use crate::gateway::Plan;
use crate::middlebox::Impairment;
use crate::nat::{Behaviour, Hairpin, NAMED};
use crate::wide::HOSTS_MAX;

/// What most home routers give their LAN: two homes with the same addresses are the rule, and a pitfall worth having in every case.
const LAN_DEFAULT: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 0);
const MTU_DEFAULT: u16 = 1500;
/// IPv4's smallest that hosts must take (RFC 791), and what the cables carry.
const MTU_MIN: i64 = 576;
const MTU_MAX: i64 = 1500;
const NAME_BYTES_MAX: usize = 32;
/// Beyond that no real cable is, and tests would wait for ever.
const SECONDS_MAX: u64 = 60;

pub(super) fn check(text: &str, file: CaseFile) -> Result<Case, Vec<Fault>> {
    let mut checked = Checker { text, faults: Vec::new() };
    let names: Vec<String> = file.site.keys().map(|name| name.get_ref().clone()).collect();
    let mut sites = BTreeMap::new();
    for (number, (name, site)) in (1u64..).zip(file.site) {
        checked.name(&name);
        let site = checked.site(&names, name.get_ref(), number, site);
        sites.insert(name.into_inner(), site);
    }
    let hosts: Vec<CaseHost> =
        file.host.into_iter().map(|(name, host)| checked.host(&names, name, host)).collect();
    if sites.len() > SITES_MAX || sites.len() + hosts.len() > HOSTS_MAX {
        checked.fault(
            &(0..0),
            format!("{} sites and {} hosts", sites.len(), hosts.len()),
            format!("at most {SITES_MAX} sites, and {HOSTS_MAX} sites and hosts together"),
        );
    }
    let sites = checked.ordered(sites);
    match checked.faults.is_empty() {
        true => Ok(Case { about: file.about, sites, hosts }),
        false => Err(checked.faults),
    }
}

struct Checker<'a> {
    text: &'a str,
    faults: Vec<Fault>,
}

/// A site and where its `behind` stands.
struct Placed {
    site: Site,
    place: Range<usize>,
}

impl Checker<'_> {
    fn fault(&mut self, place: &Range<usize>, message: impl Into<String>, remedy: impl Into<String>) {
        let line = line_of(self.text, place);
        self.faults.push(Fault { line, message: message.into(), remedy: remedy.into() });
    }

    fn name(&mut self, name: &Spanned<String>) {
        let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let text = name.get_ref();
        if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(good) {
            self.fault(
                &name.span(),
                format!("`{text}` is no name"),
                format!("use up to {NAME_BYTES_MAX} of a-z, 0-9 and -"),
            );
        }
    }

    fn site(&mut self, names: &[String], name: &str, number: u64, file: SiteFile) -> Placed {
        let nat = file.nat.and_then(|nat| self.nat(&nat));
        let (ipv4, ipv6) = self.families(file.families.as_ref());
        let behind = file.behind.as_ref().filter(|behind| self.is_known(names, behind));
        let place = file.behind.as_ref().map(Spanned::span).unwrap_or_default();
        if let (Some(behind), true) = (behind, ipv6) {
            self.fault(
                &behind.span(),
                format!("the site `{name}` has IPv6 and is behind another"),
                "give it `families = \"ipv4\"`: what is behind another site has that alone",
            );
        }
        if let (Some(behind), None) = (behind, nat) {
            self.fault(
                &behind.span(),
                format!("the site `{name}` has no NAT and is behind another"),
                "give it a `nat`: the other's LAN has no routes to it",
            );
        }
        let lan = file.lan.map(|lan| self.lan(&lan, nat)).unwrap_or(Some(LAN_DEFAULT));
        let firewall = self.firewall(&file.firewall.unwrap_or_default());
        let mtu = file.mtu.and_then(|mtu| self.mtu(&mtu)).unwrap_or(MTU_DEFAULT);
        let impairment = self.cable(file.cable).unwrap_or_default();
        let port_mapping = match file.port_mapping {
            Some(written) if nat.is_none() => {
                self.fault(
                    &written.span(),
                    "a site without a NAT has no ports to map",
                    "take `port-mapping` away, or give the site a `nat`",
                );
                Vec::new()
            }
            written => written.map(Spanned::into_inner).unwrap_or_default(),
        };
        let plan = Plan {
            nat,
            lan: lan.filter(|_| ipv4),
            ipv6,
            port_mapping,
            firewall,
            mtu,
            impairment,
            seed: number,
        };
        let behind = behind.map(|behind| behind.get_ref().clone());
        Placed { site: Site { name: name.to_owned(), behind, plan }, place }
    }

    fn host(&mut self, names: &[String], name: Spanned<String>, file: HostFile) -> CaseHost {
        self.name(&name);
        let impairment = self.cable(file.cable);
        let site = file.site.as_ref().filter(|site| self.is_known(names, site));
        if let (Some(site), Some(_)) = (site, impairment) {
            self.fault(
                &site.span(),
                format!("the host `{}` is at a site and has an impaired cable", name.get_ref()),
                "say it of the site: its cable is the one that can be impaired",
            );
        }
        let site = site.map(|site| site.get_ref().clone());
        CaseHost { name: name.into_inner(), site, impairment, config: file.config }
    }

    fn is_known(&mut self, names: &[String], name: &Spanned<String>) -> bool {
        let known = names.contains(name.get_ref());
        if !known {
            let list = names.join(", ");
            self.fault(
                &name.span(),
                format!("there is no site `{}`", name.get_ref()),
                format!("the sites are: {list}"),
            );
        }
        known
    }

    fn nat(&mut self, written: &Spanned<toml::Value>) -> Option<Behaviour> {
        let parts = match written.get_ref() {
            toml::Value::String(name) => NatFile {
                like: Some(name.clone()),
                mapping: None,
                filtering: None,
                ports: None,
                hairpin: None,
                unsolicited: None,
                refresh: None,
                udp_timeout: None,
                mappings_per_host: None,
            },
            other => match other.clone().try_into::<NatFile>() {
                Ok(parts) => parts,
                Err(error) => {
                    self.fault(
                        &written.span(),
                        error.message(),
                        "write a name or a table as in lab/src/case/file.rs",
                    );
                    return None;
                }
            },
        };
        let like = match &parts.like {
            None => Some(Behaviour::default()),
            Some(name) => Behaviour::named(name),
        };
        let Some(like) = like else {
            let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
            self.fault(
                &written.span(),
                format!("there is no NAT `{}`", parts.like.unwrap_or_default()),
                format!("the kinds are: {}", names.join(", ")),
            );
            return None;
        };
        let timeout = parts.udp_timeout.as_deref().map(|text| self.duration(&written.span(), text));
        let mut nat = Behaviour {
            mapping: parts.mapping.unwrap_or(like.mapping),
            filtering: parts.filtering.unwrap_or(like.filtering),
            ports: parts.ports.unwrap_or(like.ports),
            unsolicited: parts.unsolicited.unwrap_or(like.unsolicited),
            refresh: parts.refresh.unwrap_or(like.refresh),
            mappings_per_host_max: parts.mappings_per_host.unwrap_or(like.mappings_per_host_max),
            ..like
        };
        nat.timeouts.udp = timeout.unwrap_or(like.timeouts.udp);
        match parts.hairpin {
            Some(true) => nat.hairpin = Hairpin::Yes,
            Some(false) => nat.hairpin = Hairpin::No,
            None => {}
        }
        Some(nat)
    }

    fn families(&mut self, written: Option<&Spanned<String>>) -> (bool, bool) {
        match written.map(|written| (written.get_ref().as_str(), written.span())) {
            None | Some(("ipv4", _)) => (true, false),
            Some(("ipv6", _)) => (false, true),
            Some(("dual", _)) => (true, true),
            Some((other, place)) => {
                self.fault(
                    &place,
                    format!("`{other}` is no choice of families"),
                    "write \"ipv4\", \"ipv6\" or \"dual\"",
                );
                (true, false)
            }
        }
    }

    fn lan(&mut self, written: &Spanned<String>, nat: Option<Behaviour>) -> Option<Ipv4Addr> {
        if nat.is_none() {
            self.fault(
                &written.span(),
                "a LAN without a NAT is given its addresses",
                "take `lan` away, or give the site a `nat`",
            );
            return None;
        }
        let parsed = written.get_ref().strip_suffix("/24").and_then(|prefix| prefix.parse::<Ipv4Addr>().ok());
        let good =
            parsed.filter(|prefix| prefix.octets()[3] == 0 && (prefix.is_private() || is_shared(*prefix)));
        if good.is_none() {
            self.fault(
                &written.span(),
                format!("`{}` is no LAN", written.get_ref()),
                "write a private /24 such as \"192.168.7.0/24\", or one of 100.64.0.0/10",
            );
        }
        good
    }

    fn firewall(&mut self, written: &[Spanned<String>]) -> Rules {
        for line in written {
            if let Err(error) = Rules::parse([line.get_ref().as_str()]) {
                self.fault(
                    &line.span(),
                    error.to_string(),
                    "write such as \"stateful\", \"deny out udp 7441\", \"deny in icmp-errors\"",
                );
            }
        }
        match Rules::parse(written.iter().map(|line| line.get_ref().as_str())) {
            Ok(rules) => rules,
            Err(error) => {
                if let (Some(first), true) = (written.first(), self.faults.is_empty()) {
                    self.fault(&first.span(), error.to_string(), "say it in fewer rules");
                }
                Rules::default()
            }
        }
    }

    fn mtu(&mut self, written: &Spanned<i64>) -> Option<u16> {
        let good = Some(*written.get_ref()).filter(|mtu| (MTU_MIN..=MTU_MAX).contains(mtu));
        if good.is_none() {
            self.fault(
                &written.span(),
                format!("{} is no MTU of a cable", written.get_ref()),
                format!("between {MTU_MIN} and {MTU_MAX}"),
            );
        }
        good.and_then(|mtu| u16::try_from(mtu).ok())
    }

    /// None if nothing is said of it.
    fn cable(&mut self, written: CableFile) -> Option<Impairment> {
        let mut impairment = Impairment::default();
        for (text, into) in [(written.delay, &mut impairment.delay), (written.jitter, &mut impairment.jitter)]
        {
            if let Some(text) = text {
                *into = self.duration(&text.span(), text.get_ref());
            }
        }
        for (part, into) in [
            (written.loss, &mut impairment.loss),
            (written.duplicate, &mut impairment.duplicate),
            (written.reorder, &mut impairment.reorder),
        ] {
            if let Some(part) = part {
                *into = self.part(&part);
            }
        }
        if let Some(text) = written.rate {
            impairment.rate = units::rate(text.get_ref());
            if impairment.rate.is_none() {
                let said = format!("`{}` is no rate", text.get_ref());
                self.fault(&text.span(), said, "write such as \"10Mbit/s\", \"64kbit/s\"");
            }
        }
        if let Some(hole) = written.hole {
            impairment.mtu = self.mtu(&hole).map(usize::from);
        }
        (impairment != Impairment::default()).then_some(impairment)
    }

    fn duration(&mut self, place: &Range<usize>, text: &str) -> std::time::Duration {
        let good = units::duration(text).filter(|time| time.as_secs() <= SECONDS_MAX);
        if good.is_none() {
            self.fault(
                place,
                format!("`{text}` is no time"),
                format!("write such as \"20ms\", at most {SECONDS_MAX} s"),
            );
        }
        good.unwrap_or_default()
    }

    fn part(&mut self, written: &Spanned<f64>) -> f64 {
        let part = *written.get_ref();
        if !(0.0..=1.0).contains(&part) {
            self.fault(&written.span(), format!("{part} is no part of all frames"), "between 0 and 1");
            return 0.0;
        }
        part
    }

    /// Each site after the one it is behind.
    fn ordered(&mut self, mut sites: BTreeMap<String, Placed>) -> Vec<Site> {
        let mut ordered: Vec<Site> = Vec::with_capacity(sites.len());
        loop {
            let is_built = |behind: &String| ordered.iter().any(|site| site.name == *behind);
            let next = sites
                .iter()
                .find(|(_, placed)| placed.site.behind.as_ref().is_none_or(is_built))
                .map(|(name, _)| name.clone());
            let Some(placed) = next.and_then(|name| sites.remove(&name)) else { break };
            ordered.push(placed.site);
        }
        for (name, placed) in sites {
            self.fault(
                &placed.place,
                format!("the site `{name}` is behind itself in the end"),
                "let one of the sites in this circle be in the wide network: take its `behind` away",
            );
        }
        ordered
    }
}

/// Shared address space, RFC 6598: what carriers give their customers.
fn is_shared(address: Ipv4Addr) -> bool {
    address.octets()[0] == 100 && address.octets()[1] & 0xc0 == 64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nat::Ports;

    fn faults(text: &str) -> Vec<(usize, String)> {
        Case::parse(text).unwrap_err().into_iter().map(|fault| (fault.line, fault.message)).collect()
    }

    #[test]
    fn every_case_of_the_repository_is_good() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/cases");
        let mut seen = 0;
        for entry in std::fs::read_dir(directory).unwrap().flatten() {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let case =
                Case::parse(&text).unwrap_or_else(|faults| panic!("{}: {faults:?}", entry.path().display()));
            assert!(!case.about.is_empty() && !case.hosts.is_empty(), "{}", entry.path().display());
            seen += 1;
        }
        assert!(seen > 0);
    }

    #[test]
    fn a_nat_is_a_name_or_a_table_like_one() {
        let case = Case::parse(
            "[site.a]\nnat = \"port-cone\"\n[site.b]\nnat = { like = \"port-cone\", ports = { sequential = { step = 2 } }, \
             hairpin = true, udp-timeout = \"20s\" }\n",
        )
        .unwrap();
        assert_eq!(case.sites[0].plan.nat, Behaviour::named("port-cone"));
        let nat = case.sites[1].plan.nat.unwrap();
        assert_eq!((nat.ports, nat.hairpin), (Ports::Sequential { step: 2 }, Hairpin::Yes));
        assert_eq!(nat.timeouts.udp.as_secs(), 20);
    }

    #[test]
    fn sites_stand_after_what_they_are_behind() {
        let text = "[site.a]\nnat = \"port-cone\"\nbehind = \"z\"\n[site.z]\nnat = \"carrier\"\nlan = \"100.64.0.0/24\"\n";
        let names: Vec<_> = Case::parse(text).unwrap().sites.into_iter().map(|site| site.name).collect();
        assert_eq!(names, ["z", "a"]);
    }

    #[test]
    fn each_fault_has_its_line() {
        for (text, line, part) in [
            ("[site.a]\nnat = \"cone\"\n", 2, "no NAT `cone`"),
            ("[site.a]\nnats = 1\n", 2, "unknown field"),
            ("\n[site.A]\n", 2, "no name"),
            ("[host.a]\nsite = \"b\"\n", 2, "no site `b`"),
            ("[site.a]\nnat = \"port-cone\"\nbehind = \"a\"\n", 3, "behind itself"),
            ("[site.a]\nlan = \"192.168.1.0/24\"\n", 2, "without a NAT"),
            ("[site.a]\nnat = \"port-cone\"\nlan = \"8.8.8.0/24\"\n", 3, "no LAN"),
            ("[site.a]\nfirewall = [\"stateful\",\n\"deny up\"]\n", 3, "`up`"),
            ("[site.a]\ncable = { delay = \"20\" }\n", 2, "no time"),
            ("[site.a]\ncable = { loss = 2.0 }\n", 2, "no part"),
            ("[site.a]\n[site.a.cable]\nrate = \"fast\"\n", 3, "no rate"),
            ("[site.a]\nmtu = 100\n", 2, "no MTU"),
            ("[site.a]\nfamilies = \"ipv5\"\n", 2, "no choice"),
            ("[site.a]\n[host.h]\nsite = \"a\"\ncable = { loss = 0.1 }\n", 3, "impaired cable"),
        ] {
            let found = faults(text);
            assert!(
                found.iter().any(|(at, message)| *at == line && message.contains(part)),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn all_faults_are_told_at_once() {
        assert_eq!(faults("[site.a]\nnat = \"cone\"\nmtu = 1\n[host.b]\nsite = \"c\"\n").len(), 3);
    }
}
