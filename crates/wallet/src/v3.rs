//! One key in the format that other wallets of Ethereum give and take: Web3 Secret Storage, version 3.
//!
//! The format and its two test vectors are those of
//! <https://ethereum.org/en/developers/docs/data-structures-and-encoding/web3-secret-storage/>. It is weaker than our own
//! file (no checksum of its own, and a cost that the writer chooses), so it is read and written and never kept.

use aes::{
    Aes128,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use alloy_primitives::keccak256;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{error::WalletError, secret::Secret, typed::Typed};

/// Files of wallets have half a kilobyte; some carry a name or more accounts beside the key.
const MAX_TEXT_BYTES: usize = 64 * 1024;

/// What other wallets write: 2^18 by 8 (Geth), 2^17 by 8 (ethers), 2^18 by 1 with 8 lanes (the standard's example).
/// Memory is 128·N·r bytes: 256 MiB.
const MAX_SCRYPT_N_R: u64 = 1 << 21;
/// N·r·p, the time: that of Geth's four times.
const MAX_SCRYPT_WORK: u64 = 1 << 23;
/// The standard's example has 2^18; ten times what is advised today.
const MAX_PBKDF2_ROUNDS: u32 = 6_000_000;

/// What is written: Geth's own.
const SCRYPT_LOG_N: u8 = 18;
const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;

/// Bytes of the derived key; the first half encrypts, the second goes into the checksum.
const DERIVED_BYTES: usize = 32;

/// Salts of other wallets have 32 bytes.
const MAX_SALT_BYTES: usize = 256;

type Aes128Ctr = ctr::Ctr128BE<Aes128>;

#[derive(Serialize, Deserialize)]
struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    // Early versions of Geth and MyEtherWallet write it with a capital.
    #[serde(alias = "Crypto")]
    crypto: Crypto,
    id: String,
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum KdfParams {
    Scrypt {
        n: u64,
        r: u32,
        p: u32,
        dklen: u32,
        salt: String,
    },
    Pbkdf2 {
        c: u32,
        prf: String,
        dklen: u32,
        salt: String,
    },
}

/// Reads the key.
///
/// # Errors
/// [`WalletError::WrongPasswordOrDamaged`], which this format cannot tell apart; [`WalletError::Foreign`] for what is no
/// such file, or one that asks for more memory or time than any wallet does; [`WalletError::OtherAddress`].
pub fn import(text: &str, password: &Typed) -> Result<Secret, WalletError> {
    let foreign = |why| WalletError::Foreign { why };
    if text.len() > MAX_TEXT_BYTES {
        return Err(foreign("it is too long"));
    }
    let file: File = serde_json::from_str(text).map_err(|_| foreign("its fields are others"))?;
    if file.version != 3 {
        return Err(foreign("it is not of version 3"));
    }
    let crypto = file.crypto;
    if crypto.cipher != "aes-128-ctr" {
        return Err(foreign("its cipher is not aes-128-ctr"));
    }
    let iv: [u8; 16] =
        bytes(&crypto.cipherparams.iv).ok_or(foreign("its vector is not 16 bytes"))?;
    let mut plain: Zeroizing<[u8; 32]> = bytes(&crypto.ciphertext)
        .map(Zeroizing::new)
        .ok_or(foreign("it does not hold a key of 32 bytes"))?;
    let mac: [u8; 32] = bytes(&crypto.mac).ok_or(foreign("its checksum is not 32 bytes"))?;
    let derived = derive(password, &crypto.kdf, &crypto.kdfparams)?;
    if checksum(&derived, &plain) != mac {
        return Err(WalletError::WrongPasswordOrDamaged);
    }
    cipher(&derived, &iv).apply_keystream(&mut plain[..]);
    let secret = Secret::from_slice(&plain[..])?;
    if let Some(said) = file.address
        && bytes::<20>(&said) != Some(secret.address().into_array())
    {
        return Err(WalletError::OtherAddress {
            found: secret.address(),
            said: said.chars().take(64).collect(),
        });
    }
    Ok(secret)
}

/// Writes the key, at the cost that Geth uses (256 MiB of memory for a moment).
///
/// # Errors
/// [`WalletError::PasswordShort`] and [`WalletError::PasswordLong`], [`WalletError::Random`].
pub fn export(secret: &Secret, password: &Typed) -> Result<String, WalletError> {
    password.check_new_password()?;
    let (mut salt, mut iv, mut id) = ([0; 32], [0; 16], [0; 16]);
    for random in [&mut salt[..], &mut iv[..], &mut id[..]] {
        getrandom::fill(random).map_err(|error| WalletError::Random(error.to_string()))?;
    }
    let kdfparams = KdfParams::Scrypt {
        n: 1 << SCRYPT_LOG_N,
        r: SCRYPT_R,
        p: SCRYPT_P,
        dklen: 32,
        salt: hex::encode(salt),
    };
    let derived = derive(password, "scrypt", &kdfparams)?;
    let mut text = Zeroizing::new(*secret.expose());
    cipher(&derived, &iv).apply_keystream(&mut text[..]);
    let file = File {
        address: Some(hex::encode(secret.address())),
        crypto: Crypto {
            cipher: "aes-128-ctr".to_owned(),
            cipherparams: CipherParams {
                iv: hex::encode(iv),
            },
            mac: hex::encode(checksum(&derived, &text)),
            ciphertext: hex::encode(*text),
            kdf: "scrypt".to_owned(),
            kdfparams,
        },
        id: uuid_v4(id),
        version: 3,
    };
    serde_json::to_string_pretty(&file).map_err(|_| WalletError::Foreign {
        why: "it could not be written",
    })
}

fn derive(
    password: &Typed,
    kdf: &str,
    params: &KdfParams,
) -> Result<Zeroizing<[u8; DERIVED_BYTES]>, WalletError> {
    let foreign = |why| WalletError::Foreign { why };
    // As it is typed: other wallets compose nothing.
    let password = password.expose().as_bytes();
    let mut derived = Zeroizing::new([0; DERIVED_BYTES]);
    let salt = |digits: &str| {
        if digits.len() > 2 * MAX_SALT_BYTES {
            return Err(foreign("its salt is too long"));
        }
        hex::decode(digits).map_err(|_| foreign("its salt is not hex"))
    };
    match params {
        KdfParams::Scrypt {
            n,
            r,
            p,
            dklen,
            salt: digits,
        } if kdf == "scrypt" => {
            let memory = n.saturating_mul(u64::from(*r));
            let work = memory.saturating_mul(u64::from(*p));
            if !n.is_power_of_two() || *n < 2 || memory == 0 || work == 0 {
                return Err(foreign("its cost is no cost of scrypt"));
            }
            if memory > MAX_SCRYPT_N_R || work > MAX_SCRYPT_WORK {
                return Err(foreign("opening it would cost more than any wallet asks"));
            }
            check_length(*dklen)?;
            let params = u8::try_from(n.trailing_zeros())
                .ok()
                .and_then(|log_n| scrypt::Params::new(log_n, *r, *p).ok())
                .ok_or(foreign("its cost is no cost of scrypt"))?;
            scrypt::scrypt(password, &salt(digits)?, &params, &mut derived[..])
                .map_err(|_| foreign("its cost is no cost of scrypt"))?;
        }
        KdfParams::Pbkdf2 {
            c,
            prf,
            dklen,
            salt: digits,
        } if kdf == "pbkdf2" => {
            if prf != "hmac-sha256" {
                return Err(foreign("its derivation is not hmac-sha256"));
            }
            if *c == 0 || *c > MAX_PBKDF2_ROUNDS {
                return Err(foreign("opening it would cost more than any wallet asks"));
            }
            check_length(*dklen)?;
            pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt(digits)?, *c, &mut derived[..]);
        }
        KdfParams::Scrypt { .. } | KdfParams::Pbkdf2 { .. } => {
            return Err(foreign("its derivation is neither scrypt nor pbkdf2"));
        }
    }
    Ok(derived)
}

fn check_length(dklen: u32) -> Result<(), WalletError> {
    if dklen as usize == DERIVED_BYTES {
        Ok(())
    } else {
        Err(WalletError::Foreign {
            why: "its derived key is not 32 bytes",
        })
    }
}

/// Keccak-256 of the second half of the derived key and the ciphertext.
fn checksum(derived: &[u8; DERIVED_BYTES], text: &[u8; 32]) -> [u8; 32] {
    let mut input = [0; 48];
    input[..16].copy_from_slice(&derived[16..]);
    input[16..].copy_from_slice(text);
    let digest = keccak256(input);
    input.zeroize();
    digest.0
}

fn cipher(derived: &[u8; DERIVED_BYTES], iv: &[u8; 16]) -> Aes128Ctr {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&derived[..16]);
    Aes128Ctr::new((&*key).into(), iv.into())
}

/// Hex digits of exactly `N` bytes, with or without `0x`.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let digits = digits.strip_prefix("0x").unwrap_or(digits);
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

/// Random bytes as a UUID of version 4 (RFC 9562, section 5.4).
fn uuid_v4(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    const SCRYPT: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"83dbcc02d8ccb40e466191a123791e0e"},"ciphertext":"d172bf743a674da9cdad04534d56926ef8358534d458fffccd4e6ad2fbde479c","kdf":"scrypt","kdfparams":{"dklen":32,"n":262144,"p":8,"r":1,"salt":"ab0c7876052600dd703518d6fc3fe8984592145b591fc8fb5c6d43190334ba19"},"mac":"2103ac29920d71da29f15d75b4a16dbe95cfd7ff8faea1056c33131d846e3097"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;
    /// Of both.
    const KEY: &str = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
    const ADDRESS: &str = "0x008AeEda4D805471dF9b2A5B0f38A0C3bCBA786b";

    #[test]
    fn the_vectors_of_the_standard_hold() {
        for vector in [PBKDF2, SCRYPT] {
            let secret = import(vector, &"testpassword".into()).unwrap();
            assert_eq!(hex::encode(secret.expose()), KEY);
            assert_eq!(secret.address().to_checksum(None), ADDRESS);
        }
    }

    #[test]
    fn a_capital_and_an_address_are_read_as_others_write_them() {
        let old = PBKDF2.replacen(
            "\"crypto\"",
            "\"address\":\"0x008aeeda4d805471df9b2a5b0f38a0c3bcba786b\",\"Crypto\"",
            1,
        );
        import(&old, &"testpassword".into()).unwrap();
        let other = old.replacen("008aee", "118aee", 1);
        assert!(matches!(
            import(&other, &"testpassword".into()),
            Err(WalletError::OtherAddress { .. })
        ));
    }

    #[test]
    fn what_is_exported_comes_back_with_its_password_alone() {
        let secret = Secret::generate().unwrap();
        let text = export(&secret, &"correct horse".into()).unwrap();
        assert!(!text.contains(&hex::encode(secret.expose())));
        let again = import(&text, &"correct horse".into()).unwrap();
        assert_eq!(again.expose(), secret.expose());
        assert!(matches!(
            import(&text, &"correct horsf".into()),
            Err(WalletError::WrongPasswordOrDamaged)
        ));
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(file["version"], 3);
        let id = file["id"].as_str().unwrap();
        assert_eq!((id.len(), &id[14..15]), (36, "4"));
        assert!(matches!(
            export(&secret, &"short".into()),
            Err(WalletError::PasswordShort { .. })
        ));
    }

    #[test]
    fn a_hostile_file_asks_for_nothing_that_it_gets() {
        for (from, to) in [
            ("262144,\"p\"", "4294967296,\"p\""),
            ("262144,\"p\"", "18446744073709551615,\"p\""),
            ("262144,\"p\"", "262143,\"p\""),
            ("262144,\"p\"", "0,\"p\""),
            ("262144,\"p\"", "1,\"p\""),
            ("\"p\":8", "\"p\":4294967295"),
            ("\"p\":8", "\"p\":0"),
            ("\"r\":1", "\"r\":4294967295"),
            ("\"r\":1", "\"r\":0"),
            ("\"dklen\":32", "\"dklen\":4294967295"),
            ("aes-128-ctr", "aes-128-cbc"),
            ("\"scrypt\"", "\"pbkdf2\""),
            ("\"version\":3", "\"version\":4"),
            ("d172bf", "d172"),
        ] {
            let hostile = SCRYPT.replacen(from, to, 1);
            assert_ne!(hostile, SCRYPT, "{from}");
            assert!(
                matches!(
                    import(&hostile, &"testpassword".into()),
                    Err(WalletError::Foreign { .. })
                ),
                "{from} → {to}"
            );
        }
        for rounds in ["0", "4294967295"] {
            let hostile = PBKDF2.replacen("262144", rounds, 1);
            assert!(matches!(
                import(&hostile, &"testpassword".into()),
                Err(WalletError::Foreign { .. })
            ));
        }
        assert!(import(&" ".repeat(MAX_TEXT_BYTES + 1), &"".into()).is_err());
    }

    #[test]
    fn every_cut_is_refused() {
        // No cut is a whole object, so none costs a derivation.
        for length in 0..SCRYPT.len() {
            assert!(matches!(
                import(&SCRYPT[..length], &"testpassword".into()),
                Err(WalletError::Foreign { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,200}") {
            prop_assert!(import(&text, &"testpassword".into()).is_err());
        }
    }
}
