//! Apple's list of adapters, with the memory that one may keep in use without slowing the machine down.

use objc2_metal::{MTLCopyAllDevices, MTLDevice as _};

use super::{AdapterKind, AdapterMemory, Answer, Sighting};

pub(super) fn look() -> Answer {
    let devices = MTLCopyAllDevices();
    let sightings = devices.to_vec().into_iter().map(|device| {
        let total = device.recommendedMaxWorkingSetSize();
        let used = u64::try_from(device.currentAllocatedSize()).unwrap_or(u64::MAX);
        Sighting {
            name: Some(device.name().to_string()),
            kind: Some(if device.hasUnifiedMemory() {
                AdapterKind::Integrated
            } else {
                AdapterKind::Discrete
            }),
            vendor: None,
            device: None,
            pci: None,
            luid: None,
            memory: (total > 0).then(|| AdapterMemory {
                total,
                free: Some(total.saturating_sub(used)),
            }),
            busy_percent: None,
            driver: None,
        }
    });
    Answer::Sighted(sightings.collect())
}
