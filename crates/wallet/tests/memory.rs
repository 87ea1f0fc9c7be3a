//! What is left in this process's memory after words, keys and passwords were dropped.
//!
//! The whole writable memory is read, stacks of threads that ended included. What is looked for is never in memory in the
//! form that is looked for: the search is for its complement.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use wallet::{Account, Contents, KeyFile, KeyRole, Phrase, Secret, Typed, WalletFile, v3};

const MASK: u8 = 0xa5;

/// A secret as its complement.
struct Masked {
    what: &'static str,
    bytes: Vec<u8>,
}

impl Masked {
    fn of(what: &'static str, secret: &[u8]) -> Self {
        Self {
            what,
            bytes: secret.iter().map(|byte| byte ^ MASK).collect(),
        }
    }
}

#[test]
fn nothing_secret_stays_in_memory_after_it_was_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = use_a_wallet(folder.path());
    // A search that cannot find proves nothing.
    let held = std::hint::black_box(Box::new(*b"a secret that is still held: 42"));
    let control = Masked {
        what: "control",
        bytes: held.iter().map(|byte| byte ^ MASK).collect(),
    };
    assert!(count(&control) > 0, "the search finds nothing at all");
    for secret in &secrets {
        assert_eq!(count(secret), 0, "{} is still in memory", secret.what);
    }
    drop(held);
}

/// A life of a wallet: made, written, opened, shown, sealed anew, exported, imported.
fn use_a_wallet(folder: &Path) -> Vec<Masked> {
    let mut secrets = Vec::new();
    // Made by arithmetic, so that the program's own text holds neither.
    let password = typed(7, 24);
    let file_password = typed(11, 24);
    secrets.push(Masked::of("the password", password.expose().as_bytes()));
    secrets.push(Masked::of(
        "the new password",
        file_password.expose().as_bytes(),
    ));

    let phrase = Phrase::generate().unwrap();
    {
        let mut text = Vec::with_capacity(512);
        for word in phrase.words() {
            text.extend(word.bytes().map(|byte| byte ^ MASK));
            text.push(b' ' ^ MASK);
        }
        text.truncate(40);
        secrets.push(Masked {
            what: "the words as text",
            bytes: text,
        });
    }
    for (what, account) in [
        ("the wallet key", Account::Wallet),
        ("the spend key", Account::Spend),
    ] {
        secrets.push(Masked::of(what, phrase.key(account).unwrap().expose()));
    }
    let path = folder.join("wallet.json");
    let mut file = WalletFile::create(&path, &Contents::Words(phrase), &password).unwrap();
    let unlocked = WalletFile::read(&path).unwrap().unlock(&password).unwrap();
    let moved = Box::new(unlocked);
    let text = v3::export(moved.key(Account::Wallet), &file_password).unwrap();
    drop(v3::import(&text, &file_password).unwrap());
    file.change_password(&password, &file_password).unwrap();
    let Contents::Words(again) = file.open(&file_password).unwrap() else {
        panic!("words became a key");
    };
    assert_eq!(again.len(), 24);

    let operator = KeyFile::create(&folder.join("operator.key"), KeyRole::Operator).unwrap();
    secrets.push(Masked::of("the operator key", operator.secret().expose()));
    let read = KeyFile::read(&folder.join("operator.key"), KeyRole::Operator).unwrap();
    let generated: Vec<Secret> = (0..3).map(|_| Secret::generate().unwrap()).collect();
    for secret in &generated {
        secrets.push(Masked::of("a generated key", secret.expose()));
    }
    drop((read, generated, moved));
    secrets
}

fn typed(seed: u32, length: u32) -> Typed {
    let mut text = String::with_capacity(length as usize);
    for index in 0..length {
        let letter = (index * index * seed + index * 31 + seed) % 26;
        text.push(char::from(b'a' + u8::try_from(letter).unwrap()));
    }
    Typed::new(text)
}

/// How often a secret stands in this process's writable memory.
fn count(secret: &Masked) -> usize {
    let mut memory = File::open("/proc/self/mem").unwrap();
    let maps = BufReader::new(File::open("/proc/self/maps").unwrap());
    let mut found = 0;
    let mut buffer = Vec::new();
    for line in maps.lines() {
        let line = line.unwrap();
        let mut fields = line.split_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        if !rights.starts_with("rw") || line.ends_with("[vvar]") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let start = u64::from_str_radix(start, 16).unwrap();
        let end = u64::from_str_radix(end, 16).unwrap();
        buffer.resize(usize::try_from(end - start).unwrap(), 0);
        if memory.seek(SeekFrom::Start(start)).is_err() || memory.read_exact(&mut buffer).is_err() {
            continue;
        }
        let first = secret.bytes[0] ^ MASK;
        found += buffer
            .windows(secret.bytes.len())
            .filter(|window| {
                window[0] == first
                    && window
                        .iter()
                        .zip(&secret.bytes)
                        .all(|(byte, masked)| byte ^ MASK == *masked)
            })
            .count();
        // The copy itself must not be found by the next search.
        buffer.fill(0);
    }
    found
}
