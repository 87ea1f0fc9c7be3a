use keyring_core::mock;

use super::*;

const PASSWORD: &str = "correct horse battery staple";

fn folder() -> (tempfile::TempDir, DataFolder) {
    let folder = tempfile::tempdir().unwrap();
    let data = DataFolder::open(folder.path()).unwrap();
    (folder, data)
}

/// On a computer whose keychain keeps nothing.
fn open(data: &DataFolder, lock_after: Option<Duration>) -> Wallet {
    open_with(data, &keychain(), lock_after)
}

fn open_with(data: &DataFolder, keychain: &Keychain, lock_after: Option<Duration>) -> Wallet {
    Wallet::open(data, keychain.clone(), lock_after)
}

fn keychain() -> Keychain {
    Keychain::of_store(mock::Store::new().unwrap())
}

fn typed(text: &str) -> Typed {
    Typed::from(text)
}

#[tokio::test]
async fn made_shown_asked_back_and_locked() {
    let (_folder, data) = folder();
    let wallet = open(&data, None);
    assert_eq!(wallet.status().state, WalletState::None);
    assert!(matches!(
        wallet.key(Account::Wallet),
        Err(WalletProblem::None)
    ));

    wallet.create(typed(PASSWORD)).await.unwrap();
    let status = wallet.status();
    assert_eq!(status.state, WalletState::Unlocked);
    assert!(!status.backed_up);
    assert_eq!(status.accounts.len(), 2);
    assert_eq!(status.accounts[1].path.as_deref(), Some("m/44'/60'/1'/0/0"));

    // Above a small sum it looks on, and signs nothing.
    wallet.signing_allowed(WATCH_ONLY_ABOVE).unwrap();
    assert!(matches!(
        wallet.signing_allowed(WATCH_ONLY_ABOVE + 1),
        Err(WalletProblem::WatchOnly)
    ));
    assert!(matches!(
        wallet.check(&[]).await,
        Err(WalletProblem::NotAsked)
    ));
    assert!(matches!(
        wallet.ask(None).await,
        Err(WalletProblem::NotAsked)
    ));
    assert_eq!(
        wallet.words(typed("wrong horse")).await.unwrap_err().code(),
        "wallet_wrong_password"
    );
    let words = wallet.words(typed(PASSWORD)).await.unwrap();
    assert_eq!(words.len(), 24);
    let asked = wallet.ask(None).await.unwrap();
    let wrong = asked.map(|_| typed("zebra"));
    assert!(!wallet.check(&wrong).await.unwrap());
    assert!(!wallet.status().backed_up);
    let asked = wallet.ask(None).await.unwrap();
    let right = asked.map(|place| typed(words[place - 1]));
    assert!(wallet.check(&right).await.unwrap());
    assert!(wallet.status().backed_up);
    wallet.signing_allowed(u128::MAX).unwrap();

    let address = wallet.key(Account::Wallet).unwrap().address();
    wallet.lock();
    assert!(matches!(
        wallet.key(Account::Wallet),
        Err(WalletProblem::Locked)
    ));
    // What was locked and backed up is so after a restart.
    let again = open(&data, None);
    assert_eq!(again.status(), wallet.status());
    assert_eq!(again.status().state, WalletState::Locked);
    again.unlock(typed(PASSWORD)).await.unwrap();
    assert_eq!(again.key(Account::Wallet).unwrap().address(), address);
    assert_eq!(words_of(data.root(), &typed(PASSWORD)).unwrap(), words);
}

#[tokio::test]
async fn a_device_goes_on_after_a_reboot_while_the_wallet_stays_locked() {
    let (_folder, data) = folder();
    let wallet = open(&data, None);
    wallet.create(typed(PASSWORD)).await.unwrap();
    assert_eq!(
        wallet.status().accounts.len(),
        2,
        "made before it was needed"
    );
    let (session, operator) = (
        wallet.session_key().unwrap().address(),
        wallet.operator_key().unwrap().address(),
    );
    assert_ne!(session, operator);
    assert_eq!(wallet.session_key().unwrap().address(), session);
    assert_eq!(wallet.status().accounts.len(), 4);
    drop(wallet);

    let rebooted = open(&data, None);
    assert_eq!(rebooted.status().state, WalletState::Locked);
    assert_eq!(rebooted.session_key().unwrap().address(), session);
    assert_eq!(rebooted.operator_key().unwrap().address(), operator);
    assert!(matches!(
        rebooted.key(Account::Spend),
        Err(WalletProblem::Locked)
    ));

    let renewed = rebooted.renew_session_key().unwrap().address();
    assert_ne!(renewed, session);
    assert_eq!(rebooted.operator_key().unwrap().address(), operator);
    assert_eq!(open(&data, None).session_key().unwrap().address(), renewed);
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_folder, data) = folder();
    let wallet = open(&data, None);
    wallet.create(typed(PASSWORD)).await.unwrap();
    wallet.operator_key().unwrap();
    for name in ["operator.key", "wallet.json"] {
        let open = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(data.root().join(name), open).unwrap();
    }
    let again = open(&data, None);
    assert_eq!(again.status().problem.unwrap().code, "wallet_too_open");
    assert_eq!(again.operator_key().unwrap_err().code(), "wallet_too_open");
    let refused = open(&data, None).unlock(typed(PASSWORD)).await;
    assert_eq!(refused.unwrap_err().code(), "wallet_unusable");
}

#[tokio::test]
async fn it_locks_by_itself_when_its_time_is_over() {
    let (_folder, data) = folder();
    let wallet = open(&data, Some(Duration::from_millis(150)));
    wallet.create(typed(PASSWORD)).await.unwrap();
    assert!(wallet.status().locks_unix_ms.is_some());
    wallet.key(Account::Wallet).unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(
        wallet.key(Account::Wallet),
        Err(WalletProblem::Locked)
    ));
    assert_eq!(wallet.status().state, WalletState::Locked);
    wallet.set_lock_after(None);
    wallet.unlock(typed(PASSWORD)).await.unwrap();
    assert_eq!(wallet.status().locks_unix_ms, None);
}

#[tokio::test]
async fn a_wallet_is_taken_over_by_words_or_by_a_key_file() {
    let (_one, data) = folder();
    let wallet = open(&data, None);
    let words = "test test test test test test test test test test test junk";
    assert_eq!(
        wallet
            .import_words(typed("test test"), typed(PASSWORD))
            .await
            .unwrap_err()
            .code(),
        "words_count"
    );
    wallet
        .import_words(typed(words), typed(PASSWORD))
        .await
        .unwrap();
    let status = wallet.status();
    assert!(status.backed_up, "whoever typed the words has them");
    assert_eq!(
        status.accounts[0].address,
        "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    );
    assert_eq!(
        wallet.create(typed(PASSWORD)).await.unwrap_err().code(),
        "wallet_exists"
    );
    let text = wallet
        .export(typed(PASSWORD), typed("for another wallet"))
        .await
        .unwrap();

    let (_two, data) = folder();
    let other = open(&data, None);
    other
        .import_key_file(typed(&text), typed("for another wallet"), typed(PASSWORD))
        .await
        .unwrap();
    let imported = other.status();
    assert_eq!(imported.kind, Some(WalletKind::Key));
    assert_eq!(imported.accounts[0].address, status.accounts[0].address);
    assert_eq!(imported.accounts[1].address, status.accounts[0].address);
    assert_eq!(
        other.words(typed(PASSWORD)).await.unwrap_err().code(),
        "wallet_no_words"
    );
}

#[tokio::test]
async fn what_is_remembered_opens_it_after_a_reboot_until_it_is_forgotten() {
    let (_folder, data) = folder();
    let keychain = keychain();
    let wallet = open_with(&data, &keychain, None);
    assert!(!wallet.open_remembered().await.unwrap(), "there is none");
    wallet.create(typed(PASSWORD)).await.unwrap();
    let wrong = wallet.remember(typed("wrong horse battery")).await;
    assert_eq!(wrong.unwrap_err().code(), "wallet_wrong_password");
    assert!(!wallet.status().remembered);
    wallet.remember(typed(PASSWORD)).await.unwrap();
    assert!(wallet.status().remembered);
    let address = wallet.key(Account::Wallet).unwrap().address();

    let rebooted = open_with(&data, &keychain, None);
    assert_eq!(rebooted.status().state, WalletState::Locked);
    assert!(rebooted.open_remembered().await.unwrap());
    assert!(rebooted.status().remembered);
    assert_eq!(rebooted.key(Account::Wallet).unwrap().address(), address);

    // Another password is remembered in the place of the old one.
    let fresh = "another password";
    rebooted
        .change_password(typed(PASSWORD), typed(fresh))
        .await
        .unwrap();
    let again = open_with(&data, &keychain, None);
    assert!(again.open_remembered().await.unwrap());

    again.forget().await.unwrap();
    assert!(!again.status().remembered);
    let after = open_with(&data, &keychain, None);
    assert!(!after.open_remembered().await.unwrap());
    after.unlock(typed(fresh)).await.unwrap();
    assert!(matches!(
        WalletFile::read(&data.root().join("wallet.json"))
            .unwrap()
            .unlock(&typed(PASSWORD)),
        Err(WalletError::WrongPassword)
    ));
}

#[tokio::test]
async fn who_locks_by_hand_is_asked_and_an_idle_wallet_opens_again() {
    let (_folder, data) = folder();
    let wallet = open_with(&data, &keychain(), Some(Duration::from_millis(1)));
    wallet.create(typed(PASSWORD)).await.unwrap();
    wallet.remember(typed(PASSWORD)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(matches!(
        wallet.key(Account::Wallet),
        Err(WalletProblem::Locked)
    ));
    wallet.set_lock_after(None);
    assert!(wallet.open_remembered().await.unwrap());

    wallet.lock();
    assert!(!wallet.open_remembered().await.unwrap());
    assert!(wallet.status().remembered);
    assert_eq!(wallet.status().state, WalletState::Locked);
    wallet.unlock(typed(PASSWORD)).await.unwrap();
}

#[tokio::test]
async fn a_wallet_that_was_sealed_elsewhere_or_replaced_is_not_opened_by_an_old_key() {
    let (_folder, data) = folder();
    let keychain = keychain();
    let wallet = open_with(&data, &keychain, None);
    wallet.create(typed(PASSWORD)).await.unwrap();
    wallet.remember(typed(PASSWORD)).await.unwrap();
    let path = data.root().join("wallet.json");
    let mut elsewhere = WalletFile::read(&path).unwrap();
    elsewhere
        .change_password(&typed(PASSWORD), &typed("another password"))
        .unwrap();
    let again = open_with(&data, &keychain, None);
    assert!(!again.open_remembered().await.unwrap());
    assert!(
        keychain.find(&elsewhere).unwrap().is_none(),
        "it is removed"
    );

    again.remember(typed("another password")).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let fresh = open_with(&data, &keychain, None);
    fresh.create(typed(PASSWORD)).await.unwrap();
    let address = fresh.key(Account::Wallet).unwrap().address();
    let rebooted = open_with(&data, &keychain, None);
    assert!(!rebooted.open_remembered().await.unwrap());
    rebooted.unlock(typed(PASSWORD)).await.unwrap();
    assert_eq!(rebooted.key(Account::Wallet).unwrap().address(), address);
}

/// One line for two machines would have each take the other's vouchers for its own.
#[tokio::test]
async fn two_computers_of_one_wallet_are_two_payees_and_two_signers() {
    let words = "test test test test test test test test test test test junk";
    let mut keys = Vec::new();
    for _ in 0..2 {
        let (_folder, data) = folder();
        let wallet = open(&data, None);
        wallet
            .import_words(typed(words), typed(PASSWORD))
            .await
            .unwrap();
        keys.push((
            wallet.operator_key().unwrap().address(),
            wallet.session_key().unwrap().address(),
        ));
    }
    assert_ne!(keys[0].0, keys[1].0, "operators");
    assert_ne!(keys[0].1, keys[1].1, "session keys");
}

#[test]
fn no_problem_shows_what_was_typed() {
    let problems = [
        WalletProblem::from(Phrase::parse("hunter2hunter2 word").unwrap_err()),
        WalletProblem::from(typed("hunter2").check_new_password().unwrap_err()),
        WalletProblem::from(::wallet::v3::import("hunter2", &typed("hunter2")).unwrap_err()),
    ];
    for problem in problems {
        let shown = format!("{problem} {problem:?} {}", problem.view());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
