//! `wallet`: make it, take it over, open it, back it up.
//!
//! Passwords go to the node over its socket, since it is the one that opens. Words never come back over it: they are read
//! from the wallet's file in this process, and shown where they were asked for.

use std::{io::Read as _, path::Path};

use node::wallet::{
    self, Asset, Intent, Typed, WalletProblem, WalletRole, WalletState, WalletStatus,
};

use crate::{
    arguments::{Wallet, WalletAct},
    core::Core,
    failure::Failure,
    money::{self, Act},
    output::Output,
    payment,
    stop::Stop,
    wallet_typed::{new_password, secret},
    words::columns,
};

/// Key files have half a kilobyte and signed deposits a whole one; a cut one is refused as what it is.
const MAX_FILE_BYTES: u64 = 64 * 1024;

pub(crate) const PASSWORD: &str = "Password of the wallet: ";
const NEW_PASSWORD: &str = "New password: ";
const KEY_PASSWORD: &str = "Password of the key file: ";

pub(crate) async fn wallet(
    core: &Core,
    command: Wallet,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let json = command.json;
    let file = command.password_file.as_deref();
    match command.act {
        WalletAct::New => new(core, file, json, output).await,
        WalletAct::Import {
            words_file,
            key_file,
            key_password_file,
        } => {
            refuse_a_second(core).await?;
            match key_file {
                Some(path) => {
                    let text = key_file_text(&path)?;
                    let own = secret(key_password_file.as_deref(), KEY_PASSWORD).await?;
                    let password = new_password(file, NEW_PASSWORD).await?;
                    core.client
                        .wallet_import_key_file(text, own, password)
                        .await?;
                }
                None => {
                    let words = secret(words_file.as_deref(), "Words: ").await?;
                    let password = new_password(file, NEW_PASSWORD).await?;
                    core.client.wallet_import_words(words, password).await?;
                }
            }
            addresses(&core.client.wallet_status().await?, json, output)
        }
        WalletAct::Show => show(&core.client.wallet_status().await?, json, output),
        WalletAct::Addresses => addresses(&core.client.wallet_status().await?, json, output),
        WalletAct::Unlock => {
            attached(core)?;
            let password = secret(file, PASSWORD).await?;
            core.client.wallet_unlock(password).await?;
            show(&core.client.wallet_status().await?, json, output)
        }
        WalletAct::Lock => {
            attached(core)?;
            core.client.wallet_lock().await?;
            show(&core.client.wallet_status().await?, json, output)
        }
        WalletAct::Remember { off: false } => {
            let password = secret(file, PASSWORD).await?;
            core.client.wallet_remember(password).await?;
            output
                .news("The keychain keeps what opens the wallet. Its password opens it as before.");
            show(&core.client.wallet_status().await?, json, output)
        }
        WalletAct::Remember { off: true } => {
            core.client.wallet_forget().await?;
            output.news("The keychain keeps nothing of the wallet.");
            show(&core.client.wallet_status().await?, json, output)
        }
        WalletAct::Words { confirm: false } => {
            let password = secret(file, PASSWORD).await?;
            words(words_of(core, password).await?, json, output)
        }
        WalletAct::Words { confirm: true } => confirm(core, file, json, output).await,
        WalletAct::Export { key_password_file } => {
            let password = secret(file, PASSWORD).await?;
            let own = new_password(key_password_file.as_deref(), KEY_PASSWORD).await?;
            let data = core.data.clone();
            let text = blocking(move || wallet::export_of(&data, &password, &own)).await?;
            output.line(&text)
        }
        WalletAct::Password { new_password_file } => {
            let old = secret(file, PASSWORD).await?;
            let fresh = new_password(new_password_file.as_deref(), NEW_PASSWORD).await?;
            core.client.wallet_change_password(old, fresh).await?;
            output.news("The new password holds; the old one opens nothing any more.");
            Ok(())
        }
        WalletAct::Balance => money::balance(core, json, output).await,
        WalletAct::History => money::history(core, json, output).await,
        WalletAct::Payment { job } => payment::payment(core, &job, json, output).await,
        WalletAct::Deposit { amount, sure } => {
            let amount = money::amount(&amount)?;
            let act = Act::new(Intent::Deposit { amount }, sure, file, json);
            money::sign(core, act, output, stop).await
        }
        WalletAct::Withdraw { amount, sure } => {
            let amount = money::amount(&amount)?;
            let act = Act::new(Intent::Withdraw { amount }, sure, file, json);
            money::sign(core, act, output, stop).await
        }
        WalletAct::Send {
            amount,
            to,
            coin,
            sure,
        } => {
            let amount = money::amount(&amount)?;
            let asset = match coin {
                true => Asset::Coin,
                false => Asset::Token,
            };
            let act = Act::new(Intent::Send { to, asset, amount }, sure, file, json);
            money::sign(core, act, output, stop).await
        }
        WalletAct::EndKey { sure } => {
            money::sign(
                core,
                Act::new(Intent::EndSigner, sure, file, json),
                output,
                stop,
            )
            .await
        }
        WalletAct::Join { sure } => {
            money::sign(core, Act::new(Intent::Join, sure, file, json), output, stop).await
        }
        WalletAct::Unjoin { sure } => {
            let act = Act::new(Intent::Unjoin, sure, file, json);
            money::sign(core, act, output, stop).await
        }
        WalletAct::Faucet { sure } => {
            money::sign(
                core,
                Act::new(Intent::Faucet, sure, file, json),
                output,
                stop,
            )
            .await
        }
        WalletAct::SignStart {
            amount,
            share,
            out,
            sure,
        } => {
            let intent = Intent::SignStart {
                amount: money::amount(&amount)?,
                fee: money::amount(&share)?,
            };
            let act = Act::new(intent, sure, file, json);
            money::sign(core, act, output, stop).await?;
            let text = core.client.start_text().await?;
            std::fs::write(&out, text).map_err(|error| {
                Failure::new(
                    "file",
                    format!("{} cannot be written: {error}.", out.display()),
                    "Choose another file, and sign again.",
                )
            })?;
            match json {
                true => output.json(&out),
                false => output.line(&format!(
                    "Signed into {}. Give it to somebody with coin: they run `decentralgpt wallet relay` on it.",
                    out.display()
                )),
            }
        }
        WalletAct::Relay { file: from, sure } => {
            let start = start_text(&from)?;
            let act = Act::new(Intent::Relay { start }, sure, file, json);
            money::sign(core, act, output, stop).await
        }
        WalletAct::SpeedUp { id, sure } => {
            let act = Act::new(Intent::SpeedUp { id }, sure, file, json);
            money::sign(core, act, output, stop).await
        }
        WalletAct::Cancel { id, sure } => {
            let act = Act::new(Intent::Cancel { id }, sure, file, json);
            money::sign(core, act, output, stop).await
        }
    }
}

async fn new(
    core: &Core,
    file: Option<&Path>,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    refuse_a_second(core).await?;
    let password = new_password(file, NEW_PASSWORD).await?;
    core.client.wallet_create(password.clone()).await?;
    words(words_of(core, password).await?, json, output)?;
    output.news(
        "Write these words down, in this order. Whoever has them has the money; without them, a lost computer is lost money. Then run `decentralgpt wallet words --confirm`.",
    );
    Ok(())
}

/// Asks three words back.
async fn confirm(
    core: &Core,
    file: Option<&Path>,
    json: bool,
    output: &mut Output,
) -> Result<(), Failure> {
    let password = secret(file, PASSWORD).await?;
    let places = core.client.wallet_ask(Some(password)).await?;
    let mut typed = Vec::new();
    for place in places {
        typed.push(secret(None, &format!("Word {place}: ")).await?);
    }
    if !core.client.wallet_check(typed).await? {
        return Err(Failure::new(
            "words_differ",
            "These are not the words that were asked for.",
            "Compare with your copy, and run the command again.",
        ));
    }
    show(&core.client.wallet_status().await?, json, output)
}

/// Says so before anything is typed.
async fn refuse_a_second(core: &Core) -> Result<(), Failure> {
    if core.client.wallet_status().await?.state == WalletState::None {
        return Ok(());
    }
    Err(Failure::new(
        "wallet_exists",
        "There is a wallet already.",
        "Run `decentralgpt wallet show`. To begin with another one, name another folder with --data.",
    ))
}

/// A node that ends with this command has nothing to keep open.
fn attached(core: &Core) -> Result<(), Failure> {
    if core.attached() {
        return Ok(());
    }
    Err(Failure::new(
        "not_running",
        "No window and no `decentralgpt serve` runs on this data folder.",
        "Start one; the wallet is opened there, and closes when it ends.",
    ))
}

/// A key file is sealed by its own password, and lies where another program put it: any mode is taken.
fn key_file_text(path: &Path) -> Result<Typed, Failure> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| {
            Failure::new(
                "key_file_unreadable",
                format!("{} cannot be read: {error}.", path.display()),
                "Check its path and its rights.",
            )
        })?;
    Ok(Typed::new(text))
}

/// A signed first deposit. The node looks at what is in it.
fn start_text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| {
            Failure::new(
                "file",
                format!("{} cannot be read: {error}.", path.display()),
                "Check its path and its rights.",
            )
        })?;
    Ok(text)
}

async fn words_of(core: &Core, password: Typed) -> Result<Vec<&'static str>, Failure> {
    let data = core.data.clone();
    blocking(move || wallet::words_of(&data, &password)).await
}

/// Checking a password takes a tenth of a second.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, WalletProblem> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|problem| problem.view().into()),
        Err(_) => Err(Failure::Interrupted),
    }
}

fn words(words: Vec<&'static str>, json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        return output.json(&serde_json::json!({ "words": words }));
    }
    // Four columns, read from left to right as they are numbered.
    let rows: Vec<Vec<String>> = words
        .iter()
        .enumerate()
        .map(|(index, word)| format!("{:>2} {word}", index + 1))
        .collect::<Vec<_>>()
        .chunks(4)
        .map(<[String]>::to_vec)
        .collect();
    columns(&rows).iter().try_for_each(|line| output.line(line))
}

fn show(status: &WalletStatus, json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        return output.json(status);
    }
    if let Some(problem) = &status.problem {
        output.line(&problem.message)?;
    }
    let state = match status.state {
        WalletState::None => "none: `decentralgpt wallet new` makes one",
        WalletState::Locked => "locked",
        WalletState::Unlocked => "open",
    };
    let mut rows = vec![vec!["wallet".to_owned(), state.to_owned()]];
    if status.state != WalletState::None {
        let words = if status.backed_up {
            "confirmed"
        } else {
            "not confirmed: `decentralgpt wallet words --confirm`"
        };
        rows.push(vec!["words".to_owned(), words.to_owned()]);
        let remembered = if status.remembered {
            "keeps what opens it"
        } else {
            "keeps nothing of it: `decentralgpt wallet remember`"
        };
        rows.push(vec!["keychain".to_owned(), remembered.to_owned()]);
    }
    columns(&rows).iter().try_for_each(|line| output.line(line))
}

fn addresses(status: &WalletStatus, json: bool, output: &mut Output) -> Result<(), Failure> {
    if json {
        return output.json(&status.accounts);
    }
    let rows: Vec<Vec<String>> = status
        .accounts
        .iter()
        .map(|account| {
            let role = match account.role {
                WalletRole::Wallet => "wallet",
                WalletRole::Spend => "spend",
                WalletRole::Operator => "operator",
                WalletRole::Session => "session",
            };
            let path = account.path.as_deref().unwrap_or("of this computer alone");
            [role, &account.address, path].map(str::to_owned).to_vec()
        })
        .collect();
    columns(&rows).iter().try_for_each(|line| output.line(line))
}
