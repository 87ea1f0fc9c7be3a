//! What was seen of peers that were asked: their records, kept in the ledger, and their bans, kept in memory.
//!
//! Bans are not stored: the longest is half an hour, and a record that was is what the next choice is made by.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ledger::Ledger;
use protocol::{ModelDigest, PeerId};

use crate::{
    clock,
    error::NodeError,
    node::Inner,
    route::{Bans, Mean, Observation, Outcome, Record, Standing, Verdict},
};

/// The records and bans of now.
#[derive(Debug, Default)]
pub(crate) struct Measurements {
    state: Mutex<State>,
}

/// One answer in so many may ask a second peer beside a first that is slow to begin: everybody who does it makes all
/// others wait longer.
const ANSWERS_PER_HEDGE: u32 = 20;

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<(PeerId, ModelDigest), Record>,
    bans: Bans,
    /// Answers since the start, and those in which a second peer was asked.
    answers: u32,
    hedged: u32,
}

impl Measurements {
    /// Reads what the ledger kept. A row that holds nonsense is left out.
    pub(crate) async fn open(ledger: &Ledger) -> Result<Self, NodeError> {
        let rows = ledger.measured().await?;
        let records = rows.into_iter().filter_map(from_row).collect();
        Ok(Self {
            state: Mutex::new(State {
                records,
                ..State::default()
            }),
        })
    }

    /// What was seen of a peer with a model, as it counts now.
    pub(crate) fn record(&self, peer: &PeerId, model: &ModelDigest) -> Record {
        let state = self.state();
        let record = state.records.get(&(*peer, *model));
        record.copied().unwrap_or_default().at(clock::unix_ms())
    }

    /// Everything that was seen of a peer, with all its models.
    pub(crate) fn of_peer(&self, peer: &PeerId) -> Vec<(ModelDigest, Record)> {
        let (first, last) = (ModelDigest::new([0; 32]), ModelDigest::new([0xff; 32]));
        let now = clock::unix_ms();
        let state = self.state();
        let range = state.records.range((*peer, first)..=(*peer, last));
        range
            .map(|((_, model), record)| (*model, record.at(now)))
            .collect()
    }

    /// How a peer stands.
    pub(crate) fn standing(&self, peer: &PeerId) -> Standing {
        self.state().bans.standing(peer, clock::unix_ms())
    }

    /// Forgets everything but the bans, which are over in half an hour.
    pub(crate) fn forget(&self) {
        self.state().records.clear();
    }

    /// Whether an answer that begins now may ask a second peer beside a slow one.
    pub(crate) fn may_hedge(&self) -> bool {
        let state = self.state();
        state.hedged <= state.answers / ANSWERS_PER_HEDGE
    }

    /// An answer is over.
    pub(crate) fn answer_ended(&self, hedged: bool) {
        let mut state = self.state();
        state.answers = state.answers.saturating_add(1);
        state.hedged = state.hedged.saturating_add(u32::from(hedged));
    }

    /// A peer gave a quote.
    pub(crate) fn answered(&self, peer: &PeerId) {
        self.state().bans.answered(peer, clock::unix_ms());
    }

    fn observe(
        &self,
        peer: &PeerId,
        model: &ModelDigest,
        seen: &Observation,
        ban: bool,
    ) -> ledger::Measured {
        let now = clock::unix_ms();
        let mut state = self.state();
        match (seen.outcome, ban) {
            (Outcome::Lied, true) => state.bans.lied(peer, now),
            (Outcome::Failed | Outcome::Neutral | Outcome::Good, true) => {
                state.bans.failed(peer, now)
            }
            (Outcome::Good, false) => state.bans.succeeded(peer),
            (Outcome::Failed | Outcome::Lied | Outcome::Neutral, false) => {}
        }
        state.make_room(peer, model, now);
        let record = state.records.entry((*peer, *model)).or_default();
        record.observe(seen, now);
        to_row(peer, model, record)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves numbers that are whole all the same.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// As many as the ledger keeps: first those that have faded away go, then the one that changed longest ago.
    fn make_room(&mut self, peer: &PeerId, model: &ModelDigest, now_ms: u64) {
        let most = ledger::MAX_MEASURED as usize;
        if self.records.len() < most || self.records.contains_key(&(*peer, *model)) {
            return;
        }
        self.records
            .retain(|_, record| !record.at(now_ms).is_forgotten());
        while self.records.len() >= most {
            let oldest = self
                .records
                .iter()
                .min_by_key(|(_, record)| record.updated_ms);
            let Some(key) = oldest.map(|(key, _)| *key) else {
                return;
            };
            self.records.remove(&key);
        }
    }
}

impl Inner {
    /// Notes what a job showed of a peer, and stores it.
    pub(crate) async fn observe(
        &self,
        peer: &PeerId,
        model: &ModelDigest,
        seen: &Observation,
        ban: bool,
    ) {
        let row = self.measured.observe(peer, model, seen, ban);
        if let Err(error) = self.ledger.store_measured(row).await {
            tracing::warn!(%error, "what was measured of a peer could not be stored");
        }
    }

    /// The same for an end of which only the verdict is known.
    pub(crate) async fn blame(&self, peer: &PeerId, model: &ModelDigest, verdict: Verdict) {
        self.observe(peer, model, &Observation::of(verdict.outcome), verdict.ban)
            .await;
    }
}

fn to_row(peer: &PeerId, model: &ModelDigest, record: &Record) -> ledger::Measured {
    let pair = |mean: Mean| (mean.sum, mean.weight);
    ledger::Measured {
        peer: peer.to_string(),
        model: *model.as_bytes(),
        at_ms: record.updated_ms,
        rtt: pair(record.rtt_ms),
        late: pair(record.late_ms),
        tps: pair(record.decode_tps),
        successes: record.successes,
        failures: record.failures,
        stalls: record.stalls,
        checked: record.checked,
        lies: record.lies,
    }
}

fn from_row(row: ledger::Measured) -> Option<((PeerId, ModelDigest), Record)> {
    let mean = |(sum, weight): (f64, f64)| Mean { sum, weight };
    let record = Record {
        updated_ms: row.at_ms,
        rtt_ms: mean(row.rtt),
        late_ms: mean(row.late),
        decode_tps: mean(row.tps),
        successes: row.successes,
        failures: row.failures,
        stalls: row.stalls,
        checked: row.checked,
        lies: row.lies,
    };
    let peer = row.peer.parse().ok()?;
    record
        .is_sane()
        .then_some(((peer, ModelDigest::new(row.model)), record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_in_twenty_may_be_hedged() {
        let measured = Measurements::default();
        let mut hedged = 0;
        for _ in 0..200 {
            let may = measured.may_hedge();
            measured.answer_ended(may);
            hedged += u32::from(may);
        }
        assert_eq!(hedged, 10);
    }

    #[tokio::test]
    async fn records_survive_a_restart_and_nonsense_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(folder.path().join("ledger.db"), 1)
            .await
            .unwrap();
        let measured = Measurements::open(&ledger).await.unwrap();
        let (peer, model) = (PeerId::from_public_key(&[3; 32]), ModelDigest::new([4; 32]));
        let seen = Observation {
            rtt_ms: Some(40.0),
            decode_tps: Some(25.0),
            ..Observation::of(Outcome::Good)
        };
        let row = measured.observe(&peer, &model, &seen, false);
        ledger.store_measured(row.clone()).await.unwrap();
        let failed = measured.observe(&peer, &model, &Observation::of(Outcome::Failed), true);
        assert!(matches!(measured.standing(&peer), Standing::Banned { .. }));
        ledger.store_measured(failed).await.unwrap();
        let nonsense = ledger::Measured {
            model: [5; 32],
            failures: -1.0,
            ..row
        };
        ledger.store_measured(nonsense).await.unwrap();

        let again = Measurements::open(&ledger).await.unwrap();
        let (before, after) = (measured.record(&peer, &model), again.record(&peer, &model));
        assert!((before.failures - after.failures).abs() < 1e-6 && after.failures > 0.9);
        assert_eq!(again.of_peer(&peer).len(), 1);
        // A ban ends with the run.
        assert_eq!(again.standing(&peer), Standing::Free);
    }
}
