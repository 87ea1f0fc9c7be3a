//! One card, one adapter: what several sources saw of the same thing is put together.

use std::collections::{BTreeMap, BTreeSet};

use super::{Adapter, AdapterKind, PciAddress, Sighting, Source};

/// What was seen of one card, and by whom.
type Group = Vec<(Source, Sighting)>;

/// Merges sightings that share a PCI address, and those without one that share a Windows number with exactly one card.
/// Two that share neither are two adapters, whatever their names: machines with four equal cards exist. The result does
/// not depend on the order of the sightings.
pub fn merge(sightings: impl IntoIterator<Item = (Source, Sighting)>) -> Vec<Adapter> {
    let mut cards: BTreeMap<PciAddress, Group> = BTreeMap::new();
    let mut numbered: BTreeMap<u64, Group> = BTreeMap::new();
    let mut alone: Vec<Group> = Vec::new();
    for (source, sighting) in sightings {
        let seen = (source, sighting);
        match (seen.1.pci, seen.1.luid) {
            (Some(pci), _) => cards.entry(pci).or_default().push(seen),
            (None, Some(luid)) => numbered.entry(luid).or_default().push(seen),
            (None, None) => alone.push(vec![seen]),
        }
    }
    for (luid, group) in numbered {
        let has_number = |card: &Group| card.iter().any(|(_, seen)| seen.luid == Some(luid));
        let mut same = cards.values_mut().filter(|card| has_number(card));
        match (same.next(), same.next()) {
            (Some(card), None) => card.extend(group),
            // A number that two cards claim says nothing.
            (None | Some(_), _) => alone.push(group),
        }
    }
    let groups = cards.into_values().chain(alone);
    let mut adapters: Vec<Adapter> = groups.map(adapter).collect();
    adapters.sort_by_cached_key(|adapter| {
        // Those without an address last.
        (adapter.pci.is_none(), adapter.pci, format!("{adapter:?}"))
    });
    adapters
}

/// The facts of one card, each from the source that knows it best.
fn adapter(mut group: Group) -> Adapter {
    // Equal sources (one card under two Vulkan drivers) are told apart by what they say, so that the order of arrival is
    // of no account.
    group.sort_by_key(|(source, sighting)| (*source, format!("{sighting:?}")));
    let kind = first(&group, |sighting| sighting.kind).unwrap_or(AdapterKind::Unknown);
    // The kernel counts only what is set aside for a chip without memory of its own; Vulkan tells what it can take.
    let of_vulkan = group
        .iter()
        .filter(|(source, _)| kind == AdapterKind::Integrated && *source == Source::Vulkan);
    let memory = of_vulkan
        .chain(&group)
        .find_map(|(source, sighting)| Some((sighting.memory?, *source)));
    let (vendor, device) = (
        first(&group, |sighting| sighting.vendor),
        first(&group, |sighting| sighting.device),
    );
    Adapter {
        name: first(&group, |sighting| sighting.name.clone())
            .unwrap_or_else(|| nameless(vendor, device)),
        kind,
        vendor,
        pci: first(&group, |sighting| sighting.pci),
        memory,
        busy_percent: first(&group, |sighting| sighting.busy_percent),
        driver: first(&group, |sighting| sighting.driver.clone()),
        seen_by: group
            .iter()
            .map(|(source, _)| *source)
            .collect::<BTreeSet<_>>(),
    }
}

fn first<T>(group: &[(Source, Sighting)], fact: impl Fn(&Sighting) -> Option<T>) -> Option<T> {
    group.iter().find_map(|(_, sighting)| fact(sighting))
}

/// A name for a card that nobody names.
fn nameless(vendor: Option<u32>, device: Option<u32>) -> String {
    let who = match vendor {
        Some(0x10de) => "NVIDIA".to_owned(),
        Some(0x1002 | 0x1022) => "AMD".to_owned(),
        Some(0x8086) => "Intel".to_owned(),
        Some(vendor) => format!("vendor {vendor:04x}"),
        None => "unknown".to_owned(),
    };
    match device {
        Some(device) => format!("{who} adapter {device:04x}"),
        None => format!("{who} adapter"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::adapters::AdapterMemory;

    /// A sighting that knows nothing.
    pub(crate) fn sighting() -> Sighting {
        Sighting {
            name: None,
            kind: None,
            vendor: None,
            device: None,
            pci: None,
            luid: None,
            memory: None,
            busy_percent: None,
            driver: None,
        }
    }

    fn at(bus: u32) -> Option<PciAddress> {
        Some(PciAddress {
            domain: 0,
            bus,
            device: 0,
            function: 0,
        })
    }

    fn memory(total: u64) -> Option<AdapterMemory> {
        let free = Some(total / 2);
        Some(AdapterMemory { total, free })
    }

    #[test]
    fn one_card_seen_by_three_is_one_adapter() {
        let bytes = 16_368 << 20;
        let nvml = Sighting {
            name: Some("NVIDIA A4000".into()),
            pci: at(1),
            memory: memory(bytes),
            ..sighting()
        };
        let kernel = Sighting {
            vendor: Some(0x10de),
            device: Some(0x24b0),
            pci: at(1),
            ..sighting()
        };
        let vulkan = Sighting {
            name: Some("NVIDIA RTX A4000".into()),
            kind: Some(AdapterKind::Discrete),
            pci: at(1),
            memory: memory(bytes - 5),
            ..sighting()
        };
        let adapters = merge([
            (Source::Vulkan, vulkan),
            (Source::Kernel, kernel),
            (Source::Nvml, nvml),
        ]);
        let [adapter] = adapters.as_slice() else {
            panic!("{adapters:?}");
        };
        assert_eq!(adapter.name, "NVIDIA A4000");
        assert_eq!(adapter.kind, AdapterKind::Discrete);
        let (memory, told_by) = adapter.memory.unwrap();
        assert_eq!((memory.total, told_by), (17_163_091_968, Source::Nvml));
        assert_eq!(adapter.seen_by.len(), 3);
    }

    #[test]
    fn a_chip_without_memory_of_its_own_has_what_vulkan_can_take() {
        let set_aside = Sighting {
            pci: at(3),
            memory: memory(512 << 20),
            ..sighting()
        };
        let vulkan = Sighting {
            kind: Some(AdapterKind::Integrated),
            pci: at(3),
            memory: memory(14 << 30),
            ..sighting()
        };
        let adapters = merge([(Source::Kernel, set_aside), (Source::Vulkan, vulkan)]);
        assert_eq!(adapters[0].memory.unwrap().0.total, 14 << 30);
    }

    #[test]
    fn equal_cards_without_an_address_stay_two() {
        let card = Sighting {
            name: Some("Twin".into()),
            ..sighting()
        };
        let adapters = merge([(Source::Metal, card.clone()), (Source::Metal, card)]);
        assert_eq!(adapters.len(), 2);
    }

    #[test]
    fn a_number_leads_to_the_card_that_another_source_gave_an_address() {
        let by_address = Sighting {
            pci: at(1),
            ..sighting()
        };
        let by_number = Sighting {
            luid: Some(9),
            ..sighting()
        };
        let by_both = Sighting {
            pci: at(1),
            luid: Some(9),
            ..sighting()
        };
        let adapters = merge([
            (Source::Nvml, by_address),
            (Source::Dxgi, by_number),
            (Source::Vulkan, by_both),
        ]);
        assert_eq!(adapters.len(), 1);
    }

    fn any_sighting() -> impl Strategy<Value = (Source, Sighting)> {
        let source = prop::sample::select(vec![
            Source::Nvml,
            Source::Kernel,
            Source::Dxgi,
            Source::Metal,
            Source::Vulkan,
        ]);
        let facts = (
            prop::option::of("[a-c]{1,2}"),
            prop::option::of(0u32..4),
            prop::option::of(0u64..4),
            prop::option::of(any::<u64>()),
        );
        (source, facts).prop_map(|(source, (name, bus, luid, total))| {
            let sighting = Sighting {
                name,
                pci: bus.and_then(at),
                luid,
                memory: total.and_then(memory),
                ..sighting()
            };
            (source, sighting)
        })
    }

    proptest! {
        #[test]
        fn order_is_of_no_account_and_no_address_is_lost_or_doubled(
            (seen, shuffled) in prop::collection::vec(any_sighting(), 0..12)
                .prop_flat_map(|seen| (Just(seen.clone()), Just(seen).prop_shuffle()))
        ) {
            let adapters = merge(seen.clone());
            prop_assert_eq!(&adapters, &merge(shuffled));
            let told: BTreeSet<_> = seen.iter().filter_map(|(_, sighting)| sighting.pci).collect();
            for pci in adapters.iter().filter_map(|adapter| adapter.pci) {
                prop_assert!(told.contains(&pci));
                let holders = adapters.iter().filter(|adapter| adapter.pci == Some(pci));
                prop_assert_eq!(holders.count(), 1);
            }
            prop_assert!(adapters.len() <= seen.len());
        }
    }
}
