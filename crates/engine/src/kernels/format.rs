//! How weights are stored, in a file and packed.
//!
//! Packed, 16 output rows lie side by side (a *strip*). A group is 32 inputs of a strip: eight vectors of 64 bytes, each
//! with four consecutive inputs of every row, so that a lane of 32 bits belongs to one output and no sum crosses lanes.
//! Integers of fewer than eight bits are split into planes: nibbles of vectors `t` and `t + 4` share a byte, pairs of bits
//! of four vectors, single bits of eight. Every block has its scales in front. Nothing is rounded again, and nothing but
//! scales of six bits grows.

use crate::file::TensorKind;

/// Outputs of a strip.
pub(super) const STRIP: usize = 16;

/// Inputs that share a scale of the activations.
pub(super) const GROUP: usize = 32;

/// The storage formats that matrices can be multiplied in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Format {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Format {
    /// All of them.
    pub(crate) const ALL: [Self; 13] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
    ];

    /// The format of a tensor, where there is code for it.
    pub(crate) fn of(kind: TensorKind) -> Option<Self> {
        let name = kind.to_string();
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Its name in the GGUF specification.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        }
    }

    /// Weights and bytes of a block in a file.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }

    /// Where in a block the steps and minima are, floats of 16 bits.
    pub(super) fn halves(self) -> &'static [usize] {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => &[],
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => &[0],
            Self::Q4_1 | Self::Q5_1 | Self::Q4K | Self::Q5K => &[0, 2],
            Self::Q2K => &[80, 82],
            Self::Q3K => &[108],
            Self::Q6K => &[208],
        }
    }

    /// Whether weights are floats and not integers.
    pub(super) fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16)
    }

    /// A weight as a file holds it, where weights are floats.
    pub(super) fn encode(self, weight: f32) -> Option<Vec<u8>> {
        if self == Self::F32 {
            return Some(weight.to_le_bytes().to_vec());
        }
        if self == Self::F16 {
            return Some(half::f16::from_f32(weight).to_le_bytes().to_vec());
        }
        (self == Self::BF16).then(|| half::bf16::from_f32(weight).to_le_bytes().to_vec())
    }

    /// What is taken off the unsigned integers.
    pub(super) fn offset(self) -> i32 {
        match self {
            Self::Q4_0 => 8,
            Self::Q5_0 => 16,
            Self::Q8_0 => 128,
            Self::Q3K => 4,
            Self::Q6K => 32,
            Self::F32
            | Self::F16
            | Self::BF16
            | Self::Q4_1
            | Self::Q5_1
            | Self::Q2K
            | Self::Q4K
            | Self::Q5K => 0,
        }
    }

    /// Whether blocks have minima.
    pub(super) fn has_mins(self) -> bool {
        matches!(
            self,
            Self::Q4_1 | Self::Q5_1 | Self::Q2K | Self::Q4K | Self::Q5K
        )
    }

    /// The planes that integers are split into.
    pub(super) fn planes(self) -> &'static [Plane] {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => &[],
            Self::Q4_0 | Self::Q4_1 | Self::Q4K => &[Plane::Nibbles],
            Self::Q5_0 | Self::Q5_1 | Self::Q5K => &[Plane::Nibbles, Plane::Bits],
            Self::Q6K => &[Plane::Nibbles, Plane::Pairs],
            Self::Q2K => &[Plane::Pairs],
            Self::Q3K => &[Plane::Pairs, Plane::Bits],
            Self::Q8_0 => &[Plane::Bytes],
        }
    }

    /// Bytes of a packed group's integers.
    pub(super) fn group_bytes(self) -> usize {
        self.planes().iter().map(|plane| plane.vectors() * 64).sum()
    }

    /// Bytes of a packed strip's scales per block.
    pub(super) fn scale_bytes(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 0,
            Self::Q4_0 | Self::Q5_0 | Self::Q8_0 => 2 * STRIP,
            Self::Q4_1 | Self::Q5_1 => 4 * STRIP,
            Self::Q3K | Self::Q6K => (2 + 16) * STRIP,
            Self::Q4K | Self::Q5K => (4 + 16) * STRIP,
            Self::Q2K => (4 + 32) * STRIP,
        }
    }
}

/// Bits of the integers of a group that are stored together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plane {
    Bytes,
    Nibbles,
    Pairs,
    Bits,
}

impl Plane {
    /// Bits of an integer in this plane.
    pub(super) fn bits(self) -> usize {
        match self {
            Self::Bytes => 8,
            Self::Nibbles => 4,
            Self::Pairs => 2,
            Self::Bits => 1,
        }
    }

    /// Vectors of 64 bytes per group.
    pub(super) fn vectors(self) -> usize {
        self.bits()
    }
}
