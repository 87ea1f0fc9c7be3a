//! What a matrix product needs of an instruction set.

/// Vectors of some lanes of 32 bits, each lane one output row.
///
/// # Safety
///
/// Every function may be called only on a processor that has the instructions, and only from a function compiled with
/// them (all are inlined into it). Pointers must be readable (or writable) for the bytes named; none need alignment.
#[allow(unsafe_code)]
pub(super) unsafe trait Isa {
    /// Lanes of a vector: a divisor of 16.
    const LANES: usize;
    /// Rows of activations that fit the registers beside a group of weights: 4 or 8.
    const ROWS: usize;
    /// Four bytes per lane.
    type Int: Copy;
    /// A float per lane.
    type Float: Copy;

    /// Reads `4 · LANES` bytes.
    unsafe fn load(from: *const u8) -> Self::Int;
    /// In every byte `(from >> shift) & mask`, where `mask` has no bits that come from a neighbour; a negative shift is to
    /// the left.
    unsafe fn field(from: Self::Int, shift: i32, mask: u8) -> Self::Int;
    /// `a | b`.
    unsafe fn or(a: Self::Int, b: Self::Int) -> Self::Int;
    /// Per lane, exactly: `Σ (weight − 2^OFFSET) · activation` over four inputs a vector; nothing is subtracted where
    /// `OFFSET` is 0. Weights are unsigned of `bits` bits, in order of their inputs. `minus` is `−Σ activation`.
    unsafe fn dot<const N: usize, const OFFSET: u32>(
        bits: usize,
        weights: [Self::Int; N],
        activations: *const i8,
        minus: i32,
    ) -> Self::Int;

    /// Integers as floats.
    unsafe fn float(from: Self::Int) -> Self::Float;
    /// The same value in every lane.
    unsafe fn splat(value: f32) -> Self::Float;
    /// `a · b`.
    unsafe fn mul(a: Self::Float, b: Self::Float) -> Self::Float;
    /// `a · b + c`, rounded once.
    unsafe fn mul_add(a: Self::Float, b: Self::Float, c: Self::Float) -> Self::Float;
    /// Reads `LANES` floats.
    unsafe fn load_f32(from: *const u8) -> Self::Float;
    /// Reads `LANES` floats of 16 bits.
    unsafe fn load_f16(from: *const u8) -> Self::Float;
    /// Reads `LANES` floats of 16 bits with the exponent of 32-bit ones.
    unsafe fn load_bf16(from: *const u8) -> Self::Float;
    /// Reads `LANES` signed bytes.
    unsafe fn load_i8(from: *const u8) -> Self::Float;
    /// Writes `LANES` floats.
    unsafe fn store(to: *mut f32, value: Self::Float);
    /// Tells the memory that a line will be read soon. Any address is allowed.
    unsafe fn prefetch(from: *const u8);
}
