//! What could compute here: every graphics adapter of the machine with its true memory, and which device is chosen.
//!
//! Several [`Source`]s know something of an adapter, and none knows all: a vendor's own library tells its memory and not
//! that of others, the kernel's counters need no driver library and carry no name, Vulkan names every card. Each is asked
//! in a child process of its own, since asking loads a driver into it and drivers crash. What they [sighted](Sighting) is
//! [merged](merge) by the address of the card, so that one card is one [`Adapter`].
//!
//! Sizes are `u64` bytes everywhere: a 32-bit counter reads a card of 16 GB as one of 4 or less.

mod choice;
#[cfg(all(feature = "worker", windows))]
mod dxgi;
mod kernel;
mod merge;
#[cfg(all(feature = "worker", target_os = "macos"))]
mod metal;
mod meter;
#[cfg(all(feature = "worker", any(target_os = "linux", windows)))]
mod nvml;
#[cfg(all(feature = "worker", any(target_os = "linux", windows)))]
mod vulkan;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use choice::{Candidate, Choice, Device, Probe, Rates, choose};
pub use merge::merge;
#[cfg(feature = "worker")]
pub use meter::serve_readings;
pub use meter::{CardEnergy, Reading};

/// Adapters that one source may tell of. A mining rig has a dozen; more is a source that has lost its way.
pub const MAX_ADAPTERS: usize = 64;

/// Characters of a name that are kept. Vulkan's own limit is 256 bytes; the longest real names have about 80.
const MAX_NAME: usize = 120;

/// Who tells of adapters, the most trusted about memory first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// NVIDIA's management library, which comes with its driver.
    Nvml,
    /// The counters of Linux's graphics drivers under `/sys/class/drm`.
    Kernel,
    /// Windows' graphics infrastructure.
    Dxgi,
    /// Apple's graphics interface.
    Metal,
    /// Any vendor's Vulkan driver; also software that computes on the processor.
    Vulkan,
}

impl Source {
    /// The sources that this system can have.
    pub const HERE: &[Source] = if cfg!(target_os = "linux") {
        &[Source::Nvml, Source::Kernel, Source::Vulkan]
    } else if cfg!(windows) {
        &[Source::Nvml, Source::Dxgi, Source::Vulkan]
    } else if cfg!(target_os = "macos") {
        &[Source::Metal]
    } else {
        &[]
    };

    /// The name that people use for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Nvml => "NVML",
            Source::Kernel => "kernel",
            Source::Dxgi => "DXGI",
            Source::Metal => "Metal",
            Source::Vulkan => "Vulkan",
        }
    }

    /// The word for it on the worker's command line.
    pub fn argument(self) -> &'static str {
        match self {
            Source::Nvml => "nvml",
            Source::Kernel => "kernel",
            Source::Dxgi => "dxgi",
            Source::Metal => "metal",
            Source::Vulkan => "vulkan",
        }
    }

    /// The source of [`argument`](Self::argument), if this system can have it.
    pub fn of_argument(word: &str) -> Option<Self> {
        Self::HERE
            .iter()
            .copied()
            .find(|source| source.argument() == word)
    }
}

/// What kind of thing an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Part of the processor; it computes in the machine's memory.
    Integrated,
    /// A share of a card that a hypervisor hands out.
    Virtual,
    /// A program that computes on the processor. Never chosen: the processor's own kernels do the same faster.
    Software,
    /// No source told.
    Unknown,
}

/// Where a card sits on the PCI bus: the same for every source that tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PciAddress {
    /// Bus domain, or segment.
    pub domain: u32,
    /// Bus.
    pub bus: u32,
    /// Slot.
    pub device: u32,
    /// Function of the device.
    pub function: u32,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// A text that is no PCI address like `0000:01:00.0`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no PCI address")]
pub struct NoPciAddress(String);

impl FromStr for PciAddress {
    type Err = NoPciAddress;

    /// Reads `domain:bus:device.function`, each part hexadecimal; NVML pads the domain to eight digits, Linux to four.
    fn from_str(text: &str) -> Result<Self, NoPciAddress> {
        let parse = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let part = |digits: &str| {
                let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                u32::from_str_radix(digits, 16).ok().filter(|_| hexadecimal)
            };
            Some(Self {
                domain: part(domain)?,
                bus: part(bus)?,
                device: part(device)?,
                function: part(function)?,
            })
        };
        parse().ok_or_else(|| NoPciAddress(text.to_owned()))
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

impl TryFrom<String> for PciAddress {
    type Error = NoPciAddress;

    fn try_from(text: String) -> Result<Self, NoPciAddress> {
        text.parse()
    }
}

/// Memory that an adapter computes in, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterMemory {
    /// All there is.
    pub total: u64,
    /// What a new process could take now, where the source tells it.
    pub free: Option<u64>,
}

/// What one source knows of one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// The product's name.
    pub name: Option<String>,
    /// `None` where the source does not tell kinds apart.
    pub kind: Option<AdapterKind>,
    /// The vendor's number on the PCI bus.
    pub vendor: Option<u32>,
    /// The device's number at its vendor.
    pub device: Option<u32>,
    /// Where it sits.
    pub pci: Option<PciAddress>,
    /// Windows' number for it until the next start.
    pub luid: Option<u64>,
    /// Its memory.
    pub memory: Option<AdapterMemory>,
    /// How busy it is, 0 to 100.
    pub busy_percent: Option<u8>,
    /// Name and version of the driver.
    pub driver: Option<String>,
}

impl Sighting {
    /// With its texts [tidied](tidy), and no share above the whole.
    pub(crate) fn tidy(mut self) -> Self {
        for text in [&mut self.name, &mut self.driver] {
            *text = text
                .take()
                .map(|text| tidy(&text))
                .filter(|text| !text.is_empty());
        }
        self.busy_percent = self.busy_percent.filter(|&percent| percent <= 100);
        self
    }
}

/// Cuts what a driver could make arbitrarily long, and drops what cannot be printed.
fn tidy(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control()).take(MAX_NAME);
    printable.collect::<String>().trim().to_owned()
}

/// What a source answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It works, and saw these (possibly none).
    Sighted(Vec<Sighting>),
    /// It is not on this machine, as on every one without that vendor's driver.
    Absent(String),
    /// It is there and failed, or the process that asked it ended: a driver to mend.
    Failed(String),
}

/// One adapter of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// The product's name, or its numbers where no source has one.
    pub name: String,
    /// What kind of thing it is.
    pub kind: AdapterKind,
    /// The vendor's number on the PCI bus.
    pub vendor: Option<u32>,
    /// Where it sits.
    pub pci: Option<PciAddress>,
    /// Its memory, and who told it.
    pub memory: Option<(AdapterMemory, Source)>,
    /// How busy it is, 0 to 100.
    pub busy_percent: Option<u8>,
    /// Name and version of the driver.
    pub driver: Option<String>,
    /// Everyone who saw it.
    pub seen_by: BTreeSet<Source>,
}

impl Adapter {
    /// Whether work for a person could ever be given to it.
    pub fn can_serve(&self) -> bool {
        self.kind != AdapterKind::Software
    }
}

/// All adapters, and how each source fared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// Ordered by address, then by name.
    pub adapters: Vec<Adapter>,
    /// Sources that are not on this machine, each with why it thinks so.
    pub absent: Vec<(Source, String)>,
    /// Sources that failed, each with its reason.
    pub failed: Vec<(Source, String)>,
}

impl Inventory {
    /// Puts together what the sources answered.
    pub fn of(answers: impl IntoIterator<Item = (Source, Answer)>) -> Self {
        let mut inventory = Self::default();
        let mut sighted = Vec::new();
        for (source, answer) in answers {
            match answer {
                Answer::Sighted(sightings) => {
                    let sightings = sightings.into_iter().take(MAX_ADAPTERS);
                    sighted.extend(sightings.map(|sighting| (source, sighting.tidy())));
                }
                Answer::Absent(why) => inventory.absent.push((source, why)),
                Answer::Failed(why) => inventory.failed.push((source, why)),
            }
        }
        inventory.adapters = merge(sighted);
        inventory
    }
}

/// Asks one source, in this process: it loads drivers, so it is called in a child that may crash.
#[cfg(feature = "worker")]
pub fn look(source: Source) -> Answer {
    let answer = match source {
        #[cfg(any(target_os = "linux", windows))]
        Source::Nvml => nvml::look(),
        #[cfg(target_os = "linux")]
        Source::Kernel => kernel::look(std::path::Path::new(kernel::CLASS)),
        #[cfg(windows)]
        Source::Dxgi => dxgi::look(),
        #[cfg(target_os = "macos")]
        Source::Metal => metal::look(),
        #[cfg(any(target_os = "linux", windows))]
        Source::Vulkan => vulkan::look(),
        #[cfg(not(any(target_os = "linux", windows)))]
        Source::Nvml | Source::Vulkan => not_here(),
        #[cfg(not(target_os = "linux"))]
        Source::Kernel => not_here(),
        #[cfg(not(windows))]
        Source::Dxgi => not_here(),
        #[cfg(not(target_os = "macos"))]
        Source::Metal => not_here(),
    };
    match answer {
        Answer::Sighted(mut sightings) => {
            sightings.truncate(MAX_ADAPTERS);
            Answer::Sighted(sightings.into_iter().map(Sighting::tidy).collect())
        }
        Answer::Absent(_) | Answer::Failed(_) => answer,
    }
}

/// Every system lacks some source.
#[cfg(feature = "worker")]
fn not_here() -> Answer {
    Answer::Absent("this system does not have it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_alike_however_they_are_padded() {
        let address: PciAddress = "0000:0a:00.1".parse().unwrap();
        assert_eq!("00000000:0A:00.1".parse(), Ok(address));
        assert_eq!(address.to_string(), "0000:0a:00.1");
        assert_eq!(address.to_string().parse(), Ok(address));
        for wrong in [
            "",
            "0:0:0",
            "0000:01:00",
            "0000:+1:00.0",
            "g:0:0.0",
            "1:2:3.4.5",
        ] {
            assert!(wrong.parse::<PciAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_driver_cannot_flood_the_screen() {
        let sighting = Sighting {
            name: Some(format!("\u{1b}[31m{}", "x".repeat(10_000))),
            driver: Some("\n".to_owned()),
            busy_percent: Some(200),
            ..merge::tests::sighting()
        };
        let tidy = sighting.tidy();
        assert_eq!(tidy.name.unwrap().chars().count(), MAX_NAME);
        assert_eq!((tidy.driver, tidy.busy_percent), (None, None));
    }

    #[test]
    fn every_source_has_its_own_word() {
        for &source in Source::HERE {
            assert_eq!(Source::of_argument(source.argument()), Some(source));
        }
        assert_eq!(Source::of_argument("cuda"), None);
    }
}
