//! Signers that a line has seen before: their signatures are checked from tables, without a single doubling.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use alloy_primitives::{Address, B256};
use k256::{
    AffinePoint, ProjectivePoint, Scalar,
    ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier},
    elliptic_curve::{
        BatchNormalize,
        ops::{Invert, Reduce},
        point::AffineCoordinates,
    },
};

use super::{Unchecked, Vault, Voucher, VoucherError};

/// Bits of a digit, for a signer: 73 kB of points, which live as long as its job.
const SIGNER_BITS: usize = 5;
/// And for the curve's own generator: 0.7 MB, once.
const GENERATOR_BITS: usize = 9;
/// Checks without a table. Making one costs what a few checks with it save, and a stranger who shows a single voucher shall not cost that.
const PLAIN_CHECKS: u32 = 2;

/// A signer that a line has seen before: its vouchers are checked without searching for who signed them.
#[derive(Clone)]
pub struct KnownSigner {
    key: VerifyingKey,
    address: Address,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    checks: AtomicU32,
    multiples: OnceLock<Multiples<SIGNER_BITS>>,
}

impl std::fmt::Debug for KnownSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownSigner")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl PartialEq for KnownSigner {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for KnownSigner {}

impl KnownSigner {
    /// Learns the signer of a line from its first voucher.
    ///
    /// # Errors
    /// [`VoucherError::Signature`].
    pub fn of(vault: &Vault, voucher: &Voucher<Unchecked>) -> Result<Self, VoucherError> {
        let key = vault.recover_key(&voucher.typed(), &voucher.state.signature)?;
        Ok(Self {
            key,
            address: Address::from_public_key(&key),
            seen: Arc::default(),
        })
    }

    /// Under which address the vault knows it.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Whether it signed this digest.
    pub(super) fn signed(&self, digest: &B256, signature: &Signature) -> bool {
        if self.seen.checks.fetch_add(1, Ordering::Relaxed) < PLAIN_CHECKS {
            return self
                .key
                .verify_prehash(digest.as_slice(), signature)
                .is_ok();
        }
        let multiples = self
            .seen
            .multiples
            .get_or_init(|| Multiples::of(&(*self.key.as_affine()).into()));
        verify(multiples, digest, signature)
    }
}

/// FIPS 186-5, section 6.4.2. Nothing of it is secret, so its time may depend on it.
fn verify(key: &Multiples<SIGNER_BITS>, digest: &B256, signature: &Signature) -> bool {
    let (r, s) = signature.split_scalars();
    let Some(inverse) = Option::<Scalar>::from(s.as_ref().invert_vartime()) else {
        return false;
    };
    let digest = <Scalar as Reduce<k256::U256>>::reduce_bytes(&digest.0.into());
    let mut point = ProjectivePoint::IDENTITY;
    generator().add(&mut point, &(digest * inverse));
    key.add(&mut point, &(*r * inverse));
    // The point at infinity has an x of zero, which is no r.
    let x = point.to_affine().x();
    <Scalar as Reduce<k256::U256>>::reduce_bytes(&x) == *r
}

/// Every value of every digit of a scalar, times a point. Digits have signs, which halves what there is to keep: a negative one is the
/// point of its amount, taken off.
struct Multiples<const BITS: usize>(Vec<AffinePoint>);

impl<const BITS: usize> Multiples<BITS> {
    /// Values of a digit but zero and the negative ones.
    const VALUES: usize = 1 << (BITS - 1);
    /// Digits of a scalar: one more than its 256 bits fill, for what the highest carries.
    const DIGITS: usize = 256 / BITS + 1;

    fn of(point: &ProjectivePoint) -> Self {
        let mut points = Vec::with_capacity(Self::DIGITS * Self::VALUES);
        let mut unit = *point;
        for _ in 0..Self::DIGITS {
            let mut multiple = unit;
            for _ in 1..Self::VALUES {
                points.push(multiple);
                multiple += unit;
            }
            points.push(multiple);
            // The next digit's unit: twice the highest value of this one.
            unit = multiple.double();
        }
        Self(<ProjectivePoint as BatchNormalize<[ProjectivePoint]>>::batch_normalize(&points))
    }

    /// Adds the point, times the scalar.
    fn add(&self, sum: &mut ProjectivePoint, scalar: &Scalar) {
        let digits = (0..Self::DIGITS).map(digits_of::<BITS>(scalar));
        for (row, digit) in self.0.chunks_exact(Self::VALUES).zip(digits) {
            match usize::try_from(digit) {
                Ok(0) => {}
                Ok(amount) => *sum += &row[amount - 1],
                Err(_) => *sum -= &row[digit.unsigned_abs() as usize - 1],
            }
        }
    }
}

/// The digits of a scalar by their place, the lowest first, each between -2^(BITS-1) and 2^(BITS-1): Booth's recoding, by which a digit
/// looks at its own bits and at the highest one below them.
fn digits_of<const BITS: usize>(scalar: &Scalar) -> impl Fn(usize) -> i32 {
    let bytes = scalar.to_bytes();
    // Shifted by one bit, for the one below the lowest; a digit spans two bytes' end at most, and the highest reaches beyond.
    let mut bits = [0u64; 6];
    for (place, byte) in bytes.iter().rev().enumerate() {
        let wide = u64::from(*byte) << 1;
        let (limb, shift) = (place / 8, place % 8 * 8);
        bits[limb] |= wide << shift;
        if shift == 56 {
            bits[limb + 1] |= wide >> 8;
        }
    }
    move |place| {
        let (limb, shift) = (place * BITS / 64, place * BITS % 64);
        let wide = u128::from(bits[limb]) | u128::from(bits[limb + 1]) << 64;
        let seen = (wide >> shift) as i32 & ((2 << BITS) - 1);
        let carried = (seen + 1) >> 1;
        match seen >> BITS {
            0 => carried,
            _ => carried - (1 << BITS),
        }
    }
}

fn generator() -> &'static Multiples<GENERATOR_BITS> {
    static GENERATOR: OnceLock<Multiples<GENERATOR_BITS>> = OnceLock::new();
    GENERATOR.get_or_init(|| Multiples::of(&ProjectivePoint::GENERATOR))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use k256::ecdsa::SigningKey;

    use super::*;

    /// The library's own check is the model: over many digests, keys, and signatures that are not theirs.
    #[test]
    fn a_table_says_what_the_library_says() {
        // The last one is the highest secret there is: one below the order.
        let highest: [u8; 32] = (-Scalar::ONE).to_bytes().into();
        for secret in [[1; 32], [0x77; 32], highest] {
            let key = SigningKey::from_slice(&secret).unwrap();
            let public = key.verifying_key();
            let table = Multiples::of(&(*public.as_affine()).into());
            let mut digest = B256::ZERO;
            let mut other = B256::repeat_byte(0xff);
            for _ in 0..40 {
                let (signature, _) = key.sign_prehash_recoverable(digest.as_slice()).unwrap();
                for asked in [digest, other, B256::ZERO, B256::repeat_byte(0xff)] {
                    let theirs = public.verify_prehash(asked.as_slice(), &signature);
                    assert_eq!(verify(&table, &asked, &signature), theirs.is_ok());
                }
                assert!(verify(&table, &digest, &signature));
                other = digest;
                digest = alloy_primitives::keccak256(digest);
            }
        }
    }
}
