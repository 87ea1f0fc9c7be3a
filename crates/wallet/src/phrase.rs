//! The words, and the keys that follow from them.
//!
//! BIP-39 turns 24 words into a seed, with an empty passphrase as wallets do that do not ask for one; BIP-32 turns the seed
//! into a tree of keys, and BIP-44 says which leaf is whose: `m/44'/60'/account'/0/0` for an account of Ethereum.

use bip32::{ChildNumber, XPrv};
use bip39::{Language, Mnemonic};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{error::WalletError, secret::Secret};

/// How many words a new phrase has: 256 bits.
pub const WORDS: usize = 24;

/// The longest text that can be a phrase: 24 words of eight letters, and room for the line ends and spaces of somebody
/// who copied them from a sheet.
const MAX_TEXT_BYTES: usize = 1024;

/// Which of the wallet's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Account {
    /// Deposits, withdrawals, transfers, votes: always asked for.
    Wallet,
    /// What asking is paid from, so that what one asks does not point at what one earns.
    Spend,
}

impl Account {
    /// Its path, as it is shown to a person who compares it with another wallet's.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Wallet => "m/44'/60'/0'/0/0",
            Self::Spend => "m/44'/60'/1'/0/0",
        }
    }

    /// The steps of [`Account::path`]: number, and whether it is hardened.
    fn steps(self) -> [(u32, bool); 5] {
        let account = match self {
            Self::Wallet => 0,
            Self::Spend => 1,
        };
        [
            (44, true),
            (60, true),
            (account, true),
            (0, false),
            (0, false),
        ]
    }
}

/// Words that a wallet follows from, wiped when dropped.
pub struct Phrase(Box<Mnemonic>);

impl Phrase {
    /// 24 words from the system's randomness.
    ///
    /// # Errors
    /// [`WalletError::Random`].
    pub fn generate() -> Result<Self, WalletError> {
        let mut entropy = Zeroizing::new([0; 32]);
        getrandom::fill(&mut entropy[..])
            .map_err(|error| WalletError::Random(error.to_string()))?;
        Self::from_entropy(&entropy[..])
    }

    /// Reads words as a person types them: any white space between, any case. 12, 15, 18, 21 and 24 words are taken, as
    /// other wallets give them.
    ///
    /// # Errors
    /// [`WalletError::WordCount`], [`WalletError::UnknownWord`] and [`WalletError::WordChecksum`]; none says the word.
    pub fn parse(text: &str) -> Result<Self, WalletError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(WalletError::WordCount {
                found: text.split_whitespace().count(),
            });
        }
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        Mnemonic::parse_in_normalized(Language::English, &lower)
            .map(|words| Self(Box::new(words)))
            .map_err(|error| match error {
                bip39::Error::BadWordCount(found) => WalletError::WordCount { found },
                bip39::Error::UnknownWord(index) => WalletError::UnknownWord {
                    position: index + 1,
                },
                bip39::Error::InvalidChecksum
                | bip39::Error::BadEntropyBitCount(_)
                | bip39::Error::AmbiguousLanguages(_) => WalletError::WordChecksum,
            })
    }

    /// The words in their order. Each is a word of the public list; their order is the secret.
    pub fn words(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.words()
    }

    /// How many words there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.word_count()
    }

    /// Never: a phrase has at least twelve words.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The key of an account.
    ///
    /// # Errors
    /// [`WalletError::NotAKey`] for a phrase of which a step of the path has no key: once in 2^127.
    pub fn key(&self, account: Account) -> Result<Secret, WalletError> {
        let seed = Zeroizing::new(self.0.to_seed_normalized(""));
        let mut key = XPrv::new(&seed[..]).map_err(|_| WalletError::NotAKey)?;
        for (number, hardened) in account.steps() {
            key = ChildNumber::new(number, hardened)
                .and_then(|child| key.derive_child(child))
                .map_err(|_| WalletError::NotAKey)?;
        }
        let mut bytes = key.to_bytes();
        let secret = Secret::from_slice(&bytes);
        bytes.zeroize();
        secret
    }

    /// 16 to 32 bytes from which the words follow.
    pub(crate) fn entropy(&self) -> Zeroizing<Vec<u8>> {
        let (mut array, length) = self.0.to_entropy_array();
        let entropy = Zeroizing::new(array[..length].to_vec());
        array.zeroize();
        entropy
    }

    pub(crate) fn from_entropy(entropy: &[u8]) -> Result<Self, WalletError> {
        Mnemonic::from_entropy_in(Language::English, entropy)
            .map(|words| Self(Box::new(words)))
            .map_err(|_| WalletError::WordChecksum)
    }
}

impl std::fmt::Debug for Phrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Phrase(…)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Entropy, words, and the seed under the passphrase "TREZOR": the English vectors of BIP-39 with 12 and 24 words, from
    /// <https://github.com/trezor/python-mnemonic/blob/master/vectors.json>, to which the standard refers.
    const BIP39: &[[&str; 3]] = &[
        [
            "00000000000000000000000000000000",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about",
            "c55257c360c07c72029aebc1b53c05ed0362ada38ead3e3e9efa3708e53495531f09a6987599d18264c1e1c92f2cf141630c7a3c4ab7c81b2f001698e7463b04",
        ],
        [
            "c0ba5a8e914111210f2bd131f3d5e08d",
            "scheme spot photo card baby mountain device kick cradle pact join borrow",
            "ea725895aaae8d4c1cf682c1bfd2d358d52ed9f0f0591131b559e2724bb234fca05aa9c02c57407e04ee9dc3b454aa63fbff483a8b11de949624b9f1831a9612",
        ],
        [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon art",
            "bda85446c68413707090a52022edd26a1c9462295029f2e60cd7c4f2bbd3097170af7a4d73245cafa9c3cca8d561a7c3de6f5d4a10be8ed2a5e608d68f92fcc8",
        ],
        [
            "7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f7f",
            "legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth useful legal winner thank year wave sausage worth title",
            "bc09fca1804f7e69da93c2f2028eb238c227f2e9dda30cd63699232578480a4021b146ad717fbb7e451ce9eb835f43620bf5c514db0f8add49f5d121449d3e87",
        ],
        [
            "8080808080808080808080808080808080808080808080808080808080808080",
            "letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic avoid letter advice cage absurd amount doctor acoustic bless",
            "c0c519bd0e91a2ed54357d9d1ebef6f5af218a153624cf4f2da911a0ed8f7a09e2ef61af0aca007096df430022f7a2b6fb91661a9589097069720d015e4e982f",
        ],
        [
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo zoo vote",
            "dd48c104698c30cfe2b6142103248622fb7bb0ff692eebb00089b32d22484e1613912f0a5b694407be899ffd31ed3992c456cdf60f5d4564b8ba3f05a69890ad",
        ],
        [
            "68a79eaca2324873eacc50cb9c6eca8cc68ea5d936f98787c60c7ebc74e6ce7c",
            "hamster diagram private dutch cause delay private meat slide toddler razor book happy fancy gospel tennis maple dilemma loan word shrug inflict delay length",
            "64c87cde7e12ecf6704ab95bb1408bef047c22db4cc7491c4271d170a1b213d20b385bc1588d9c7b38f1b39d415665b8a9030c9ec653d75e65f847d8fc1fc440",
        ],
        [
            "9f6a2878b2520799a44ef18bc7df394e7061a224d2c33cd015b157d746869863",
            "panda eyebrow bullet gorilla call smoke muffin taste mesh discover soft ostrich alcohol speed nation flash devote level hobby quick inner drive ghost inside",
            "72be8e052fc4919d2adf28d5306b5474b0069df35b02303de8c1729c9538dbb6fc2d731d5f832193cd9fb6aeecbc469594a70e3dd50811b5067f3b88b28c3e8d",
        ],
        [
            "066dca1a2bb7e8a1db2832148ce9933eea0f3ac9548d793112d9a95c9407efad",
            "all hour make first leader extend hole alien behind guard gospel lava path output census museum junior mass reopen famous sing advance salt reform",
            "26e975ec644423f4a4c4f4215ef09b4bd7ef924e85d1d17c4cf3f136c2863cf6df0a475045652c57eb5fb41513ca2a2d67722b77e954b4b3fc11f7590449191d",
        ],
        [
            "f585c11aec520db57dd353c69554b21a89b20fb0650966fa0a9d6f74fd989d8f",
            "void come effort suffer camp survey warrior heavy shoot primary clutch crush open amazing screen patrol group space point ten exist slush involve unfold",
            "01f5bced59dec48e362f2c45b5de68b9fd6c92c6634f44d6d40aab69056506f0e35524a518034ddc1192e1dacd32c1ed3eaa3c3b131c88ed8e7e54c49a5d0998",
        ],
    ];

    #[test]
    fn the_vectors_of_bip39_hold() {
        for [entropy, words, seed] in BIP39 {
            let phrase = Phrase::parse(words).unwrap();
            assert_eq!(hex::encode(&*phrase.entropy()), *entropy);
            assert_eq!(hex::encode(phrase.0.to_seed_normalized("TREZOR")), *seed);
            let again = Phrase::from_entropy(&hex::decode(entropy).unwrap()).unwrap();
            assert_eq!(again.words().collect::<Vec<_>>().join(" "), *words);
        }
    }

    /// Addresses that other wallets show for published phrases. `abandon … about`: MetaMask's first account and Ledger
    /// Live's first and second. `test … junk`: the first account of every Anvil and Hardhat chain, and viem's
    /// `mnemonicToAccount` with `accountIndex: 1`. `abandon … art`: the 24 words of zero entropy, as several wallets test it.
    #[test]
    fn the_addresses_that_other_wallets_show_for_known_words() {
        let about = "abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon abandon about";
        let junk = "test test test test test test test test test test test junk";
        let art = format!("{} art", ["abandon"; 23].join(" "));
        for (words, account, address) in [
            (
                about,
                Account::Wallet,
                "0x9858EfFD232B4033E47d90003D41EC34EcaEda94",
            ),
            (
                about,
                Account::Spend,
                "0x78839F6054d7ed13918bAe0473BA31b1Ca9D7265",
            ),
            (
                junk,
                Account::Wallet,
                "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            ),
            (
                junk,
                Account::Spend,
                "0x8C8d35429F74ec245F8Ef2f4Fd1e551cFF97d650",
            ),
            (
                art.as_str(),
                Account::Wallet,
                "0xF278cF59F82eDcf871d630F28EcC8056f25C1cdb",
            ),
        ] {
            let key = Phrase::parse(words).unwrap().key(account).unwrap();
            assert_eq!(key.address().to_checksum(None), address, "{account:?}");
        }
        let first = Phrase::parse(about).unwrap().key(Account::Wallet).unwrap();
        assert_eq!(
            hex::encode(first.expose()),
            "1ab42cc412b618bdea3a599e3c9bae199ebf030895b039e9db1e30dafb12b727"
        );
    }

    #[test]
    fn a_path_is_the_one_that_is_shown() {
        for account in [Account::Wallet, Account::Spend] {
            let written: Vec<String> = account
                .steps()
                .iter()
                .map(|(number, hardened)| format!("{number}{}", if *hardened { "'" } else { "" }))
                .collect();
            assert_eq!(format!("m/{}", written.join("/")), account.path());
        }
    }

    #[test]
    fn words_are_read_as_people_write_them() {
        let tidy = Phrase::parse(BIP39[6][1]).unwrap();
        let wild = BIP39[6][1].to_uppercase().replace(' ', "\n\t ");
        let again = Phrase::parse(&format!("  {wild}\r\n")).unwrap();
        assert_eq!(*tidy.entropy(), *again.entropy());
    }

    #[test]
    fn a_wrong_phrase_says_where_and_never_what() {
        let words = BIP39[6][1];
        assert!(matches!(
            Phrase::parse("hamster diagram"),
            Err(WalletError::WordCount { found: 2 })
        ));
        assert!(matches!(
            Phrase::parse(&words.replacen("private", "privacies", 1)),
            Err(WalletError::UnknownWord { position: 3 })
        ));
        let swapped = words.replacen("hamster diagram", "diagram hamster", 1);
        assert!(matches!(
            Phrase::parse(&swapped),
            Err(WalletError::WordChecksum)
        ));
        let huge = "hamster ".repeat(100_000);
        assert!(matches!(
            Phrase::parse(&huge),
            Err(WalletError::WordCount { found: 100_000 })
        ));
        let error = Phrase::parse(&words.replacen("private", "privacies", 1)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("privacies"));
        assert!(!format!("{:?}", Phrase::parse(words)).contains("hamster"));
    }

    #[test]
    fn a_new_phrase_has_24_words_and_is_not_the_last_one() {
        let (one, two) = (Phrase::generate().unwrap(), Phrase::generate().unwrap());
        assert_eq!((one.len(), two.len()), (WORDS, WORDS));
        assert_ne!(*one.entropy(), *two.entropy());
    }

    proptest! {
        // Each case stretches seeds of 2048 rounds.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_entropy_comes_back_from_its_words(bytes in prop::collection::vec(any::<u8>(), 32)) {
            let phrase = Phrase::from_entropy(&bytes).unwrap();
            let text = phrase.words().collect::<Vec<_>>().join(" ");
            let again = Phrase::parse(&text).unwrap();
            prop_assert_eq!(&again.entropy()[..], &bytes[..]);
            let (wallet, spend) = (again.key(Account::Wallet).unwrap(), again.key(Account::Spend).unwrap());
            prop_assert_ne!(wallet.address(), spend.address());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,300}") {
            let _ = Phrase::parse(&text);
        }
    }
}
