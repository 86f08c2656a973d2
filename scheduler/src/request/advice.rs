//! The smallest change of the wish that would make it fit.
//!
//! One field at a time: fewer machines, less memory, CPU or disk for each, a shorter term, another category. Each is
//! judged on what the hosts said they have free, without asking them again; the change that gives up the smallest
//! part of its field stands first.

use serde::Serialize;

use crate::bounded::List;
use crate::identity::HostId;
use crate::message::{GroupOffer, Verdict};
use crate::placement::{Bin, lay_out};
use crate::refusal::Refusal;
use crate::slice::spec::{CPUS_MILLI_MIN, Category, DISK_MIN, Group, MEMORY_MIN, Span, Spec};
use crate::units::{Millis, cpus_text, size_text};

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
        advice.extend(other_category(spec, hosts, index));
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
        category: group.category.unwrap_or(Category::Sandbox),
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

/// What hosts would offer if they did not mind some of what they mind.
fn bins_unminding(spec: &Spec, hosts: &[(HostId, Verdict)], unminded: impl Fn(&Refusal) -> bool) -> Vec<Bin> {
    let bin = |(host, verdict): &(HostId, Verdict)| {
        let rest = verdict.refusals.iter().filter(|refusal| !unminded(refusal)).cloned();
        whole_bin(spec, *host, &Verdict { refusals: List::first_of(rest), ..verdict.clone() })
    };
    hosts.iter().filter_map(bin).collect()
}

/// When hosts refuse for the category: the other one. A host that cannot run one category runs the other, or it would give
/// nothing to anyone.
fn other_category(spec: &Spec, hosts: &[(HostId, Verdict)], index: usize) -> Option<Advice> {
    let group = &spec.groups[index];
    let from = group.category?;
    let refused = |refusal: &Refusal| *refusal == Refusal::CategoryUnsupported { category: from };
    hosts.iter().any(|(_, verdict)| verdict.refusals.iter().any(refused)).then_some(())?;
    let to = Category::ALL.into_iter().find(|category| *category != from)?;
    let wish = with_group(spec, index, |group| group.category = Some(to));
    lay_out(&wish, &bins_unminding(&wish, hosts, refused))?;
    let field = format!("machine.{}.category", group.name);
    Some(Advice { field, from: from.to_string(), to: to.to_string(), given_up_milli: 0 })
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
    let wish = Spec { term: to, ..spec.clone() };
    let too_long = |refusal: &Refusal| matches!(refusal, Refusal::TermTooLong { longest } if *longest >= to);
    lay_out(&wish, &bins_unminding(&wish, hosts, too_long))?;
    let given_up_milli = given_up(spec.term.0, to.0);
    Some(Advice { field: "term".into(), from: spec.term.to_string(), to: to.to_string(), given_up_milli })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::Resources;
    use crate::specimen::{founded, host};

    fn verdict(free: Resources, refusals: impl IntoIterator<Item = Refusal>) -> Verdict {
        Verdict { offer: Resources::NONE, groups: List::new(), free, refusals: List::first_of(refusals) }
    }

    fn room(memory_mib: u64, machines: u64) -> Resources {
        Resources { cpus_milli: 4000, memory_bytes: memory_mib << 20, disk_bytes: 1 << 40, machines }
    }

    fn advised(machine: &str, hosts: &[(HostId, Verdict)]) -> Vec<(String, String)> {
        let spec = founded(machine).charter.spec;
        advise(&spec, hosts).into_iter().map(|advice| (advice.field, advice.to)).collect()
    }

    fn change(field: &str, to: &str) -> (String, String) {
        (field.to_owned(), to.to_owned())
    }

    #[test]
    fn each_field_is_changed_as_little_as_fits() {
        let hosts = [(host(1), verdict(room(1000, 9), [])), (host(2), verdict(room(600, 9), []))];
        let advice = advised("count = 4\nmemory = \"512MiB\"", &hosts);
        // 333 fits three times into 1000 and once into 600; 2 of 512 fit as they are.
        assert_eq!(advice, [change("machine.m.memory", "333MiB"), change("machine.m.count", "2")]);
    }

    #[test]
    fn another_category_or_a_shorter_term_is_advised_when_that_is_what_hosts_mind() {
        let no_vm = Refusal::CategoryUnsupported { category: Category::Vm };
        let hosts = [(host(1), verdict(room(1000, 9), [no_vm]))];
        assert_eq!(advised("category = \"vm\"", &hosts), [change("machine.m.category", "sandbox")]);
        let short = |secs| Refusal::TermTooLong { longest: Millis::from_secs(secs) };
        let hosts =
            [(host(1), verdict(room(1000, 9), [short(600)])), (host(2), verdict(room(1000, 9), [short(60)]))];
        assert_eq!(advised("", &hosts), [change("term", "10m")]);
    }

    #[test]
    fn nothing_is_advised_where_nothing_helps() {
        let hosts = [(host(1), verdict(room(1, 0), [])), (host(2), Verdict::refusing(Refusal::Policy))];
        assert_eq!(advised("count = 4", &hosts), []);
    }
}
