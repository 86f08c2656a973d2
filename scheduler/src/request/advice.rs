//! The smallest change of the wish that would make it fit.
//!
//! One field at a time: fewer machines, less memory, CPU or disk for each, a shorter term, another category. Each is
//! judged on what the hosts said they have free, without asking them again; the change that gives up the smallest
//! part of its field stands first.

use serde::Serialize;

use crate::message::{GroupOffer, Verdict};
use crate::placement::{Bin, lay_out};
use crate::refusal::Refusal;
use crate::slice::spec::{Group, MEMORY_MIN, Span, Spec};
use crate::units::{Millis, cpus_text, size_text};
use crate::{identity::HostId, slice::spec::CPUS_MILLI_MIN, slice::spec::DISK_MIN};

/// One change of one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The field, as in the slice file.
    pub field: String,
    /// What stands there.
    pub from: String,
    /// What would fit.
    pub to: String,
    /// How much of the field is given up, in thousandths; 0 for a change of kind.
    pub given_up_milli: u64,
}

/// What would make it fit.
pub(crate) fn advise(spec: &Spec, hosts: &[(HostId, Verdict)]) -> Vec<Advice> {
    let bins: Vec<Bin> = hosts.iter().filter_map(|(host, verdict)| whole_bin(spec, *host, verdict)).collect();
    let mut advice: Vec<Advice> = Vec::new();
    for index in 0..spec.groups.len() {
        advice.extend(fewer(spec, &bins, index));
        for field in SIZES {
            advice.extend(smaller(spec, &bins, index, &field));
        }
    }
    advice.extend(shorter(spec, hosts));
    advice.sort_by_key(|advice| advice.given_up_milli);
    advice
}

/// All that a host has free, as if it were offered: for the kinds it would run.
fn whole_bin(spec: &Spec, host: HostId, verdict: &Verdict) -> Option<Bin> {
    let refuses_all = |refusal: &Refusal| {
        !matches!(
            refusal,
            Refusal::NoCapacity { .. } | Refusal::CategoryUnsupported { .. } | Refusal::ImageUnknown { .. }
        )
    };
    if verdict.refusals.iter().any(refuses_all) {
        return None;
    }
    let runs = |group: &Group| {
        !verdict.refusals.iter().any(|refusal| match refusal {
            Refusal::CategoryUnsupported { category } => group.category == Some(*category),
            Refusal::ImageUnknown { image } => group.image == *image,
            _ => false,
        })
    };
    let kinds = spec.groups.iter().zip(0u8..).filter(|(group, _)| runs(group));
    let groups = kinds.map(|(group, index)| GroupOffer {
        group: index,
        category: group.category.unwrap_or(crate::slice::spec::Category::Sandbox),
    });
    Some(Bin { host, room: verdict.free, groups: groups.collect() })
}

fn with_group(spec: &Spec, index: usize, edit: impl FnOnce(&mut Group)) -> Spec {
    let mut spec = spec.clone();
    if let Some(group) = spec.groups.iter_mut().nth(index) {
        edit(group);
    }
    spec
}

/// The largest value in `low..high` for which `fits`, found by halving.
fn largest(low: u64, high: u64, fits: impl Fn(u64) -> bool) -> Option<u64> {
    if low >= high || !fits(low) {
        return None;
    }
    let (mut good, mut bad) = (low, high);
    while bad - good > 1 {
        let middle = u64::midpoint(good, bad);
        if fits(middle) { good = middle } else { bad = middle }
    }
    Some(good)
}

fn given_up(from: u64, to: u64) -> u64 {
    let part = u128::from(from - to) * 1000 / u128::from(from.max(1));
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn fewer(spec: &Spec, bins: &[Bin], index: usize) -> Option<Advice> {
    let group = &spec.groups[index];
    let wish = |count: u64| {
        let count = Span::exactly(u16::try_from(count).unwrap_or(u16::MAX));
        with_group(spec, index, |group| group.count = count)
    };
    let from = u64::from(group.count.min);
    let to = largest(1, from, |count| lay_out(&wish(count), bins).is_some())?;
    let field = format!("machine.{}.count", group.name);
    Some(Advice { field, from: from.to_string(), to: to.to_string(), given_up_milli: given_up(from, to) })
}

struct SizeField {
    key: &'static str,
    least: u64,
    /// Values are multiples of this, so that what is advised can be written in the file.
    grain: u64,
    of: fn(&Group) -> u64,
    set: fn(&mut Group, u64),
    text: fn(u64) -> String,
}

const SIZES: [SizeField; 3] = [
    SizeField {
        key: "memory",
        least: MEMORY_MIN,
        grain: 1 << 20,
        of: |group| group.memory_bytes.min,
        set: |group, value| group.memory_bytes = Span::exactly(value),
        text: size_text,
    },
    SizeField {
        key: "cpus",
        least: CPUS_MILLI_MIN as u64,
        grain: 10,
        of: |group| group.cpus_milli.min.into(),
        set: |group, value| group.cpus_milli = Span::exactly(u32::try_from(value).unwrap_or(u32::MAX)),
        text: cpus_text,
    },
    SizeField {
        key: "disk",
        least: DISK_MIN,
        grain: 1 << 20,
        of: |group| group.disk_bytes.min,
        set: |group, value| group.disk_bytes = Span::exactly(value),
        text: size_text,
    },
];

fn smaller(spec: &Spec, bins: &[Bin], index: usize, field: &SizeField) -> Option<Advice> {
    let group = &spec.groups[index];
    let from = (field.of)(group);
    let wish = |grains: u64| with_group(spec, index, |group| (field.set)(group, grains * field.grain));
    let fits = |grains: u64| lay_out(&wish(grains), bins).is_some();
    let to = field.grain * largest(field.least.div_ceil(field.grain), from.div_ceil(field.grain), fits)?;
    Some(Advice {
        field: format!("machine.{}.{}", group.name, field.key),
        from: (field.text)(from),
        to: (field.text)(to),
        given_up_milli: given_up(from, to),
    })
}

/// When hosts refuse for the term alone: the longest that any of them gives.
fn shorter(spec: &Spec, hosts: &[(HostId, Verdict)]) -> Option<Advice> {
    let longest =
        hosts.iter().flat_map(|(_, verdict)| verdict.refusals.iter()).filter_map(|refusal| match refusal {
            Refusal::TermTooLong { longest } => Some(*longest),
            _ => None,
        });
    let to: Millis = longest.max()?;
    if to >= spec.term {
        return None;
    }
    // Their room is known too: judge as if they had not minded the term.
    let unminded: Vec<Bin> = hosts
        .iter()
        .filter_map(|(host, verdict)| {
            let rest =
                verdict.refusals.iter().filter(|refusal| !matches!(refusal, Refusal::TermTooLong { .. }));
            let verdict =
                Verdict { refusals: crate::bounded::List::first_of(rest.cloned()), ..verdict.clone() };
            whole_bin(spec, *host, &verdict)
        })
        .collect();
    lay_out(spec, &unminded)?;
    let given_up_milli = given_up(spec.term.0, to.0);
    Some(Advice { field: "term".into(), from: spec.term.to_string(), to: to.to_string(), given_up_milli })
}
