//! The process's own memory, as the system counts it.

/// Reads resident memory. Opened before the process confines itself, since nothing can be opened after.
#[derive(Debug)]
pub(super) struct Gauge {
    #[cfg(target_os = "linux")]
    statm: Option<std::fs::File>,
}

impl Gauge {
    #[cfg(target_os = "linux")]
    pub(super) fn open() -> Self {
        Self {
            statm: std::fs::File::open("/proc/self/statm").ok(),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn open() -> Self {
        Self {}
    }

    /// Resident bytes; `None` where the system does not tell.
    #[cfg(target_os = "linux")]
    pub(super) fn resident(&self) -> Option<u64> {
        use std::os::unix::fs::FileExt as _;
        let mut text = [0u8; 128];
        let length = self.statm.as_ref()?.read_at(&mut text, 0).ok()?;
        let fields = std::str::from_utf8(&text[..length]).ok()?;
        let pages: u64 = fields.split(' ').nth(1)?.parse().ok()?;
        // SAFETY: asks for a constant of the system and touches no memory.
        #[allow(unsafe_code)]
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Some(pages * u64::try_from(page).ok()?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn resident(&self) -> Option<u64> {
        None
    }
}

/// The most that was ever resident; `None` where the system does not tell.
pub(super) fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
