//! What opens the wallet without its password, kept in the system's keychain for whoever wants that.
//!
//! The keychain itself says whether something is kept; nothing beside it does. It is asked once when the node starts, and
//! after that only where it has something. A thread of its own asks: a keychain waits for its owner, and neither a worker
//! nor the end of the program must wait with it.

use std::time::Duration;

use ::wallet::{Keychain, KeychainError, Typed};
use tokio::sync::oneshot;

use super::{Wallet, WalletProblem, blocking};

/// Long enough for a person to type the keychain's own password; who has no answer after it types the wallet's.
const PATIENCE: Duration = Duration::from_secs(30);

impl Wallet {
    /// Has the keychain keep what opens the wallet on this computer. The wallet's file and its password stay as they are.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::File`] for a wrong password; [`WalletProblem::Keychain`] and
    /// [`WalletProblem::KeychainSilent`], and nothing is remembered.
    pub async fn remember(&self, password: Typed) -> Result<(), WalletProblem> {
        let _one = self.shared.asking.lock().await;
        self.keep_key(password).await
    }

    /// Removes what the keychain keeps of the wallet.
    ///
    /// # Errors
    /// [`WalletProblem::None`]; [`WalletProblem::Keychain`] and [`WalletProblem::KeychainSilent`], and it is still kept.
    pub async fn forget(&self) -> Result<(), WalletProblem> {
        let _one = self.shared.asking.lock().await;
        let file = self.file()?;
        self.ask_keychain(move |keychain| keychain.forget(&file))
            .await?;
        self.change(|state| state.remembered = Some(false));
        Ok(())
    }

    /// Opens the wallet by what is remembered, and says whether it is open now. It stays closed where nothing is, and after
    /// it was locked by hand.
    ///
    /// # Errors
    /// [`WalletProblem::Keychain`] and [`WalletProblem::KeychainSilent`]; [`WalletProblem::File`] for a damaged file.
    pub async fn open_remembered(&self) -> Result<bool, WalletProblem> {
        let _one = self.shared.asking.lock().await;
        self.lock_if_over();
        let file = {
            let state = self.state();
            if state.open.is_some() {
                return Ok(true);
            }
            match &state.file {
                Some(file) if !state.by_hand && state.remembered != Some(false) => file.clone(),
                _ => return Ok(false),
            }
        };
        let of = file.clone();
        let Some(key) = self
            .ask_keychain(move |keychain| keychain.find(&of))
            .await?
        else {
            self.change(|state| state.remembered = Some(false));
            return Ok(false);
        };
        let of = file.clone();
        let Some(keys) = blocking(move || of.unlock_with(&key)).await? else {
            // It was sealed anew elsewhere: what is kept opens nothing any more.
            self.ask_keychain(move |keychain| keychain.forget(&file))
                .await?;
            self.change(|state| state.remembered = Some(false));
            return Ok(false);
        };
        let mut opened = false;
        self.change(|state| {
            state.remembered = Some(true);
            // Somebody may have been quicker than the keychain, or have locked it meanwhile.
            if state.open.is_none() && !state.by_hand {
                state.unlocked(keys);
            }
            opened = state.open.is_some();
        });
        Ok(opened)
    }

    /// After a new password: what was kept opens nothing any more.
    pub(super) async fn remember_anew(&self, password: Typed) {
        let _one = self.shared.asking.lock().await;
        let remembered = self.state().remembered;
        // A command that ends with its answer may be here before the keychain was asked.
        let remembered = match (remembered, self.file()) {
            (Some(known), _) => known,
            (None, Ok(file)) => {
                let found = self
                    .ask_keychain(move |keychain| keychain.find(&file))
                    .await;
                found.is_ok_and(|found| found.is_some())
            }
            (None, Err(_)) => false,
        };
        if !remembered {
            return;
        }
        if let Err(problem) = self.keep_key(password).await {
            tracing::warn!("the new password is not remembered: {problem}");
            self.change(|state| state.remembered = None);
        }
    }

    async fn keep_key(&self, password: Typed) -> Result<(), WalletProblem> {
        let file = self.file()?;
        let sealed = file.clone();
        let key = blocking(move || sealed.unlock_key(&password)).await?;
        self.ask_keychain(move |keychain| keychain.keep(&file, &key))
            .await?;
        self.change(|state| state.remembered = Some(true));
        Ok(())
    }

    async fn ask_keychain<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Keychain) -> Result<T, KeychainError> + Send + 'static,
    ) -> Result<T, WalletProblem> {
        let keychain = self.shared.keychain.clone();
        let (answer, answered) = oneshot::channel();
        let asking = std::thread::Builder::new().name("keychain".to_owned());
        let started = asking.spawn(move || {
            // Nobody waits any more: what was asked for is done all the same, and seen at the next start.
            let _ = answer.send(question(&keychain));
        });
        if let Err(error) = started {
            return Err(KeychainError::Failed {
                why: error.to_string(),
            }
            .into());
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(answer)) => Ok(answer?),
            Ok(Err(_)) => Err(WalletProblem::Stopping),
            Err(_) => Err(WalletProblem::KeychainSilent {
                seconds: PATIENCE.as_secs(),
            }),
        }
    }
}
