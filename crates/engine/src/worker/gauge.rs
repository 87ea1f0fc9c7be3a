//! The process's own memory, as the system counts it.

use std::fs::File;
use std::io::{Read as _, Seek as _};

/// Reads resident memory. Opened before the process confines itself, since nothing can be opened after.
#[derive(Debug)]
pub(super) struct Gauge {
    #[cfg(target_os = "linux")]
    statm: Option<File>,
}

impl Gauge {
    #[cfg(target_os = "linux")]
    pub(super) fn open() -> Self {
        Self {
            statm: File::open("/proc/self/statm").ok(),
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

/// Reads the most memory that was ever resident. Opened before the process confines itself, like [`Gauge`].
#[derive(Debug)]
pub(super) struct Peak {
    status: Option<File>,
}

impl Peak {
    pub(super) fn open() -> Self {
        Self {
            status: File::open("/proc/self/status").ok(),
        }
    }

    /// Bytes; `None` where the system does not tell.
    pub(super) fn resident(&self) -> Option<u64> {
        let mut file = self.status.as_ref()?;
        let mut status = String::new();
        file.rewind().ok()?;
        file.read_to_string(&mut status).ok()?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes * 1024)
    }
}
