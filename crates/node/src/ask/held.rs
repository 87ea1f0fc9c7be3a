//! Quotes asked for while the person types, so that the next answer need not wait for one.
//!
//! A quote counts what its provider has cached of a beginning that it was asked for by hash, so what a chat's last writer has read is
//! remembered as hashes, in memory, and told to that writer alone. A quote is used for an input that begins so, and for no other.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use protocol::{
    ModelDigest, PeerId,
    quote::{self, Quote, QuoteRequest},
};

/// A quote is used for this long after it was asked for: it has to bind when the job arrives.
const HOLDS: Duration = Duration::from_millis(quote::QUOTE_LIFETIME_MS - 2_000);

/// The same peer is not asked again for this long while a person types: less than a quote holds, and a fifth of what peers may ask.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Quotes held at once: a person writes in one chat, and looks into a few.
const MAX_HELD: usize = 4;

/// Chats of which it is remembered what was read.
const MAX_HEARD: usize = 16;

/// What is held of one session's quotes.
#[derive(Debug, Default)]
pub(crate) struct HeldQuotes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held: VecDeque<Held>,
    heard: VecDeque<([u8; 16], Heard)>,
}

#[derive(Debug)]
struct Held {
    peer: PeerId,
    model: ModelDigest,
    asked: Instant,
    /// `None`: on its way, or never given.
    given: Option<(QuoteRequest, Quote)>,
}

/// What a peer has read of a chat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) peer: PeerId,
    pub(super) model: ModelDigest,
    /// Tokens.
    pub(super) len: u32,
    /// Of its prefixes.
    pub(super) hashes: Vec<[u8; 32]>,
}

impl Heard {
    /// What this peer has read, as the model's tokens.
    pub(super) fn new(peer: PeerId, model: ModelDigest, tokens: &[u32]) -> Self {
        Self {
            peer,
            model,
            len: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            hashes: quote::prefix_hashes(tokens),
        }
    }
}

impl HeldQuotes {
    /// Notes what a chat's last writer has read.
    pub(super) fn has_heard(&self, chat: [u8; 16], heard: Heard) {
        let mut state = self.state();
        state.heard.retain(|(known, _)| *known != chat);
        if state.heard.len() >= MAX_HEARD {
            state.heard.pop_front();
        }
        state.heard.push_back((chat, heard));
    }

    /// What a chat's last writer has read, where that was this peer with this model.
    pub(super) fn heard(
        &self,
        chat: &[u8; 16],
        (peer, model): (&PeerId, &ModelDigest),
    ) -> Option<Heard> {
        let state = self.state();
        let (_, heard) = state.heard.iter().find(|(known, _)| known == chat)?;
        (heard.peer == *peer && heard.model == *model).then(|| heard.clone())
    }

    /// Whether a peer may be asked for a quote now. Notes that it is.
    pub(super) fn may_ask(&self, peer: PeerId, model: ModelDigest, now: Instant) -> bool {
        let mut state = self.state();
        let age = |held: &Held| now.saturating_duration_since(held.asked);
        state.held.retain(|held| age(held) < HOLDS);
        let lately = |held: &Held| held.peer == peer && age(held) < AGAIN_AFTER;
        if state.held.iter().any(lately) {
            return false;
        }
        let same = |held: &Held| held.peer == peer && held.model == model;
        if state.held.iter().filter(|held| !same(held)).count() >= MAX_HELD {
            return false;
        }
        state.held.push_back(Held {
            peer,
            model,
            asked: now,
            given: None,
        });
        true
    }

    /// Keeps the answer.
    pub(super) fn keep(&self, peer: &PeerId, request: QuoteRequest, quote: Quote) {
        let mut state = self.state();
        let asked =
            state.held.iter_mut().rev().find(|held| {
                held.peer == *peer && held.model == request.model && held.given.is_none()
            });
        if let Some(asked) = asked {
            asked.given = Some((request, quote));
        }
    }

    /// The newest quote of a peer that serves an input which begins with these tokens, and of which it would be told these hashes. A
    /// quote serves one job.
    pub(super) fn take(
        &self,
        (peer, model): (&PeerId, &ModelDigest),
        (input, told): (&[u32], &[[u8; 32]]),
        now: Instant,
    ) -> Option<Quote> {
        let mut state = self.state();
        let serves = |held: &Held| {
            let fresh = now.saturating_duration_since(held.asked) < HOLDS;
            let begins = held.given.as_ref().is_some_and(|(request, _)| {
                match request.prefixes().first() {
                    Some(longest) => longest.begins(input),
                    // Who may have something cached is asked for it.
                    None => told.is_empty(),
                }
            });
            held.peer == *peer && held.model == *model && fresh && begins
        };
        let at = state.held.iter().rposition(serves)?;
        let (_, quote) = state.held.remove(at)?.given?;
        Some(quote)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use protocol::price::Prices;

    use super::*;

    const MODEL: ModelDigest = ModelDigest::new([3; 32]);
    const CHAT: [u8; 16] = [4; 16];

    fn peer(byte: u8) -> PeerId {
        PeerId::from_public_key(&[byte; 32])
    }

    fn asked(held: &HeldQuotes, number: u8, read: &[u32], now: Instant) {
        assert!(held.may_ask(peer(number), MODEL, now));
        let request = QuoteRequest {
            nonce: [1; 16],
            model: MODEL,
            n_in: 100,
            max_out: 10,
            prefix_hashes: Vec::new(),
        };
        let request = match read {
            [] => request,
            read => QuoteRequest {
                n_in: Heard::new(peer(number), MODEL, read).len,
                prefix_hashes: quote::prefix_hashes(read),
                ..request
            },
        };
        let quote = Quote {
            request_hash: [0; 32],
            eta_first_token_ms: 0,
            decode_tps: 0,
            queue_pos: 0,
            prices: Prices::FREE,
            cached_prefix_tokens: 0,
            quote_id: [number; 16],
            expires_unix_ms: 0,
        };
        held.keep(&peer(number), request, quote);
    }

    #[test]
    fn a_quote_serves_one_job_of_its_peer_and_model_in_its_time() {
        let (held, now) = (HeldQuotes::default(), Instant::now());
        asked(&held, 1, &[], now);
        let take = |number, model, at| {
            let taken = held.take((&peer(number), &model), (&[1, 2], &[]), at);
            taken.map(|quote| quote.quote_id)
        };
        assert_eq!(take(2, MODEL, now), None);
        assert_eq!(take(1, ModelDigest::new([9; 32]), now), None);
        assert_eq!(take(1, MODEL, now + HOLDS), None, "too old");
        assert_eq!(take(1, MODEL, now + HOLDS / 2), Some([1; 16]));
        assert_eq!(take(1, MODEL, now), None, "a second time");
    }

    #[test]
    fn a_quote_for_what_was_read_serves_what_begins_so() {
        let (held, now) = (HeldQuotes::default(), Instant::now());
        let read = [5, 6, 7, 8];
        let serves = |input: &[u32]| {
            let told = quote::prefix_hashes(input);
            let whose = (&peer(1), &MODEL);
            held.take(whose, (input, &told), now).is_some()
        };
        asked(&held, 1, &read, now);
        assert!(!serves(&[5, 6, 7, 9, 10]));
        assert!(serves(&[5, 6, 7, 8, 9, 10]));
        // One that counts nothing as cached does not do where something may be.
        asked(&held, 1, &[], now + AGAIN_AFTER);
        assert!(!serves(&[5, 6, 7, 8, 9, 10]));
    }

    #[test]
    fn who_types_asks_a_few_and_each_now_and_then() {
        let (held, now) = (HeldQuotes::default(), Instant::now());
        for number in 1..=4 {
            assert!(held.may_ask(peer(number), MODEL, now));
        }
        assert!(!held.may_ask(peer(5), MODEL, now));
        assert!(!held.may_ask(peer(1), MODEL, now + AGAIN_AFTER / 2));
        assert!(held.may_ask(peer(1), MODEL, now + AGAIN_AFTER));
        assert!(held.may_ask(peer(5), MODEL, now + AGAIN_AFTER + HOLDS));
    }

    #[test]
    fn only_the_last_writer_is_told_what_it_read() {
        let held = HeldQuotes::default();
        held.has_heard(CHAT, Heard::new(peer(1), MODEL, &[1, 2, 3]));
        assert!(held.heard(&CHAT, (&peer(2), &MODEL)).is_none());
        assert!(held.heard(&[9; 16], (&peer(1), &MODEL)).is_none());
        let told = held.heard(&CHAT, (&peer(1), &MODEL)).unwrap();
        assert_eq!(
            (told.len, told.hashes),
            (3, quote::prefix_hashes(&[1, 2, 3]))
        );
        held.has_heard(CHAT, Heard::new(peer(2), MODEL, &[1, 2, 3, 4]));
        assert!(held.heard(&CHAT, (&peer(1), &MODEL)).is_none());
        for chat in 0..MAX_HEARD {
            held.has_heard([chat as u8 + 50; 16], Heard::new(peer(1), MODEL, &[1]));
        }
        assert!(held.heard(&CHAT, (&peer(2), &MODEL)).is_none(), "forgotten");
    }
}
