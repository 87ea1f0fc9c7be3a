//! Gumbel noise as a pure function of (seed, output index, token id): Philox4x32-10 of Salmon et al., "Parallel random
//! numbers: as easy as 1, 2, 3" (2011).
//!
//! `r = Philox(key = seed, counter = (t, v / 4, 0x44494652, 0))[v % 4]`, `u = (r + 1/2) / 2^32`, `g = −ln(−ln u)`. The key
//! is the seed's low word, then its high word.

use std::f64::consts::LN_2;

use super::Best;

/// The third word of the counter: what this stream of Philox is for.
const STREAM: u32 = 0x4449_4652;

/// More than the rounding errors of two logarithms of at most 33.
const ROUNDING: f64 = 1e-9;

/// The Gumbel noise of a 32-bit uniform is at most 22.88.
const LARGEST: f64 = 22.9;

/// The noise of one output index, at one temperature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Noise {
    key: [u32; 2],
    index: u32,
    temperature: f64,
}

impl Noise {
    pub(super) fn new(seed: u64, index: u32, temperature: f32) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            index,
            temperature: f64::from(temperature),
        }
    }

    /// `y` of a token: its logit, with noise unless the temperature is 0.
    pub(super) fn add(&self, logit: f32, id: u32) -> f64 {
        let logit = f64::from(logit);
        if self.temperature == 0.0 {
            return logit;
        }
        logit + self.temperature * gumbel(self.block(id >> 2)[(id & 3) as usize])
    }

    /// Offers `y` of those tokens that can still be the first or the second; NaN never can. Most are ruled out by their
    /// logit, nearly all others by the leading bits of their random word, so that few logarithms are computed. Fastest with
    /// ids in their order: four of them share a block.
    pub(super) fn offer_each(
        &self,
        logits: &[f32],
        ids: impl Iterator<Item = u32>,
        best: &mut Best,
    ) {
        let reach = self.temperature * LARGEST;
        let mut block = (u32::MAX, [0; 4]);
        for id in ids {
            let logit = f64::from(logits[id as usize]);
            // Written so that NaN is passed over, too.
            let possible = logit + reach >= best.second;
            if !possible {
                continue;
            }
            if self.temperature == 0.0 {
                best.offer(logit, id);
                continue;
            }
            if block.0 != id >> 2 {
                block = (id >> 2, self.block(id >> 2));
            }
            let word = block.1[(id & 3) as usize];
            if logit + self.temperature * bound(word) >= best.second {
                best.offer(logit + self.temperature * gumbel(word), id);
            }
        }
    }

    fn block(&self, block: u32) -> [u32; 4] {
        philox([self.index, block, STREAM, 0], self.key)
    }
}

fn gumbel(word: u32) -> f64 {
    let uniform = (f64::from(word) + 0.5) / 4_294_967_296.0;
    -(-uniform.ln()).ln()
}

/// At least [`gumbel`], without a logarithm: `−ln u ≥ 1 − u`, and `1 − u` is at least the power of two that its leading
/// zeros say.
fn bound(word: u32) -> f64 {
    f64::from((!word).leading_zeros() + 1) * LN_2 + ROUNDING
}

/// Philox4x32 with ten rounds.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [
            (b >> 32) as u32 ^ counter[1] ^ key[0],
            b as u32,
            (a >> 32) as u32 ^ counter[3] ^ key[1],
            a as u32,
        ];
        key = [
            key[0].wrapping_add(0x9E37_79B9),
            key[1].wrapping_add(0xBB67_AE85),
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers() {
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        // From the test vectors of the paper's library.
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn noise_stays_under_its_bounds() {
        let largest = gumbel(u32::MAX);
        assert!(largest < LARGEST && largest > LARGEST - 0.1);
        let near_powers = (0..32).flat_map(|bit| {
            let gap = 1u32 << bit;
            [gap - 1, gap, gap + 1].map(|gap| !gap)
        });
        for word in near_powers.chain((0..100_000).map(|at: u32| at.wrapping_mul(0x9E37_79B9))) {
            assert!(bound(word) >= gumbel(word), "{word:#x}");
            assert!(bound(word) <= LARGEST + 0.1);
        }
    }
}
