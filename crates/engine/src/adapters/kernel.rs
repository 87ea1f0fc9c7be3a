//! The counters of Linux's graphics drivers: `/sys/class/drm/card*/device`, plain text that needs no driver library.
//!
//! The names are those of the kernel's documentation: every PCI device has `vendor`, `device` and `uevent`; amdgpu adds
//! `product_name`, `mem_info_vram_total`, `mem_info_vram_used` and `gpu_busy_percent`. Intel's and NVIDIA's drivers tell
//! no memory here.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::{AdapterMemory, Answer, MAX_ADAPTERS, PciAddress, Sighting};

/// Where the kernel lists adapters.
#[cfg_attr(not(all(feature = "worker", target_os = "linux")), allow(dead_code))]
pub(super) const CLASS: &str = "/sys/class/drm";

/// Bytes read of one counter; the kernel's own limit is a page.
const MAX_TEXT: u64 = 4096;

/// Reads every card under `class`. Connectors (`card0-DP-1`) and render nodes are no cards.
#[cfg_attr(not(all(feature = "worker", target_os = "linux")), allow(dead_code))]
pub(super) fn look(class: &Path) -> Answer {
    let entries = match fs::read_dir(class) {
        Ok(entries) => entries,
        Err(error) => return Answer::Absent(format!("{}: {error}", class.display())),
    };
    let mut cards: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| {
            let number = name.strip_prefix("card");
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        })
        .collect();
    cards.sort();
    cards.truncate(MAX_ADAPTERS);
    let sightings = cards
        .iter()
        .map(|card| sighting(&class.join(card).join("device")));
    Answer::Sighted(sightings.collect())
}

fn sighting(device: &Path) -> Sighting {
    let text = |name: &str| text(&device.join(name));
    let uevent = text("uevent").unwrap_or_default();
    let field = |key: &str| {
        let mut lines = uevent.lines().filter_map(|line| line.split_once('='));
        lines.find_map(|(name, value)| (name == key).then(|| value.to_owned()))
    };
    let total = text("mem_info_vram_total").and_then(|text| bytes(&text));
    let used = text("mem_info_vram_used").and_then(|text| bytes(&text));
    Sighting {
        name: text("product_name"),
        kind: None,
        vendor: text("vendor").and_then(|text| number(&text)),
        device: text("device").and_then(|text| number(&text)),
        pci: field("PCI_SLOT_NAME").and_then(|slot| slot.parse::<PciAddress>().ok()),
        luid: None,
        memory: total.filter(|&total| total > 0).map(|total| AdapterMemory {
            total,
            free: used.map(|used| total.saturating_sub(used)),
        }),
        busy_percent: text("gpu_busy_percent").and_then(|text| text.parse().ok()),
        driver: field("DRIVER"),
    }
}

/// A counter's text. A card that sleeps or lacks it answers an error, which is no fact.
fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(MAX_TEXT).read_to_string(&mut text).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

fn bytes(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// A number as the PCI files write it: `0x1002`.
fn number(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::{Inventory, Source};

    fn card(class: &Path, name: &str, files: &[(&str, &str)]) {
        let device = class.join(name).join("device");
        fs::create_dir_all(&device).unwrap();
        for (file, text) in files {
            fs::write(device.join(file), text).unwrap();
        }
    }

    #[test]
    fn a_card_of_sixteen_gigabytes_has_sixteen() {
        let class = tempfile::tempdir().unwrap();
        card(
            class.path(),
            "card1",
            &[
                ("vendor", "0x1002\n"),
                ("device", "0x73bf\n"),
                (
                    "uevent",
                    "DRIVER=amdgpu\nPCI_CLASS=30000\nPCI_SLOT_NAME=0000:03:00.0\n",
                ),
                ("mem_info_vram_total", "17163091968\n"),
                ("mem_info_vram_used", "1073741824\n"),
                ("gpu_busy_percent", "7\n"),
            ],
        );
        card(class.path(), "card1-DP-1", &[("vendor", "0x1002\n")]);
        fs::write(class.path().join("version"), "drm 1.1.0\n").unwrap();
        let inventory = Inventory::of([(Source::Kernel, look(class.path()))]);
        let [adapter] = inventory.adapters.as_slice() else {
            panic!("{inventory:?}");
        };
        assert_eq!(adapter.name, "AMD adapter 73bf");
        let memory = adapter.memory.unwrap().0;
        assert_eq!(memory.total, 17_163_091_968);
        assert_eq!(memory.free, Some(16_089_350_144));
        assert_eq!(adapter.busy_percent, Some(7));
        assert_eq!(adapter.driver.as_deref(), Some("amdgpu"));
        assert_eq!(adapter.pci.unwrap().to_string(), "0000:03:00.0");
    }

    #[test]
    fn an_intel_chip_is_seen_and_its_memory_is_left_to_others() {
        let class = tempfile::tempdir().unwrap();
        let files = [
            ("vendor", "0x8086\n"),
            ("device", "0x56a0\n"),
            ("uevent", "DRIVER=xe\nPCI_SLOT_NAME=0000:00:02.0\n"),
        ];
        card(class.path(), "card0", &files);
        let Answer::Sighted(seen) = look(class.path()) else {
            panic!("no answer");
        };
        assert_eq!((seen[0].vendor, seen[0].memory), (Some(0x8086), None));
    }

    #[test]
    fn nonsense_in_the_counters_is_no_fact() {
        let class = tempfile::tempdir().unwrap();
        let files = [
            ("vendor", "1002"),
            ("uevent", "PCI_SLOT_NAME=virtio0"),
            ("mem_info_vram_total", "-1"),
            ("mem_info_vram_used", "99999999999999999999999"),
            ("gpu_busy_percent", "many"),
        ];
        card(class.path(), "card0", &files);
        fs::write(class.path().join("card0/device/product_name"), [0xff, 0xfe]).unwrap();
        let Answer::Sighted(seen) = look(class.path()) else {
            panic!("no answer");
        };
        assert_eq!(seen, [crate::adapters::merge::tests::sighting()]);
        let used_over_total = [("mem_info_vram_total", "5"), ("mem_info_vram_used", "9")];
        card(class.path(), "card1", &used_over_total);
        let Answer::Sighted(seen) = look(class.path()) else {
            panic!("no answer");
        };
        assert_eq!(
            seen[1].memory,
            Some(AdapterMemory {
                total: 5,
                free: Some(0)
            })
        );
    }

    #[test]
    fn a_system_without_the_folder_has_no_such_source() {
        assert!(matches!(look(Path::new("nowhere")), Answer::Absent(_)));
    }
}
