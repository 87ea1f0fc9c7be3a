//! What a worker program says of itself when it is asked whether it can compute here.
//!
//! A worker for a graphics card is a program of its own beside the processor's. On a machine without the card or its
//! driver it does not even start, which is an answer too: the system's loader names the library that is missing.

use serde::{Deserialize, Serialize};

use crate::adapters::Device;
use crate::{BUILD, WorkerKind};

/// A worker that opened its device and whose self-check passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// Which build of the engine the program is of ([`BUILD`]).
    pub build: String,
    /// What it computes on.
    pub device: Device,
}

impl Greeting {
    /// Whether a program of that kind, of this app, could have said it.
    pub(crate) fn fits(self, kind: WorkerKind) -> Result<Self, String> {
        if self.build != BUILD {
            return Err(format!(
                "it is of build {}, and this is {BUILD}",
                self.build
            ));
        }
        if (kind == WorkerKind::Processor) != (self.device == Device::Processor) {
            return Err(format!(
                "it is the worker for {} by its name, and computes on another device",
                kind.as_str()
            ));
        }
        Ok(self)
    }
}

/// Opens this program's device, checks that it computes right, and says so.
#[cfg(feature = "worker")]
pub fn greet() -> Result<Greeting, crate::EngineError> {
    #[cfg(feature = "candle")]
    let device = crate::card::check()?;
    #[cfg(not(feature = "candle"))]
    let device = Device::Processor;
    Ok(Greeting {
        build: BUILD.to_owned(),
        device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_under_a_wrong_name_is_refused() {
        let greeting = Greeting {
            build: BUILD.to_owned(),
            device: Device::Processor,
        };
        assert!(greeting.clone().fits(WorkerKind::Processor).is_ok());
        assert!(greeting.clone().fits(WorkerKind::Cuda).is_err());
        let old = Greeting {
            build: "0.0.1".to_owned(),
            ..greeting
        };
        assert!(
            old.fits(WorkerKind::Processor)
                .unwrap_err()
                .contains("0.0.1")
        );
    }
}
