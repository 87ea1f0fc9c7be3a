//! The meters that there are: of the processor's packages as Linux shows them (RAPL, by its power capping framework), and of NVIDIA's cards
//! (NVML). Each is a counter that only rises. Apple and Windows show a program of the user's none.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use engine::{
    CardMeter, EngineHandle,
    adapters::{Device, Reading},
};
use tokio::time::Instant;

/// Where Linux shows the processor's meters, by the documentation of its power capping framework.
const POWERCAP: &str = "/sys/class/powercap";

/// Packages of one computer; more folders than this are none.
const MAX_PACKAGES: usize = 64;

/// More than any package or card draws, in watts: what counts faster began again unseen, as after a sleep.
const MAX_WATTS: u64 = 10_000;

/// Counters are moved on in steps, those of cards by a tenth of a second: a short stretch may hold what was drawn before it.
const STEP_US: u64 = 1_000_000;

/// A meter that failed is asked again after so long: a driver that is loaded anew is back by then, and one that is missing costs a process
/// a minute.
const AGAIN: Duration = Duration::from_secs(60);

/// What computes here, as far as meters are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Computes {
    /// The processor.
    Processor,
    /// The card of this name; the processor beside it.
    Card(String),
}

impl Computes {
    pub(super) fn of(device: &Device) -> Self {
        match device {
            Device::Processor => Self::Processor,
            Device::Adapter { name, .. } => Self::Card(name.clone()),
        }
    }
}

/// One counter at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Counter {
    name: String,
    microjoules: u64,
    /// It begins again at zero beyond this; `None` where it never does.
    range: Option<u64>,
}

/// What was counted from one reading to the next, in microjoules; `None` where a counter is missing, new, or cannot have counted that.
pub(super) fn counted(before: &[Counter], now: &[Counter], stretch_us: u64) -> Option<u64> {
    if now.is_empty() || before.len() != now.len() {
        return None;
    }
    let most = stretch_us.saturating_add(STEP_US).saturating_mul(MAX_WATTS);
    let mut sum: u64 = 0;
    for (before, now) in before.iter().zip(now) {
        let more = match (now.microjoules.checked_sub(before.microjoules), now.range) {
            (Some(more), _) => more,
            (None, Some(range)) => range
                .saturating_sub(before.microjoules)
                .saturating_add(now.microjoules),
            (None, None) => return None,
        };
        if before.name != now.name || more > most {
            return None;
        }
        sum = sum.saturating_add(more);
    }
    Some(sum)
}

/// The processor's packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Packages {
    /// They can be read.
    Read(Vec<Package>),
    /// They are there, and only root may read them.
    Locked,
    /// This system shows none: why.
    Absent(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    name: String,
    counter: PathBuf,
    range: u64,
}

impl Packages {
    pub(super) fn find() -> Self {
        if cfg!(target_os = "macos") {
            return Self::Absent("macOS shows its meters to no program of a user");
        }
        if cfg!(windows) {
            return Self::Absent("Windows shows no meter that this program can read");
        }
        Self::at(Path::new(POWERCAP))
    }

    fn at(root: &Path) -> Self {
        let packages = packages(root);
        if packages.is_empty() {
            return Self::Absent(
                "this system shows no meter of its processor (RAPL), as in most virtual machines",
            );
        }
        match counters(&packages) {
            Some(_) => Self::Read(packages),
            None => Self::Locked,
        }
    }

    fn counters(&self) -> Option<Vec<Counter>> {
        match self {
            Self::Read(packages) => counters(packages),
            Self::Locked | Self::Absent(_) => None,
        }
    }
}

/// The meters of whole packages. What is beneath one (cores, memory) is a part of it, and what another driver shows of it is the same
/// again: both would be counted twice.
fn packages(root: &Path) -> Vec<Package> {
    let Ok(folders) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut packages: Vec<Package> = folders
        .flatten()
        .filter(|folder| {
            let name = folder.file_name();
            name.to_str()
                .is_some_and(|name| name.starts_with("intel-rapl:"))
        })
        .filter_map(|folder| {
            let path = folder.path();
            let name = fs::read_to_string(path.join("name")).ok()?;
            name.starts_with("package-").then_some(())?;
            Some(Package {
                name: name.trim().to_owned(),
                range: number(&path.join("max_energy_range_uj"))?,
                counter: path.join("energy_uj"),
            })
        })
        .take(MAX_PACKAGES)
        .collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    packages
}

fn counters(packages: &[Package]) -> Option<Vec<Counter>> {
    let counters = packages.iter().map(|package| {
        Some(Counter {
            name: package.name.clone(),
            microjoules: number(&package.counter)?,
            range: Some(package.range),
        })
    });
    counters.collect()
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The cards' meter.
#[derive(Debug)]
enum Cards {
    /// Nobody asked yet.
    Unasked,
    /// It answers.
    Open(Box<CardMeter>),
    /// It could not be read.
    Failed {
        why: String,
        /// When.
        at: Instant,
    },
}

/// All of them, for what computes here.
#[derive(Debug)]
pub(super) struct Meters {
    pub(super) computes: Computes,
    pub(super) packages: Packages,
    cards: Cards,
}

impl Meters {
    pub(super) fn of(computes: Computes, packages: Packages) -> Self {
        Self {
            computes,
            packages,
            cards: Cards::Unasked,
        }
    }

    /// Why the card is not counted; `None` where it is, or was not asked yet.
    pub(super) fn card_problem(&self) -> Option<&str> {
        match &self.cards {
            Cards::Failed { why, .. } => Some(why),
            Cards::Unasked | Cards::Open(_) => None,
        }
    }

    /// Whether something can be read: known of a card once it was.
    pub(super) fn counts(&self) -> bool {
        match self.computes {
            Computes::Processor => matches!(self.packages, Packages::Read(_)),
            Computes::Card(_) => matches!(self.cards, Cards::Open(_)),
        }
    }

    /// Lets go of the card's driver, which keeps some cards awake.
    pub(super) fn rest(&mut self) {
        self.cards = Cards::Unasked;
    }

    /// What everything that counts says now; `None` where what computes is not counted. Beside a card the processor is counted where it
    /// can be. A card's meter that failed is left alone for a while, and one that was locked is looked at again.
    pub(super) async fn read(
        &mut self,
        engine: &EngineHandle,
        now: Instant,
    ) -> Option<Vec<Counter>> {
        if matches!(self.packages, Packages::Locked) {
            self.packages = Packages::find();
        }
        let packages = self.packages.counters();
        let Computes::Card(name) = &self.computes else {
            return packages;
        };
        if let Cards::Failed { at, .. } = &self.cards
            && now.duration_since(*at) < AGAIN
        {
            return None;
        }
        let name = name.clone();
        match self.read_cards(engine, &name).await {
            Ok(mut all) => {
                all.extend(packages.into_iter().flatten());
                Some(all)
            }
            Err(why) => {
                self.cards = Cards::Failed { why, at: now };
                None
            }
        }
    }

    async fn read_cards(
        &mut self,
        engine: &EngineHandle,
        name: &str,
    ) -> Result<Vec<Counter>, String> {
        let mut meter = match std::mem::replace(&mut self.cards, Cards::Unasked) {
            Cards::Open(meter) => meter,
            Cards::Unasked | Cards::Failed { .. } => {
                let meter = engine.card_meter().map_err(|error| error.to_string())?;
                Box::new(meter)
            }
        };
        let counters = match meter.read().await.map_err(|error| error.to_string())? {
            Reading::Cards(cards) => of_card(cards, name),
            Reading::Absent(why) | Reading::Failed(why) => Err(why),
        }?;
        self.cards = Cards::Open(meter);
        Ok(counters)
    }
}

/// The counters of every card of this name: which of several computes is not told, and the others of them rest.
fn of_card(cards: Vec<engine::adapters::CardEnergy>, name: &str) -> Result<Vec<Counter>, String> {
    let named: Vec<_> = cards.into_iter().filter(|card| card.name == name).collect();
    if named.is_empty() {
        return Err(format!("NVML does not know {name}"));
    }
    let counters = named.into_iter().enumerate().map(|(at, card)| {
        let place = card
            .pci
            .map_or_else(|| at.to_string(), |pci| pci.to_string());
        let millijoules = card
            .millijoules
            .ok_or_else(|| format!("{name} does not count its energy"))?;
        Ok(Counter {
            name: place,
            microjoules: millijoules.saturating_mul(1000),
            range: None,
        })
    });
    counters.collect()
}

#[cfg(test)]
mod tests {
    use engine::adapters::CardEnergy;

    use super::*;

    const SECOND: u64 = 1_000_000;
    const RANGE: u64 = 100_000_000;

    /// A computer of two packages, as Linux shows it.
    struct Computer(tempfile::TempDir);

    impl Computer {
        fn new() -> Self {
            let computer = Self(tempfile::tempdir().unwrap());
            for (folder, name) in [
                ("intel-rapl:0", "package-0"),
                ("intel-rapl:0:0", "core"),
                ("intel-rapl:1", "package-1"),
                ("intel-rapl-mmio:0", "package-0"),
                ("intel-rapl:2", "psys"),
            ] {
                let path = computer.0.path().join(folder);
                fs::create_dir(&path).unwrap();
                fs::write(path.join("name"), format!("{name}\n")).unwrap();
                fs::write(path.join("max_energy_range_uj"), format!("{RANGE}\n")).unwrap();
                fs::write(path.join("energy_uj"), "0\n").unwrap();
            }
            computer
        }

        fn says(&self, folder: &str, microjoules: u64) {
            let path = self.0.path().join(folder).join("energy_uj");
            fs::write(path, format!("{microjoules}\n")).unwrap();
        }

        fn packages(&self) -> Packages {
            Packages::at(self.0.path())
        }
    }

    #[test]
    fn packages_are_counted_and_no_part_of_them_twice() {
        let computer = Computer::new();
        let packages = computer.packages();
        computer.says("intel-rapl:0", 5_000_000);
        let before = packages.counters().unwrap();
        computer.says("intel-rapl:0", 7_000_000);
        computer.says("intel-rapl:0:0", 1_000_000);
        computer.says("intel-rapl:1", 3_000_000);
        computer.says("intel-rapl-mmio:0", 9_000_000);
        computer.says("intel-rapl:2", 50_000_000);
        let now = packages.counters().unwrap();
        assert_eq!(counted(&before, &now, SECOND), Some(5_000_000));
    }

    #[test]
    fn a_counter_that_began_again_loses_nothing() {
        let computer = Computer::new();
        let packages = computer.packages();
        computer.says("intel-rapl:1", RANGE - 1_000_000);
        let before = packages.counters().unwrap();
        computer.says("intel-rapl:1", 2_000_000);
        let now = packages.counters().unwrap();
        assert_eq!(counted(&before, &now, SECOND), Some(3_000_000));
    }

    #[test]
    fn what_no_computer_draws_was_not_counted() {
        let counter = |microjoules, range| Counter {
            name: "package-0".to_owned(),
            microjoules,
            range,
        };
        let of =
            |before, now, range| counted(&[counter(before, range)], &[counter(now, range)], SECOND);
        assert_eq!(of(0, 2 * MAX_WATTS * SECOND, None), Some(20_000_000_000));
        assert_eq!(of(0, 2 * MAX_WATTS * SECOND + 1, None), None);
        // After a sleep the counter is at zero again, and did not run through its range.
        assert_eq!(of(5, 1, Some(u64::MAX)), None);
        // A driver that was loaded anew.
        assert_eq!(of(5, 1, None), None);
        assert_eq!(counted(&[], &[], SECOND), None);
        assert_eq!(counted(&[counter(1, None)], &[], SECOND), None);
    }

    #[test]
    fn what_cannot_be_read_is_named_and_never_guessed() {
        let nothing = tempfile::tempdir().unwrap();
        assert!(matches!(Packages::at(nothing.path()), Packages::Absent(_)));
        let missing = nothing.path().join("missing");
        assert!(matches!(Packages::at(&missing), Packages::Absent(_)));

        let computer = Computer::new();
        let packages = computer.packages();
        assert!(packages.counters().is_some());
        // Not a file, as what may not be read is none: root may read all.
        let counter = computer.0.path().join("intel-rapl:1/energy_uj");
        fs::remove_file(&counter).unwrap();
        fs::create_dir(&counter).unwrap();
        assert_eq!(packages.counters(), None);
        assert_eq!(computer.packages(), Packages::Locked);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_cards_meter_that_failed_is_asked_again_after_a_while() {
        use std::os::unix::fs::PermissionsExt as _;

        // Stands for the worker program with a driver that is not there before a file of this name is.
        let folder = tempfile::tempdir().unwrap();
        let driver = folder.path().join("driver");
        let program = folder.path().join("decentralgpt-worker");
        let script = format!(
            r#"#!/bin/sh
while read -r ask; do
if [ -e {driver} ]; then echo '{{"cards":[{{"name":"Card","pci":null,"millijoules":7}}]}}'
else echo '{{"failed":"the driver is being loaded"}}'; fi
done
"#,
            driver = driver.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let engine = EngineHandle::new(engine::EngineOptions {
            worker_dirs: vec![folder.path().to_owned()],
            ..engine::EngineOptions::default()
        });
        let card = Computes::Card("Card".to_owned());
        let mut meters = Meters::of(card, Packages::Absent("it is a card's"));
        let began = Instant::now();
        assert_eq!(meters.read(&engine, began).await, None);
        assert_eq!(meters.card_problem(), Some("the driver is being loaded"));

        fs::write(&driver, "").unwrap();
        let soon = began + AGAIN / 2;
        assert_eq!(meters.read(&engine, soon).await, None);
        assert!(!meters.counts());
        let later = began + AGAIN;
        let read = meters.read(&engine, later).await.unwrap();
        assert_eq!(read[0].microjoules, 7_000);
        assert!(meters.counts() && meters.card_problem().is_none());

        // It fails in the middle, and is there again a while later.
        fs::remove_file(&driver).unwrap();
        assert_eq!(meters.read(&engine, later).await, None);
        fs::write(&driver, "").unwrap();
        assert!(meters.read(&engine, later + AGAIN).await.is_some());
    }

    #[test]
    fn a_card_is_found_by_its_name_and_has_to_count() {
        let card = |name: &str, millijoules| CardEnergy {
            name: name.to_owned(),
            pci: None,
            millijoules,
        };
        let cards = || vec![card("A", Some(3)), card("B", Some(5)), card("A", Some(7))];
        let sum = |counters: Vec<Counter>| counters.iter().map(|at| at.microjoules).sum::<u64>();
        assert_eq!(of_card(cards(), "A").map(sum), Ok(10_000));
        assert!(of_card(cards(), "C").unwrap_err().contains("does not know"));
        let old = of_card(vec![card("A", None)], "A");
        assert!(old.unwrap_err().contains("does not count"));
    }
}
