//! NVIDIA's management library. It comes with the driver and is loaded when asked: a machine without it has no such card,
//! or no driver for it.

use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};

use super::{
    AdapterKind, AdapterMemory, Answer, CardEnergy, MAX_ADAPTERS, Reading, Sighting, tidy,
};

pub(super) fn look() -> Answer {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(_)) => {
            return Answer::Absent("no NVIDIA driver is installed".to_owned());
        }
        Err(error) => return Answer::Failed(error.to_string()),
    };
    let driver = nvml.sys_driver_version().ok();
    match devices(&nvml) {
        Ok(devices) => Answer::Sighted(
            devices
                .map(|device| sighting(&device, driver.as_deref()))
                .collect(),
        ),
        Err(error) => Answer::Failed(error.to_string()),
    }
}

/// Loads the library once, and then reads the counters of its cards each time it is called.
pub(super) fn reader() -> impl FnMut() -> Reading {
    let nvml = Nvml::init();
    move || {
        let nvml = match &nvml {
            Ok(nvml) => nvml,
            Err(NvmlError::LibloadingError(_)) => {
                return Reading::Absent("no NVIDIA driver is installed".to_owned());
            }
            Err(error) => return Reading::Failed(error.to_string()),
        };
        match devices(nvml) {
            Ok(devices) => Reading::Cards(devices.map(|device| energy(&device)).collect()),
            Err(error) => Reading::Failed(error.to_string()),
        }
    }
}

/// A card that fell off the bus answers an error; the others are still there.
fn devices(nvml: &Nvml) -> Result<impl Iterator<Item = Device<'_>>, NvmlError> {
    let count = nvml.device_count()?.min(MAX_ADAPTERS as u32);
    Ok((0..count).filter_map(|index| nvml.device_by_index(index).ok()))
}

fn energy(device: &Device<'_>) -> CardEnergy {
    let pci = device.pci_info().ok();
    CardEnergy {
        name: tidy(&device.name().unwrap_or_default()),
        pci: pci.and_then(|pci| pci.bus_id.parse().ok()),
        // Cards before Volta have no such counter.
        millijoules: device.total_energy_consumption().ok(),
    }
}

fn sighting(device: &Device<'_>, driver: Option<&str>) -> Sighting {
    let pci = device.pci_info().ok();
    let numbers = pci.as_ref().map(|pci| pci.pci_device_id);
    Sighting {
        name: device.name().ok(),
        kind: Some(AdapterKind::Discrete),
        // The library gives the device's number in the upper half and the vendor's in the lower.
        vendor: numbers.map(|numbers| numbers & 0xffff),
        device: numbers.map(|numbers| numbers >> 16),
        pci: pci.and_then(|pci| pci.bus_id.parse().ok()),
        luid: None,
        memory: device.memory_info().ok().map(|memory| AdapterMemory {
            total: memory.total,
            free: Some(memory.free),
        }),
        busy_percent: device
            .utilization_rates()
            .ok()
            .and_then(|busy| u8::try_from(busy.gpu).ok()),
        driver: driver.map(|version| format!("NVIDIA {version}")),
    }
}
