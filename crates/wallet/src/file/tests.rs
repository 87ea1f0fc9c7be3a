use std::ffi::OsStr;

use proptest::prelude::*;

use super::*;
use crate::kdf::tests::CHEAP;

#[path = "../../../../tests/shared/killed.rs"]
mod killed;

const PASSWORD: &str = "correct horse battery staple";

#[test]
fn words_come_back_with_their_password_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let phrase = Phrase::generate().unwrap();
    let words: Vec<&str> = phrase.words().collect();
    let made = WalletFile::create(&path, &Contents::Words(phrase), &PASSWORD.into()).unwrap();
    assert!(!made.backed_up());

    // A copy on another computer is this file at another path.
    let copy = folder.path().join("copy.json");
    std::fs::copy(&path, &copy).unwrap();
    let read = WalletFile::read(&copy).unwrap();
    assert_eq!(read.kind(), Kind::Words);
    let Contents::Words(again) = read.open(&PASSWORD.into()).unwrap() else {
        panic!("words became a key");
    };
    assert_eq!(again.words().collect::<Vec<_>>(), words);
    for account in [Account::Wallet, Account::Spend] {
        let unlocked = read.unlock(&PASSWORD.into()).unwrap();
        assert_eq!(unlocked.key(account).address(), made.address(account));
    }
    for wrong in ["correct horse battery stable", "", "x"] {
        assert!(matches!(
            read.unlock(&wrong.into()),
            Err(WalletError::WrongPassword)
        ));
    }
    let text = std::fs::read_to_string(&path).unwrap();
    for secret in [&words.join(" "), PASSWORD, &hex::encode(&*again.entropy())] {
        assert!(
            !text.contains(secret),
            "the file holds a secret in the clear"
        );
    }
}

#[test]
fn an_imported_key_is_both_accounts_and_has_no_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let secret = Secret::generate().unwrap();
    let address = secret.address();
    let file = cheap(&path, &Contents::Key(secret));
    assert_eq!(file.kind(), Kind::Key);
    assert_eq!(file.address(Account::Spend), address);
    let unlocked = file.unlock(&PASSWORD.into()).unwrap();
    assert_eq!(unlocked.key(Account::Wallet).address(), address);
    assert_eq!(unlocked.key(Account::Spend).address(), address);
}

#[test]
fn a_wallet_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    cheap(&path, &words());
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(
        WalletFile::create(&path, &words(), &PASSWORD.into()),
        Err(WalletError::Exists { .. })
    ));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_changed_password_shuts_out_the_old_one_and_keeps_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let mut file = cheap(&path, &words());
    file.mark_backed_up().unwrap();
    let fresh = Typed::from("another horse entirely");
    assert!(matches!(
        file.change_password(&"wrong horse".into(), &fresh),
        Err(WalletError::WrongPassword)
    ));
    assert!(matches!(
        file.change_password(&PASSWORD.into(), &"short".into()),
        Err(WalletError::PasswordShort { .. })
    ));
    file.unlock(&PASSWORD.into()).unwrap();
    file.change_password(&PASSWORD.into(), &fresh).unwrap();
    let read = WalletFile::read(&path).unwrap();
    assert!(read.backed_up());
    assert_eq!(read.stored.bound.cost, Cost::STANDARD);
    assert_eq!(read.address(Account::Wallet), file.address(Account::Wallet));
    read.unlock(&fresh).unwrap();
    assert!(matches!(
        read.unlock(&PASSWORD.into()),
        Err(WalletError::WrongPassword)
    ));
}

#[test]
fn every_cut_is_damage_and_no_cut_is_a_wrong_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    cheap(&path, &words());
    let whole = std::fs::read(&path).unwrap();
    // The last byte is the line end.
    for length in 0..whole.len() - 1 {
        disk::write(&path, &whole[..length]).unwrap();
        assert!(
            matches!(WalletFile::read(&path), Err(WalletError::Damaged { .. })),
            "{length} of {} bytes",
            whole.len()
        );
    }
}

#[test]
fn what_the_seal_binds_cannot_be_changed_even_with_a_fresh_checksum() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let file = cheap(&path, &words());
    let other = cheap(&folder.path().join("other.json"), &words());
    type Change = fn(&mut Stored, &Stored);
    let changes: [Change; 5] = [
        |stored, other| stored.bound.wallet.clone_from(&other.bound.wallet),
        |stored, other| stored.bound.spend.clone_from(&other.bound.spend),
        |stored, _| stored.bound.kind = Kind::Key,
        |stored, other| stored.sealed.clone_from(&other.sealed),
        |stored, other| stored.nonce.clone_from(&other.nonce),
    ];
    for change in changes {
        let mut forged = file.clone();
        change(&mut forged.stored, &other.stored);
        forged.stored.checksum = forged.stored.digest();
        forged.write().unwrap();
        let read = WalletFile::read(&path).unwrap();
        assert!(matches!(
            read.unlock(&PASSWORD.into()),
            Err(WalletError::WrongPassword)
        ));
    }
}

#[test]
fn a_hostile_file_asks_for_nothing_that_it_gets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let file = cheap(&path, &words());
    for cost in [
        Cost {
            memory_kib: u32::MAX,
            ..CHEAP
        },
        Cost {
            memory_kib: 16 * 1024 * 1024,
            ..CHEAP
        },
        Cost {
            passes: u32::MAX,
            ..CHEAP
        },
        Cost { lanes: 0, ..CHEAP },
    ] {
        let mut hostile = file.clone();
        hostile.stored.bound.cost = cost;
        hostile.stored.checksum = hostile.stored.digest();
        hostile.write().unwrap();
        assert!(matches!(
            WalletFile::read(&path),
            Err(WalletError::Damaged { .. })
        ));
    }
    let mut newer = file.clone();
    newer.stored.version = 2;
    newer.write().unwrap();
    assert!(matches!(
        WalletFile::read(&path),
        Err(WalletError::Newer { version: 2, .. })
    ));
    for text in [
        "",
        "{}",
        "[]",
        "null",
        "{\"format\":\"decentralgpt wallet\",\"version\":1}",
    ] {
        disk::write(&path, text.as_bytes()).unwrap();
        assert!(matches!(
            WalletFile::read(&path),
            Err(WalletError::Damaged { .. })
        ));
    }
    disk::write(&path, &vec![b'['; MAX_FILE_BYTES + 1]).unwrap();
    assert!(matches!(
        WalletFile::read(&path),
        Err(WalletError::Damaged { .. })
    ));
}

#[test]
fn a_part_of_a_write_beside_a_wallet_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let mut file = cheap(&path, &words());
    // What a kill between the write and the rename leaves, and one in the middle of the write.
    for part in [&std::fs::read(&path).unwrap()[..], b"{\"format\":\"decen"] {
        std::fs::write(disk::part_of(&path), part).unwrap();
        WalletFile::read(&path)
            .unwrap()
            .unlock(&PASSWORD.into())
            .unwrap();
        file.mark_backed_up().unwrap();
        assert!(WalletFile::read(&path).unwrap().backed_up());
    }
}

#[test]
fn a_kill_at_any_moment_of_a_write_leaves_a_wallet_that_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wallet.json");
    let made = cheap(&path, &words());
    for writes in [1, 2, 3, 5, 8, 13, 21] {
        killed::after(
            "file::tests::child_that_writes_without_end",
            &[("DECENTRALGPT_WALLET_FILE", OsStr::new(&path))],
            "written",
            writes,
        );
        let read = WalletFile::read(&path).unwrap();
        let unlocked = read.unlock(&PASSWORD.into()).unwrap();
        assert_eq!(
            unlocked.key(Account::Wallet).address(),
            made.address(Account::Wallet)
        );
    }
}

#[test]
#[ignore = "the process that another test kills"]
fn child_that_writes_without_end() {
    let Some(path) = std::env::var_os("DECENTRALGPT_WALLET_FILE") else {
        return;
    };
    let mut file = WalletFile::read(Path::new(&path)).unwrap();
    loop {
        // Both kinds of write: a whole new seal, and a mark.
        let contents = file.open(&PASSWORD.into()).unwrap();
        file.stored = seal(&contents, &PASSWORD.into(), CHEAP, false).unwrap();
        file.write().unwrap();
        file.mark_backed_up().unwrap();
        println!("written");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_changed_byte_is_damage_and_never_another_wallet(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        let file = cheap(&path, &words());
        let mut bytes = std::fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        disk::write(&path, &bytes).unwrap();
        match WalletFile::read(&path) {
            Err(WalletError::Damaged { .. } | WalletError::Newer { .. }) => {}
            // White space between the fields is none of the file's meaning.
            Ok(read) => {
                let unlocked = read.unlock(&PASSWORD.into()).unwrap();
                prop_assert_eq!(unlocked.key(Account::Wallet).address(), file.address(Account::Wallet));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        disk::write(&path, &bytes).unwrap();
        prop_assert!(WalletFile::read(&path).is_err());
    }

    #[test]
    fn any_password_opens_what_it_sealed(password in "\\PC{1,40}", other in "\\PC{1,40}") {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wallet.json");
        let (password, other) = (Typed::new(password), Typed::new(other));
        let file = WalletFile::create_at_cost(&path, &words(), &password, CHEAP).unwrap();
        prop_assert!(file.unlock(&password).is_ok());
        if *password.password_bytes().unwrap() != *other.password_bytes().unwrap() {
            prop_assert!(matches!(file.unlock(&other), Err(WalletError::WrongPassword)));
        }
    }
}

fn words() -> Contents {
    Contents::Words(Phrase::generate().unwrap())
}

fn cheap(path: &Path, contents: &Contents) -> WalletFile {
    WalletFile::create_at_cost(path, contents, &PASSWORD.into(), CHEAP).unwrap()
}
