//! Known answers, asked of every instruction set before it is used.
//!
//! The sums of these products' bits. They change only when the order of floating operations does, and with it what an
//! audit of an earlier answer computes.

use super::blocks::LONGEST;
use super::matrix::{Matrix, Product, multiply_all};
use super::memory::Store;
use super::{Activations, Format, Set};

/// Per format of [`Format::ALL`], the [`answer`] that every set must give.
const ANSWERS: [u64; Format::ALL.len()] = [
    0xA002_D638_C2C7_FE2F,
    0xEAC9_158C_D506_D52C,
    0xBD0A_7355_45EE_288D,
    0x20B7_E9A4_C043_0D2B,
    0x593D_9238_0C0C_1788,
    0xEBB0_0846_EA37_9A15,
    0x9D6F_1535_D87B_66AD,
    0x5CCF_BD2E_E1F7_E4AF,
    0x059E_3E1C_563A_121D,
    0x9078_BC72_BB70_A90D,
    0xAABD_5B58_B6AA_CCDA,
    0x009E_DEF6_86D2_2BBA,
    0x1900_57A2_553B_46C3,
];

/// Outputs: a strip and a part of one.
const OUTPUTS: usize = 19;

/// Inputs: two of the longest blocks.
const INPUTS: usize = 2 * LONGEST;

/// Rows: a whole tile, and one that is cut into every smaller number of rows.
const ROWS: usize = 31;

/// The set that a process computes with, and what was found on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// The fastest set whose answers are right.
    pub(crate) set: Set,
    /// Sets that the processor claims to have, with the format that each got wrong first.
    pub(crate) failed: Vec<(Set, Format)>,
}

impl Selection {
    pub(super) fn new() -> Self {
        let mut failed = Vec::new();
        for set in Set::available().into_iter().rev() {
            let mut questions = Format::ALL.into_iter().zip(ANSWERS);
            match questions.find(|&(format, expected)| answer(set, format) != Some(expected)) {
                None => return Self { set, failed },
                Some((format, _)) => failed.push((set, format)),
            }
        }
        Self {
            set: Set::PORTABLE,
            failed,
        }
    }
}

/// The sum over the bits of a product with made-up weights.
fn answer(set: Set, format: Format) -> Option<u64> {
    let matrix = Matrix::pack_as(
        &Store::default(),
        format,
        &tensor(format),
        [OUTPUTS, INPUTS],
        &|_| (),
    )
    .ok()?;
    let rows: Vec<f32> = (0..ROWS * INPUTS).map(|at| unit(noise(at))).collect();
    let mut out = vec![0.0; ROWS * OUTPUTS];
    let mut products = [Product {
        matrix: &matrix,
        out: &mut out,
    }];
    multiply_all(set, &Activations::new(&rows, INPUTS), &mut products);
    Some(sum_of_bits(&out))
}

/// FNV-1a over words.
pub(super) fn sum_of_bits(values: &[f32]) -> u64 {
    values.iter().fold(0xCBF2_9CE4_8422_2325, |sum, value| {
        (sum ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01B3)
    })
}

/// A tensor's bytes: any integers, with steps and minima in −0.01..0.01.
fn tensor(format: Format) -> Vec<u8> {
    let (weights, size) = format.block();
    let mut bytes = Vec::with_capacity(OUTPUTS * INPUTS / weights * size);
    for block in 0..OUTPUTS * INPUTS / weights {
        let start = bytes.len();
        bytes.extend((0..size).map(|at| noise(block * size + at) as u8));
        let number = unit(noise(block)) * 0.01;
        for at in format.halves() {
            let number = half::f16::from_f32(number / (1 + at) as f32);
            bytes[start + at..][..2].copy_from_slice(&number.to_le_bytes());
        }
        if let Some(float) = format.encode(number) {
            bytes[start..].copy_from_slice(&float);
        }
    }
    bytes
}

/// A repeatable number that looks like chance.
fn noise(seed: usize) -> u32 {
    let mixed = (seed as u32 ^ 0x5BD1)
        .wrapping_mul(0x9E37_79B9)
        .rotate_left(13);
    (mixed ^ mixed >> 15).wrapping_mul(0x85EB_CA6B) >> 8
}

/// In −1..1.
fn unit(noise: u32) -> f32 {
    noise as f32 / (1 << 23) as f32 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_knows_the_answers() {
        for set in Set::available() {
            for (format, expected) in Format::ALL.into_iter().zip(ANSWERS) {
                let answer = answer(set, format).unwrap();
                assert_eq!(
                    answer,
                    expected,
                    "{} by {set}: {answer:#018X}",
                    format.name()
                );
            }
        }
        let chosen = Selection::new();
        assert_eq!(chosen.failed, []);
        assert_eq!(Some(chosen.set), Set::available().pop());
    }
}
