//! What cards count of their own energy: asked again and again of one process, since loading a driver takes longer than reading it.

use serde::{Deserialize, Serialize};

use super::PciAddress;

/// The counter of one card.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardEnergy {
    /// The product's name.
    pub name: String,
    /// Where it sits.
    pub pci: Option<PciAddress>,
    /// Since its driver was loaded, in millijoules; `None` where the card does not count.
    pub millijoules: Option<u64>,
}

/// What a reading gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// The cards that there are.
    Cards(Vec<CardEnergy>),
    /// No driver that could be asked is on this machine.
    Absent(String),
    /// It is there and failed.
    Failed(String),
}

/// Answers each line of the standard input with a [`Reading`] of NVIDIA's cards as a line of JSON, until the input ends.
///
/// # Errors
/// The broken pipe.
#[cfg(feature = "worker")]
pub fn serve_readings() -> std::io::Result<()> {
    use std::io::{BufRead as _, Write as _};

    let mut read = reader();
    for line in std::io::stdin().lock().lines() {
        line?;
        let reading = serde_json::to_string(&read())?;
        let mut out = std::io::stdout();
        writeln!(out, "{reading}")?;
        out.flush()?;
    }
    Ok(())
}

#[cfg(all(feature = "worker", any(target_os = "linux", windows)))]
fn reader() -> impl FnMut() -> Reading {
    super::nvml::reader()
}

#[cfg(all(feature = "worker", not(any(target_os = "linux", windows))))]
fn reader() -> impl FnMut() -> Reading {
    || Reading::Absent("this system does not have it".to_owned())
}
