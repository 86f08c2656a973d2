//! Devices and what the data plane knows of the networks this host is on: made, changed, made again, removed.
//!
//! The network comes before the port, and who is wanted before the network. Which addresses are whose stands in the network's bindings alone, so that an
//! address may change without the port being let go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use consort_vswitch::{Guard, MacAddr, MachineBinding, NetworkConfig, NetworkId, PortConfig};

use super::{Attachment, DEVICE_AGAIN, Task, now};
use crate::failure::Failure;
use crate::glue::standalone::core::{JoinRefusal, JoinWish, Place};
use crate::glue::standalone::device::{self, Device, DeviceSpec};
use crate::glue::standalone::handle::join_failure;
use crate::glue::standalone::seats::{Seat, mac_of};
use crate::glue::standalone::statement::{Definition, Standing};
use crate::glue::wanted::Wanter;

impl Task {
    pub(super) async fn join(&mut self, id: NetworkId, wish: JoinWish) -> Result<(), Failure> {
        let Some(known) = self.core.directory().network(id) else {
            return Err(join_failure(&wish, &JoinRefusal::Unknown));
        };
        let definition = known.definition.clone();
        let place =
            self.core.find_place(id, wish.clone()).map_err(|refusal| join_failure(&wish, &refusal))?;
        if wish.ipv4.is_none() {
            self.check_routes(&definition)?;
        }
        let spec = self.spec(&definition, &place);
        self.tell_inside(Some(&definition));
        let opened = open(spec).await;
        if opened.is_err() {
            self.tell_inside(None);
        }
        let (device, queues, notices) = opened?;
        self.core.join(now(), &place);
        if let Err(failure) = self.attach(id, device, queues) {
            self.core.leave(now(), id);
            return Err(failure);
        }
        notices.into_iter().for_each(|notice| self.core.notice(id, notice));
        if definition.ipv6.is_some() && place.ipv6.is_none() {
            let text =
                "IPv6 is switched off on this host (net.ipv6.conf.*.disable_ipv6): it has no IPv6 address";
            self.core.notice(id, text.to_owned());
        }
        tracing::info!(network = %id, device = %place.device, "this host is on the network {}", definition.draft.name);
        Ok(())
    }

    /// A network whose addresses this host reaches otherwise would cut it off from them.
    fn check_routes(&self, definition: &Definition) -> Result<(), Failure> {
        let routes = device::routes();
        for prefix in definition.prefixes() {
            if let Some((route, device)) = routes.iter().find(|(route, _)| route.overlaps(prefix)) {
                let what = format!(
                    "the network's addresses {prefix} overlap with {route}, which this host reaches by {device}"
                );
                return Err(Failure::refused("prefix_in_use", what).remedy(
                    "make the network with another --ipv4 or --ipv6, or give --ipv4 ADDR/LEN to join all the same",
                ));
            }
        }
        Ok(())
    }

    fn spec(&self, definition: &Definition, place: &Place) -> DeviceSpec {
        DeviceSpec {
            name: place.device.clone(),
            mac: place.mac,
            mtu: definition.draft.mtu,
            addresses: with_lengths(definition, place.ipv4.map(IpAddr::from), place.ipv6.map(IpAddr::from)),
        }
    }

    /// Brings a device to the data plane, its network first.
    fn attach(&mut self, id: NetworkId, device: Device, queues: Vec<OwnedFd>) -> Result<(), Failure> {
        self.set_network(id);
        // Which addresses are whose stands in the network's bindings, where it can be changed without letting the port go.
        let port = PortConfig {
            mac: mac_of(id, self.parts.overlay.local_id()),
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            guard: Guard::AllowUnknown,
            vnet_hdr: true,
        };
        if let Err(error) = self.parts.data.attach(id, port, queues) {
            self.parts.data.remove_network(id);
            return Err(Failure::failed(
                "device",
                format!("the switch does not take {}: {error}", device.name),
            ));
        }
        self.attachments.insert(id, Attachment::Up(device));
        self.tell_joined();
        self.offer_all(id);
        Ok(())
    }

    /// Makes the device again of a network this host is on.
    pub(super) async fn revive(&mut self, id: NetworkId) {
        let (Some(own), Some(known)) = (self.core.own(id), self.core.directory().network(id)) else { return };
        let Standing::Joined { ipv4, ipv6 } = own.claim.said.standing else { return };
        let mac = mac_of(id, self.parts.overlay.local_id());
        let place = Place { network: id, device: own.device.clone(), mac, ipv4, ipv6 };
        let spec = self.spec(&known.definition, &place);
        let made = match open(spec).await {
            Ok((device, queues, notices)) => {
                notices.into_iter().for_each(|notice| self.core.notice(id, notice));
                self.attach(id, device, queues)
            }
            Err(failure) => Err(failure),
        };
        match made {
            Ok(()) => {
                tracing::info!(network = %id, device = %place.device, "this host is on the network again")
            }
            Err(failure) => {
                tracing::warn!(network = %id, device = %place.device, %failure, "the network's device cannot be made; it is tried again");
                let again = Instant::now() + DEVICE_AGAIN;
                self.attachments.insert(id, Attachment::Down { why: failure.to_string(), again });
            }
        }
    }

    /// Somebody may have removed a device: it is made again.
    pub(super) fn look_for_devices(&mut self) {
        for (id, attachment) in &mut self.attachments {
            let Attachment::Up(device) = attachment else { continue };
            if device.is_there() {
                continue;
            }
            tracing::warn!(network = %id, device = %device.name, "the network's device was removed; it is made again");
            self.parts.data.remove_network(*id);
            let why = format!("somebody removed the device {}", device.name);
            *attachment = Attachment::Down { why, again: Instant::now() };
        }
    }

    /// Leaves a network; gives the name of the device that goes.
    pub(super) fn leave(&mut self, id: NetworkId) -> Option<String> {
        let device = self.core.own(id).map(|own| own.device.clone())?;
        self.core.leave(now(), id);
        if let Some(Attachment::Up(_)) = self.attachments.remove(&id) {
            self.parts.data.remove_network(id);
        }
        self.tell_joined();
        self.tell_wanted();
        self.tell_inside(None);
        tracing::info!(network = %id, %device, "this host left the network");
        Some(device)
    }

    /// Who is on the network may be others now, or this host's addresses.
    pub(super) async fn look_again(&mut self, id: NetworkId) {
        if !matches!(self.attachments.get(&id), Some(Attachment::Up(_))) {
            return;
        }
        self.set_network(id);
        self.offer_all(id);
        let me = self.parts.overlay.local_id();
        let (own, others): (Vec<Seat>, Vec<Seat>) =
            self.core.seats(id).into_iter().partition(|seat| seat.host == me);
        let seat = own.into_iter().next();
        let (Some(known), Some(Attachment::Up(device))) =
            (self.core.directory().network(id), self.attachments.get(&id))
        else {
            return;
        };
        let (ipv4, ipv6) = seat.map_or((None, None), |seat| (seat.ipv4, seat.ipv6));
        let wanted = with_lengths(&known.definition, ipv4.map(IpAddr::from), ipv6.map(IpAddr::from));
        let addresses = |seat: &Seat| {
            let both = [seat.ipv4.map(IpAddr::from), seat.ipv6.map(IpAddr::from)];
            both.into_iter().flatten().map(|address| (address, seat.mac)).collect::<Vec<_>>()
        };
        let neighbours: BTreeMap<IpAddr, MacAddr> = others.iter().flat_map(addresses).collect();
        let mut changed = device.clone();
        let readdressed = tokio::task::spawn_blocking(move || {
            changed.readdress(wanted)?;
            if let Err(error) = changed.meets(neighbours) {
                // The kernel asks again.
                tracing::debug!(device = %changed.name, %error, "the kernel is not told of neighbours");
            }
            Ok::<_, Failure>(changed)
        })
        .await;
        match readdressed {
            Ok(Ok(device)) => drop(self.attachments.insert(id, Attachment::Up(device))),
            Ok(Err(failure)) => {
                tracing::error!(network = %id, %failure, "the device does not take its addresses");
                self.core.notice(id, failure.to_string());
            }
            Err(error) => tracing::error!(%error, "the thread that gives addresses ended"),
        }
    }

    /// Tells the data plane who is on the network.
    fn set_network(&self, id: NetworkId) {
        let Some(known) = self.core.directory().network(id) else { return };
        self.tell_wanted();
        let me = self.parts.overlay.local_id();
        let seats = self.core.seats(id);
        let config = NetworkConfig {
            id,
            mtu: known.definition.draft.mtu,
            hosts: seats.iter().map(|seat| seat.host).filter(|host| *host != me).collect(),
            machines: seats
                .into_iter()
                .map(|seat| MachineBinding {
                    mac: seat.mac,
                    ipv4: seat.ipv4.into_iter().collect(),
                    ipv6: seat.ipv6.into_iter().collect(),
                    host: seat.host,
                })
                .collect(),
            allow_unknown: true,
        };
        if let Err(error) = self.parts.data.set_network(config) {
            tracing::error!(network = %id, %error, "the switch does not take the network");
        }
    }

    fn tell_wanted(&self) {
        let me = self.parts.overlay.local_id();
        let seats = self.core.joined().flat_map(|id| self.core.seats(id));
        let hosts = seats.map(|seat| seat.host).filter(|host| *host != me).collect();
        self.parts.wanted.set(Wanter::Standalone, hosts);
    }

    /// The data plane must not look for ways to other hosts on the networks it carries; said before a device has an address.
    pub(super) fn tell_inside(&self, besides: Option<&Definition>) {
        let joined = self.core.joined().filter_map(|id| self.core.directory().network(id));
        let definitions = joined.map(|known| &known.definition).chain(besides);
        let prefixes = definitions.flat_map(Definition::prefixes);
        self.parts.data.set_inside(prefixes.map(|prefix| (prefix.first(), prefix.length())).collect());
    }

    fn tell_joined(&self) {
        self.joined.send_replace(self.attachments.keys().copied().collect());
    }
}

async fn open(spec: DeviceSpec) -> Result<(Device, Vec<OwnedFd>, Vec<String>), Failure> {
    tokio::task::spawn_blocking(move || Device::open(&spec))
        .await
        .map_err(|error| Failure::failed("device", format!("the thread that makes devices ended: {error}")))?
}

/// Addresses with the lengths of the network's prefixes.
fn with_lengths(
    definition: &Definition,
    ipv4: Option<IpAddr>,
    ipv6: Option<IpAddr>,
) -> BTreeSet<(IpAddr, u8)> {
    let lengths = [(ipv4, definition.draft.ipv4), (ipv6, definition.ipv6)];
    lengths.into_iter().filter_map(|(address, prefix)| Some((address?, prefix?.length()))).collect()
}
