//! What the system counts of a running program, and how it is told to stop.

use std::{fs, time::Duration};

use crate::error::LabError;

/// Ticks of the processor's clock in a second, as /proc counts them on every Linux of today.
const TICKS: f64 = 100.0;

/// Resident bytes of a program now. `None` once it has ended.
#[must_use]
pub fn rss_bytes(id: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    kilobytes(&text, "VmRSS:").map(|kilobytes| kilobytes * 1024.0)
}

/// The processor's time that a program took so far, without its children.
#[must_use]
pub fn cpu_time(id: u32) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    ticks(&text).map(|ticks| Duration::from_secs_f64(ticks / TICKS))
}

/// Whether a program runs or stands still; one that has ended and is not waited for yet does not.
#[must_use]
pub fn is_alive(id: u32) -> bool {
    let state = |stat: &str| stat.rsplit_once(')')?.1.trim_start().chars().next();
    fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !matches!(state(&stat), None | Some('Z' | 'X')))
}

/// Files, sockets and pipes that a program has open. `None` once it has ended.
#[must_use]
pub fn open_files(id: u32) -> Option<usize> {
    Some(fs::read_dir(format!("/proc/{id}/fd")).ok()?.count())
}

/// Sends a signal to a program that this one started and still waits for.
///
/// # Errors
/// [`LabError::System`] when it has ended.
pub fn signal(id: u32, signal: libc::c_int) -> Result<(), LabError> {
    let process = libc::pid_t::try_from(id).unwrap_or(libc::pid_t::MAX);
    // SAFETY: sends a signal to a process by its number, which is a child's that somebody still waits for; it touches no memory.
    #[allow(unsafe_code)]
    let sent = unsafe { libc::kill(process, signal) };
    if sent == 0 {
        return Ok(());
    }
    Err(LabError::System {
        what: "a program cannot be signalled".to_owned(),
        source: std::io::Error::last_os_error(),
    })
}

fn kilobytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

/// User's and system's ticks: the 14th and the 15th field, behind a name that may hold spaces and brackets.
fn ticks(stat: &str) -> Option<f64> {
    let behind = stat.rsplit_once(')')?.1;
    let mut fields = behind.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_moves_no_field() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 5 1000 10";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn resident_memory_is_in_kilobytes() {
        assert_eq!(
            kilobytes("VmPeak:\t9 kB\nVmRSS:\t  1234 kB\n", "VmRSS:"),
            Some(1234.0)
        );
        assert!(rss_bytes(std::process::id()).is_some_and(|bytes| bytes > 0.0));
        assert!(cpu_time(std::process::id()).is_some());
    }

    #[test]
    fn who_has_ended_is_not_alive_before_it_is_waited_for() {
        let own = std::process::id();
        assert!(is_alive(own) && open_files(own).is_some_and(|files| files > 2));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        while is_alive(child.id()) {
            std::thread::yield_now();
        }
        assert!(child.wait().unwrap().success());
        assert!(!is_alive(child.id()));
    }
}
