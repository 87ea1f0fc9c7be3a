//! What a job costs: prices in base units per million tokens, and the sum that is due.

use bytes::Bytes;

/// Tokens that a price is quoted for.
const TOKENS_PER_PRICE: u64 = 1_000_000;

/// Base units of the paying token per 10⁶ model tokens. On the wire: 16 bytes big-endian, or none for free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(u128);

impl Price {
    /// Nothing.
    pub const FREE: Self = Self(0);

    /// A price from its base units per 10⁶ tokens.
    pub const fn new(base_units_per_mtok: u128) -> Self {
        Self(base_units_per_mtok)
    }

    /// Base units per 10⁶ tokens.
    pub const fn base_units_per_mtok(self) -> u128 {
        self.0
    }

    /// On the wire: 16 bytes big-endian, or none at all when free.
    pub fn to_wire(self) -> Bytes {
        match self.0 {
            0 => Bytes::new(),
            units => Bytes::copy_from_slice(&to_bytes(units)),
        }
    }

    /// Reads it; `None` for a wrong length.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        from_bytes(bytes).map(Self)
    }
}

/// The three prices of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// Per input token that had to be computed.
    pub input: Price,
    /// Per input token found in the provider's cache.
    pub cached: Price,
    /// Per output token.
    pub output: Price,
}

impl Prices {
    /// Whether one of the three is higher than its counterpart.
    pub fn exceed(&self, other: &Prices) -> bool {
        self.input > other.input || self.cached > other.cached || self.output > other.output
    }

    /// Whether a token in the cache costs no more than one that is computed. Nobody agrees to other prices: what is cached is
    /// the provider's word.
    pub fn favour_cached(&self) -> bool {
        self.cached <= self.input
    }

    /// All three zero.
    pub const FREE: Self = Self {
        input: Price::FREE,
        cached: Price::FREE,
        output: Price::FREE,
    };

    /// True when nothing can ever be due.
    pub fn is_free(&self) -> bool {
        *self == Self::FREE
    }
}

/// Tokens of a whole job, the basis of what is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Input tokens, without the cached ones.
    pub input: u64,
    /// Input tokens found in the cache.
    pub cached: u64,
    /// Output tokens.
    pub output: u64,
}

/// `ceil((in·p_in + cached·p_cached + out·p_out) / 10⁶)` base units, computed on a job's totals with a 256-bit sum
/// so that it neither overflows nor rounds. `None` when the result itself does not fit 128 bits.
pub fn due(prices: &Prices, totals: &Totals) -> Option<u128> {
    let mut sum = Wide::default();
    sum.add_product(prices.input.0, totals.input);
    sum.add_product(prices.cached.0, totals.cached);
    sum.add_product(prices.output.0, totals.output);
    sum.div_ceil(TOKENS_PER_PRICE)
}

/// What a job is charged by, as its quote said: the prices, and how much of its input costs no more than what is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The prices.
    pub prices: Prices,
    /// The tokens that the input begins with and that count as cached, wherever they are by then.
    cached: u32,
}

impl Terms {
    /// Terms of these prices, of which this many of the first input tokens count as cached. Where nothing is due, none are
    /// counted apart.
    pub fn new(prices: Prices, cached: u32) -> Self {
        let cached = if prices.is_free() { 0 } else { cached };
        Self { prices, cached }
    }

    /// A job's totals once `read` tokens of its input were read and `output` ones written.
    pub fn totals(&self, read: u32, output: u32) -> Totals {
        let cached = read.min(self.cached);
        Totals {
            input: u64::from(read - cached),
            cached: u64::from(cached),
            output: u64::from(output),
        }
    }

    /// The sum that is due for input that was read and output that was written; the largest there is where it does not fit, which
    /// nobody can pay.
    pub(crate) fn due(&self, read: u32, output: u32) -> u128 {
        due(&self.prices, &self.totals(read, output)).unwrap_or(u128::MAX)
    }

    /// How many output tokens, `most` at most, a sum pays for behind that much input; `None` where it does not pay for the input.
    pub(crate) fn output_for(&self, read: u32, sum: u128, most: u32) -> Option<u32> {
        if self.due(read, 0) > sum {
            return None;
        }
        largest(most, |tokens| self.due(read, tokens) <= sum)
    }

    /// How many input tokens, `most` at most, a sum pays for.
    pub(crate) fn input_for(&self, sum: u128, most: u32) -> u32 {
        largest(most, |tokens| self.due(tokens, 0) <= sum).unwrap_or(0)
    }
}

/// The largest number up to `most`, which is below 2³² − 1, that is within: all up to some number are, and 0 is.
fn largest(most: u32, within: impl Fn(u32) -> bool) -> Option<u32> {
    let (mut low, mut high) = (0, most.checked_add(1)?);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if within(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some(low)
}

impl From<Prices> for Terms {
    /// Nothing is cached.
    fn from(prices: Prices) -> Self {
        Self::new(prices, 0)
    }
}

/// A sum on the wire: 16 bytes big-endian.
pub fn to_bytes(amount: u128) -> [u8; 16] {
    amount.to_be_bytes()
}

/// Reads a price or sum: 16 bytes big-endian, or none at all for zero. `None` for any other length.
pub fn from_bytes(bytes: &[u8]) -> Option<u128> {
    if bytes.is_empty() {
        return Some(0);
    }
    bytes.try_into().ok().map(u128::from_be_bytes)
}

/// 256 bits in four little-endian limbs. Three products of 128 by 64 bits sum to less than 2¹⁹⁴.
#[derive(Clone, Copy, Debug, Default)]
struct Wide([u64; 4]);

impl Wide {
    fn add_product(&mut self, price: u128, tokens: u64) {
        let low = (price as u64 as u128) * u128::from(tokens);
        let high = (price >> 64) * u128::from(tokens);
        self.add_at(0, low);
        self.add_at(1, high);
    }

    fn add_at(&mut self, limb: usize, value: u128) {
        let mut carry = value;
        for slot in &mut self.0[limb..] {
            let sum = u128::from(*slot) + u128::from(carry as u64);
            *slot = sum as u64;
            // At most 2^64 - 1 plus one: it cannot overflow.
            carry = (carry >> 64) + (sum >> 64);
        }
    }

    fn div_ceil(self, divisor: u64) -> Option<u128> {
        let mut quotient = [0u64; 4];
        let mut rest = 0u128;
        for limb in (0..4).rev() {
            let value = (rest << 64) | u128::from(self.0[limb]);
            quotient[limb] = (value / u128::from(divisor)) as u64;
            rest = value % u128::from(divisor);
        }
        if quotient[2] != 0 || quotient[3] != 0 {
            return None;
        }
        let floor = (u128::from(quotient[1]) << 64) | u128::from(quotient[0]);
        if rest == 0 {
            Some(floor)
        } else {
            floor.checked_add(1)
        }
    }
}
