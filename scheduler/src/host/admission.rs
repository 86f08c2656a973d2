//! What this host would offer: a pure judgement of one wish by policy, abilities and ledger.

use crate::bounded::List;
use crate::engine::{Allow, EngineConfig, Images};
use crate::ledger::Ledger;
use crate::message::{GroupOffer, Verdict};
use crate::refusal::Refusal;
use crate::resources::{Resource, Resources};
use crate::slice::charter::Charter;
use crate::slice::spec::{Category, Group};

/// Judges a wish for at most so many machines.
///
/// The offer is one bag for any mix of the kinds this host can run: as much as that many of the largest machines
/// would take, or as much as is free. All reasons for refusing are given, not only the first.
pub(crate) fn judge(charter: &Charter, config: &EngineConfig, ledger: &Ledger, machines: u16) -> Verdict {
    let free = ledger.free();
    let mut verdict = Verdict { offer: Resources::NONE, groups: List::new(), free, refusals: List::new() };
    let mut refusals: Vec<Refusal> = Vec::new();
    let allowed = match &config.share.allow {
        Allow::Everyone => true,
        Allow::Only(tenants) => tenants.contains(&charter.tenant),
        Allow::Nobody => false,
    };
    if !allowed {
        // What is free is nobody's business who is not served.
        return Verdict::refusing(Refusal::Policy);
    }
    if charter.spec.term > config.share.term_max {
        refusals.push(Refusal::TermTooLong { longest: config.share.term_max });
    }
    let mut kinds: Vec<(GroupOffer, &Group)> = Vec::new();
    for (group, index) in charter.spec.groups.iter().zip(0u8..) {
        match able(group, config) {
            Ok(category) => kinds.push((GroupOffer { group: index, category }, group)),
            Err(refusal) if refusals.contains(&refusal) => {}
            Err(refusal) => refusals.push(refusal),
        }
    }
    let fitting: Vec<_> = kinds.iter().filter(|(_, group)| group.least().fits(&free)).collect();
    if fitting.is_empty()
        && let Some((_, smallest)) = kinds.iter().min_by_key(|(_, group)| group.least().memory_bytes)
    {
        let missing = smallest.least().shortages(&free);
        refusals.extend(missing.map(|(resource, missing)| Refusal::NoCapacity { resource, missing }));
    }
    let term_is_fine = charter.spec.term <= config.share.term_max;
    if term_is_fine && machines > 0 {
        verdict.offer =
            bag(&fitting.iter().map(|(_, group)| *group).collect::<Vec<_>>(), machines).at_most(&free);
        verdict.groups = List::first_of(fitting.iter().map(|(offer, _)| *offer));
    }
    verdict.refusals = List::first_of(refusals);
    verdict
}

/// Whether this host can run this kind, and as what.
fn able(group: &Group, config: &EngineConfig) -> Result<Category, Refusal> {
    let wanted = |category: &Category| group.category.is_none_or(|wanted| wanted == *category);
    let category = Category::ALL
        .into_iter()
        .filter(wanted)
        .find(|category| config.capabilities.categories.contains(category))
        .ok_or_else(|| Refusal::CategoryUnsupported {
            category: group.category.unwrap_or(Category::Sandbox),
        })?;
    match &config.capabilities.images {
        Images::Only(images) if !images.contains(&group.image) => {
            Err(Refusal::ImageUnknown { image: group.image.clone() })
        }
        Images::Any | Images::Only(_) => Ok(category),
    }
}

/// Room for this many machines of whichever kind, each at its largest, and no more than the whole gang takes.
fn bag(groups: &[&Group], machines: u16) -> Resources {
    let largest =
        |kind: Resource| groups.iter().map(|group| group.sized(Group::STEPS).of(kind)).max().unwrap_or(0);
    let each = Resources {
        cpus_milli: largest(Resource::Cpus),
        memory_bytes: largest(Resource::Memory),
        disk_bytes: largest(Resource::Disk),
        machines: largest(Resource::Machines),
    };
    let gang = groups
        .iter()
        .map(|group| group.sized(Group::STEPS).times(group.count.max.into()))
        .fold(Resources::NONE, |sum, group| sum.plus(&group));
    each.times(machines.into()).at_most(&gang)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Capabilities, Share};
    use crate::identity::TenantId;
    use crate::slice::file;
    use crate::units::Millis;
    use libp2p_identity::Keypair;
    use std::collections::BTreeSet;

    const LIMIT: Resources =
        Resources { cpus_milli: 4000, memory_bytes: 1 << 30, disk_bytes: 10 << 30, machines: 4 };

    fn charter(machine: &str) -> Charter {
        let keys = Keypair::ed25519_from_bytes([1; 32]).unwrap();
        let id = keys.public().to_peer_id();
        let spec = file::parse(&format!("name = \"a\"\n[machine.m]\nimage = \"mini\"\n{machine}")).unwrap();
        Charter {
            tenant: TenantId(id),
            nonce: [0; 16],
            coordinator: id,
            stewards: List::first_of([id]),
            spec,
        }
    }

    fn config(allow: Allow) -> EngineConfig {
        EngineConfig {
            keypair: Keypair::ed25519_from_bytes([2; 32]).unwrap(),
            share: Share { limit: LIMIT, term_max: Millis::from_secs(7200), allow },
            capabilities: Capabilities {
                categories: BTreeSet::from([Category::Sandbox]),
                images: Images::Only(BTreeSet::from(["mini".try_into().unwrap()])),
            },
            boot: crate::engine::BootId::of(b"test"),
        }
    }

    fn judged(machine: &str) -> Verdict {
        judge(&charter(machine), &config(Allow::Everyone), &Ledger::new(LIMIT), 2)
    }

    #[test]
    fn an_offer_is_a_bag_for_that_many_of_the_largest() {
        let verdict = judged("count = 4\ncpus = { min = 1, max = 2 }\nmemory = \"256MiB\"\ndisk = \"1GiB\"");
        let bag = Resources { cpus_milli: 4000, memory_bytes: 512 << 20, disk_bytes: 2 << 30, machines: 2 };
        assert_eq!(verdict.offer, bag);
        assert_eq!(verdict.groups[0].category, Category::Sandbox);
        assert!(verdict.refusals.is_empty());
    }

    #[test]
    fn each_reason_for_refusing_is_given() {
        let missing = 1 << 30;
        let short = Refusal::NoCapacity { resource: Resource::Memory, missing };
        let verdict = judged("memory = \"2GiB\"");
        assert!(!verdict.offers());
        assert_eq!(&*verdict.refusals, &[short]);
        let vm = judged("category = \"vm\"");
        assert_eq!(&*vm.refusals, &[Refusal::CategoryUnsupported { category: Category::Vm }]);
        let nobody = judge(&charter(""), &config(Allow::Nobody), &Ledger::new(LIMIT), 1);
        assert_eq!((&*nobody.refusals, nobody.free), (&[Refusal::Policy][..], Resources::NONE));
        let mut long = charter("");
        long.spec.term = Millis::from_secs(7201);
        let verdict = judge(&long, &config(Allow::Everyone), &Ledger::new(LIMIT), 1);
        assert_eq!(&*verdict.refusals, &[Refusal::TermTooLong { longest: Millis::from_secs(7200) }]);
        assert!(!verdict.offers());
        let mut other = charter("");
        other.spec.groups.iter_mut().for_each(|group| group.image = "big".try_into().unwrap());
        let verdict = judge(&other, &config(Allow::Everyone), &Ledger::new(LIMIT), 1);
        assert_eq!(verdict.refusals[0].code(), "image_unknown");
    }

    #[test]
    fn a_served_tenant_is_served() {
        let tenants = BTreeSet::from([charter("").tenant]);
        let verdict = judge(&charter(""), &config(Allow::Only(tenants)), &Ledger::new(LIMIT), 1);
        assert!(verdict.offers());
    }
}
