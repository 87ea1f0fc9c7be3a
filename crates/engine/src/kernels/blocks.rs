//! The block formats of GGUF, decoded exactly: integers with their steps and offsets.
//!
//! Source: the structures of ggml's `ggml-common.h` and their `dequantize_row_*` functions, which define the formats.

use half::f16;

use super::Format;

/// Weights of the longest block.
pub(super) const LONGEST: usize = 256;

/// One block. Weight `i` is `step · scales[i / 16] · (quants[i] − format.offset()) − least · mins[i / 16]`.
#[derive(Debug)]
pub(super) struct Block {
    /// Unsigned integers of [`Format::bits`] bits.
    pub(super) quants: [u8; LONGEST],
    pub(super) step: f16,
    pub(super) least: f16,
    /// Per 16 weights; all 1 in blocks of 32.
    pub(super) scales: [i8; LONGEST / 16],
    /// Per 16 weights; −1 in blocks of 32, whose minimum is added.
    pub(super) mins: [i8; LONGEST / 16],
}

impl Block {
    pub(super) fn new() -> Self {
        Self {
            quants: [0; LONGEST],
            step: f16::ZERO,
            least: f16::ZERO,
            scales: [1; LONGEST / 16],
            mins: [-1; LONGEST / 16],
        }
    }

    /// Reads the bytes of one block of a format with integers.
    pub(super) fn read(&mut self, format: Format, bytes: &[u8]) {
        let half = |at: usize| f16::from_le_bytes([bytes[at], bytes[at + 1]]);
        match format {
            Format::Q4_0 => {
                self.step = half(0);
                self.nibbles(&bytes[2..18]);
            }
            Format::Q4_1 => {
                (self.step, self.least) = (half(0), half(2));
                self.nibbles(&bytes[4..20]);
            }
            Format::Q5_0 => {
                self.step = half(0);
                self.nibbles(&bytes[6..22]);
                self.fifth_bits(&bytes[2..6]);
            }
            Format::Q5_1 => {
                (self.step, self.least) = (half(0), half(2));
                self.nibbles(&bytes[8..24]);
                self.fifth_bits(&bytes[4..8]);
            }
            Format::Q8_0 => {
                self.step = half(0);
                for (quant, byte) in self.quants.iter_mut().zip(&bytes[2..34]) {
                    // From −128..128 to 0..256.
                    *quant = byte ^ 0x80;
                }
            }
            Format::Q2K => {
                (self.step, self.least) = (half(80), half(82));
                for (at, byte) in bytes[..16].iter().enumerate() {
                    self.scales[at] = (byte & 15) as i8;
                    self.mins[at] = (byte >> 4) as i8;
                }
                self.pairs_of_bits(&bytes[16..80]);
            }
            Format::Q3K => {
                self.step = half(108);
                self.six_bit_scales(&bytes[96..108]);
                self.pairs_of_bits(&bytes[32..96]);
                for (part, quants) in self.quants.chunks_exact_mut(32).enumerate() {
                    for (quant, mask) in quants.iter_mut().zip(&bytes[..32]) {
                        *quant |= (mask >> part & 1) << 2;
                    }
                }
            }
            Format::Q4K => {
                (self.step, self.least) = (half(0), half(2));
                self.scales_and_mins(&bytes[4..16]);
                self.halves_of_bytes(&bytes[16..144]);
            }
            Format::Q5K => {
                (self.step, self.least) = (half(0), half(2));
                self.scales_and_mins(&bytes[4..16]);
                self.halves_of_bytes(&bytes[48..176]);
                for (part, quants) in self.quants.chunks_exact_mut(32).enumerate() {
                    for (quant, mask) in quants.iter_mut().zip(&bytes[16..48]) {
                        *quant |= (mask >> part & 1) << 4;
                    }
                }
            }
            Format::Q6K => {
                self.step = half(208);
                for (scale, byte) in self.scales.iter_mut().zip(&bytes[192..208]) {
                    *scale = byte.cast_signed();
                }
                for half in 0..2 {
                    let low = &bytes[half * 64..][..64];
                    let high = &bytes[128 + half * 32..][..32];
                    let quants = &mut self.quants[half * 128..][..128];
                    for at in 0..32 {
                        quants[at] = low[at] & 15 | (high[at] & 3) << 4;
                        quants[at + 32] = low[at + 32] & 15 | (high[at] >> 2 & 3) << 4;
                        quants[at + 64] = low[at] >> 4 | (high[at] >> 4 & 3) << 4;
                        quants[at + 96] = low[at + 32] >> 4 | (high[at] >> 6) << 4;
                    }
                }
            }
            Format::F32 | Format::F16 | Format::BF16 => {}
        }
    }

    /// The weights of the block that was read, `out.len()` of them.
    pub(super) fn weights(&self, format: Format, out: &mut [f32]) {
        let (step, least) = (self.step.to_f32(), self.least.to_f32());
        for (part, (out, quants)) in out
            .chunks_mut(16)
            .zip(self.quants.chunks_exact(16))
            .enumerate()
        {
            let step = step * f32::from(self.scales[part]);
            let least = least * f32::from(self.mins[part]);
            for (out, quant) in out.iter_mut().zip(quants) {
                let product = step * (i32::from(*quant) - format.offset()) as f32;
                *out = if format.has_mins() {
                    product - least
                } else {
                    product
                };
            }
        }
    }

    /// Low halves of 16 bytes, then high halves.
    fn nibbles(&mut self, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            self.quants[at] = byte & 15;
            self.quants[at + 16] = byte >> 4;
        }
    }

    /// The highest bits of 32 weights, one bit each.
    fn fifth_bits(&mut self, bytes: &[u8]) {
        let bits = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        for (at, quant) in self.quants[..32].iter_mut().enumerate() {
            *quant |= ((bits >> at & 1) << 4) as u8;
        }
    }

    /// Of every 32 bytes the low halves, then the high halves.
    fn halves_of_bytes(&mut self, bytes: &[u8]) {
        for (bytes, quants) in bytes.chunks_exact(32).zip(self.quants.chunks_exact_mut(64)) {
            for (at, byte) in bytes.iter().enumerate() {
                quants[at] = byte & 15;
                quants[at + 32] = byte >> 4;
            }
        }
    }

    /// Of every 32 bytes the lowest pairs of bits, then the next, up to the highest.
    fn pairs_of_bits(&mut self, bytes: &[u8]) {
        for (bytes, quants) in bytes
            .chunks_exact(32)
            .zip(self.quants.chunks_exact_mut(128))
        {
            for (at, byte) in bytes.iter().enumerate() {
                quants[at] = byte & 3;
                quants[at + 32] = byte >> 2 & 3;
                quants[at + 64] = byte >> 4 & 3;
                quants[at + 96] = byte >> 6;
            }
        }
    }

    /// Eight scales and eight minima of six bits in twelve bytes, each for 32 weights.
    fn scales_and_mins(&mut self, bytes: &[u8]) {
        for at in 0..8 {
            let (scale, min) = if at < 4 {
                (bytes[at] & 63, bytes[at + 4] & 63)
            } else {
                let (low, of_scale, of_min) = (bytes[at + 4], bytes[at - 4] >> 6, bytes[at] >> 6);
                (low & 15 | of_scale << 4, low >> 4 | of_min << 4)
            };
            self.scales[2 * at..][..2].fill(scale as i8);
            self.mins[2 * at..][..2].fill(min as i8);
        }
    }

    /// Sixteen scales of six bits, from −32, in twelve bytes: low halves in eight, pairs of high bits in four.
    fn six_bit_scales(&mut self, bytes: &[u8]) {
        for (at, scale) in self.scales.iter_mut().enumerate() {
            let low = bytes[at % 8] >> (at / 8 * 4) & 15;
            let high = bytes[8 + at % 4] >> (at / 4 * 2) & 3;
            *scale = (low | high << 4) as i8 - 32;
        }
    }
}
