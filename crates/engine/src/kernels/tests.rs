//! Products held against their definition, and instruction sets against each other.

use super::*;
use crate::file::TensorKind;

/// A repeatable number that looks like chance.
pub(super) fn noise(seed: usize) -> u32 {
    let mixed = (seed as u32 ^ 0x5bd1)
        .wrapping_mul(0x9E37_79B9)
        .rotate_left(13);
    (mixed ^ mixed >> 15).wrapping_mul(0x85EB_CA6B)
}

/// A value in −1..1.
fn value(seed: usize) -> f32 {
    (noise(seed) >> 8) as f32 / (1 << 23) as f32 - 1.0
}

pub(super) fn kind(format: Format) -> TensorKind {
    let mut kinds = (0..64).map(TensorKind::from_number);
    kinds
        .find(|kind| kind.to_string() == format.name())
        .unwrap()
}

/// A tensor's bytes: any integers, steps and minima of a size that occurs.
pub(super) fn tensor(format: Format, outputs: usize, inputs: usize, seed: usize) -> Vec<u8> {
    let (weights, size) = format.block();
    let blocks = outputs * inputs / weights;
    let mut bytes = Vec::with_capacity(blocks * size);
    for block in 0..blocks {
        let number = value(seed + block * 3);
        if let Some(float) = format.encode(number) {
            bytes.extend(float);
            continue;
        }
        let start = bytes.len();
        bytes.extend((0..size).map(|at| (noise(seed + block * size + at) >> 11) as u8));
        for (at, half) in format.halves().iter().enumerate() {
            let number = f16::from_f32(value(seed + block * 2 + at) * 0.01);
            bytes[start + half..][..2].copy_from_slice(&number.to_le_bytes());
        }
    }
    bytes
}

fn activations(count: usize, width: usize, seed: usize) -> Vec<f32> {
    (0..count * width)
        .map(|at| value(seed + at) * 3.0)
        .collect()
}

fn product(set: Set, matrix: &Matrix, rows: &[f32]) -> Vec<f32> {
    let activations = Activations::new(rows, matrix.inputs());
    let mut out = vec![f32::NAN; activations.count() * matrix.outputs()];
    multiply_all(
        set,
        &activations,
        &mut [Product {
            matrix,
            out: &mut out,
        }],
    );
    out
}

fn pack(
    kind: TensorKind,
    bytes: &[u8],
    outputs: usize,
    inputs: usize,
) -> Result<Matrix, PackError> {
    Matrix::pack(&Store::default(), kind, bytes, [outputs, inputs], &|_| ())
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Widths that a format can have: one block, several, more than a few.
fn widths(format: Format) -> Vec<usize> {
    match format.block().0 {
        1 => vec![1, 7, 32, 100],
        block => vec![block, 3 * block, 512],
    }
}

#[test]
fn a_product_is_the_sum_of_products() {
    for format in Format::ALL {
        for inputs in widths(format) {
            let outputs = 21;
            let bytes = tensor(format, outputs, inputs, inputs);
            let matrix = pack(kind(format), &bytes, outputs, inputs).unwrap();
            let rows = activations(3, inputs, 7);
            let got = product(set(), &matrix, &rows);
            let mut weights = vec![0.0; inputs];
            for output in 0..outputs {
                row(kind(format), &bytes, output, &mut weights).unwrap();
                for (at, row) in rows.chunks_exact(inputs).enumerate() {
                    let pairs = || {
                        weights
                            .iter()
                            .zip(row)
                            .map(|(&w, &a)| (f64::from(w), f64::from(a)))
                    };
                    let expected: f64 = pairs().map(|(weight, value)| weight * value).sum();
                    // Values of up to 3 are rounded to 127 steps: off by up to half a step each.
                    let step = if format.is_float() {
                        1e-6
                    } else {
                        0.5 * 3.0 / 127.0
                    };
                    let bound: f64 = pairs().map(|(weight, _)| weight.abs() * step).sum();
                    let got = f64::from(got[at * outputs + output]);
                    assert!(
                        (got - expected).abs() <= bound + 1e-6,
                        "{} [{outputs}][{inputs}]: {got} for {expected}",
                        format.name()
                    );
                }
            }
        }
    }
}

#[test]
fn integers_are_summed_exactly() {
    // Activations that are whole numbers of up to 127, with a 127 in each group, are not rounded.
    for format in Format::ALL {
        let (outputs, inputs) = (16, 512);
        let bytes = tensor(format, outputs, inputs, 5);
        let matrix = pack(kind(format), &bytes, outputs, inputs).unwrap();
        let row_of = |at: usize| {
            if at.is_multiple_of(32) {
                127.0
            } else {
                (noise(at) % 255) as f32 - 127.0
            }
        };
        let values: Vec<f32> = (0..inputs).map(row_of).collect();
        let got = product(set(), &matrix, &values);
        let mut weights = vec![0.0; inputs];
        for (output, got) in got.iter().enumerate() {
            row(kind(format), &bytes, output, &mut weights).unwrap();
            let pairs = || {
                weights
                    .iter()
                    .zip(&values)
                    .map(|(&w, &a)| f64::from(w) * f64::from(a))
            };
            let (expected, size): (f64, f64) = (pairs().sum(), pairs().map(f64::abs).sum());
            assert!(
                (f64::from(*got) - expected).abs() < 1e-5 * size,
                "{}: {got} for {expected}",
                format.name()
            );
        }
    }
}

#[test]
fn every_set_gives_the_same_bits_for_a_row_alone_and_in_company() {
    for format in Format::ALL {
        for (outputs, inputs) in widths(format)
            .into_iter()
            .zip([1, 16, 50, 33])
            .map(|(i, o)| (o, i))
        {
            let bytes = tensor(format, outputs, inputs, outputs);
            let matrix = pack(kind(format), &bytes, outputs, inputs).unwrap();
            let rows = activations(40, inputs, 3);
            let expected = product(Set::PORTABLE, &matrix, &rows);
            for set in Set::available() {
                for count in 1..=40 {
                    let some = &rows[(40 - count) * inputs..];
                    assert_eq!(
                        bits(&product(set, &matrix, some)),
                        bits(&expected[(40 - count) * outputs..]),
                        "{} [{outputs}][{inputs}] with {count} rows by {set}",
                        format.name()
                    );
                }
            }
        }
    }
}

#[test]
fn extreme_integers_overflow_nothing() {
    for format in Format::ALL.into_iter().filter(|format| !format.is_float()) {
        let (outputs, inputs) = (16, 512);
        for byte in [0x00, 0x80, 0x7F, 0xFF] {
            let mut bytes = tensor(format, outputs, inputs, 1);
            let (_, size) = format.block();
            let spared = tensor(format, outputs, inputs, 1);
            for (block, spared) in bytes.chunks_exact_mut(size).zip(spared.chunks_exact(size)) {
                block.fill(byte);
                // Steps and minima stay as they are.
                for half in format.halves() {
                    block[*half..half + 2].copy_from_slice(&spared[*half..half + 2]);
                }
            }
            let matrix = pack(kind(format), &bytes, outputs, inputs).unwrap();
            for sign in [1.0, -1.0] {
                let rows = vec![sign; 9 * inputs];
                let expected = product(Set::PORTABLE, &matrix, &rows);
                let mut weights = vec![0.0; inputs];
                row(kind(format), &bytes, 3, &mut weights).unwrap();
                let sum: f64 = weights.iter().map(|&weight| f64::from(weight * sign)).sum();
                assert!((f64::from(expected[3]) - sum).abs() <= 1e-4 * sum.abs() + 1e-3);
                for set in Set::available() {
                    assert_eq!(
                        bits(&product(set, &matrix, &rows)),
                        bits(&expected),
                        "{set}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_stays_none_and_harms_its_own_row_alone() {
    for format in Format::ALL {
        let (outputs, inputs) = (17, 256);
        let bytes = tensor(format, outputs, inputs, 2);
        let matrix = pack(kind(format), &bytes, outputs, inputs).unwrap();
        for damage in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let sound = activations(3, inputs, 11);
            let mut rows = sound.clone();
            rows[inputs + 77] = damage;
            for set in Set::available() {
                let (got, expected) = (product(set, &matrix, &rows), product(set, &matrix, &sound));
                assert_eq!(bits(&got[..outputs]), bits(&expected[..outputs]));
                assert_eq!(bits(&got[2 * outputs..]), bits(&expected[2 * outputs..]));
                let damaged = &got[outputs..2 * outputs];
                assert!(
                    damaged.iter().all(|value| !value.is_finite()),
                    "{}",
                    format.name()
                );
            }
        }
    }
}

#[test]
fn zeros_and_the_smallest_values_are_computed_with() {
    let bytes = tensor(Format::Q4_1, 16, 64, 2);
    let matrix = pack(TensorKind::Q4_1, &bytes, 16, 64).unwrap();
    for value in [0.0, -0.0, 1e-45, 1e-38] {
        let got = product(set(), &matrix, &[value; 64]);
        assert!(
            got.iter().all(|got| got.abs() < 1e-30),
            "{got:?} for {value:e}"
        );
    }
}

#[test]
fn several_matrices_share_rows() {
    let (a, b) = (
        tensor(Format::Q4_1, 40, 256, 1),
        tensor(Format::Q6K, 9, 256, 2),
    );
    let c = tensor(Format::F16, 3, 256, 2);
    let a = pack(kind(Format::Q4_1), &a, 40, 256).unwrap();
    let b = pack(kind(Format::Q6K), &b, 9, 256).unwrap();
    let c = pack(kind(Format::F16), &c, 3, 256).unwrap();
    let rows = activations(300, 256, 4);
    let (mut x, mut y, mut z) = (vec![0.0; 300 * 40], vec![0.0; 300 * 9], vec![0.0; 300 * 3]);
    let mut products = [
        Product {
            matrix: &a,
            out: &mut x,
        },
        Product {
            matrix: &b,
            out: &mut y,
        },
        Product {
            matrix: &c,
            out: &mut z,
        },
    ];
    multiply_all(set(), &Activations::new(&rows, 256), &mut products);
    assert_eq!(x, product(set(), &a, &rows));
    assert_eq!(y, product(set(), &b, &rows));
    assert_eq!(z, product(set(), &c, &rows));
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let bytes = tensor(Format::Q4K, 2, 256, 1);
    assert!(pack(kind(Format::Q4K), &bytes, 2, 256).is_ok());
    for (outputs, inputs) in [
        (1, 256),
        (2, 512),
        (2, 250),
        (usize::MAX, 256),
        (2, usize::MAX - 255),
    ] {
        let refused = pack(kind(Format::Q4K), &bytes, outputs, inputs).unwrap_err();
        assert!(matches!(refused, PackError::Shape { .. }), "{refused}");
    }
    let unknown = pack(TensorKind::from_number(16), &bytes, 2, 256).unwrap_err();
    assert!(matches!(unknown, PackError::Unsupported { .. }));
    let mut weights = [0.0; 256];
    assert!(row(kind(Format::Q4K), &bytes, 1, &mut weights).is_ok());
    assert!(row(kind(Format::Q4K), &bytes, 2, &mut weights).is_err());
    assert!(row(kind(Format::Q4K), &bytes, usize::MAX, &mut weights).is_err());
    assert!(row(kind(Format::Q4K), &bytes, 0, &mut weights[..255]).is_err());
}

#[test]
fn packed_bytes_are_what_packing_takes() {
    for format in Format::ALL {
        let bytes = tensor(format, 33, 512, 1);
        let matrix = pack(kind(format), &bytes, 33, 512).unwrap();
        let said = Matrix::packed_bytes(kind(format), 33, 512);
        assert_eq!(said, matrix.bytes() as u64, "{}", format.name());
    }
}

#[test]
fn blocks_are_decoded_as_their_authors_decode_them() {
    // Sums over the bits that `gguf.quants.dequantize` of the Python package `gguf` gives for the same bytes.
    let expected: [(Format, u64); 12] = [
        (Format::F16, 0x5842_9C68_E525_6325),
        (Format::BF16, 0xC0CD_1AA1_8708_C325),
        (Format::Q4_0, 0xF58D_CA57_27B0_CF25),
        (Format::Q4_1, 0x4762_CB03_B15B_F0A5),
        (Format::Q5_0, 0x70D4_6D33_74B8_DF25),
        (Format::Q5_1, 0xCF23_0FF7_072D_0055),
        (Format::Q8_0, 0x4EE9_257D_0FCA_E4E5),
        (Format::Q2K, 0x8996_5A3B_C49D_E7A5),
        (Format::Q3K, 0xF605_95E9_AEB7_96A5),
        (Format::Q4K, 0xFDFF_C140_8F68_C2ED),
        (Format::Q5K, 0x833A_8073_A7CE_AA95),
        (Format::Q6K, 0x4F01_9AF7_4AE1_4A9F),
    ];
    for (format, expected) in expected {
        let bytes = tensor(format, 1, 2048, 77);
        let mut weights = vec![0.0; 2048];
        row(kind(format), &bytes, 0, &mut weights).unwrap();
        let sum = check::sum_of_bits(&weights);
        assert_eq!(sum, expected, "{}: {sum:#018X}", format.name());
    }
}
