//! What the configuration means: flags over file over defaults, every value checked.
//!
//! [`resolve`] is the only place of validation and of defaults. Nothing after it asks whether a value was given.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;

use super::args::NodeArgs;
use super::file::{self, ConfigFile, OneOrMany, Relaying, Source};
use super::{paths, units};
use crate::failure::Failure;

/// The control plane's port when none is given; the data plane's is the next. Unassigned at IANA.
pub const DEFAULT_PORT: u16 = 7440;

/// Machines at once when the owner does not say: what a small host carries without its process table being felt.
pub const DEFAULT_MACHINES_MAX: u32 = 64;

/// The most machines an owner may allow; every table per machine is sized for it.
pub const MACHINES_MAX: u32 = 1_024;

/// The most tickets, listen addresses or allowed tenants a node takes; each costs a task, a socket or a check per request.
pub const LIST_LEN_MAX: usize = 64;

/// The smallest and largest MTU a machine may be told: IPv6's minimum (RFC 8200 section 5) and the usual jumbo frame.
pub const MTU_RANGE: std::ops::RangeInclusive<u16> = 1_280..=9_000;

/// MTU of machines when none is given: Ethernet's. The vswitch splits and joins what a path cannot carry.
pub const DEFAULT_MTU: u16 = 1_500;

/// The most threads that may move frames; beyond it their queues cost more than they carry.
pub const WORKERS_MAX: usize = 64;
/// The longest that workers may look for more frames before they sleep: beyond the pauses of a busy flow it only burns a core.
pub const BUSY_POLL_MICROS_MAX: u32 = 10_000;

/// Hosts a relay serves at once when its owner does not say: what a small host's tables and its owner's patience bear.
pub const DEFAULT_RELAY_PEERS_MAX: u64 = 64;

/// The most hosts a relay may serve; every host takes two legs for each other host it reaches so.
pub const RELAY_PEERS_MAX: u64 = 1_024;

/// Bits per second a relay forwards when its owner does not say: a tenth of a usual fibre line.
pub const DEFAULT_RELAY_RATE: u64 = 100_000_000;

/// The least rate an owner may set, below which not even handshakes pass in time.
pub const RELAY_RATE_MIN: u64 = 100_000;

/// Everything the daemon needs to know to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Holds all state of the node.
    pub state_dir: PathBuf,
    /// Addresses of the control plane (QUIC and TCP on each).
    pub control: Vec<SocketAddr>,
    /// Address of the data plane (UDP).
    pub data: SocketAddr,
    /// The same, of the other IP version.
    pub data_second: Option<SocketAddr>,
    /// Threads that move frames.
    pub data_workers: NonZeroUsize,
    /// How long they look for more frames before they sleep.
    pub data_busy_poll: Duration,
    /// What this host forwards for others; none: nothing, unless its owner asks for it.
    pub relay: Option<Relay>,
    /// Whether the router is asked for a port (PCP, NAT-PMP, UPnP).
    pub map_ports: bool,
    /// MTU of the machines' interfaces.
    pub mtu: u16,
    /// Tickets of the overlay to join when the node is in none.
    pub tickets: Vec<String>,
    /// The overlay this node belongs to, and no other.
    pub overlay_key: Option<String>,
    /// Whether members are looked for, and answered, on the local link (multicast DNS).
    pub mdns: bool,
    /// What the owner shares.
    pub share: Share,
    /// A loopback address for the API beside the socket.
    pub api_tcp: Option<SocketAddr>,
}

/// What a host forwards for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relay {
    /// Bits per second of all that is forwarded.
    pub rate_bits_per_s: u64,
    /// Hosts served at once.
    pub peers_max: u64,
}

/// What the owner gives to others' machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Thousandths of a CPU.
    pub cpus_milli: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
    /// Machines at once.
    pub machines_max: u32,
    /// Who may.
    pub allow: Allow,
}

/// Whose slices a host takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Any member of the overlay.
    Members,
    /// Only these tenant keys; an empty list is nobody.
    Tenants(Vec<String>),
}

/// What this computer has, for defaults that fit it.
#[derive(Debug, Clone, Copy)]
pub struct HostTotals {
    /// CPUs this process may use.
    pub cpus: NonZeroUsize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes free where the state directory is.
    pub disk_free_bytes: u64,
}

impl HostTotals {
    /// Asks this computer.
    #[must_use]
    pub fn measure(state_dir: &Path) -> Self {
        let info = rustix::system::sysinfo();
        let existing = state_dir.ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
        Self {
            cpus: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            memory_bytes: info.totalram.saturating_mul(u64::from(info.mem_unit)),
            disk_free_bytes: rustix::fs::statvfs(existing)
                .map_or(0, |stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        }
    }
}

/// Reads the file the arguments name, if any, and says what all of it means.
///
/// # Errors
/// If the file or a flag holds something that means nothing, or something this version cannot do.
pub fn load(args: &NodeArgs) -> Result<NodeConfig, Failure> {
    let (file, source) = match &args.config {
        Some(path) => file::read(path)?,
        None => file::parse(Path::new("the empty configuration"), String::new())?,
    };
    let state_dir = args.state_dir.clone().unwrap_or_else(paths::default_state_dir);
    let totals = HostTotals::measure(&state_dir);
    resolve(args, &file, &source, state_dir, totals)
}

/// Says what arguments and file mean together; flags override the file.
///
/// # Errors
/// As [`load`], without reading.
pub fn resolve(
    args: &NodeArgs,
    file: &ConfigFile,
    source: &Source,
    state_dir: PathBuf,
    totals: HostTotals,
) -> Result<NodeConfig, Failure> {
    let reader = Reader { source };
    reader.refuse_what_is_not_there_yet(file)?;
    let state_dir = checked_state_dir(state_dir)?;
    let control = if args.listen.is_empty() {
        match &file.overlay.listen {
            Some(written) => reader.all("overlay.listen", written, |written, text| {
                reader.address_of("overlay.listen", written, text)
            })?,
            None => default_control(),
        }
    } else {
        args.listen.clone()
    };
    if control.is_empty() || control.len() > LIST_LEN_MAX {
        return Err(Failure::input("listen_count", format!("{} listen addresses given", control.len()))
            .remedy(format!("give between 1 and {LIST_LEN_MAX}")));
    }
    let (data, data_second) = match &file.data.listen {
        Some(written) => {
            let all = reader.all("data.listen", written, |written, text| {
                reader.address_of("data.listen", written, text)
            })?;
            one_of_each_version(&all).filter(|(_, second)| all.len() <= 1 + usize::from(second.is_some()))
        }
        None => {
            let beside = control.iter().copied().map(data_beside).collect::<Result<Vec<_>, _>>()?;
            one_of_each_version(&beside)
        }
    }
    .ok_or_else(|| {
        Failure::input("data_listen", "the data plane listens on one address of each IP version")
            .remedy("give one address, or one of IPv4 and one of IPv6, as data.listen")
    })?;
    let mut tickets = args.join.clone();
    if let Some(written) = &file.overlay.bootstrap {
        tickets.extend(reader.all("overlay.bootstrap", written, |_, ticket| Ok(ticket.to_owned()))?);
    }
    Ok(NodeConfig {
        state_dir,
        control,
        data,
        data_second,
        data_workers: match &file.data.workers {
            Some(written) => {
                let workers = reader.whole("data.workers", written, 1, WORKERS_MAX as u64)?;
                NonZeroUsize::new(usize::try_from(workers).unwrap_or(WORKERS_MAX))
                    .unwrap_or(NonZeroUsize::MIN)
            }
            None => totals.cpus.min(NonZeroUsize::new(WORKERS_MAX).unwrap_or(NonZeroUsize::MIN)),
        },
        data_busy_poll: match &file.data.busy_poll {
            Some(written) => Duration::from_micros(reader.whole(
                "data.busy_poll",
                written,
                0,
                BUSY_POLL_MICROS_MAX.into(),
            )?),
            None => Duration::ZERO,
        },
        relay: match &file.data.relay {
            Some(written) => reader.relay(written)?,
            None => None,
        },
        map_ports: file.data.map_ports.unwrap_or(true),
        mtu: match &file.data.mtu {
            Some(written) => {
                let (least, most) = (u64::from(*MTU_RANGE.start()), u64::from(*MTU_RANGE.end()));
                u16::try_from(reader.whole("data.mtu", written, least, most)?).unwrap_or(DEFAULT_MTU)
            }
            None => DEFAULT_MTU,
        },
        tickets,
        overlay_key: file.overlay.key.as_ref().map(|key| key.get_ref().clone()),
        mdns: file.overlay.mdns.unwrap_or(true),
        share: share(&reader, file, totals)?,
        api_tcp: match &file.api.tcp {
            Some(written) => Some(reader.loopback("api.tcp", written)?),
            None => None,
        },
    })
}

fn checked_state_dir(state_dir: PathBuf) -> Result<PathBuf, Failure> {
    let state_dir = std::path::absolute(&state_dir).map_err(|error| {
        Failure::input(
            "state_dir",
            format!("the state directory {} has no path: {error}", state_dir.display()),
        )
        .remedy("give an existing place with --state-dir")
    })?;
    let socket = paths::socket_in(&state_dir);
    let length = socket.as_os_str().len();
    if length > paths::SOCKET_PATH_BYTES_MAX {
        return Err(Failure::input(
            "state_dir_too_long",
            format!(
                "the socket path {} has {length} bytes, more than a Unix socket's may have ({})",
                socket.display(),
                paths::SOCKET_PATH_BYTES_MAX
            ),
        )
        .remedy("give a shorter --state-dir"));
    }
    Ok(state_dir)
}

fn default_control() -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), DEFAULT_PORT),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), DEFAULT_PORT),
    ]
}

/// The first address, and the first of the other IP version; none of none.
fn one_of_each_version(all: &[SocketAddr]) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let first = all.first()?;
    Some((*first, all.iter().find(|other| other.is_ipv4() != first.is_ipv4()).copied()))
}

/// The data plane's address beside a control address: the next port, or any where any was asked for.
fn data_beside(control: SocketAddr) -> Result<SocketAddr, Failure> {
    let port = match control.port() {
        0 => 0,
        port => port.checked_add(1).ok_or_else(|| {
            Failure::input("listen_port", format!("no port is left for the data plane beside {control}"))
                .remedy("listen on a port below 65535, or set data.listen in the configuration file")
        })?,
    };
    Ok(SocketAddr::new(control.ip(), port))
}

fn share(reader: &Reader<'_>, file: &ConfigFile, totals: HostTotals) -> Result<Share, Failure> {
    let written = &file.share;
    let half_the_cpus = u32::try_from(totals.cpus.get() * 500).unwrap_or(u32::MAX);
    Ok(Share {
        cpus_milli: match &written.cpus {
            Some(cpus) => units::parse_cpus_milli(&cpus.get_ref().to_string())
                .map_err(|error| reader.refuse("share.cpus", cpus, "bad_unit", &error, units::CPUS_REMEDY))?,
            None => half_the_cpus.max(1_000),
        },
        memory_bytes: match &written.memory {
            Some(memory) => reader.size("share.memory", memory)?,
            None => totals.memory_bytes / 4,
        },
        disk_bytes: match &written.disk {
            Some(disk) => reader.size("share.disk", disk)?,
            None => totals.disk_free_bytes / 4,
        },
        machines_max: match &written.machines {
            Some(machines) => {
                u32::try_from(reader.whole("share.machines", machines, 0, u64::from(MACHINES_MAX))?)
                    .unwrap_or(MACHINES_MAX)
            }
            None => DEFAULT_MACHINES_MAX,
        },
        allow: match &written.allow {
            None => Allow::Members,
            Some(allow) if allow.get_ref().all().iter().any(|who| who == "any") => Allow::Members,
            Some(allow) => {
                Allow::Tenants(reader.all("share.allow", allow, |_, tenant| Ok(tenant.to_owned()))?)
            }
        },
    })
}

/// Turns one written value into its meaning, and knows where it was written.
struct Reader<'a> {
    source: &'a Source,
}

impl Reader<'_> {
    fn refuse<T>(
        &self,
        key: &str,
        written: &Spanned<T>,
        code: &str,
        why: &dyn Display,
        remedy: &str,
    ) -> Failure {
        Failure::input(code, format!("{}: `{key}`: {why}", self.source.place(&written.span()))).remedy(remedy)
    }

    fn size(&self, key: &str, written: &Spanned<String>) -> Result<u64, Failure> {
        units::parse_size(written.get_ref())
            .map_err(|error| self.refuse(key, written, "bad_unit", &error, units::SIZE_REMEDY))
    }

    fn relay(&self, written: &Spanned<Relaying>) -> Result<Option<Relay>, Failure> {
        let usual = Relay { rate_bits_per_s: DEFAULT_RELAY_RATE, peers_max: DEFAULT_RELAY_PEERS_MAX };
        let caps = match written.get_ref() {
            Relaying::Simply(relays) => return Ok(relays.then_some(usual)),
            Relaying::Capped(caps) => caps,
        };
        let rate_bits_per_s = match &caps.rate {
            None => usual.rate_bits_per_s,
            Some(rate) => units::parse_rate(rate).map_err(|error| {
                self.refuse("data.relay.rate", written, "bad_unit", &error, units::RATE_REMEDY)
            })?,
        };
        if rate_bits_per_s < RELAY_RATE_MIN {
            let why = format!("{rate_bits_per_s} bit/s is less than a relay is of use with");
            let remedy = format!("give at least {}kbit/s, or `relay = false`", RELAY_RATE_MIN / 1_000);
            return Err(self.refuse("data.relay.rate", written, "out_of_range", &why, &remedy));
        }
        let peers_max = match caps.peers {
            None => usual.peers_max,
            Some(peers) => u64::try_from(peers)
                .ok()
                .filter(|peers| (2..=RELAY_PEERS_MAX).contains(peers))
                .ok_or_else(|| {
                    let why = format!("{peers} is out of range");
                    let remedy = format!("give a number from 2 to {RELAY_PEERS_MAX}");
                    self.refuse("data.relay.peers", written, "out_of_range", &why, &remedy)
                })?,
        };
        Ok(Some(Relay { rate_bits_per_s, peers_max }))
    }

    fn whole(&self, key: &str, written: &Spanned<i64>, least: u64, most: u64) -> Result<u64, Failure> {
        u64::try_from(*written.get_ref()).ok().filter(|number| (least..=most).contains(number)).ok_or_else(
            || {
                let why = format!("{} is out of range", written.get_ref());
                self.refuse(
                    key,
                    written,
                    "out_of_range",
                    &why,
                    &format!("give a number from {least} to {most}"),
                )
            },
        )
    }

    fn address(&self, key: &str, written: &Spanned<String>) -> Result<SocketAddr, Failure> {
        self.address_of(key, written, written.get_ref())
    }

    fn address_of<T>(&self, key: &str, written: &Spanned<T>, text: &str) -> Result<SocketAddr, Failure> {
        text.parse().map_err(|_| {
            let why = format!("`{text}` is not an address with a port");
            self.refuse(key, written, "bad_address", &why, "write IP:PORT, such as 0.0.0.0:7440 or [::]:7440")
        })
    }

    fn loopback(&self, key: &str, written: &Spanned<String>) -> Result<SocketAddr, Failure> {
        let address = self.address(key, written)?;
        if address.ip().is_loopback() {
            return Ok(address);
        }
        let why = format!("{address} can be reached from other computers");
        Err(self.refuse(key, written, "not_loopback", &why, "use 127.0.0.1:PORT or [::1]:PORT"))
    }

    fn all<T>(
        &self,
        key: &str,
        written: &Spanned<OneOrMany>,
        one: impl Fn(&Spanned<OneOrMany>, &str) -> Result<T, Failure>,
    ) -> Result<Vec<T>, Failure> {
        let all = written.get_ref().all();
        if all.len() > LIST_LEN_MAX {
            let why = format!("{} entries", all.len());
            return Err(self.refuse(key, written, "too_many", &why, &format!("give at most {LIST_LEN_MAX}")));
        }
        all.iter().map(|text| one(written, text)).collect()
    }

    /// Keys of the contract that this version cannot honour are refused: silence would be a promise.
    fn refuse_what_is_not_there_yet(&self, file: &ConfigFile) -> Result<(), Failure> {
        let refuse = |key: &str, place: String| {
            Failure {
                message: format!("{place}: `{key}` is not supported yet"),
                ..Failure::not_yet_supported(key)
            }
            .remedy("remove the line")
        };
        if let Some(written) = &file.share.hours {
            return Err(refuse("share.hours", self.source.place(&written.span())));
        }
        if let Some(written) = file.share.idle_only.as_ref().filter(|idle| *idle.get_ref()) {
            return Err(refuse("share.idle_only", self.source.place(&written.span())));
        }
        if let Some(written) = &file.images.cache {
            return Err(refuse("images.cache", self.source.place(&written.span())));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTALS: HostTotals =
        HostTotals { cpus: NonZeroUsize::new(4).unwrap(), memory_bytes: 8 << 30, disk_free_bytes: 100 << 30 };

    fn resolved_with(args: &NodeArgs, text: &str) -> Result<NodeConfig, Failure> {
        let (file, source) = file::parse(Path::new("consort.toml"), text.to_owned())?;
        resolve(args, &file, &source, PathBuf::from("/state"), TOTALS)
    }

    fn resolved(text: &str) -> Result<NodeConfig, Failure> {
        resolved_with(&NodeArgs::default(), text)
    }

    #[test]
    fn an_empty_file_gives_a_working_node() {
        let config = resolved("").unwrap();
        assert_eq!(config.control[0], "0.0.0.0:7440".parse().unwrap());
        assert_eq!(config.data, "0.0.0.0:7441".parse().unwrap());
        assert_eq!(config.data_second, Some("[::]:7441".parse().unwrap()));
        assert_eq!(config.share.cpus_milli, 2_000);
        assert_eq!(config.share.memory_bytes, 2 << 30);
        assert_eq!(config.share.allow, Allow::Members);
        assert_eq!(config.api_tcp, None);
        assert!(config.mdns && !resolved("[overlay]\nmdns = false\n").unwrap().mdns);
    }

    #[test]
    fn flags_override_the_file() {
        let args = NodeArgs {
            listen: vec!["10.0.0.1:9000".parse().unwrap()],
            join: vec!["consort1flag".to_owned()],
            ..NodeArgs::default()
        };
        let text = "[overlay]\nlisten = \"0.0.0.0:1\"\nbootstrap = \"consort1file\"\n";
        let config = resolved_with(&args, text).unwrap();
        assert_eq!(config.control, ["10.0.0.1:9000".parse().unwrap()]);
        assert_eq!(config.data, "10.0.0.1:9001".parse().unwrap());
        assert_eq!(config.tickets, ["consort1flag", "consort1file"]);
    }

    #[test]
    fn the_data_plane_listens_on_one_address_of_each_ip_version() {
        let listen = ["192.0.2.1:9000", "192.0.2.1:443", "[2001:db8::1]:9000"];
        let listen = listen.map(|address| address.parse().unwrap()).to_vec();
        let config = resolved_with(&NodeArgs { listen, ..NodeArgs::default() }, "").unwrap();
        assert_eq!(config.data, "192.0.2.1:9001".parse().unwrap());
        assert_eq!(config.data_second, Some("[2001:db8::1]:9001".parse().unwrap()));
        let config = resolved("[data]\nlisten = [\"[::]:7\", \"0.0.0.0:8\"]\n").unwrap();
        assert_eq!((config.data, config.data_second), ("[::]:7".parse().unwrap(), "0.0.0.0:8".parse().ok()));
        let config = resolved("[data]\nlisten = \"[::]:7\"\n").unwrap();
        assert_eq!((config.data, config.data_second), ("[::]:7".parse().unwrap(), None));
        for wrong in ["[]", "[\"0.0.0.0:7\", \"0.0.0.0:8\"]"] {
            let failure = resolved(&format!("[data]\nlisten = {wrong}\n")).unwrap_err();
            assert_eq!(failure.code, "data_listen", "{wrong}");
        }
    }

    #[test]
    fn any_port_for_control_is_any_port_for_data() {
        let config = resolved("[overlay]\nlisten = [\"127.0.0.1:0\"]\n").unwrap();
        assert_eq!(config.data, "127.0.0.1:0".parse().unwrap());
    }

    #[test]
    fn a_bad_unit_is_named_with_line_key_and_remedy() {
        let failure = resolved("[share]\ncpus = 2\nmemory = \"4 gigs\"\n").unwrap_err();
        assert_eq!(
            failure.to_string(),
            format!(
                "consort.toml line 3: `share.memory`: `4 gigs` has the unknown unit `gigs`; {}",
                units::SIZE_REMEDY
            )
        );
        assert_eq!((failure.code.as_str(), failure.exit().number()), ("bad_unit", 2));
    }

    #[test]
    fn an_api_address_that_others_can_reach_is_refused() {
        let failure = resolved("[api]\ntcp = \"0.0.0.0:7442\"\n").unwrap_err();
        assert_eq!(failure.code, "not_loopback");
        assert!(resolved("[api]\ntcp = \"[::1]:7442\"\n").is_ok());
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        assert_eq!(resolved("[data]\nmtu = 100\n").unwrap_err().code, "out_of_range");
        assert_eq!(resolved("[data]\nworkers = 0\n").unwrap_err().code, "out_of_range");
        assert_eq!(resolved("[share]\nmachines = -1\n").unwrap_err().code, "out_of_range");
    }

    #[test]
    fn what_is_not_there_yet_is_refused_and_not_ignored() {
        for text in [
            "[share]\nhours = \"18:00-08:00\"\n",
            "[share]\nidle_only = true\n",
            "[images]\ncache = \"1GiB\"\n",
        ] {
            let failure = resolved(text).unwrap_err();
            assert_eq!((failure.code.as_str(), failure.exit().number()), ("not_yet_supported", 3), "{text}");
        }
        assert!(resolved("[share]\nidle_only = false\n").is_ok());
    }

    #[test]
    fn a_host_relays_only_if_its_owner_says_so_and_within_his_caps() {
        assert_eq!(resolved("").unwrap().relay, None);
        assert_eq!(resolved("[data]\nrelay = false\n").unwrap().relay, None);
        let usual = resolved("[data]\nrelay = true\n").unwrap().relay.unwrap();
        assert_eq!((usual.rate_bits_per_s, usual.peers_max), (DEFAULT_RELAY_RATE, DEFAULT_RELAY_PEERS_MAX));
        let capped = resolved("[data]\nrelay = { rate = \"20Mbit/s\", peers = 8 }\n").unwrap().relay.unwrap();
        assert_eq!((capped.rate_bits_per_s, capped.peers_max), (20_000_000, 8));
        for (text, code) in [
            ("relay = { rate = \"20\" }", "bad_unit"),
            ("relay = { rate = \"1bit/s\" }", "out_of_range"),
            ("relay = { peers = 1 }", "out_of_range"),
            ("relay = { speed = 1 }", "config_wrong_type"),
        ] {
            let failure = resolved(&format!("[data]\n{text}\n")).unwrap_err();
            assert_eq!(failure.code, code, "{text}: {failure}");
            assert!(failure.to_string().contains("line 2"), "{failure}");
        }
    }

    #[test]
    fn allow_names_tenants_or_any_member() {
        assert_eq!(resolved("[share]\nallow = \"any\"\n").unwrap().share.allow, Allow::Members);
        assert_eq!(resolved("[share]\nallow = []\n").unwrap().share.allow, Allow::Tenants(vec![]));
    }

    #[test]
    fn a_state_directory_whose_socket_path_is_too_long_is_refused() {
        let failure = checked_state_dir(PathBuf::from(format!("/{}", "d".repeat(120)))).unwrap_err();
        assert_eq!(failure.code, "state_dir_too_long");
    }
}
