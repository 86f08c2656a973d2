//! A middle box on a cable: delay, jitter, loss, reordering, duplication, rate and a silent MTU hole, by a seed.
//!
//! Owns: the description ([`Impairment`]), the handle of a running box ([`MiddleBox`]); the decisions are in `line` (pure), the
//! process that moves frames in `process`. The kernel here has no netem; this also works on kernels of others, without root.
//!
//! ```text
//!   host eth0 ══ inner [ line ──▶ ] outer ══ wanN router
//!                      [ ◀── line ]
//! ```
//! Each direction is a line of its own with its own share of the seed. A frame that comes in is, in this order: lost or not, too long
//! or not, doubled or not, put into the line's queue (dropped when that is full), sent when the rate allows, and delivered after delay
//! and jitter; jitter keeps the order, reordering holds a frame back by [`REORDER_BY`].

mod line;
pub(crate) mod process;

pub use line::{Line, REORDER_BY};

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::process::subcommand;
use crate::wide::{HOST_LINK, WideError};
use crate::{Netlink, Netns, reexec};

/// The box's links.
const INNER: &str = "inner";
const OUTER: &str = "outer";

/// What happens to frames, in each direction.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Impairment {
    /// Time on the way.
    pub delay: Duration,
    /// Added to the delay, uniformly from zero to this; the order stays.
    pub jitter: Duration,
    /// Part of the frames lost, 0 to 1.
    pub loss: f64,
    /// Part of the frames delivered twice, 0 to 1.
    pub duplicate: f64,
    /// Part of the frames that others overtake, 0 to 1.
    pub reorder: f64,
    /// Bits per second; `None`: as fast as the processor goes.
    pub rate: Option<u64>,
    /// Frames that wait for the rate, in bytes; more are dropped.
    pub queue_bytes: usize,
    /// Longest IP packet that passes; longer ones vanish without a word (a black hole).
    pub mtu: Option<usize>,
}

impl Default for Impairment {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            duplicate: 0.0,
            reorder: 0.0,
            rate: None,
            // 100 ms at 100 Mb/s: a usual router's buffer.
            queue_bytes: 1_250_000,
            mtu: None,
        }
    }
}

/// A running middle box. Dropped, it ends, and its cable with it.
#[derive(Debug)]
pub struct MiddleBox {
    process: Child,
    control: ChildStdin,
}

impl MiddleBox {
    /// Cables `host` to the calling thread's namespace with a box in between.
    pub(crate) fn on_cable(
        router: &mut Netlink,
        router_link: &str,
        host: &Host,
        mtu: u32,
        impairment: Impairment,
        seed: u64,
    ) -> Result<Self, WideError> {
        let mut process = subcommand(reexec::program(), reexec::MIDDLEBOX)
            .args(["--seed", &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let control = process.stdin.take().expect("its input is piped");
        let mut lines = BufReader::new(process.stdout.take().expect("its output is piped")).lines();
        let pid = process.id();
        let mut made = Self { process, control };
        let mut expect = |wanted: &str| match lines.next().transpose()? {
            Some(line) if line == wanted => Ok(()),
            _ => Err(io::Error::other("the middle box did not come up")),
        };
        expect("ready")?;
        let namespace = Netns::of_process(pid)?;
        let mut inside = Netlink::open_in(&namespace)?;
        router.create_veth(router_link, OUTER, Some(&namespace), mtu)?;
        inside.create_veth(INNER, HOST_LINK, Some(host.netns()), mtu)?;
        for link in [INNER, OUTER] {
            inside.set_wire_through(link)?;
            inside.set_up(link)?;
        }
        made.change(impairment)?;
        expect("running")?;
        Ok(made)
    }

    /// Changes what happens to frames that come from now on.
    pub fn change(&mut self, impairment: Impairment) -> io::Result<()> {
        writeln!(self.control, "{}", process::encode(&impairment))?;
        self.control.flush()
    }

    /// The box's process, for measurements.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for MiddleBox {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
