//! Jobs of strangers that were refused or broken off, counted by why.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use protocol::frame::{Frame, RefuseCode};

/// Counts since the program began: as many as there are codes.
#[derive(Debug, Default)]
pub(crate) struct Refused(Mutex<BTreeMap<RefuseCode, u64>>);

impl Refused {
    /// Counts a frame that says no.
    pub(super) fn note(&self, frame: &Frame) {
        if let Frame::Refuse(refuse) = frame {
            self.count(refuse.code());
        } else if let Frame::Error(error) = frame {
            self.count(error.code());
        }
    }

    /// Counts one.
    pub(super) fn count(&self, why: RefuseCode) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(why).or_default();
        *count = count.saturating_add(1);
    }

    /// How many, by why.
    pub(crate) fn counts(&self) -> BTreeMap<RefuseCode, u64> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use protocol::frame::{JobError, Ping, Refuse};

    use super::*;

    #[test]
    fn what_says_no_is_counted_by_its_reason_and_nothing_else_is() {
        let refused = Refused::default();
        let refuse = |code: RefuseCode| {
            Frame::Refuse(Refuse {
                code: code.into(),
                msg: String::new(),
            })
        };
        refused.note(&refuse(RefuseCode::Replay));
        refused.note(&refuse(RefuseCode::Replay));
        refused.note(&Frame::Error(JobError {
            code: RefuseCode::Violation.into(),
            ..JobError::default()
        }));
        refused.note(&Frame::Ping(Ping { nonce: 1 }));
        let counts: Vec<_> = refused.counts().into_iter().collect();
        assert_eq!(
            counts,
            [(RefuseCode::Replay, 2), (RefuseCode::Violation, 1)]
        );
    }
}
