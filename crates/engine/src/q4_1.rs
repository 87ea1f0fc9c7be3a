//! Products with Q4_1 weights, the one common format that candle has no fast path for on x86, and the starter's.
//!
//! A block is 32 weights `d · q + m` with `q` of four bits. Activations are rounded to 8 bits in blocks of 32 with a scale
//! of their own, so that a block's product is `d · d_a · Σ q q_a + m · d_a · Σ q_a`: integers inside, two floats outside.
//! Each product of two rows is summed in the same order whatever is computed beside it.

use half::f16;

use crate::parallel;

/// Weights of a block.
const BLOCK: usize = 32;

/// Bytes of a block: two half floats, then 16 bytes whose low halves are the first 16 weights.
const BLOCK_BYTES: usize = 20;

/// Rows of activations that share each unpacked block of weights.
const TILE: usize = 4;

/// Rows of activations computed in one go by a thread; the weights pass through its cache once for them.
const ROWS: usize = 8;

/// Activations rounded to 8 bits.
struct Rounded {
    quants: Vec<i8>,
    /// Per block: the scale, and the scale times the sum of the quants.
    scales: Vec<(f32, f32)>,
}

/// Multiplies `m` rows of `k` activations with `n` rows of weights: `[m][k] · [n][k]ᵀ`, into `[m][n]`.
pub(crate) fn matmul(
    (m, k, n): (usize, usize, usize),
    activations: &[f32],
    weights: &[u8],
    out: &mut [f32],
) {
    let blocks = k / BLOCK;
    let rounded = round(activations);
    let dot = Dot::detect();
    let row_bytes = blocks * BLOCK_BYTES;
    let one_row = |row: usize, first: usize, out: &mut [f32]| {
        for (column, out) in (first..).zip(out) {
            let weights = &weights[column * row_bytes..][..row_bytes];
            [*out] = dot.rows::<1>(weights, &rounded, row, blocks);
        }
    };
    if m == 1 {
        let width = [64, 16, 4]
            .into_iter()
            .find(|&width| n.is_multiple_of(width))
            .unwrap_or(1);
        parallel::rows(
            out,
            width,
            width * k,
            || (),
            |(), index, out| one_row(0, index * width, out),
        );
        return;
    }
    let (many, rest) = out.split_at_mut(m / ROWS * ROWS * n);
    parallel::rows(
        many,
        ROWS * n,
        ROWS * n * k,
        || (),
        |(), index, out| {
            for column in 0..n {
                let weights = &weights[column * row_bytes..][..row_bytes];
                for tile in 0..ROWS / TILE {
                    let sums =
                        dot.rows::<TILE>(weights, &rounded, index * ROWS + tile * TILE, blocks);
                    for (row, sum) in sums.into_iter().enumerate() {
                        out[(tile * TILE + row) * n + column] = sum;
                    }
                }
            }
        },
    );
    let first = m / ROWS * ROWS;
    parallel::rows(
        rest,
        n,
        n * k,
        || (),
        |(), index, out| one_row(first + index, 0, out),
    );
}

fn round(activations: &[f32]) -> Rounded {
    let mut rounded = Rounded {
        quants: vec![0; activations.len()],
        scales: Vec::with_capacity(activations.len() / BLOCK),
    };
    for (block, quants) in activations
        .chunks_exact(BLOCK)
        .zip(rounded.quants.chunks_exact_mut(BLOCK))
    {
        let largest = block
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let mut sum = 0;
        for (quant, value) in quants.iter_mut().zip(block) {
            // Adding and subtracting 1.5 · 2^23 rounds to a whole number, in vector code too.
            let whole = ((value * inverse + 12_582_912.0) - 12_582_912.0) as i32;
            *quant = whole as i8;
            sum += whole;
        }
        // Rounding would hide what is no number, and an answer of a damaged model would go on as nonsense.
        let sound = block.iter().all(|value| value.is_finite());
        let scale = if sound { largest / 127.0 } else { f32::NAN };
        rounded.scales.push((scale, scale * sum as f32));
    }
    rounded
}

/// The instructions to compute with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dot {
    Plain,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Dot {
    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2")
            && std::arch::is_x86_feature_detected!("fma")
            && std::arch::is_x86_feature_detected!("f16c")
        {
            return Self::Avx2;
        }
        Self::Plain
    }

    /// Products of a row of weights with `R` rows of activations from `first` on.
    #[inline(always)]
    fn rows<const R: usize>(
        self,
        weights: &[u8],
        rounded: &Rounded,
        first: usize,
        blocks: usize,
    ) -> [f32; R] {
        match self {
            Self::Plain => plain::<R>(weights, rounded, first, blocks),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                let quants = &rounded.quants[first * blocks * BLOCK..][..R * blocks * BLOCK];
                let scales = &rounded.scales[first * blocks..][..R * blocks];
                assert!(weights.len() == blocks * BLOCK_BYTES);
                // SAFETY: `detect` found the instructions, and the three lengths, which are all it relies on, were
                // checked just now.
                #[allow(unsafe_code)]
                unsafe {
                    avx2::<R>(weights, quants, scales, blocks)
                }
            }
        }
    }
}

fn plain<const R: usize>(
    weights: &[u8],
    rounded: &Rounded,
    first: usize,
    blocks: usize,
) -> [f32; R] {
    let mut sums = [0.0f32; R];
    for (block, bytes) in weights.chunks_exact(BLOCK_BYTES).enumerate() {
        let scale = f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        let least = f16::from_le_bytes([bytes[2], bytes[3]]).to_f32();
        for (row, sum) in sums.iter_mut().enumerate() {
            let at = (first + row) * blocks + block;
            let (low, high) = rounded.quants[at * BLOCK..][..BLOCK].split_at(BLOCK / 2);
            let pairs = bytes[4..].iter().zip(low.iter().zip(high));
            let dot: i32 = pairs
                .map(|(&byte, (&low, &high))| {
                    i32::from(byte & 15) * i32::from(low) + i32::from(byte >> 4) * i32::from(high)
                })
                .sum();
            let (scale_a, sum_a) = rounded.scales[at];
            *sum += scale * scale_a * dot as f32 + least * sum_a;
        }
    }
    sums
}

/// # Safety
///
/// The processor has the named instructions; `weights` holds `blocks` blocks, `quants` and `scales` `R` rows of `blocks`.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
#[allow(unsafe_code)]
unsafe fn avx2<const R: usize>(
    weights: &[u8],
    quants: &[i8],
    scales: &[(f32, f32)],
    blocks: usize,
) -> [f32; R] {
    use std::arch::x86_64::*;
    let low_half = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_ps(); R];
    let mut least_sums = [0.0f32; R];
    for block in 0..blocks {
        // SAFETY: block `block` of `blocks` lies inside each of the three slices; loads need no alignment.
        unsafe {
            let bytes = weights.as_ptr().add(block * BLOCK_BYTES);
            let head = _mm_cvtph_ps(_mm_cvtsi32_si128(bytes.cast::<i32>().read_unaligned()));
            let scale = _mm256_broadcastss_ps(head);
            let least = _mm_cvtss_f32(_mm_movehdup_ps(head));
            let packed = _mm_loadu_si128(bytes.add(4).cast());
            let both = _mm256_set_m128i(_mm_srli_epi16::<4>(packed), packed);
            let unpacked = _mm256_and_si256(both, low_half);
            for row in 0..R {
                let at = row * blocks + block;
                let activations = _mm256_loadu_si256(quants.as_ptr().add(at * BLOCK).cast());
                // At most 2 · 15 · 127 a lane: no overflow in 16 bits.
                let pairs = _mm256_maddubs_epi16(unpacked, activations);
                let dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                let (scale_a, sum_a) = *scales.get_unchecked(at);
                sums[row] = _mm256_fmadd_ps(
                    _mm256_mul_ps(scale, _mm256_set1_ps(scale_a)),
                    dot,
                    sums[row],
                );
                least_sums[row] = least.mul_add(sum_a, least_sums[row]);
            }
        }
    }
    let mut out = least_sums;
    for (out, sum) in out.iter_mut().zip(sums) {
        let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        *out += _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(count: usize, seed: u32) -> impl Iterator<Item = u32> {
        (0..count as u32).map(move |at| {
            (at ^ seed)
                .wrapping_mul(0x9E37_79B9)
                .rotate_left(13)
                .wrapping_mul(0x85EB_CA6B)
        })
    }

    fn made_up(m: usize, k: usize, n: usize) -> (Vec<f32>, Vec<u8>) {
        let activations = random(m * k, 1)
            .map(|bits| bits as f32 / u32::MAX as f32 * 4.0 - 2.0)
            .collect();
        let mut weights = Vec::new();
        for (block, seed) in random(n * k / BLOCK, 9).enumerate() {
            weights.extend(f16::from_f32(0.01 + (seed % 100) as f32 / 5000.0).to_le_bytes());
            weights.extend(f16::from_f32((seed % 77) as f32 / -300.0).to_le_bytes());
            weights.extend(random(16, block as u32).map(|bits| (bits >> 16) as u8));
        }
        (activations, weights)
    }

    #[test]
    fn both_ways_agree_with_the_definition() {
        for (m, k, n) in [(1, 32, 1), (1, 96, 130), (3, 64, 5), (17, 576, 12)] {
            let (activations, weights) = made_up(m, k, n);
            let mut out = vec![0.0; m * n];
            matmul((m, k, n), &activations, &weights, &mut out);
            let rounded = round(&activations);
            for row in 0..m {
                for column in 0..n {
                    let weights =
                        &weights[column * k / BLOCK * BLOCK_BYTES..][..k / BLOCK * BLOCK_BYTES];
                    let weight = |at: usize| {
                        let block = &weights[at / BLOCK * BLOCK_BYTES..];
                        let byte = block[4 + at % 16];
                        let quant = if at % BLOCK < 16 {
                            byte & 15
                        } else {
                            byte >> 4
                        };
                        let half = |at: usize| {
                            f64::from(f16::from_le_bytes([block[at], block[at + 1]]).to_f32())
                        };
                        half(0) * f64::from(quant) + half(2)
                    };
                    let expected: f64 = (0..k)
                        .map(|at| weight(at) * f64::from(activations[row * k + at]))
                        .sum();
                    let [plain] = plain::<1>(weights, &rounded, row, k / BLOCK);
                    // Rounding activations to 8 bits is off by up to 2/254 each.
                    let tolerance = 0.02 * (k as f64).sqrt();
                    assert!(
                        (f64::from(plain) - expected).abs() < tolerance,
                        "{plain} for {expected}"
                    );
                    assert!((plain - out[row * n + column]).abs() < 1e-3);
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_in_company() {
        let (m, k, n) = (21, 96, 40);
        let (activations, weights) = made_up(m, k, n);
        let mut together = vec![0.0; m * n];
        matmul((m, k, n), &activations, &weights, &mut together);
        for row in 0..m {
            let mut alone = vec![0.0; n];
            matmul(
                (1, k, n),
                &activations[row * k..][..k],
                &weights,
                &mut alone,
            );
            assert_eq!(alone, together[row * n..][..n]);
        }
    }
}
