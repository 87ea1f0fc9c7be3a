//! Whose fault the end of an attempt is. Only the peer's own faults count against it.

use protocol::{
    frame::RefuseCode,
    job::{CloseWhy, client::AttemptEnd},
};

use super::Outcome;

/// What an end says about the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// How it is recorded.
    pub outcome: Outcome,
    /// Whether it is left alone for a while.
    pub ban: bool,
}

/// Says whose fault an attempt's end is. `own_fault`: this computer slept or changed its network meanwhile, so that
/// silence and cuts say nothing about the peer.
#[must_use]
pub fn verdict(why: &AttemptEnd, own_fault: bool) -> Verdict {
    let neutral = Verdict {
        outcome: Outcome::Neutral,
        ban: false,
    };
    let failed = Verdict {
        outcome: Outcome::Failed,
        ban: true,
    };
    match why {
        AttemptEnd::Lie(_) | AttemptEnd::Closed(CloseWhy::Violation(_)) => Verdict {
            outcome: Outcome::Lied,
            ban: true,
        },
        AttemptEnd::ConnectFailed(_)
        | AttemptEnd::NoAnswer
        | AttemptEnd::Closed(CloseWhy::Ended | CloseWhy::Cut(_))
        | AttemptEnd::Silent
        | AttemptEnd::Stalled
            if own_fault =>
        {
            neutral
        }
        AttemptEnd::ConnectFailed(_)
        | AttemptEnd::NoAnswer
        | AttemptEnd::Closed(CloseWhy::Ended | CloseWhy::Cut(_))
        | AttemptEnd::Silent
        | AttemptEnd::Stalled
        | AttemptEnd::BrokenOff
        | AttemptEnd::NoQuote
        | AttemptEnd::Dearer
        | AttemptEnd::TooLong => failed,
        AttemptEnd::Gave { code, .. } | AttemptEnd::Refused { code, .. } => match code {
            RefuseCode::Internal | RefuseCode::EngineFailed => failed,
            // It keeps an offer for a model that it does not serve.
            RefuseCode::ModelUnknown => failed,
            // The owner's right, said politely; the job moves on and nothing is held against it.
            RefuseCode::NodeOff | RefuseCode::NotAllowed => neutral,
            // What this side sent, or did not read in time.
            RefuseCode::Unspecified
            | RefuseCode::WrongProvider
            | RefuseCode::Expired
            | RefuseCode::ExpiryTooFar
            | RefuseCode::Replay
            | RefuseCode::PromptTooLong
            | RefuseCode::BadToken
            | RefuseCode::BadOpen
            | RefuseCode::BadSampling
            | RefuseCode::SeedRefused
            | RefuseCode::ResumeUnknown
            | RefuseCode::TooLong
            | RefuseCode::Stalled
            | RefuseCode::Violation
            | RefuseCode::PaymentRefused
            | RefuseCode::QuoteUnknown
            | RefuseCode::BadGrammar
            | RefuseCode::BadLogprobs => neutral,
        },
        AttemptEnd::Busy { .. }
        | AttemptEnd::PathChanged
        | AttemptEnd::TooLate
        | AttemptEnd::TooLarge { .. }
        | AttemptEnd::LocalFailed(_)
        | AttemptEnd::TooDear { .. }
        | AttemptEnd::Unpaid(_)
        | AttemptEnd::LostRace
        | AttemptEnd::Stopped => neutral,
    }
}

#[cfg(test)]
mod tests {
    use protocol::job::client::Lie;

    use super::*;

    fn refused(code: RefuseCode) -> AttemptEnd {
        AttemptEnd::Refused {
            code,
            msg: String::new(),
        }
    }

    #[test]
    fn what_this_side_caused_never_bans() {
        let ours = [
            refused(RefuseCode::PromptTooLong),
            refused(RefuseCode::BadSampling),
            refused(RefuseCode::Replay),
            refused(RefuseCode::NodeOff),
            AttemptEnd::TooLarge { len: 1 },
            AttemptEnd::Stopped,
            AttemptEnd::LostRace,
            AttemptEnd::Busy { retry_after_ms: 1 },
            AttemptEnd::LocalFailed(String::new()),
        ];
        for end in ours {
            assert_eq!(
                verdict(&end, false),
                Verdict {
                    outcome: Outcome::Neutral,
                    ban: false
                },
                "{end}"
            );
        }
    }

    #[test]
    fn silence_counts_unless_this_computer_slept_and_a_lie_always_does() {
        for end in [
            AttemptEnd::Silent,
            AttemptEnd::Closed(CloseWhy::Ended),
            AttemptEnd::ConnectFailed(String::new()),
        ] {
            assert!(verdict(&end, false).ban);
            assert!(!verdict(&end, true).ban);
        }
        let lie = AttemptEnd::Lie(Lie::NoTokens);
        assert_eq!(
            verdict(&lie, true),
            Verdict {
                outcome: Outcome::Lied,
                ban: true
            }
        );
        assert!(verdict(&refused(RefuseCode::EngineFailed), true).ban);
    }
}
