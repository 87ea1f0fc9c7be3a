//! The clocks of all machines, and when each of them is awake.

use super::*;

/// Who hears nothing of a sleeping computer for this long gives up the connection.
const CONNECTION_DIES_MS: u64 = 10_000;

impl World {
    /// The clocks of the asking computer. The monotonic one stands still while it sleeps.
    pub(super) fn clock(&self) -> Clock {
        let set = self
            .scene
            .clock_set
            .filter(|&(at_ms, _)| self.now >= 1_000 + at_ms)
            .map_or(0, |(_, by_ms)| by_ms);
        Clock {
            mono_ms: self.now - self.slept(),
            unix_ms: (UNIX_MS + self.now).saturating_add_signed(set),
        }
    }

    pub(super) fn peer_clock(&self, peer: usize) -> Clock {
        Clock {
            mono_ms: self.now,
            unix_ms: (UNIX_MS + self.now)
                .saturating_add_signed(self.scene.peers[peer].clock_ahead_ms),
        }
    }

    /// For how long the asking computer has slept until now.
    fn slept(&self) -> u64 {
        self.scene.sleep.map_or(0, |sleep| {
            self.now
                .saturating_sub(1_000 + sleep.at_ms)
                .min(sleep.for_ms)
        })
    }

    /// When it wakes, if it sleeps now.
    pub(super) fn asleep_until(&self) -> Option<u64> {
        let sleep = self.scene.sleep?;
        let from = 1_000 + sleep.at_ms;
        (from..from + sleep.for_ms)
            .contains(&self.now)
            .then_some(from + sleep.for_ms)
    }

    /// When the asking computer acts on a deadline of its monotonic clock.
    pub(super) fn client_wakes_at(&self, mono_ms: u64) -> u64 {
        let at = mono_ms + self.slept();
        let Some(sleep) = self.scene.sleep else {
            return at;
        };
        let from = 1_000 + sleep.at_ms;
        if self.now < from + sleep.for_ms && at > from {
            // What is left when it falls asleep is left when it wakes.
            (mono_ms + sleep.for_ms).max(from + sleep.for_ms)
        } else {
            at
        }
    }

    /// What a sleep will lead to: connections that are silent for too long are gone, and who wakes may be told so.
    pub(super) fn plan_sleep(&mut self) {
        let Some(sleep) = self.scene.sleep else {
            return;
        };
        if sleep.for_ms >= CONNECTION_DIES_MS {
            let dies_ms = sleep.at_ms + CONNECTION_DIES_MS;
            self.after(dies_ms, Event::ConnectionsDie);
        }
        if sleep.told {
            let wakes_ms = sleep.at_ms + sleep.for_ms;
            self.after(wakes_ms, Event::Client(client::Event::PathChanged));
        }
    }

    /// Providers give up a computer that sleeps; it learns of that some time after it wakes.
    pub(super) fn connections_die(&mut self) {
        let asleep_ms = self.asleep_until().map_or(0, |until| until - self.now);
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.stream_breaks(id, asleep_ms + 3_000, 0);
        }
    }

    /// When a provider whose process is stopped goes on.
    pub(super) fn wakes_at(&self, peer: usize) -> u64 {
        let Some(first) = self.first_ms[peer] else {
            return self.now;
        };
        let since = self.now - first;
        let stops = self.scene.peers[peer]
            .faults
            .iter()
            .filter_map(|fault| match fault {
                Fault::Stopped { at_ms, for_ms } if (*at_ms..at_ms + for_ms).contains(&since) => {
                    Some(first + at_ms + for_ms)
                }
                _ => None,
            });
        stops.max().unwrap_or(self.now)
    }
}
