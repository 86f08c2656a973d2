//! The checked wish of a tenant: what a slice should be.
//!
//! A [`Spec`] comes from a slice file ([`super::file`]) or from a peer's message. Both go through
//! [`Spec::check`], the only place where its rules stand; whoever holds a checked spec asks nothing again.
//! What is understood but cannot be given yet (routers, priorities) is part of a spec, and refused by
//! [`Spec::not_yet`] when a slice is asked for: never ignored.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::id::{ImageName, Name};
use super::nearest::nearest;
pub use super::range::{Ipv4Range, Ipv6Range, Wanted};
use super::range::{check_ipv4, check_ipv6};
use crate::bounded::{List, Text};
use crate::limits::{
    GROUPS_MAX, INTERFACES_MAX, LEASE_MAX, LEASE_MIN, MACHINES_MAX, NETWORKS_MAX, ROUTERS_MAX,
    RUN_WORD_BYTES_MAX, RUN_WORDS_MAX, TERM_MAX, TERM_MIN,
};
use crate::resources::Resources;
use crate::units::{Millis, cpus_text, size_text};

/// From the least that will do to the most that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span<T> {
    /// The least that will do.
    pub min: T,
    /// The most that is wanted.
    pub max: T,
}

impl<T: Copy> Span<T> {
    /// Exactly this much.
    pub const fn exactly(value: T) -> Self {
        Self { min: value, max: value }
    }
}

/// What kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// Namespaces and cgroups on the host's kernel.
    Sandbox,
    /// A kernel of its own (QEMU).
    Vm,
}

impl Category {
    /// All categories, the cheaper first.
    pub const ALL: [Self; 2] = [Self::Sandbox, Self::Vm];
}

impl fmt::Display for Category {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sandbox => "sandbox",
            Self::Vm => "vm",
        })
    }
}

/// How machines are laid over hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// Over as many hosts as answer.
    #[default]
    Spread,
    /// On as few hosts as will do.
    Pack,
}

/// Machines of one kind: `[machine.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The kind's name; its machines are `name-0`, `name-1`, …
    pub name: Name,
    /// How many.
    pub count: Span<u16>,
    /// Which category; either when absent.
    pub category: Option<Category>,
    /// CPUs of each, in thousandths.
    pub cpus_milli: Span<u32>,
    /// Memory of each, in bytes.
    pub memory_bytes: Span<u64>,
    /// Disk of each, in bytes.
    pub disk_bytes: Span<u64>,
    /// What it boots.
    pub image: ImageName,
    /// Its networks, in the order of its interfaces.
    pub networks: List<Name, INTERFACES_MAX>,
    /// What it runs after boot; nothing when empty.
    pub run: List<Text<RUN_WORD_BYTES_MAX>, RUN_WORDS_MAX>,
}

impl Group {
    /// The least one machine of this kind takes.
    #[must_use]
    pub fn least(&self) -> Resources {
        self.sized(0)
    }

    /// One machine of this kind, `step` of [`Group::STEPS`] from the least to the most.
    #[must_use]
    pub fn sized(&self, step: u64) -> Resources {
        let between = |min: u64, max: u64| {
            let whole = u128::from(max - min) * u128::from(step.min(Self::STEPS)) / u128::from(Self::STEPS);
            min + u64::try_from(whole).expect("a part of a difference of two u64")
        };
        Resources {
            cpus_milli: between(self.cpus_milli.min.into(), self.cpus_milli.max.into()),
            memory_bytes: between(self.memory_bytes.min, self.memory_bytes.max),
            disk_bytes: between(self.disk_bytes.min, self.disk_bytes.max),
            machines: 1,
        }
    }

    /// Sizes tried between the least and the most: quarters of the way.
    pub const STEPS: u64 = 4;
}

/// A network: `[network.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: Name,
    /// Its IPv4 range.
    pub ipv4: Wanted<Ipv4Range>,
    /// Its IPv6 range.
    pub ipv6: Wanted<Ipv6Range>,
}

/// A router between networks: `[router.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Router {
    /// Its name.
    pub name: Name,
    /// The networks it joins.
    pub networks: List<Name, NETWORKS_MAX>,
}

/// What a tenant wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// The slice's name.
    pub name: Name,
    /// How long it lives, from the moment it is active.
    pub term: Millis,
    /// How long a host may go without reading the record before its machines are lost.
    pub lease: Millis,
    /// Among slices that want the same room; 0 unless said.
    pub priority: u8,
    /// How its machines are laid over hosts.
    pub placement: Placement,
    /// Its machines.
    pub groups: List<Group, GROUPS_MAX>,
    /// Its networks.
    pub networks: List<Network, NETWORKS_MAX>,
    /// Its routers.
    pub routers: List<Router, ROUTERS_MAX>,
}

/// What is wrong with a wish: where, what stands there, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize)]
#[error("{field} = {value}: {remedy}")]
pub struct SpecError {
    /// The field, as a path in the slice file.
    pub field: String,
    /// What stands there.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl SpecError {
    pub(crate) fn new(field: impl Into<String>, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { field: field.into(), value: value.to_string(), remedy: remedy.into() }
    }
}

/// The largest `cpus` of one machine.
pub const CPUS_MILLI_MAX: u32 = 1024 * 1000;
/// The smallest `cpus` of one machine: less than a hundredth starves the guest's own init.
pub const CPUS_MILLI_MIN: u32 = 10;
/// The smallest `memory` of one machine: what the mini image needs to say no politely.
pub const MEMORY_MIN: u64 = 8 << 20;
/// The largest `memory` of one machine.
pub const MEMORY_MAX: u64 = 64 << 40;
/// The smallest `disk` of one machine.
pub const DISK_MIN: u64 = 1 << 20;
/// The largest `disk` of one machine.
pub const DISK_MAX: u64 = 1 << 50;
/// The highest `priority`.
pub const PRIORITY_MAX: u8 = 100;

fn check_span<T: PartialOrd + Copy>(
    field: &str,
    span: Span<T>,
    least: T,
    most: T,
    text: impl Fn(T) -> String,
) -> Result<(), SpecError> {
    if span.min > span.max {
        let value = format!("{{ min = {}, max = {} }}", text(span.min), text(span.max));
        return Err(SpecError::new(field, value, "let min be at most max"));
    }
    for value in [span.min, span.max] {
        if value < least || value > most {
            let remedy = format!("write {} to {}", text(least), text(most));
            return Err(SpecError::new(field, text(value), remedy));
        }
    }
    Ok(())
}

impl Spec {
    /// The machines it wants at the most.
    #[must_use]
    pub fn machines_max(&self) -> u64 {
        self.groups.iter().map(|group| u64::from(group.count.max)).sum()
    }

    /// The position of a network.
    #[must_use]
    pub fn network_index(&self, name: &Name) -> Option<usize> {
        self.networks.iter().position(|network| network.name == *name)
    }

    /// What is understood but cannot be given yet.
    ///
    /// # Errors
    /// Names the first such field.
    pub fn not_yet(&self) -> Result<(), SpecError> {
        if let Some(router) = self.routers.iter().next() {
            let field = format!("router.{}", router.name);
            return Err(SpecError::new(field, "a router", "routers are not there yet: leave it out"));
        }
        if self.priority != 0 {
            let remedy = "preemption is not there yet, so a priority would mean nothing: leave it out";
            return Err(SpecError::new("priority", self.priority, remedy));
        }
        Ok(())
    }

    /// Checks every rule.
    ///
    /// # Errors
    /// Names the first field that breaks one, its value and the remedy.
    pub fn check(&self) -> Result<(), SpecError> {
        check_span("term", Span::exactly(self.term), TERM_MIN, TERM_MAX, |span| format!("{span}"))?;
        check_span("lease", Span::exactly(self.lease), LEASE_MIN, LEASE_MAX, |span| format!("{span}"))?;
        check_span("priority", Span::exactly(self.priority), 0, PRIORITY_MAX, |value| value.to_string())?;
        self.check_groups()?;
        self.check_networks()?;
        self.check_routers()
    }

    fn check_groups(&self) -> Result<(), SpecError> {
        if self.groups.is_empty() {
            return Err(SpecError::new("machine", "none", "describe at least one machine: [machine.NAME]"));
        }
        unique("machine", self.groups.iter().map(|group| &group.name))?;
        for group in &self.groups {
            group.check(self)?;
        }
        let machines_max = u64::try_from(MACHINES_MAX).expect("a small constant");
        if self.machines_max() > machines_max {
            let remedy = format!("a slice has at most {MACHINES_MAX} machines");
            return Err(SpecError::new("count", format!("{} machines in all", self.machines_max()), remedy));
        }
        Ok(())
    }

    fn check_networks(&self) -> Result<(), SpecError> {
        unique("network", self.networks.iter().map(|network| &network.name))?;
        for (index, network) in self.networks.iter().enumerate() {
            let field = |family: &str| format!("network.{}.{family}", network.name);
            if let Wanted::Range(range) = network.ipv4 {
                check_ipv4(&field("ipv4"), range, self.machines_max())?;
                for other in &self.networks[..index] {
                    if let Wanted::Range(taken) = other.ipv4
                        && taken.overlaps(&range)
                    {
                        let remedy = format!("it overlaps network.{} ({taken}): choose another", other.name);
                        return Err(SpecError::new(field("ipv4"), range, remedy));
                    }
                }
            }
            if let Wanted::Range(range) = network.ipv6 {
                check_ipv6(&field("ipv6"), range)?;
                if self.networks[..index].iter().any(|other| other.ipv6 == network.ipv6) {
                    return Err(SpecError::new(
                        field("ipv6"),
                        range,
                        "another network has it: choose another",
                    ));
                }
            }
            if network.ipv4 == Wanted::Off && network.ipv6 == Wanted::Off {
                let remedy = "a network has addresses of at least one family: leave one of the two out";
                return Err(SpecError::new(format!("network.{}", network.name), "ipv4 and ipv6 off", remedy));
            }
        }
        Ok(())
    }

    fn check_routers(&self) -> Result<(), SpecError> {
        unique("router", self.routers.iter().map(|router| &router.name))?;
        for router in &self.routers {
            let field = format!("router.{}.networks", router.name);
            self.check_named_networks(&field, &router.networks)?;
            if router.networks.len() < 2 {
                let value = format!("{:?}", router.networks);
                return Err(SpecError::new(field, value, "a router joins two networks or more"));
            }
        }
        Ok(())
    }

    fn check_named_networks(&self, field: &str, names: &[Name]) -> Result<(), SpecError> {
        for (index, name) in names.iter().enumerate() {
            if self.network_index(name).is_none() {
                let known: Vec<&str> = self.networks.iter().map(|network| network.name.as_str()).collect();
                let remedy = match nearest(name.as_str(), &known) {
                    Some(near) => format!("there is no such network; did you mean \"{near}\"?"),
                    None => format!("there is no such network; describe it: [network.{name}]"),
                };
                return Err(SpecError::new(field, format!("\"{name}\""), remedy));
            }
            if names[..index].contains(name) {
                return Err(SpecError::new(field, format!("\"{name}\""), "name each network once"));
            }
        }
        Ok(())
    }
}

impl Group {
    fn check(&self, spec: &Spec) -> Result<(), SpecError> {
        let field = |key: &str| format!("machine.{}.{key}", self.name);
        let machines_max = u16::try_from(MACHINES_MAX).expect("a small constant");
        check_span(&field("count"), self.count, 1, machines_max, |count| count.to_string())?;
        let cpus = |milli: u32| cpus_text(milli.into());
        check_span(&field("cpus"), self.cpus_milli, CPUS_MILLI_MIN, CPUS_MILLI_MAX, cpus)?;
        check_span(&field("memory"), self.memory_bytes, MEMORY_MIN, MEMORY_MAX, size_text)?;
        check_span(&field("disk"), self.disk_bytes, DISK_MIN, DISK_MAX, size_text)?;
        let image_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
        if self.image.as_str().is_empty() || !self.image.as_str().bytes().all(image_byte) {
            let remedy = "an image's name has letters, digits and -_.:/@";
            return Err(SpecError::new(field("image"), format!("{:?}", self.image), remedy));
        }
        if self.run.iter().any(|word| word.as_str().contains('\0')) {
            return Err(SpecError::new(field("run"), "a word with a NUL byte", "leave the NUL byte out"));
        }
        spec.check_named_networks(&field("networks"), &self.networks)
    }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a Name>) -> Result<(), SpecError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(SpecError::new(format!("{what}.{name}"), "a second one", "give each its own name"));
        }
    }
    Ok(())
}
