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

/// Bits of a digit, for a signer: 84 kB of points, which live as long as its job.
const SIGNER_BITS: usize = 4;
/// And for the curve's own generator: 0.7 MB, once.
const GENERATOR_BITS: usize = 8;
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

/// Every value of every digit of a scalar, times a point. Digits have 4 or 8 bits, the lowest first.
struct Multiples<const BITS: usize>(Vec<AffinePoint>);

impl<const BITS: usize> Multiples<BITS> {
    /// Values of a digit but zero.
    const VALUES: usize = (1 << BITS) - 1;

    fn of(point: &ProjectivePoint) -> Self {
        let digits = 256 / BITS;
        let mut points = Vec::with_capacity(digits * Self::VALUES);
        let mut unit = *point;
        for _ in 0..digits {
            let mut multiple = unit;
            for _ in 0..Self::VALUES {
                points.push(multiple);
                multiple += unit;
            }
            // The next digit's unit: one more than the highest value of this one.
            unit = multiple;
        }
        Self(<ProjectivePoint as BatchNormalize<[ProjectivePoint]>>::batch_normalize(&points))
    }

    /// Adds the point, times the scalar.
    fn add(&self, sum: &mut ProjectivePoint, scalar: &Scalar) {
        let bytes = scalar.to_bytes();
        let digits = bytes.iter().rev().flat_map(|byte| {
            (0..8 / BITS).map(move |digit| usize::from(*byte) >> (digit * BITS) & Self::VALUES)
        });
        for (row, digit) in self.0.chunks_exact(Self::VALUES).zip(digits) {
            if let Some(multiple) = digit.checked_sub(1) {
                *sum += &row[multiple];
            }
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
