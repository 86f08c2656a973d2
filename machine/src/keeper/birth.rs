//! Making a machine: the keeper's side of [`crate::setup`].

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;
use std::time::Instant;

use consort_guest::settings::{NicSettings, Restart, Settings};
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::life::Machine;
use super::record::{Record, start_time};
use crate::cgroup::{Groups, Held, Hierarchies};
use crate::driver::{Limit, LimitsReport, Mechanism, RootLayer, Uids};
use crate::image::{copy_tree, remove_tree};
use crate::setup::SetUpError;
use crate::setup::bounds::Substitutes;
use crate::setup::channel::Channel;
use crate::setup::filter::Filter;
use crate::setup::ids;
use crate::setup::inside::Inside;
use crate::setup::process::{Side, end_now, split};
use crate::setup::tree::{COPY, Delivery, LAYER_FAILED, LOWER, Layer, PLACE, Sources, UPPER, WORK};
use crate::spec::{MachineSpec, RestartPolicy};
use crate::wire::message::Order;

/// Makes the machine, or leaves nothing but its directory's own log, which the driver removes.
pub(super) fn bear(order: Order, deadline: Instant) -> Result<Machine, SetUpError> {
    let directory = order.directory.clone();
    let first = attempt(&order, deadline, Layer::Overlay);
    let outcome = match first {
        Err(Failed { error, overlay: true }) => {
            let mut machine = attempt(&order, deadline, Layer::Copy).map_err(|failed| {
                SetUpError(format!("{error}; and with a copy of the image: {}", failed.error))
            });
            if let Ok(machine) = &mut machine {
                machine.limits.root = RootLayer::Copy { reason: error.to_string() };
            }
            machine
        }
        other => other.map_err(|failed| failed.error),
    };
    outcome.inspect_err(|_| {
        if let Err(error) = remove_tree(&directory) {
            eprintln!("keeper: remove {}: {error}", directory.display());
        }
    })
}

/// Why an attempt failed, and whether it was the overlay.
struct Failed {
    error: SetUpError,
    overlay: bool,
}

impl From<SetUpError> for Failed {
    fn from(error: SetUpError) -> Self {
        let overlay = error.0.starts_with(LAYER_FAILED);
        Self { error, overlay }
    }
}

/// A child that is not yet a machine; killed and collected if the attempt ends before it is.
struct Unborn(Option<Pid>);

impl Drop for Unborn {
    fn drop(&mut self) {
        if let Some(pid) = self.0.take() {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        }
    }
}

fn attempt(order: &Order, deadline: Instant, layer: Layer) -> Result<Machine, Failed> {
    let Order { spec, directory, .. } = order;
    prepare_directories(order, layer).map_err(SetUpError::at(format!("prepare {}", directory.display())))?;
    let hierarchies = Hierarchies::find();
    let name = group_name(directory, spec);
    let own = i32::try_from(std::process::id()).expect("process numbers have 22 bits");
    let mut record = Record {
        groups: Groups::plan(&hierarchies, &name),
        uids: order.uids,
        init: None,
        keeper: (own, start_time(own).unwrap_or(0)),
    };
    let write = |record: &Record| {
        record.write(directory).map_err(SetUpError::at(format!("write in {}", directory.display())))
    };
    write(&record)?;
    let (groups, held) = Groups::make(&hierarchies, &name, spec);
    let substitutes = Substitutes {
        pids: !matches!(held.pids, Limit::Enforced { .. }),
        memory: !matches!(held.memory, Limit::Enforced { .. }),
    };
    let limits = report(held, order);
    let filter = Filter::new()?;
    let settings = settings_of(spec).encode();

    let (ours, theirs) = Channel::pair().map_err(SetUpError::at("open a channel"))?;
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC;
    let side = split(namespaces)
        .map_err(|error| SetUpError(format!("make namespaces: {error}{}", namespace_remedy(&error))))?;
    let init = match side {
        Side::Parent(pid) => pid,
        Side::Child => {
            drop(ours);
            let inside = Inside {
                spec,
                sources: sources(order),
                uids: order.uids,
                layer,
                settings: &settings,
                filter: &filter,
                substitutes,
            };
            let Err(error) = inside.become_init(&theirs);
            let _ = theirs.send(&format!("error {error}"), &[]);
            end_now(1)
        }
    };
    drop(theirs);
    let mut unborn = Unborn(Some(init));
    record.init = start_time(init.as_raw()).map(|time| (init.as_raw(), time));
    write(&record)?;
    let (queues, console) = raise(order, init, layer, &groups, &ours, deadline)?;
    let handle = rustix::process::Pid::from_raw(init.as_raw()).expect("a child has a number");
    let handle = rustix::process::pidfd_open(handle, rustix::process::PidfdFlags::empty())
        .map_err(SetUpError::at("hold init"))?;
    unborn.0 = None;
    Ok(Machine::new(order.clone(), init, handle, ours, console, queues, groups, limits, filter, substitutes))
}

/// Leads the child through its stages.
fn raise(
    order: &Order,
    init: Pid,
    layer: Layer,
    groups: &Groups,
    channel: &Channel,
    deadline: Instant,
) -> Result<(Vec<OwnedFd>, OwnedFd), SetUpError> {
    let deadline = Some(deadline);
    let queues = channel.expect("taps", deadline)?;
    ids::write_maps(init, order.uids).map_err(SetUpError::at("map the machine's users"))?;
    groups.add(init).map_err(SetUpError::at("put the machine into its cgroups"))?;
    let delivery = match order.uids {
        Uids::Range { .. } => {
            let namespace = fs::File::open(format!("/proc/{init}/ns/user"))
                .map_err(SetUpError::at("open the user namespace"))?;
            Some(Delivery::take(sources(order), layer, &namespace.into())?)
        }
        Uids::Single => None,
    };
    let descriptors = delivery.as_ref().map(Delivery::descriptors).unwrap_or_default();
    channel.send("go", &descriptors).map_err(SetUpError::at("let the machine go on"))?;
    let console = channel
        .expect("console", deadline)?
        .pop()
        .ok_or_else(|| SetUpError("the console did not come".to_owned()))?;
    rustix::io::ioctl_fionbio(&console, true).map_err(SetUpError::at("hold the console"))?;
    channel.expect("ready", deadline)?;
    Ok((queues, console))
}

fn sources(order: &Order) -> Sources<'_> {
    Sources { directory: &order.directory, image: &order.image_root, guest: &order.guest }
}

fn prepare_directories(order: &Order, layer: Layer) -> io::Result<()> {
    let make =
        |name: &str, mode: u32| match fs::DirBuilder::new().mode(mode).create(order.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
    make(PLACE, 0o755)?;
    make(LOWER, 0o755)?;
    let own = |path: &Path| match ids::root_of(order.uids) {
        Some(first) => chown(path, Some(first), Some(first)),
        None => Ok(()),
    };
    if layer == Layer::Copy {
        remove_tree(&order.directory.join(UPPER))?;
        remove_tree(&order.directory.join(WORK))?;
        make(COPY, 0o755)?;
        let copy = order.directory.join(COPY);
        copy_tree(&order.image_root, &copy, ids::root_of(order.uids))?;
        return own(&copy);
    }
    for name in [UPPER, WORK] {
        make(name, 0o755)?;
        own(&order.directory.join(name))?;
    }
    Ok(())
}

/// Unique on the host: two daemons may have machines of one name.
fn group_name(directory: &Path, spec: &MachineSpec) -> String {
    let place = blake3::hash(directory.as_os_str().as_encoded_bytes()).to_hex();
    format!("consort-{}-{}", &place[..8], spec.id)
}

fn namespace_remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES) => {
            " (this host lets users make no namespaces: sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0, or run the node as root)"
        }
        Some(nix::libc::ENOSPC | nix::libc::EUSERS) => " (raise user.max_user_namespaces and its kin)",
        _ => "",
    }
}

fn report(held: Held, order: &Order) -> LimitsReport {
    let spec = &order.spec;
    let pids = match held.pids {
        Limit::NotEnforced { .. } if order.uids == Uids::Single && !may_be_host_root() => {
            Limit::Enforced { by: Mechanism::Rlimit }
        }
        other => other,
    };
    let memory = match held.memory {
        Limit::NotEnforced { reason } => Limit::Partial {
            by: Mechanism::Rlimit,
            gap: format!(
                "no process may have more data than {} bytes, but the sum is not limited: {reason}",
                spec.memory_bytes
            ),
        },
        other => other,
    };
    let disk = Limit::Partial {
        by: Mechanism::Rlimit,
        gap: format!("no file may exceed {} bytes, but the sum of all files is not limited", spec.disk_bytes),
    };
    let root = RootLayer::Overlay;
    LimitsReport { cpus: held.cpus, memory, pids, disk, pause: held.pause, root, uids: order.uids }
}

/// Whether this process's user may be the host's root, whom the kernel exempts from the count of processes.
fn may_be_host_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    rustix::process::geteuid().is_root() && map.split_whitespace().nth(1) == Some("0")
}

fn settings_of(spec: &MachineSpec) -> Settings {
    let nics = spec.nics.iter().map(|nic| NicSettings {
        name: nic.name.clone(),
        mac: nic.mac,
        mtu: nic.mtu,
        addresses: nic
            .ipv4
            .iter()
            .map(|(address, prefix)| ((*address).into(), *prefix))
            .chain(nic.ipv6.iter().map(|(address, prefix)| ((*address).into(), *prefix)))
            .collect(),
        routes: Vec::new(),
    });
    Settings {
        hostname: spec.hostname.clone(),
        nics: nics.collect(),
        hosts: spec.hosts.clone(),
        run: spec.run.clone().unwrap_or_default(),
        restart: match spec.restart {
            RestartPolicy::Never => Restart::Never,
            RestartPolicy::OnFailure => Restart::OnFailure,
            RestartPolicy::Always => Restart::Always,
        },
    }
}
