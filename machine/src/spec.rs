//! What is asked of a driver: the description of one machine.
//!
//! Owns the limits of every field; a [`MachineSpec`] that passed [`MachineSpec::check`] is taken as sound by everything behind it.
//! Knows nothing of slices, leases between hosts, or how a driver does it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use crate::image::ImageId;

/// An identifier's length at most: it becomes a directory, a cgroup and part of a socket's path.
pub const ID_LEN_MAX: usize = 63;
/// A host name's length at most (`HOST_NAME_MAX` of Linux).
pub const HOSTNAME_LEN_MAX: usize = 63;
/// Devices of one machine at most; each costs a TAP and a descriptor, and their descriptors travel in one message (`SCM_MAX_FD` is 253).
pub const NICS_MAX: usize = 16;
/// Queues of one device at most; more than a host's cores would be idle.
pub const QUEUES_MAX: u16 = 8;
/// Addresses of one family on one device at most.
pub const ADDRESSES_MAX: usize = 16;
/// Lines for `/etc/hosts` at most: a slice of some thousand machines with two addresses each.
pub const HOSTS_MAX: usize = 8192;
/// Words of a command at most.
pub const WORDS_MAX: usize = 1024;
/// Bytes of a command's words and environment together at most (Linux itself allows 2 MiB).
pub const WORDS_BYTES_MAX: usize = 48 * 1024;
/// A machine needs at least this much memory to hold its init and one shell.
pub const MEMORY_MIN: u64 = 8 << 20;
/// Processes a machine needs at least: init, a shell and what the shell starts.
pub const PIDS_MIN: u32 = 8;

/// The name of a machine on its host: 1 to 63 of `a-z`, `0-9` and `-`, not beginning with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(String);

impl MachineId {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for MachineId {
    type Err = SpecError;
    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for MachineId {
    type Error = SpecError;
    fn try_from(text: String) -> Result<Self, SpecError> {
        if is_label(&text, ID_LEN_MAX) {
            Ok(Self(text))
        } else {
            Err(SpecError {
                field: "id",
                value: shorten(&text),
                rule: "1 to 63 of a-z, 0-9 and -, not beginning with -",
            })
        }
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.0
    }
}

/// A machine, as a driver is asked for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Unique on this host.
    pub id: MachineId,
    /// The machine's own name for itself.
    pub hostname: String,
    /// The tree it starts from; shared and never written.
    pub image: ImageId,
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// Bytes of memory, page cache and kernel memory of the machine included where the host can count them.
    pub memory_bytes: u64,
    /// Bytes it may write to its root.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub pids_max: u32,
    /// Its Ethernet devices.
    pub nics: Vec<Nic>,
    /// Names for its `/etc/hosts`, beside its own.
    pub hosts: Vec<(IpAddr, String)>,
    /// The tenant's command, run by init after boot.
    pub run: Option<Vec<String>>,
    /// What init does when that command ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How long the start may take before it is undone.
    pub start_within: Duration,
    /// How long the machine lives unless the lease is renewed; counted by a clock that runs on while the host sleeps.
    pub lease: Duration,
}

/// One Ethernet device of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// `eth0`.
    pub name: String,
    /// Unicast hardware address.
    pub mac: [u8; 6],
    /// The largest payload of a frame.
    pub mtu: u16,
    /// Addresses with prefix lengths.
    pub ipv4: Vec<(Ipv4Addr, u8)>,
    /// Addresses with prefix lengths; set without duplicate detection, since the slice's record made them unique.
    pub ipv6: Vec<(Ipv6Addr, u8)>,
    /// TAP queues, at least one; of several the switch reads all but one, which it writes to.
    pub queues: u16,
}

/// What init does when the tenant's command ends; the machine stays up in every case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Nothing.
    Never,
    /// Start it again if it failed, with growing pauses.
    #[default]
    OnFailure,
    /// Start it again, with growing pauses.
    Always,
}

/// A field of a [`MachineSpec`] or of an exec request that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value:?}: must be {rule}")]
pub struct SpecError {
    /// The field.
    pub field: &'static str,
    /// What it was, shortened.
    pub value: String,
    /// What it must be.
    pub rule: &'static str,
}

impl MachineSpec {
    /// Checks every field against its bound.
    ///
    /// # Errors
    /// The first field that breaks its rule.
    pub fn check(&self) -> Result<(), SpecError> {
        let refuse = |field, value: &dyn std::fmt::Display, rule| {
            Err(SpecError { field, value: shorten(&value.to_string()), rule })
        };
        if !is_hostname(&self.hostname) {
            return refuse(
                "hostname",
                &self.hostname,
                "1 to 63 of letters, digits, - and ., beginning with a letter or digit",
            );
        }
        if self.cpus_milli == 0 || self.cpus_milli > 1_024_000 {
            return refuse("cpus_milli", &self.cpus_milli, "from 1 to 1024000");
        }
        if self.memory_bytes < MEMORY_MIN || self.memory_bytes > 1 << 50 {
            return refuse("memory_bytes", &self.memory_bytes, "at least 8 MiB");
        }
        if self.disk_bytes == 0 || self.disk_bytes > 1 << 60 {
            return refuse("disk_bytes", &self.disk_bytes, "more than 0");
        }
        if self.pids_max < PIDS_MIN || self.pids_max > 4_194_304 {
            return refuse("pids_max", &self.pids_max, "from 8 to 4194304");
        }
        if self.start_within.is_zero() || self.lease.is_zero() {
            return refuse("lease", &"0", "more than 0, as must start_within");
        }
        if self.nics.len() > NICS_MAX {
            return refuse("nics", &self.nics.len(), "at most 16");
        }
        for (index, nic) in self.nics.iter().enumerate() {
            if !is_device(&nic.name) || self.nics[..index].iter().any(|other| other.name == nic.name) {
                return refuse(
                    "nic name",
                    &nic.name,
                    "1 to 15 of a-z and 0-9, not lo, and unique in the machine",
                );
            }
            if nic.mac[0] & 1 != 0 || nic.mac == [0; 6] {
                return refuse("nic mac", &format!("{:02x?}", nic.mac), "a unicast address");
            }
            if nic.mtu < 68 {
                return refuse("nic mtu", &nic.mtu, "at least 68, or 1280 for IPv6");
            }
            if nic.mtu < 1280 && !nic.ipv6.is_empty() {
                return refuse(
                    "nic mtu",
                    &nic.mtu,
                    "at least 1280 where the nic has an IPv6 address (RFC 8200)",
                );
            }
            if nic.queues == 0 || nic.queues > QUEUES_MAX {
                return refuse("nic queues", &nic.queues, "from 1 to 8");
            }
            if nic.ipv4.len() > ADDRESSES_MAX || nic.ipv6.len() > ADDRESSES_MAX {
                return refuse(
                    "nic addresses",
                    &nic.ipv4.len().max(nic.ipv6.len()),
                    "at most 16 of a family",
                );
            }
            if nic.ipv4.iter().any(|(_, prefix)| *prefix > 32)
                || nic.ipv6.iter().any(|(_, prefix)| *prefix > 128)
            {
                return refuse("nic prefix", &nic.name, "at most 32 for IPv4 and 128 for IPv6");
            }
        }
        if self.hosts.len() > HOSTS_MAX {
            return refuse("hosts", &self.hosts.len(), "at most 8192");
        }
        if let Some((_, name)) = self.hosts.iter().find(|(_, name)| !is_hostname(name)) {
            return refuse("hosts", name, "1 to 63 of letters, digits, - and .");
        }
        if let Some(run) = &self.run {
            check_words("run", run)?;
        }
        Ok(())
    }
}

/// Checks a command: not empty, bounded, no zero bytes.
pub(crate) fn check_words(field: &'static str, words: &[String]) -> Result<(), SpecError> {
    let bytes: usize = words.iter().map(|word| word.len() + 1).sum();
    let refuse =
        |rule| Err(SpecError { field, value: shorten(words.first().map_or("", |word| word.as_str())), rule });
    if words.is_empty() || words[0].is_empty() {
        return refuse("a program and its arguments");
    }
    if words.len() > WORDS_MAX || bytes > WORDS_BYTES_MAX {
        return refuse("at most 1024 words of 48 KiB in all");
    }
    if words.iter().any(|word| word.contains('\0')) {
        return refuse("free of zero bytes");
    }
    Ok(())
}

fn is_label(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_hostname(text: &str) -> bool {
    (1..=HOSTNAME_LEN_MAX).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

fn is_device(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text != "lo"
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

/// How the driver starts a keeper: the node's own program with the word that leads to [`crate::keeper::main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperCommand {
    /// The program.
    pub program: PathBuf,
    /// Words before the keeper's own.
    pub arguments: Vec<String>,
}

impl KeeperCommand {
    /// This very program, also after its file was replaced by an upgrade: `/proc/self/exe machine-keeper`.
    #[must_use]
    pub fn own() -> Self {
        Self { program: PathBuf::from("/proc/self/exe"), arguments: vec!["machine-keeper".to_owned()] }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A machine of the smallest kind, for tests of other rooms too.
    pub(crate) fn example() -> MachineSpec {
        MachineSpec {
            id: "slice-1-worker-0".parse().unwrap(),
            hostname: "worker-0".into(),
            image: ImageId::from_bytes([7; 32]),
            cpus_milli: 500,
            memory_bytes: 64 << 20,
            disk_bytes: 1 << 30,
            pids_max: 64,
            nics: vec![Nic {
                name: "eth0".into(),
                mac: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
                ipv4: vec![("10.7.0.2".parse().unwrap(), 24)],
                ipv6: vec![("fd00::2".parse().unwrap(), 64)],
                queues: 1,
            }],
            hosts: vec![("10.7.0.3".parse().unwrap(), "worker-1".into())],
            run: None,
            restart: RestartPolicy::default(),
            start_within: Duration::from_secs(10),
            lease: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_sound_machine_passes_and_survives_its_encoding() {
        let spec = example();
        spec.check().unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<MachineSpec>(&text).unwrap(), spec);
    }

    #[test]
    fn an_identifier_cannot_leave_its_directory() {
        for bad in ["", ".", "..", "a/b", "../x", "A", "-a", "a b", "a\0", &"a".repeat(64)] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad:?}");
            assert!(
                serde_json::from_str::<MachineId>(&serde_json::to_string(bad).unwrap()).is_err(),
                "{bad:?}"
            );
        }
        assert!("a".repeat(63).parse::<MachineId>().is_ok());
    }

    #[test]
    fn each_field_is_refused_by_name() {
        type Break = fn(&mut MachineSpec);
        let cases: [(&str, Break); 12] = [
            ("hostname", |s| s.hostname = "a b".into()),
            ("cpus_milli", |s| s.cpus_milli = 0),
            ("memory_bytes", |s| s.memory_bytes = 1),
            ("disk_bytes", |s| s.disk_bytes = 0),
            ("pids_max", |s| s.pids_max = 1),
            ("lease", |s| s.lease = Duration::ZERO),
            ("nic name", |s| s.nics[0].name = "lo".into()),
            ("nic mac", |s| s.nics[0].mac[0] = 1),
            ("nic mtu", |s| s.nics[0].mtu = 1279),
            ("nic queues", |s| s.nics[0].queues = 9),
            ("hosts", |s| s.hosts[0].1 = "a\nb".into()),
            ("run", |s| s.run = Some(vec!["a".repeat(50_000)])),
        ];
        for (field, break_it) in cases {
            let mut spec = example();
            break_it(&mut spec);
            assert_eq!(spec.check().unwrap_err().field, field);
        }
    }
}
