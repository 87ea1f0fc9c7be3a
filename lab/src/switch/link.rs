//! The line of one machine, one direction: its rate and queue, its delay, jitter and loss. A function of its state and the time
//! handed in.

use std::time::Duration;

/// What waits in a line at most: beyond, packets are dropped, as by a router of today with room for a fifth of a second at 20 Mbit/s.
const QUEUE_BYTES: u64 = 512 * 1024;

/// What a line is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// One way.
    pub delay: Duration,
    /// The delay varies by up to this much, more or less. Packets keep their order.
    pub jitter: Duration,
    /// Of packets, from 0 to 1.
    pub loss: f64,
    /// Bytes a second; `None` is as fast as the machine.
    pub rate: Option<u64>,
    /// Nothing passes.
    pub cut: bool,
}

impl Line {
    /// With nothing wrong.
    pub const CLEAR: Self = Self {
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        loss: 0.0,
        rate: None,
        cut: false,
    };
}

/// One direction of a line.
#[derive(Debug)]
pub struct Link {
    /// May be changed at any time: it counts for the packets from then on.
    pub line: Line,
    free_at: Duration,
    last: Duration,
    random: Random,
    /// Bytes that passed.
    pub bytes: u64,
    /// Packets that passed.
    pub packets: u64,
    /// Packets that did not.
    pub dropped: u64,
}

impl Link {
    /// The seed decides which packets are lost.
    #[must_use]
    pub fn new(line: Line, seed: u64) -> Self {
        Self {
            line,
            free_at: Duration::ZERO,
            last: Duration::ZERO,
            random: Random(seed | 1),
            bytes: 0,
            packets: 0,
            dropped: 0,
        }
    }

    /// A packet of this length comes at `now`: when it leaves at the other end. `None` when it is lost.
    pub fn push(&mut self, length: usize, now: Duration) -> Option<Duration> {
        let lost = self.random.share() < self.line.loss;
        let length = length as u64;
        let sent = match self.line.rate {
            None | Some(0) => now,
            Some(rate) => {
                let waiting = self.free_at.saturating_sub(now).as_secs_f64() * rate as f64;
                if waiting + length as f64 > QUEUE_BYTES as f64 {
                    self.dropped += 1;
                    return None;
                }
                let takes = Duration::from_secs_f64(length as f64 / rate as f64);
                self.free_at = self.free_at.max(now) + takes;
                self.free_at
            }
        };
        if lost || self.line.cut {
            self.dropped += 1;
            return None;
        }
        let swing = self.line.jitter.mul_f64(2.0 * self.random.share());
        let arrives = (sent + self.line.delay + swing).saturating_sub(self.line.jitter);
        // A line keeps order: what was sent later does not overtake.
        self.last = self.last.max(arrives).max(now);
        self.bytes += length;
        self.packets += 1;
        Some(self.last)
    }
}

/// Marsaglia's xorshift64*: no secret hangs on it, and a seed gives the same run again.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed; 0 counts as 1.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((self.share() * end as f64) as usize).min(end.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_packet_takes_the_delay() {
        let mut link = Link::new(
            Line {
                delay: ms(50),
                ..Line::CLEAR
            },
            1,
        );
        assert_eq!(link.push(1500, ms(1000)), Some(ms(1050)));
        assert_eq!((link.bytes, link.packets, link.dropped), (1500, 1, 0));
    }

    #[test]
    fn a_rate_spaces_packets_and_a_full_queue_drops() {
        let line = Line {
            rate: Some(1_000_000),
            ..Line::CLEAR
        };
        let mut link = Link::new(line, 1);
        assert_eq!(link.push(1000, ms(0)), Some(ms(1)));
        assert_eq!(link.push(1000, ms(0)), Some(ms(2)));
        assert_eq!(
            link.push(1000, ms(10)),
            Some(ms(11)),
            "an idle line has no memory"
        );
        let passed = (0..1000)
            .filter(|_| link.push(1000, ms(20)).is_some())
            .count();
        assert_eq!(passed as u64, QUEUE_BYTES / 1000);
        assert_eq!(link.dropped, 1000 - QUEUE_BYTES / 1000);
    }

    #[test]
    fn jitter_stays_in_its_bounds_and_keeps_order() {
        let line = Line {
            delay: ms(50),
            jitter: ms(20),
            ..Line::CLEAR
        };
        let mut link = Link::new(line, 7);
        let mut last = Duration::ZERO;
        for step in 0..2000 {
            let now = ms(step);
            let arrives = link.push(100, now).unwrap();
            assert!(arrives >= last, "overtaken");
            assert!(
                arrives >= now + ms(30) && arrives <= now + ms(70),
                "{arrives:?} at {now:?}"
            );
            last = arrives;
        }
    }

    #[test]
    fn loss_is_about_what_was_asked() {
        let mut link = Link::new(
            Line {
                loss: 0.05,
                ..Line::CLEAR
            },
            3,
        );
        for _ in 0..20_000 {
            link.push(100, Duration::ZERO);
        }
        let share = link.dropped as f64 / 20_000.0;
        assert!((0.045..0.055).contains(&share), "{share}");
    }

    #[test]
    fn nothing_passes_a_cut_line_and_everything_afterwards() {
        let mut link = Link::new(
            Line {
                cut: true,
                ..Line::CLEAR
            },
            3,
        );
        assert_eq!(link.push(100, Duration::ZERO), None);
        link.line.cut = false;
        assert_eq!(link.push(100, ms(1)), Some(ms(1)));
    }
}
