//! What must be true of every receipt, outcome and end.

use super::*;

impl World {
    pub(super) fn span_done(&mut self, attempt: AttemptId, receipt: &SignedReceipt) {
        receipt.provider_check().unwrap();
        receipt.client_check().unwrap().unwrap();
        assert_eq!(self.streams[&attempt].id, Some(receipt.receipt.job));
        let twice = |known: &SignedReceipt| known.receipt.job == receipt.receipt.job;
        assert!(
            !self.story.receipts.iter().any(twice),
            "two receipts of one job"
        );
        let emitted = self
            .emitted
            .get(&receipt.receipt.job)
            .cloned()
            .unwrap_or_default();
        assert_eq!(
            receipt.receipt.totals.output,
            emitted.len() as u64,
            "a receipt for what was not emitted"
        );
        let job: JobId = receipt.receipt.job;
        assert_eq!(
            receipt.receipt.h,
            chain::extend(&chain::start(&job), &emitted)
        );
        self.all_paid(receipt);
        self.story.receipts.push(receipt.clone());
    }

    pub(super) fn check_outcome(&self, outcome: &Outcome) {
        assert_eq!(
            outcome.emitted as usize,
            self.story.output.len() - self.scene.resumed
        );
        assert!(outcome.emitted <= self.scene.max_out);
        assert!(outcome.failovers <= client::MAX_FAILOVERS);
        assert!(self.scene.hedge || !outcome.hedged);
        // Whoever stops an answer hears of it at once; its end waits for the receipt, below.
        let stopped = outcome.end == End::Stopped;
        if let (Some(ms), None, false) = (self.scene.deadline_ms, self.scene.sleep, stopped) {
            assert!(self.now <= 1_000 + u64::from(ms), "later than it may be");
        }
        match &outcome.end {
            End::Complete(finish) => {
                let signed = self.story.receipts.last().is_some_and(|receipt| {
                    receipt.receipt.finish == *finish || receipt.receipt.finish == Finish::Abort
                });
                assert!(signed || self.local_finished, "complete without Done");
                assert_eq!(self.story.output.last(), Some(&EOG));
            }
            End::Stopped => assert!(self.scene.cancel_at.is_some()),
            End::Interrupted(_) => assert!(outcome.emitted > 0),
            End::Failed(_) => assert_eq!(outcome.emitted, 0),
            End::Length => assert!(outcome.emitted > 0),
        }
        if let Some(at) = self.scene.cancel_at.filter(|_| outcome.end == End::Stopped) {
            let asleep_ms = self.scene.sleep.map_or(0, |sleep| sleep.for_ms);
            assert!(
                self.now <= at + client::CANCEL_LINGER_MS + asleep_ms,
                "a stop that takes its time"
            );
        }
    }

    pub(super) fn check_the_end(&self) {
        assert!(
            self.done && self.client.is_finished(),
            "the answer never ended: {:?}",
            self.client
        );
        assert!(
            self.live.is_empty(),
            "streams are left open: {:?}",
            self.live
        );
        for job in &self.jobs {
            assert!(job.closed, "a provider's job never ended: {job:?}");
        }
    }
}
