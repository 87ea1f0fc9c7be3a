//! Every adapter that has a Vulkan driver, of any vendor; also software drivers, which are named as such.

use std::ffi::CStr;

use ash::{Entry, Instance, LoadingError, vk};

use super::{AdapterKind, AdapterMemory, Answer, MAX_ADAPTERS, PciAddress, Sighting};

pub(super) fn look() -> Answer {
    // SAFETY: loading runs the initialisers of the system's Vulkan loader, the library that this name stands for.
    #[allow(unsafe_code)]
    let entry = match unsafe { Entry::load() } {
        Ok(entry) => entry,
        Err(LoadingError::LibraryLoadFailure(_)) => {
            return Answer::Absent("no Vulkan loader is installed".to_owned());
        }
        Err(error @ LoadingError::MissingEntryPoint(_)) => {
            return Answer::Failed(error.to_string());
        }
    };
    let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_1);
    let wanted = vk::InstanceCreateInfo::default().application_info(&application);
    // SAFETY: the structs live until the call returns, and name no layer or extension.
    #[allow(unsafe_code)]
    let instance = match unsafe { entry.create_instance(&wanted, None) } {
        Ok(instance) => instance,
        Err(vk::Result::ERROR_INCOMPATIBLE_DRIVER) => {
            return Answer::Absent("no Vulkan driver is installed".to_owned());
        }
        Err(error) => return Answer::Failed(error.to_string()),
    };
    // SAFETY: the instance is alive; devices are its own and used before it is destroyed, once, at the end.
    #[allow(unsafe_code)]
    unsafe {
        let answer = match instance.enumerate_physical_devices() {
            Ok(devices) => {
                let devices = devices.into_iter().take(MAX_ADAPTERS);
                Answer::Sighted(devices.map(|device| sighting(&instance, device)).collect())
            }
            Err(error) => Answer::Failed(error.to_string()),
        };
        instance.destroy_instance(None);
        answer
    }
}

/// What the driver says of one device.
///
/// # Safety
/// `device` must be of `instance`, and `instance` of Vulkan 1.1 or later and alive.
#[allow(unsafe_code)]
unsafe fn sighting(instance: &Instance, device: vk::PhysicalDevice) -> Sighting {
    // SAFETY: the caller's promise; each chained struct is defined by core 1.1 or by an extension that the device has.
    unsafe {
        let version = instance.get_physical_device_properties(device).api_version;
        // Extended properties of a device are core since 1.1; an older one has the plain ones alone.
        let extended = version >= vk::API_VERSION_1_1;
        let extensions = instance
            .enumerate_device_extension_properties(device)
            .unwrap_or_default();
        let has = |name: &CStr| {
            let mut names = extensions.iter();
            extended && names.any(|have| have.extension_name_as_c_str() == Ok(name))
        };
        let mut ids = vk::PhysicalDeviceIDProperties::default();
        let mut bus = vk::PhysicalDevicePCIBusInfoPropertiesEXT::default();
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default();
        if extended {
            properties = properties.push_next(&mut ids);
        }
        let has_bus = has(ash::ext::pci_bus_info::NAME);
        if has_bus {
            properties = properties.push_next(&mut bus);
        }
        if has(ash::khr::driver_properties::NAME) {
            properties = properties.push_next(&mut driver);
        }
        instance.get_physical_device_properties2(device, &mut properties);
        let plain = properties.properties;
        let text = |text: Result<&CStr, _>| Some(text.ok()?.to_string_lossy().into_owned());
        Sighting {
            name: text(plain.device_name_as_c_str()),
            kind: Some(kind(plain.device_type)),
            vendor: Some(plain.vendor_id),
            device: Some(plain.device_id),
            pci: has_bus.then_some(PciAddress {
                domain: bus.pci_domain,
                bus: bus.pci_bus,
                device: bus.pci_device,
                function: bus.pci_function,
            }),
            luid: (ids.device_luid_valid != vk::FALSE).then(|| u64::from_le_bytes(ids.device_luid)),
            memory: memory(instance, device, has(ash::ext::memory_budget::NAME)),
            busy_percent: None,
            driver: text(driver.driver_name_as_c_str()).map(|name| {
                let version = text(driver.driver_info_as_c_str()).unwrap_or_default();
                format!("{name} {version}")
            }),
        }
    }
}

/// The largest heap that is local to the device: no allocation can be larger, and the small second one that some drivers
/// list is a window into the first.
///
/// # Safety
/// As for [`sighting`]; with `told`, the device must have `VK_EXT_memory_budget`.
#[allow(unsafe_code)]
unsafe fn memory(
    instance: &Instance,
    device: vk::PhysicalDevice,
    told: bool,
) -> Option<AdapterMemory> {
    let mut budget = vk::PhysicalDeviceMemoryBudgetPropertiesEXT::default();
    let mut properties = vk::PhysicalDeviceMemoryProperties2::default();
    if told {
        properties = properties.push_next(&mut budget);
    }
    // SAFETY: the caller's promise.
    unsafe { instance.get_physical_device_memory_properties2(device, &mut properties) };
    let plain = properties.memory_properties;
    let heaps = plain.memory_heaps_as_slice().iter().enumerate();
    let (index, heap) = heaps
        .filter(|(_, heap)| heap.flags.contains(vk::MemoryHeapFlags::DEVICE_LOCAL))
        .max_by_key(|(_, heap)| heap.size)?;
    Some(AdapterMemory {
        total: heap.size,
        free: told.then(|| budget.heap_budget[index].saturating_sub(budget.heap_usage[index])),
    })
}

fn kind(of: vk::PhysicalDeviceType) -> AdapterKind {
    match of {
        vk::PhysicalDeviceType::DISCRETE_GPU => AdapterKind::Discrete,
        vk::PhysicalDeviceType::INTEGRATED_GPU => AdapterKind::Integrated,
        vk::PhysicalDeviceType::VIRTUAL_GPU => AdapterKind::Virtual,
        vk::PhysicalDeviceType::CPU => AdapterKind::Software,
        _ => AdapterKind::Unknown,
    }
}
