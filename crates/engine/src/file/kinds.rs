//! How tensors are stored: the formats of the GGUF specification, by number.

use std::fmt;

/// A storage format. Values come in blocks of a fixed number of elements and bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorKind(u32);

/// Number, name, elements and bytes of a block.
const KNOWN: [(u32, &str, u64, u64); 31] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
];

impl TensorKind {
    /// 32-bit floats.
    pub const F32: Self = Self(0);
    /// 16-bit floats.
    pub const F16: Self = Self(1);
    /// Blocks of 32 at 4 bits with a scale and a minimum.
    pub const Q4_1: Self = Self(3);
    /// Blocks of 32 at 8 bits with a scale.
    pub const Q8_0: Self = Self(8);

    /// The format of that number, known or not.
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// Its number in the specification.
    pub fn number(self) -> u32 {
        self.0
    }

    /// Elements and bytes of one block, where the format is known.
    pub fn block(self) -> Option<(u64, u64)> {
        self.known().map(|(_, elements, bytes)| (elements, bytes))
    }

    fn known(self) -> Option<(&'static str, u64, u64)> {
        KNOWN
            .iter()
            .find(|kind| kind.0 == self.0)
            .map(|&(_, name, elements, bytes)| (name, elements, bytes))
    }
}

impl fmt::Display for TensorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, ..)) => f.write_str(name),
            None => write!(f, "format {}", self.0),
        }
    }
}
