//! What must not be seen: typed without an echo, or read from a file that nobody else can read. Never an argument.

use std::{io, path::Path};

use node::wallet::{Typed, WalletProblem};

use crate::failure::Failure;

/// Reads a secret from its file, or asks for it on the terminal.
///
/// # Errors
/// When the file cannot be read or others can read it, and when there is no terminal to ask on.
pub(crate) async fn secret(file: Option<&Path>, question: &str) -> Result<Typed, Failure> {
    match file {
        Some(path) => from_file(path),
        None => ask(question).await,
    }
}

/// A new password: typed twice, since nobody sees what is typed.
///
/// # Errors
/// As [`secret`], when the two differ, and when it is too short.
pub(crate) async fn new_password(file: Option<&Path>, question: &str) -> Result<Typed, Failure> {
    let password = secret(file, question).await?;
    password
        .check_new_password()
        .map_err(|error| WalletProblem::from(error).view())?;
    if file.is_none() && ask("Once more: ").await? != password {
        return Err(Failure::new(
            "passwords_differ",
            "The two passwords differ.",
            "Run the command again, and type the same one twice.",
        ));
    }
    Ok(password)
}

/// A file of mode 0600.
///
/// # Errors
/// When it cannot be read, or others can read it.
pub(crate) fn from_file(path: &Path) -> Result<Typed, Failure> {
    Typed::read(path).map_err(|error| WalletProblem::from(error).view().into())
}

async fn ask(question: &str) -> Result<Typed, Failure> {
    let question = question.to_owned();
    let asked = tokio::task::spawn_blocking(move || rpassword::prompt_password(question)).await;
    match asked {
        Ok(Ok(text)) => Ok(Typed::new(text)),
        Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::Interrupted),
        Ok(Err(_)) | Err(_) => Err(Failure::new(
            "no_terminal",
            "There is no terminal to type a secret on.",
            "Name a file of mode 0600 instead: see `decentralgpt wallet --help`.",
        )),
    }
}
