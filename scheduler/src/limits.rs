//! Every bound of this crate in one place, with its reason.
//!
//! A bound here is either a cap on what one message may make us hold (checked before anything is
//! allocated) or a cap on a table, with the decision for "full" named beside it.

use crate::units::Millis;

/// Machines in one slice. A record of this many machines with four interfaces each stays under 24 KiB, well
/// inside [`MESSAGE_BYTES_MAX`]; larger gangs want a record of several parts.
pub const MACHINES_MAX: usize = 64;
/// Kinds of machine (`[machine.NAME]`) in one slice: each costs one line in every ask and verdict.
pub const GROUPS_MAX: usize = 8;
/// Networks in one slice. Each costs a grant (under 256 bytes, one signature) in every answer to a host's
/// reading of the record.
pub const NETWORKS_MAX: usize = 8;
/// Networks of one machine: interfaces `eth0` to `eth3`.
pub const INTERFACES_MAX: usize = 4;
/// Routers in one slice; they are parsed, and refused as not there yet.
pub const ROUTERS_MAX: usize = 8;
/// Words of a `run` line.
pub const RUN_WORDS_MAX: usize = 32;
/// Bytes of one word of a `run` line.
pub const RUN_WORD_BYTES_MAX: usize = 256;
/// Bytes of a name (slice, machine kind, network): with `-63` behind it, still one DNS label.
pub const NAME_BYTES_MAX: usize = 40;
/// Bytes of an image's name.
pub const IMAGE_BYTES_MAX: usize = 128;
/// Stewards of one slice (1 or 3 are chosen today; the record has room for 5).
pub const STEWARDS_MAX: usize = 5;
/// Bytes of a slice file: some hundred times a usual one.
pub const SLICE_FILE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a charter (the signed spec with its stewards): it travels in every ask.
pub const CHARTER_BYTES_MAX: usize = 24 * 1024;
/// Bytes of one message between two schedulers: a full record with its grants and a charter.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a channel grant, as the vswitch carries it.
pub const GRANT_BYTES_MAX: usize = 512;
/// Reasons one host gives for refusing one request.
pub const REFUSALS_MAX: usize = 16;
/// Events kept in a slice's record; the oldest goes first.
pub const EVENTS_MAX: usize = 24;
/// Bytes of a free-text detail in a record or report.
pub const DETAIL_BYTES_MAX: usize = 120;
/// Slices named in one answer to a search.
pub const HINTS_MAX: usize = 64;

/// Hosts one request asks in all. Half as many again as the largest gang, so that one round is enough for it.
pub const HOSTS_ASKED_MAX: usize = 96;
/// Rounds of asking: the first finds nearly all gangs (98 % in the design's simulation), the second nearly
/// all of the rest; a third would find what the second did not only by luck.
pub const ROUNDS_MAX: u32 = 2;
/// Candidates taken from the driver with a command; what is beyond is not looked at.
pub const CANDIDATES_MAX: usize = 256;
/// Hosts asked in a search for slices by name.
pub const SEARCH_HOSTS_MAX: usize = 64;

/// Commands this node runs at once for its own users; further ones are refused.
pub const COMMANDS_MAX: usize = 64;
/// Slices a host holds or gives room to at once; further asks are refused.
pub const HOST_SLICES_MAX: usize = 256;
/// Undecided holds one coordinator may have on one host; further asks are refused. One requester cannot
/// starve the others by asking often.
pub const HOLDS_PER_COORDINATOR_MAX: usize = 8;
/// Registers a steward keeps, live and finished ones; new slices are refused when it is full.
pub const REGISTERS_MAX: usize = 1024;
/// Registers without a decision that one host may have made a steward keep: nobody fills its table alone.
pub const UNDECIDED_PER_HOST_MAX: usize = 16;
/// Changes a node runs against registers at once; further ones wait for their next occasion.
pub const CHANGES_MAX: usize = 128;

/// The hold asked for when a request names none.
pub const HOLD_DEFAULT: Millis = Millis::from_secs(10);
/// The longest hold a host agrees to: longer holds let a dead coordinator keep capacity idle.
pub const HOLD_MAX: Millis = Millis::from_secs(30);
/// The shortest hold that is worth the round trips of a request over a slow network.
pub const HOLD_MIN: Millis = Millis(500);
/// How long hosts have to answer an ask. A loaded host on another continent needs well under a second; a
/// dead one should not cost the tenant more.
pub const ASK_PATIENCE: Millis = Millis(1500);
/// How long before a message that got no answer is sent again.
pub const RETRY_AFTER: Millis = Millis(400);
/// How long a search for slices waits for hosts that do not answer.
pub const SEARCH_PATIENCE: Millis = Millis(1000);
/// How long a question to stewards (show, remove, extend) is tried before it fails.
pub const QUERY_PATIENCE: Millis = Millis::from_secs(5);
/// How long one change to a register is tried before its owner is told that no majority answered.
pub const CHANGE_PATIENCE: Millis = Millis::from_secs(5);

/// The lease a spec gets when it names none.
pub const LEASE_DEFAULT: Millis = Millis::from_secs(15);
/// The shortest lease: three readings must fit into it over a bad link.
pub const LEASE_MIN: Millis = Millis::from_secs(2);
/// The longest lease: this long a lost machine goes unnoticed.
pub const LEASE_MAX: Millis = Millis::from_secs(600);
/// The shortest term of a slice.
pub const TERM_MIN: Millis = Millis::from_secs(10);
/// The longest term of a slice: a year.
pub const TERM_MAX: Millis = Millis::from_secs(365 * 86_400);
/// A host reads the record this many times within a lease, so that two readings may be lost.
pub const READINGS_PER_LEASE: u64 = 3;
/// How often a host asks the record of a slice whose fate it does not know.
pub const DOUBT_READ_EVERY: Millis = Millis(1000);
/// How often stewards look again at a slice where a change of theirs failed.
pub const SCAN_EVERY: Millis = Millis(500);
/// How long a steward lets a slice stay in Forming, counted from its first word of it: the longest hold,
/// and as much again for the hosts to settle it themselves.
pub const FORMING_MAX: Millis = Millis::from_secs(60);
/// How long a finished register is kept, so that no message still on its way can bring it back to life. Requests
/// travel on connections that live for seconds; an hour is beyond doubt and cheap.
pub const TOMBSTONE_KEEP: Millis = Millis::from_secs(3600);

/// How far apart the clocks of a host and a steward may run over `lease`: 1/16 covers a clock slewed by NTP
/// (0.05 %) and a virtual machine's bad one (1 %) many times over; the fixed part covers timer granularity.
#[must_use]
pub const fn drift_bound(lease: Millis) -> Millis {
    Millis(lease.0 / 16 + 200)
}

/// How long after a host's last reading of the record the slice says, at the latest, that its machines are
/// lost, while a majority of stewards lives: the lease, the drift bound, one more look, and the change itself.
#[must_use]
pub const fn loss_notice(lease: Millis) -> Millis {
    lease.plus(drift_bound(lease)).plus(SCAN_EVERY).plus(RETRY_AFTER).plus(RETRY_AFTER)
}
