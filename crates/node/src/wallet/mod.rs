//! The wallet of this node: whether there is one, whether it is open, and whose keys may sign.
//!
//! Four keys. The *wallet* and *spend* keys follow from the words; they exist in memory only while the wallet is open, and
//! it closes by itself. The *session* and *operator* keys of this device are made when they are first needed and lie in
//! files of mode 0600, so that a computer that starts by itself goes on with these two while the wallet stays closed.
//!
//! [`Wallet`] is a handle; the state lies behind one mutex that is never held while a password is checked (that takes a
//! tenth of a second and 64 MiB, in a thread of its own). What others see of it is one snapshot, [`WalletStatus`].
//!
//! Whoever wants that has what opens the wallet kept in the system's keychain ([`Wallet::remember`]): it is opened by that
//! when the node starts, and again when something must be signed, unless it was locked by hand.
//!
//! Words and passwords come in as [`Typed`], which no log and no error shows. Words leave through [`Wallet::words`] and
//! [`words_of`] alone.

mod backup;
mod intent;
mod problem;
mod remembered;
mod view;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

pub use ::wallet::{Account, Secret, Typed, WalletError};
use ::wallet::{Contents, KeyFile, KeyRole, Keychain, Phrase, Unlocked, WalletFile};
use tokio::sync::watch;

use self::backup::Backup;
pub use self::{
    backup::ASKED_WORDS,
    intent::{
        Amount, Asset, Change, Intent, Leaves, NamedValue, Preview, PreviewNetwork, Simulation,
        Support,
    },
    problem::WalletProblem,
    view::{AccountView, WalletKind, WalletRole, WalletState, WalletStatus},
};
use crate::{clock, data::DataFolder, error::ErrorView, node::Inner};

/// What a wallet may hold, in base units of the token, before a copy of its words must be shown to exist: 10 DGC. Above it
/// the wallet looks on and signs nothing: losing the computer would lose the money.
pub const WATCH_ONLY_ABOVE: u128 = 10 * 10u128.pow(18);

/// How often the clock on the wall is compared while the wallet is open. The monotonic clock stands still while a laptop
/// sleeps, and a wallet must not be open when it wakes.
const LOOK: Duration = Duration::from_secs(5);

/// The wallet of a data folder. Clones share it.
#[derive(Debug, Clone)]
pub struct Wallet {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    files: Files,
    keychain: Keychain,
    state: Mutex<State>,
    status: watch::Sender<WalletStatus>,
    /// One change of the wallet's file at a time.
    changing: tokio::sync::Mutex<()>,
    /// One question to the keychain at a time: it may ask its owner something for each.
    asking: tokio::sync::Mutex<()>,
}

/// Where the keys of a data folder lie.
#[derive(Debug)]
struct Files {
    wallet: PathBuf,
    session: PathBuf,
    operator: PathBuf,
}

impl Files {
    fn of(data: &Path) -> Self {
        Self {
            wallet: data.join("wallet.json"),
            session: data.join("session.key"),
            operator: data.join("operator.key"),
        }
    }

    fn key(&self, role: KeyRole) -> &Path {
        match role {
            KeyRole::Session => &self.session,
            KeyRole::Operator => &self.operator,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    file: Option<WalletFile>,
    /// Why there is a file and no wallet.
    problem: Option<ErrorView>,
    open: Option<Open>,
    backup: Option<Backup>,
    session: Option<KeyFile>,
    operator: Option<KeyFile>,
    /// Never when `None`.
    lock_after: Option<Duration>,
    /// Whether the keychain keeps what opens the file; `None` before it was asked.
    remembered: Option<bool>,
    /// A person locked it: from then on it takes a password, whatever the keychain keeps.
    by_hand: bool,
}

/// Keys in memory, and when they go. Both clocks count: whichever comes first.
#[derive(Debug)]
struct Open {
    keys: Unlocked,
    until: Option<(Instant, u64)>,
}

impl Open {
    fn new(keys: Unlocked, lock_after: Option<Duration>) -> Self {
        let mut open = Self { keys, until: None };
        open.renew(lock_after);
        open
    }

    fn renew(&mut self, lock_after: Option<Duration>) {
        self.until = lock_after.map(|after| {
            let millis = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            (
                Instant::now() + after,
                clock::unix_ms().saturating_add(millis),
            )
        });
    }

    fn is_over(&self) -> bool {
        self.until
            .is_some_and(|(at, unix_ms)| Instant::now() >= at || clock::unix_ms() >= unix_ms)
    }
}

impl Wallet {
    /// Reads what is in the data folder. A damaged file is no reason not to start: it is a problem of the status. The
    /// keychain is not asked yet.
    pub(crate) fn open(
        data: &DataFolder,
        keychain: Keychain,
        lock_after: Option<Duration>,
    ) -> Self {
        let files = Files::of(data.root());
        let mut state = State {
            lock_after,
            ..State::default()
        };
        match WalletFile::read(&files.wallet) {
            Ok(file) => state.file = Some(file),
            Err(WalletError::Missing { .. }) => {}
            Err(error) => state.problem = Some(WalletProblem::from(error).view()),
        }
        for role in [KeyRole::Session, KeyRole::Operator] {
            match KeyFile::read(files.key(role), role) {
                Ok(key) => *state.key_mut(role) = Some(key),
                Err(WalletError::Missing { .. }) => {}
                // It is said again, with its reason, to whoever needs the key.
                Err(error) => {
                    state
                        .problem
                        .get_or_insert(WalletProblem::from(error).view());
                }
            }
        }
        let status = watch::Sender::new(state.view());
        Self {
            shared: Arc::new(Shared {
                files,
                keychain,
                state: Mutex::new(state),
                status,
                changing: tokio::sync::Mutex::default(),
                asking: tokio::sync::Mutex::default(),
            }),
        }
    }

    /// The wallet, now.
    #[must_use]
    pub fn status(&self) -> WalletStatus {
        self.shared.status.borrow().clone()
    }

    /// The wallet, as it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<WalletStatus> {
        self.shared.status.subscribe()
    }

    /// Makes a wallet of 24 new words, and leaves it open. The words are shown by [`Wallet::words`].
    ///
    /// # Errors
    /// [`WalletProblem::File`]: a wallet exists, the password is too short, the disk is full.
    pub async fn create(&self, password: Typed) -> Result<(), WalletProblem> {
        let contents = Contents::Words(Phrase::generate()?);
        self.keep(contents, password, false).await
    }

    /// Takes over a wallet by its words, and leaves it open. Whoever types them has a copy.
    ///
    /// # Errors
    /// [`WalletProblem::File`]: the words are wrong, and those of [`Wallet::create`].
    pub async fn import_words(&self, words: Typed, password: Typed) -> Result<(), WalletProblem> {
        let contents = Contents::Words(Phrase::parse(words.expose())?);
        drop(words);
        self.keep(contents, password, true).await
    }

    /// Takes over the one key of a Web3 key file (its JSON), and leaves the wallet open.
    ///
    /// # Errors
    /// [`WalletProblem::File`]: the file or its password is wrong, and those of [`Wallet::create`].
    pub async fn import_key_file(
        &self,
        text: Typed,
        file_password: Typed,
        password: Typed,
    ) -> Result<(), WalletProblem> {
        let secret = blocking(move || ::wallet::v3::import(text.expose(), &file_password)).await?;
        self.keep(Contents::Key(secret), password, true).await
    }

    async fn keep(
        &self,
        contents: Contents,
        password: Typed,
        backed_up: bool,
    ) -> Result<(), WalletProblem> {
        let _one = self.shared.changing.lock().await;
        let path = self.shared.files.wallet.clone();
        let (file, keys) = blocking(move || {
            let mut file = WalletFile::create(&path, &contents, &password)?;
            if backed_up {
                file.mark_backed_up()?;
            }
            Ok((file, Unlocked::of(&contents)?))
        })
        .await?;
        self.change(|state| {
            state.open = Some(Open::new(keys, state.lock_after));
            state.file = Some(file);
            state.backup = None;
            state.problem = None;
            state.remembered = None;
            state.by_hand = false;
        });
        Ok(())
    }

    /// Opens the wallet until it is idle for the time of the settings.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::File`] for a wrong password or a damaged file.
    pub async fn unlock(&self, password: Typed) -> Result<(), WalletProblem> {
        let file = self.file()?;
        let keys = blocking(move || file.unlock(&password)).await?;
        self.change(|state| state.unlocked(keys));
        Ok(())
    }

    /// Wipes the keys of the wallet from memory, until its password is typed again. The session and operator keys stay.
    pub fn lock(&self) {
        self.change(|state| {
            state.wipe();
            state.by_hand = true;
        });
    }

    /// The same, when nobody asked for it: what is remembered opens it again.
    fn close(&self) {
        self.change(State::wipe);
    }

    /// Seals the wallet under another password. What is remembered follows.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::File`], and the old password holds.
    pub async fn change_password(&self, old: Typed, fresh: Typed) -> Result<(), WalletProblem> {
        let _one = self.shared.changing.lock().await;
        let mut file = self.file()?;
        let typed = fresh.clone();
        let file = blocking(move || {
            file.change_password(&old, &fresh)?;
            Ok(file)
        })
        .await?;
        self.change(|state| state.file = Some(file));
        self.remember_anew(typed).await;
        Ok(())
    }

    /// The words, to be shown and written down; [`Wallet::ask`] may follow.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::File`] for a wrong password, and where there are no words.
    pub async fn words(&self, password: Typed) -> Result<Vec<&'static str>, WalletProblem> {
        let phrase = self.phrase(password).await?;
        let words = phrase.words().collect();
        let backup = Backup::of(phrase)?;
        self.change(|state| state.backup = Some(backup));
        Ok(words)
    }

    /// Which words are asked back, by their places from 1. The password is needed where the words were not shown before.
    ///
    /// # Errors
    /// [`WalletProblem::NotAsked`] without either; those of [`Wallet::words`].
    pub async fn ask(
        &self,
        password: Option<Typed>,
    ) -> Result<[usize; ASKED_WORDS], WalletProblem> {
        if let Some(password) = password {
            let backup = Backup::of(self.phrase(password).await?)?;
            self.change(|state| state.backup = Some(backup));
        }
        let mut state = self.state();
        let backup = state.backup.as_mut().ok_or(WalletProblem::NotAsked)?;
        backup.ask_anew()?;
        Ok(backup.asked())
    }

    /// Compares what was typed with the words that were asked for, and keeps that a copy exists when all are right. Wrong
    /// ones end the question: it is asked anew, for other words.
    ///
    /// # Errors
    /// [`WalletProblem::NotAsked`]; [`WalletProblem::File`] when the disk does not take it.
    pub async fn check(&self, words: &[Typed]) -> Result<bool, WalletProblem> {
        let _one = self.shared.changing.lock().await;
        let right = self
            .state()
            .backup
            .as_mut()
            .ok_or(WalletProblem::NotAsked)?
            .check(words)?;
        if !right {
            return Ok(false);
        }
        let mut file = self.file()?;
        let file = blocking(move || {
            file.mark_backed_up()?;
            Ok(file)
        })
        .await?;
        self.change(|state| {
            state.file = Some(file);
            state.backup = None;
        });
        Ok(true)
    }

    /// Forgets the words that were shown, when nobody will be asked for them now.
    pub fn end_backup(&self) {
        self.change(|state| state.backup = None);
    }

    /// The wallet key as a Web3 key file under a password of its own.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::File`] for a wrong password, or a short new one.
    pub async fn export(
        &self,
        password: Typed,
        file_password: Typed,
    ) -> Result<String, WalletProblem> {
        let file = self.file()?;
        blocking(move || {
            file_password.check_new_password()?;
            let keys = file.unlock(&password)?;
            ::wallet::v3::export(keys.key(Account::Wallet), &file_password)
        })
        .await
    }

    /// The key of an account, while the wallet is open. Each use keeps it open for the time of the settings again.
    ///
    /// # Errors
    /// [`WalletProblem::None`] and [`WalletProblem::Locked`].
    pub fn key(&self, account: Account) -> Result<Secret, WalletProblem> {
        self.lock_if_over();
        let mut secret = None;
        self.change(|state| {
            let lock_after = state.lock_after;
            if let Some(open) = state.open.as_mut() {
                open.renew(lock_after);
                secret = Some(open.keys.key(account).clone());
            }
        });
        match secret {
            Some(secret) => Ok(secret),
            None => {
                self.file()?;
                Err(WalletProblem::Locked)
            }
        }
    }

    /// The key that signs this device's vouchers, made when it is first needed; no password guards it.
    ///
    /// # Errors
    /// [`WalletProblem::File`].
    pub fn session_key(&self) -> Result<Secret, WalletProblem> {
        self.device_key(KeyRole::Session)
    }

    /// The key that sends this device's claims and signs its finals, made when it is first needed; no password guards it.
    ///
    /// # Errors
    /// [`WalletProblem::File`].
    pub fn operator_key(&self) -> Result<Secret, WalletProblem> {
        self.device_key(KeyRole::Operator)
    }

    /// A new session key: a ledger that was lost, copied or restored never goes on with its old signer. The old file is
    /// kept aside, because its grant may still be paid out.
    ///
    /// # Errors
    /// [`WalletProblem::File`]; the old key holds then.
    pub fn renew_session_key(&self) -> Result<Secret, WalletProblem> {
        let path = &self.shared.files.session;
        let failed = |source| WalletError::File {
            path: path.clone(),
            what: "written",
            source,
        };
        if path.exists() {
            crate::data::keep_aside_as(path, "retired").map_err(failed)?;
        }
        self.change(|state| state.session = None);
        self.session_key()
    }

    fn device_key(&self, role: KeyRole) -> Result<Secret, WalletProblem> {
        if let Some(key) = self.state().key_mut(role) {
            return Ok(key.secret().clone());
        }
        let mut made = None;
        // Under the lock, so that two callers do not make two keys; a small file is quickly written.
        self.change(|state| {
            if state.key_mut(role).is_none() {
                match KeyFile::open_or_create(self.shared.files.key(role), role) {
                    Ok(key) => *state.key_mut(role) = Some(key),
                    Err(error) => {
                        made = Some(Err(error.into()));
                        return;
                    }
                }
            }
            made = state
                .key_mut(role)
                .as_ref()
                .map(|key| Ok(key.secret().clone()));
        });
        made.unwrap_or(Err(WalletProblem::None))
    }

    /// Whether the wallet and spend keys may sign while they hold so much, in base units of the token.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::WatchOnly`] above [`WATCH_ONLY_ABOVE`] until the words were asked back.
    pub fn signing_allowed(&self, held: u128) -> Result<(), WalletProblem> {
        if held > WATCH_ONLY_ABOVE && !self.file()?.backed_up() {
            return Err(WalletProblem::WatchOnly);
        }
        Ok(())
    }

    /// The time of the settings after which an idle wallet closes; `None` is never.
    pub(crate) fn set_lock_after(&self, lock_after: Option<Duration>) {
        self.change(|state| {
            state.lock_after = lock_after;
            if let Some(open) = state.open.as_mut() {
                open.renew(lock_after);
            }
        });
    }

    fn lock_if_over(&self) {
        let over = self.state().open.as_ref().is_some_and(Open::is_over);
        if over {
            self.close();
        }
    }

    fn file(&self) -> Result<WalletFile, WalletProblem> {
        let state = self.state();
        match (&state.file, &state.problem) {
            (Some(file), _) => Ok(file.clone()),
            (None, Some(problem)) => Err(WalletProblem::Unusable(problem.clone())),
            (None, None) => Err(WalletProblem::None),
        }
    }

    async fn phrase(&self, password: Typed) -> Result<Phrase, WalletProblem> {
        let file = self.file()?;
        match blocking(move || file.open(&password)).await? {
            Contents::Words(phrase) => Ok(phrase),
            Contents::Key(_) => Err(WalletError::NoWords.into()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves a state that is whole all the same: its writes are single assignments.
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and tells of it what can be seen.
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let view = state.view();
        drop(state);
        self.shared.status.send_if_modified(|status| {
            let changed = *status != view;
            *status = view;
            changed
        });
    }
}

impl State {
    fn unlocked(&mut self, keys: Unlocked) {
        self.open = Some(Open::new(keys, self.lock_after));
        self.by_hand = false;
    }

    fn wipe(&mut self) {
        self.open = None;
        self.backup = None;
    }

    fn key_mut(&mut self, role: KeyRole) -> &mut Option<KeyFile> {
        match role {
            KeyRole::Session => &mut self.session,
            KeyRole::Operator => &mut self.operator,
        }
    }
}

/// Opens the wallet by what is remembered, closes it when its time is over, and when the node stops.
pub(crate) async fn keep(inner: Arc<Inner>) {
    let mut status = inner.wallet.watch();
    tokio::select! {
        () = inner.stop.cancelled() => return,
        opened = inner.wallet.open_remembered() => {
            if let Err(problem) = opened {
                tracing::debug!("the wallet was not opened by the keychain: {problem}");
            }
        }
    }
    loop {
        let open = status.borrow_and_update().state == WalletState::Unlocked;
        tokio::select! {
            () = inner.stop.cancelled() => {
                inner.wallet.close();
                return;
            }
            changed = status.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(LOOK), if open => inner.wallet.lock_if_over(),
        }
    }
}

/// The words of the wallet in a data folder, read without a node: they cross no socket and stay in the process that asks.
///
/// # Errors
/// [`WalletProblem::None`]; [`WalletProblem::File`] for a wrong password, a damaged file, and a wallet without words.
pub fn words_of(data: &Path, password: &Typed) -> Result<Vec<&'static str>, WalletProblem> {
    match read(data)?.open(password)? {
        Contents::Words(phrase) => Ok(phrase.words().collect()),
        Contents::Key(_) => Err(WalletError::NoWords.into()),
    }
}

/// The wallet key in a data folder as a Web3 key file, made without a node.
///
/// # Errors
/// As [`Wallet::export`].
pub fn export_of(
    data: &Path,
    password: &Typed,
    file_password: &Typed,
) -> Result<String, WalletProblem> {
    file_password.check_new_password()?;
    let keys = read(data)?.unlock(password)?;
    Ok(::wallet::v3::export(
        keys.key(Account::Wallet),
        file_password,
    )?)
}

fn read(data: &Path) -> Result<WalletFile, WalletProblem> {
    match WalletFile::read(&Files::of(data).wallet) {
        Err(WalletError::Missing { .. }) => Err(WalletProblem::None),
        read => Ok(read?),
    }
}

/// Runs what takes a tenth of a second and much memory in a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WalletError> + Send + 'static,
) -> Result<T, WalletProblem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(WalletProblem::Stopping),
    }
}

impl crate::Node {
    /// The wallet.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.inner.wallet
    }
}

#[cfg(test)]
mod tests;
