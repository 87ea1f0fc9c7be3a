//! A program run to its end, with its time and the most memory it ever held.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::sh::{self, Failure};

/// How often a running program's memory is read: its high-water mark only grows, so the last look before the end counts.
const LOOK: Duration = Duration::from_millis(5);

/// What a program printed and took.
pub(super) struct Measured {
    pub(super) output: String,
    pub(super) wall: Duration,
    pub(super) rss_bytes: f64,
}

/// Runs a program to its end.
pub(super) fn measured(command: &mut Command) -> Result<Measured, Failure> {
    let line = sh::shown(command);
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| sh::not_started(&line, &error))?;
    let status = format!("/proc/{}/status", child.id());
    let watch = std::thread::spawn(move || {
        let mut highest = 0.0;
        // The file's memory lines are gone once the program has ended, whether or not it was waited for.
        while let Some(bytes) = std::fs::read_to_string(&status)
            .ok()
            .and_then(|text| high_water(&text))
        {
            highest = bytes;
            std::thread::sleep(LOOK);
        }
        highest
    });
    let mut output = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        std::io::Read::read_to_string(&mut stdout, &mut output).map_err(|error| {
            Failure::new(format!("`{line}` printed something unreadable: {error}."))
        })?;
    }
    let ended = child
        .wait()
        .map_err(|error| sh::not_started(&line, &error))?;
    let wall = start.elapsed();
    if !ended.success() {
        return Err(Failure::new(format!("`{line}` ended with {ended}.")));
    }
    let rss_bytes = watch.join().unwrap_or_default();
    Ok(Measured {
        output,
        wall,
        rss_bytes,
    })
}

/// Peak resident bytes, from the text of /proc/PID/status.
fn high_water(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_in_bytes() {
        assert_eq!(
            high_water("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"),
            Some(2_097_152.0)
        );
        assert_eq!(high_water("State:\tZ (zombie)\n"), None);
    }
}
