//! What a host holds and says in an overlay of any size, from [`simulation`]; the wire's share of a message is measured on real nodes.

use consort_overlay::simulation::{self, Figures, Scale};
use serde::Serialize;

/// Virtual time after the last has joined: longer than two lifetimes of a record, so that what is measured is not the joining.
const SECONDS: u32 = 2_700;
/// One run is as good as another.
const SEED: u64 = 1;

/// What came out.
#[derive(Debug, Serialize)]
pub(super) struct Grown {
    hosts: u32,
    records: f64,
    records_min: usize,
    record_kib: f64,
    record_age_s: f64,
    connections: f64,
    connections_max: usize,
    bytes_per_s: f64,
    bytes_per_s_max: f64,
    searches_found: f64,
    searches_asked: f64,
}

impl Grown {
    pub(super) fn for_people(&self) -> String {
        format!(
            "{} hosts, simulated for {SECONDS} s. A host holds {:.0} records ({} at least) of {:.0} KiB together, {:.0} s old; has {:.1} connections ({} at \
             most); sends and receives {:.0} B/s ({:.0} at most). {:.1} % of searches for a host that is not held find it, asking {:.0} hosts.\n",
            self.hosts,
            self.records,
            self.records_min,
            self.record_kib,
            self.record_age_s,
            self.connections,
            self.connections_max,
            self.bytes_per_s,
            self.bytes_per_s_max,
            100.0 * self.searches_found,
            self.searches_asked,
        )
    }
}

pub(super) fn simulate(hosts: u32) -> Grown {
    let scale = Scale { hosts: usize::try_from(hosts).unwrap_or(usize::MAX), seconds: SECONDS, seed: SEED };
    let Figures {
        records,
        records_min,
        record_bytes,
        connections,
        connections_max,
        bytes_per_s,
        bytes_per_s_max,
        age_s,
        found,
        asked,
        ..
    } = simulation::run(scale);
    Grown {
        hosts,
        records,
        records_min,
        record_kib: record_bytes / 1024.0,
        record_age_s: age_s,
        connections,
        connections_max,
        bytes_per_s,
        bytes_per_s_max,
        searches_found: found,
        searches_asked: asked,
    }
}
