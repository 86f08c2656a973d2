//! What is shown of networks by themselves.

use std::collections::BTreeMap;

use consort_vswitch::NetworkId;

use super::{Attachment, Task};
use crate::control::api::DeviceCounters;
use crate::glue::standalone::device;
use crate::glue::standalone::seats::Seat;
use crate::glue::standalone::statement::{Definition, Refusal};

/// What is known of one network.
#[derive(Debug, Clone)]
pub struct NetworkStatus {
    /// Its definition.
    pub definition: Definition,
    /// Who is on it, the first in rank first.
    pub seats: Vec<Seat>,
    /// This host's device, if it is on it.
    pub device: Option<DeviceStatus>,
    /// What the user should know.
    pub notices: Vec<String>,
    /// How often what others told was refused, by reason; of all networks.
    pub refused: BTreeMap<Refusal, u64>,
}

/// This host's device on a network.
#[derive(Debug, Clone)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// Whether it is there.
    pub state: DeviceState,
    /// What it counted.
    pub counters: Option<DeviceCounters>,
}

/// Whether a device is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceState {
    /// It is.
    Up,
    /// It is not, and is tried again; why.
    Down(String),
}

impl Task {
    pub(super) fn show(&self) -> Vec<NetworkStatus> {
        self.core
            .directory()
            .networks()
            .map(|known| {
                let id = known.definition.id;
                let own = self.core.own(id);
                NetworkStatus {
                    definition: known.definition.clone(),
                    seats: self.core.seats(id),
                    device: own.map(|own| self.show_device(id, own.device.clone())),
                    notices: own.map(|own| own.notices.clone()).unwrap_or_default(),
                    refused: self.core.refused().clone(),
                }
            })
            .collect()
    }

    fn show_device(&self, id: NetworkId, name: String) -> DeviceStatus {
        let state = match self.attachments.get(&id) {
            Some(Attachment::Up(_)) => DeviceState::Up,
            Some(Attachment::Down { why, .. }) => DeviceState::Down(why.clone()),
            None => DeviceState::Down("it is being made".to_owned()),
        };
        let counters = if state == DeviceState::Up { device::counters(&name) } else { None };
        DeviceStatus { name, state, counters }
    }
}
