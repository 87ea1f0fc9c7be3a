//! The app as a person meets it: how long until they can type, what it holds at rest, what they download.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{Row, median, report};
use crate::{
    headless,
    house::House,
    sh::{Failure, Kept, stage},
};

pub(crate) const ROUNDS: usize = 5;
/// What the app logs when its page stands, the composer has the keyboard, and the core answers.
const READY: &str = "the window is ready";
/// How often the app is asked whether it stands: the figure's grain.
const LOOK: Duration = Duration::from_millis(10);
/// A window that is not there by then will not come.
const WITHIN: Duration = Duration::from_secs(60);
/// Memory is read this long after the window stands: what starting needed is given back by then.
const REST: Duration = Duration::from_secs(5);

pub(crate) fn bench(house: &House, rounds: usize) -> Result<(), Failure> {
    if !cfg!(target_os = "linux") {
        return Err(Failure::new(
            "This bench reads /proc and drives an X display: Linux alone so far.",
        ));
    }
    let program = house.target.join("release").join("decentralgpt-desktop");
    if !program.exists() {
        return Err(
            Failure::new("The release build is what people start, and it is not there.")
                .fix("cargo xtask package"),
        );
    }
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for round in 1..=rounds.max(1) {
        stage(&format!("start {round} of {}", rounds.max(1)), || {
            let (start, rest) = one(&program)?;
            starts.push(start);
            memory.push(rest);
            Ok(())
        })?;
    }
    let mut rows = vec![
        Row::alone("start.window", "ms", median(starts).unwrap_or_default()).goal("<= 3000"),
        Row::alone("idle.memory", "bytes", median(memory).unwrap_or_default()),
    ];
    match package_size(house) {
        Some(bytes) => rows.push(Row::alone("size.deb", "bytes", bytes)),
        None => println!("   skipped: size.deb (no package yet: cargo xtask package)"),
    }
    report(house, "window", rows)
}

/// Milliseconds from start to a page that can be typed into, and the bytes that the app and its web processes hold at rest.
fn one(program: &Path) -> Result<(f64, f64), Failure> {
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("No temporary folder: {error}.")))?;
    let data = folder.path().join("data");
    headless::prepare_folder(&data, "")?;
    let display = Display::open()?;
    let log = folder.path().join("log");
    let errors =
        fs::File::create(&log).map_err(|error| Failure::io("Cannot make", &log, &error))?;
    let start = Instant::now();
    let mut window = Kept::spawn(
        Command::new("dbus-run-session")
            .arg("--")
            .arg(program)
            .arg("--data")
            .arg(&data)
            .env("DISPLAY", &display.name)
            .env("XDG_CONFIG_HOME", folder.path().join("config"))
            .env("XDG_CACHE_HOME", folder.path().join("cache"))
            .stdout(Stdio::null())
            .stderr(errors),
    )?;
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains(READY)) {
        if start.elapsed() > WITHIN || window.ended() {
            return Err(Failure::new("The window did not come.")
                .fix("start it by hand, to see what it says"));
        }
        std::thread::sleep(LOOK);
    }
    let start = start.elapsed().as_secs_f64() * 1e3;
    std::thread::sleep(REST);
    Ok((start, family_memory(window.child().id())))
}

/// A display of its own, so that other windows change nothing.
struct Display {
    name: String,
    _server: Kept,
}

impl Display {
    fn open() -> Result<Self, Failure> {
        // The server chooses a free number and writes it.
        let folder = tempfile::tempdir()
            .map_err(|error| Failure::new(format!("No temporary folder: {error}.")))?;
        let path = folder.path().join("number");
        let file =
            fs::File::create(&path).map_err(|error| Failure::io("Cannot make", &path, &error))?;
        let server = Kept::spawn(
            Command::new("Xvfb")
                .args([
                    "-displayfd",
                    "1",
                    "-screen",
                    "0",
                    "1280x800x24",
                    "-nolisten",
                    "tcp",
                ])
                .stdout(file)
                .stderr(Stdio::null()),
        )?;
        let start = Instant::now();
        loop {
            let number = fs::read_to_string(&path).unwrap_or_default();
            if number.ends_with('\n') {
                return Ok(Self {
                    name: format!(":{}", number.trim()),
                    _server: server,
                });
            }
            if start.elapsed() > WITHIN {
                return Err(Failure::new("Xvfb did not open a display."));
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Proportional set size of a process and all below it: shared pages are counted once.
fn family_memory(root: u32) -> f64 {
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0.0;
    };
    let parents: Vec<(u32, u32)> = entries
        .flatten()
        .filter_map(|entry| {
            let process: u32 = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let parent = status
                .lines()
                .find_map(|line| line.strip_prefix("PPid:"))?
                .trim()
                .parse()
                .ok()?;
            Some((process, parent))
        })
        .collect();
    let mut family = vec![root];
    let mut next = 0;
    while next < family.len() {
        let parent = family[next];
        family.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(process, _)| *process),
        );
        next += 1;
    }
    family
        .iter()
        .filter_map(|process| proportional_set(*process))
        .sum()
}

fn proportional_set(process: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn package_size(house: &House) -> Option<f64> {
    let folder = house.target.join("release").join("bundle").join("deb");
    let newest = fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|ending| ending == "deb")
        })
        .max_by_key(|entry| {
            entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .ok()
        })?;
    Some(newest.metadata().ok()?.len() as f64)
}
