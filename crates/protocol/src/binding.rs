//! The tie between a peer and the account that is paid for what it serves, signed by both: the peer's Ed25519 key says
//! "this account is mine", the account's secp256k1 key says "this peer is mine". With either alone somebody could wear
//! another's good name, or send another's money to himself.
//!
//! A binding travels in offers as the bytes of a [`SignedBinding`] message: the payload's exact bytes, the peer's
//! signature over them, and the account's over the same fields as EIP-712 typed data, which a wallet shows before it
//! signs and a contract can check.

use alloy_primitives::{Address, B256, Signature, U256};
use alloy_sol_types::{Eip712Domain, SolStruct, sol};
use bytes::Bytes;
use k256::ecdsa::SigningKey;
use prost::Message as _;

use crate::{
    Clock, MAX_CLOCK_SKEW_MS, NetworkId, PeerId, SignatureError, Signer, offer::ACCOUNT, verify,
};

/// Domain of the peer's signature.
pub const DOMAIN: &str = "decentralgpt/binding/1";
/// Name in the EIP-712 domain of the account's signature.
pub const EIP712_NAME: &str = "decentralgpt";
/// Version in that domain.
pub const EIP712_VERSION: &str = "1";
/// A binding is made anew at least this often, so that an account whose key is lost comes free: 90 days.
pub const MAX_LIFETIME_MS: u64 = 90 * 24 * 60 * 60 * 1000;
/// Bytes of a binding with its two signatures, about 100 and 64 + 65 of them.
pub const MAX_BINDING: usize = 512;
/// Bytes of an account's signature: r, s, and 27 or 28.
const OPERATOR_SIGNATURE: usize = 65;

/// Who is paid for what a peer serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The network it holds in.
    pub network: NetworkId,
    /// The peer.
    pub peer: PeerId,
    /// The chain that the account is on.
    pub chain_id: u64,
    /// The account.
    pub operator: [u8; ACCOUNT],
    /// When it begins, Unix milliseconds.
    pub not_before_unix_ms: u64,
    /// When it ends, Unix milliseconds.
    pub not_after_unix_ms: u64,
    /// A higher number of the same peer takes the place of a lower one.
    pub serial: u64,
}

/// A binding whose two signatures hold, and its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBinding {
    /// What it says.
    pub binding: Binding,
    /// As it travels.
    bytes: Bytes,
}

/// Why a binding was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// Too large.
    #[error("a binding of {len} bytes came where {MAX_BINDING} are allowed")]
    TooLarge {
        /// Bytes that came.
        len: usize,
    },
    /// No such protobuf.
    #[error("the binding cannot be decoded")]
    Undecodable,
    /// The peer's signature does not hold.
    #[error("the peer did not sign the binding: {0}")]
    Node(#[from] SignatureError),
    /// A version that is not known here.
    #[error("bindings of version {0} are not known here")]
    Version(u32),
    /// A field is of the wrong size.
    #[error("{0} in the binding is malformed")]
    Malformed(&'static str),
    /// It binds another peer than the one that signed it.
    #[error("the binding speaks for another peer")]
    OtherPeer,
    /// It holds in another network.
    #[error("the binding belongs to another network")]
    OtherNetwork,
    /// It lives for longer than bindings do.
    #[error("the binding lives for {lifetime_ms} ms, {MAX_LIFETIME_MS} are allowed")]
    LivesTooLong {
        /// From beginning to end.
        lifetime_ms: u64,
    },
    /// It has not begun.
    #[error("the binding begins {ahead_ms} ms from now")]
    NotYet {
        /// How far ahead.
        ahead_ms: u64,
    },
    /// Its time is over.
    #[error("the binding ended {ago_ms} ms ago")]
    Expired {
        /// How long ago.
        ago_ms: u64,
    },
    /// The account's signature has no valid form: its length, its recovery byte, or an `s` in the upper half, of which
    /// there would be two for every message.
    #[error("the account's signature is malformed")]
    OperatorForm,
    /// The account's signature is another account's, or over something else.
    #[error("the account did not sign the binding")]
    Operator,
}

/// The key of an account that is paid. It signs nothing but what this crate gives it.
#[derive(Clone)]
pub struct OperatorSigner(SigningKey);

impl OperatorSigner {
    /// The account of this secret; `None` when it is no secret of secp256k1: zero, or not below the curve's order.
    pub fn from_secret(secret: &[u8; 32]) -> Option<Self> {
        SigningKey::from_slice(secret).ok().map(Self)
    }

    /// The account's address.
    pub fn account(&self) -> [u8; ACCOUNT] {
        Address::from_private_key(&self.0).into_array()
    }

    /// r, s in the lower half, and 27 or 28, by RFC 6979: the same digest gives the same bytes. `None` would be a nonce of
    /// zero, which no digest is known to lead to.
    fn sign(&self, digest: &B256) -> Option<[u8; OPERATOR_SIGNATURE]> {
        let signature = self.0.sign_prehash_recoverable(digest.as_slice()).ok()?;
        Some(Signature::from(signature).normalized_s().as_bytes())
    }
}

impl std::fmt::Debug for OperatorSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OperatorSigner")
            .field(&hex::encode(self.account()))
            .finish()
    }
}

impl Binding {
    /// Signs it with both keys. The binding's `peer` and `operator` become the signers'. `None` only where
    /// the account's key cannot sign, see [`OperatorSigner`].
    pub fn sign(mut self, node: &Signer, operator: &OperatorSigner) -> Option<SignedBinding> {
        (self.peer, self.operator) = (node.peer_id(), operator.account());
        let payload = self.payload();
        let wire = wire::SignedBinding {
            sig_node: Bytes::copy_from_slice(&node.sign(DOMAIN, &payload)),
            sig_operator: Bytes::copy_from_slice(&operator.sign(&self.operator_digest())?),
            payload,
        };
        Some(SignedBinding {
            binding: self,
            bytes: Bytes::from(wire.encode_to_vec()),
        })
    }

    /// The bytes that the peer signs.
    fn payload(&self) -> Bytes {
        let wire = wire::Binding {
            v: 1,
            network_id: self.network.as_str().to_owned(),
            peer_id: Bytes::copy_from_slice(self.peer.as_bytes()),
            chain_id: self.chain_id,
            operator: Bytes::copy_from_slice(&self.operator),
            not_before: self.not_before_unix_ms,
            not_after: self.not_after_unix_ms,
            serial: self.serial,
        };
        Bytes::from(wire.encode_to_vec())
    }

    /// The 32 bytes that the account signs: EIP-712 with the domain `(name "decentralgpt", version "1", chainId)`.
    pub fn operator_digest(&self) -> B256 {
        let domain = Eip712Domain {
            name: Some(EIP712_NAME.into()),
            version: Some(EIP712_VERSION.into()),
            chain_id: Some(U256::from(self.chain_id)),
            verifying_contract: None,
            salt: None,
        };
        typed::Binding {
            v: 1,
            networkId: self.network.as_str().to_owned(),
            peerId: self.peer.as_bytes().to_vec().into(),
            chainId: self.chain_id,
            operator: Address::from(self.operator),
            notBefore: self.not_before_unix_ms,
            notAfter: self.not_after_unix_ms,
            serial: self.serial,
        }
        .eip712_signing_hash(&domain)
    }

    fn decode(payload: &Bytes) -> Result<Self, BindingError> {
        let wire = wire::Binding::decode(payload.clone()).map_err(|_| BindingError::Undecodable)?;
        if wire.v != 1 {
            return Err(BindingError::Version(wire.v));
        }
        if wire.chain_id == 0 {
            return Err(BindingError::Malformed("chain_id"));
        }
        Ok(Self {
            network: NetworkId::new(wire.network_id)
                .map_err(|_| BindingError::Malformed("network_id"))?,
            peer: PeerId::from_bytes(&wire.peer_id)
                .map_err(|_| BindingError::Malformed("peer_id"))?,
            chain_id: wire.chain_id,
            operator: wire
                .operator
                .as_ref()
                .try_into()
                .map_err(|_| BindingError::Malformed("operator"))?,
            not_before_unix_ms: wire.not_before,
            not_after_unix_ms: wire.not_after,
            serial: wire.serial,
        })
    }

    fn in_time(&self, now: Clock) -> Result<(), BindingError> {
        let lifetime_ms = self
            .not_after_unix_ms
            .checked_sub(self.not_before_unix_ms)
            .ok_or(BindingError::Malformed("not_after"))?;
        if lifetime_ms > MAX_LIFETIME_MS {
            return Err(BindingError::LivesTooLong { lifetime_ms });
        }
        if self.not_before_unix_ms > now.unix_ms.saturating_add(MAX_CLOCK_SKEW_MS) {
            return Err(BindingError::NotYet {
                ahead_ms: self.not_before_unix_ms - now.unix_ms,
            });
        }
        if self.not_after_unix_ms <= now.unix_ms {
            return Err(BindingError::Expired {
                ago_ms: now.unix_ms - self.not_after_unix_ms,
            });
        }
        Ok(())
    }
}

impl SignedBinding {
    /// As it travels.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Checks the peer's signature, decodes, checks that it is about this peer and network and in its time, and then the
    /// account's signature, which costs most.
    pub fn verify_then_decode(
        bytes: &Bytes,
        peer: &PeerId,
        network: &NetworkId,
        now: Clock,
    ) -> Result<Self, BindingError> {
        if bytes.len() > MAX_BINDING {
            return Err(BindingError::TooLarge { len: bytes.len() });
        }
        let wire =
            wire::SignedBinding::decode(bytes.clone()).map_err(|_| BindingError::Undecodable)?;
        verify(peer, DOMAIN, &wire.payload, &wire.sig_node)?;
        let binding = Binding::decode(&wire.payload)?;
        if binding.peer != *peer {
            return Err(BindingError::OtherPeer);
        }
        if binding.network != *network {
            return Err(BindingError::OtherNetwork);
        }
        binding.in_time(now)?;
        let signature = operator_signature(&wire.sig_operator)?;
        let signer = signature
            .recover_address_from_prehash(&binding.operator_digest())
            .map_err(|_| BindingError::Operator)?;
        if signer.into_array() != binding.operator {
            return Err(BindingError::Operator);
        }
        Ok(Self {
            binding,
            bytes: bytes.clone(),
        })
    }
}

/// Reads r, s and 27 or 28, in the one form that is allowed.
fn operator_signature(bytes: &[u8]) -> Result<Signature, BindingError> {
    let bytes: &[u8; OPERATOR_SIGNATURE] =
        bytes.try_into().map_err(|_| BindingError::OperatorForm)?;
    if !matches!(bytes[OPERATOR_SIGNATURE - 1], 27 | 28) {
        return Err(BindingError::OperatorForm);
    }
    let signature = Signature::from_raw_array(bytes).map_err(|_| BindingError::OperatorForm)?;
    // In the upper half of the curve's order: the same signature in its other form.
    if signature.normalize_s().is_some() {
        return Err(BindingError::OperatorForm);
    }
    Ok(signature)
}

/// The typed data, whose field names a wallet shows.
mod typed {
    use super::sol;

    sol! {
        #[derive(Debug)]
        struct Binding {
            uint32 v;
            string networkId;
            bytes peerId;
            uint64 chainId;
            address operator;
            uint64 notBefore;
            uint64 notAfter;
            uint64 serial;
        }
    }
}

/// Field numbers.
mod wire {
    use bytes::Bytes;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SignedBinding {
        #[prost(bytes = "bytes", tag = "1")]
        pub(super) payload: Bytes,
        #[prost(bytes = "bytes", tag = "2")]
        pub(super) sig_node: Bytes,
        #[prost(bytes = "bytes", tag = "3")]
        pub(super) sig_operator: Bytes,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Binding {
        #[prost(uint32, tag = "1")]
        pub(super) v: u32,
        #[prost(string, tag = "2")]
        pub(super) network_id: String,
        #[prost(bytes = "bytes", tag = "3")]
        pub(super) peer_id: Bytes,
        #[prost(uint64, tag = "4")]
        pub(super) chain_id: u64,
        #[prost(bytes = "bytes", tag = "5")]
        pub(super) operator: Bytes,
        #[prost(uint64, tag = "6")]
        pub(super) not_before: u64,
        #[prost(uint64, tag = "7")]
        pub(super) not_after: u64,
        #[prost(uint64, tag = "8")]
        pub(super) serial: u64,
    }
}
