//! Chance that is handed in: the same seed gives the same choices, so that a test or a simulation can be repeated.

/// A small generator (SplitMix64: Steele, Lea, Flood 2014). For choices, never for keys.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// A generator that starts here; the program seeds it from the system's randomness.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 up to and without 1.
    pub fn unit(&mut self) -> f64 {
        // The top 53 bits are what a double holds exactly.
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// An index below `len`; 0 where there is nothing to choose from.
    pub fn below(&mut self, len: usize) -> usize {
        ((self.unit() * len as f64) as usize).min(len.saturating_sub(1))
    }

    /// Puts a list into an order in which each is as likely as any other (Fisher, Yates).
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for at in (1..list.len()).rev() {
            let other = self.below(at + 1);
            list.swap(at, other);
        }
    }

    /// An index drawn in proportion to these weights; `None` when none is above zero.
    pub fn weighted(&mut self, weights: &[f64]) -> Option<usize> {
        let total: f64 = weights.iter().filter(|weight| **weight > 0.0).sum();
        if !(total > 0.0 && total.is_finite()) {
            return None;
        }
        let mut left = self.unit() * total;
        let mut last = None;
        for (at, weight) in weights
            .iter()
            .enumerate()
            .filter(|(_, weight)| **weight > 0.0)
        {
            last = Some(at);
            if left < *weight {
                break;
            }
            left -= weight;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let mut dice = Dice::new(1);
        let mut counts = [0u32; 4];
        for _ in 0..40_000 {
            counts[dice.weighted(&[1.0, 0.0, 3.0, f64::NAN]).unwrap()] += 1;
        }
        assert_eq!((counts[1], counts[3]), (0, 0));
        let share = f64::from(counts[2]) / 40_000.0;
        assert!((share - 0.75).abs() < 0.02, "{share}");
        assert_eq!(dice.weighted(&[0.0, f64::NAN, -1.0]), None);
        assert_eq!(dice.weighted(&[]), None);
    }

    #[test]
    fn a_shuffle_favours_no_place() {
        let mut dice = Dice::new(2);
        let mut first = [0u32; 5];
        for _ in 0..20_000 {
            let mut list = [0, 1, 2, 3, 4];
            dice.shuffle(&mut list);
            first[list[0]] += 1;
        }
        assert!(
            first.iter().all(|count| count.abs_diff(4_000) < 300),
            "{first:?}"
        );
    }

    #[test]
    fn the_first_numbers_are_those_of_the_paper_s_generator() {
        // SplitMix64 seeded with 0, as published with its reference implementation.
        let mut dice = Dice::new(0);
        assert_eq!(dice.bits(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(dice.bits(), 0x6e78_9e6a_a1b9_65f4);
        assert_eq!(dice.below(0), 0);
    }
}
