//! Amounts: base units as 128 bits, on disk as 16 bytes that SQLite orders as numbers, in JSON as decimal text.

use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, Value};

use crate::LedgerError;

/// An amount on its way into a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Amount(pub(super) u128);

impl ToSql for Amount {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Owned(Value::Blob(
            self.0.to_be_bytes().to_vec(),
        )))
    }
}

/// Reads a column of 16 bytes.
pub(super) fn amount(row: &Row<'_>, index: usize) -> Result<u128, LedgerError> {
    crate::handle::blob(row, index).map(u128::from_be_bytes)
}

/// A sum of amounts. It holds 2⁶⁴ of them whatever they are: a stranger may sign totals near the end of 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sum {
    high: u64,
    low: u128,
}

impl Sum {
    pub(super) fn add(&mut self, amount: u128) {
        let (low, carried) = self.low.overflowing_add(amount);
        self.low = low;
        self.high += u64::from(carried);
    }

    pub(super) fn plus(mut self, amount: u128) -> Self {
        self.add(amount);
        self
    }

    pub(super) fn and(self, other: Self) -> Self {
        let mut sum = self.plus(other.low);
        sum.high += other.high;
        sum
    }

    /// What is left above `other`; zero where that is more.
    pub(super) fn minus(self, other: Self) -> Self {
        if self <= other {
            return Self::default();
        }
        let (low, borrowed) = self.low.overflowing_sub(other.low);
        Self {
            high: self.high - other.high - u64::from(borrowed),
            low,
        }
    }

    /// The sum where it fits, and the highest amount where it does not: more than anybody has in either case.
    pub(super) fn clamped(self) -> u128 {
        if self.high == 0 { self.low } else { u128::MAX }
    }
}

impl From<u128> for Sum {
    fn from(low: u128) -> Self {
        Self { high: 0, low }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.high == 0 {
            write!(f, "{}", self.low)
        } else {
            write!(f, "0x{:x}{:032x}", self.high, self.low)
        }
    }
}

impl std::iter::Sum<u128> for Sum {
    fn sum<I: Iterator<Item = u128>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Self::plus)
    }
}

/// Decimal text in JSON: its numbers are exact to 53 bits in most readers.
pub(crate) mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(amount: &u128, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&amount.to_string())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Hexadecimal text in JSON for addresses and digests.
pub(crate) mod hexadecimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.serialize_str(&super::hex(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        from: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(from)?;
        super::unhex(&text).ok_or_else(|| D::Error::custom("not 0x and the right number of digits"))
    }
}

/// `0x` and two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("0x".to_owned()).chain(digits).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_ordered_as_the_numbers_are() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE t (a BLOB PRIMARY KEY)")
            .unwrap();
        let mut amounts = [
            0,
            1,
            255,
            256,
            u128::from(u64::MAX),
            1 << 64,
            1 << 127,
            u128::MAX,
        ];
        for amount in amounts.iter().rev() {
            connection
                .execute("INSERT INTO t VALUES (?1)", [Amount(*amount)])
                .unwrap();
        }
        amounts.sort_unstable();
        let mut statement = connection.prepare("SELECT a FROM t ORDER BY a").unwrap();
        let mut rows = statement.query([]).unwrap();
        for expected in amounts {
            assert_eq!(amount(rows.next().unwrap().unwrap(), 0).unwrap(), expected);
        }
    }

    #[test]
    fn a_sum_goes_past_128_bits_and_comes_back() {
        let mut sum = Sum::default();
        for _ in 0..5 {
            sum.add(u128::MAX);
        }
        assert_eq!(sum.clamped(), u128::MAX);
        assert_eq!(sum.to_string(), format!("0x4{:032x}", u128::MAX - 4));
        let four: Sum = [u128::MAX; 4].into_iter().sum();
        assert_eq!(sum.minus(four).clamped(), u128::MAX);
        assert_eq!(sum.minus(four), Sum::from(u128::MAX));
        assert_eq!(four.minus(sum), Sum::default());
    }
}
