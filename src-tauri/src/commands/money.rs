//! Money: what the node knows of it. What moves any goes through the signing window (`sign`).

use tauri::{AppHandle, State};
use tauri_plugin_dialog::DialogExt;
use tokio::sync::oneshot;

use super::Answer;
use super::system::path_of;
use crate::shell::Shell;
use crate::view::{
    AskedPrice, EarningRow, EarningsBy, EnergyUsed, MoneyStatus, OfferPrice, Payment, Proof,
    Receiving, TransactionView, VoteStatus,
};

#[tauri::command]
#[specta::specta]
pub(crate) async fn money_status(shell: State<'_, Shell>) -> Answer<MoneyStatus> {
    Ok(shell.node().await?.money_status().into())
}

/// Times are milliseconds since 1970.
#[tauri::command]
#[specta::specta]
pub(crate) async fn earnings(
    shell: State<'_, Shell>,
    from_unix_ms: f64,
    to_unix_ms: f64,
    by: EarningsBy,
) -> Answer<Vec<EarningRow>> {
    let node = shell.node().await?;
    let rows = node
        .earnings(millis(from_unix_ms), millis(to_unix_ms), by.into())
        .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// What answering took, paid and for nothing. Times are milliseconds since 1970.
#[tauri::command]
#[specta::specta]
pub(crate) async fn energy_used(
    shell: State<'_, Shell>,
    from_unix_ms: f64,
    to_unix_ms: f64,
) -> Answer<EnergyUsed> {
    let node = shell.node().await?;
    let used = node.energy_used(millis(from_unix_ms), millis(to_unix_ms));
    Ok(used.await?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn proof_open(shell: State<'_, Shell>, job: String) -> Answer<Proof> {
    Ok(shell.node().await?.proof_open(&job).await?.into())
}

/// What paid for an answer that this computer asked for.
#[tauri::command]
#[specta::specta]
pub(crate) async fn payment_open(shell: State<'_, Shell>, job: String) -> Answer<Payment> {
    Ok(shell.node().await?.payment_open(&job).await?.into())
}

/// Writes every row of the books where the person says. Null when they say nowhere.
#[tauri::command]
#[specta::specta]
pub(crate) async fn statement_save(
    app: AppHandle,
    shell: State<'_, Shell>,
    csv: bool,
) -> Answer<Option<String>> {
    let name = match csv {
        true => "statement.csv",
        false => "statement.json",
    };
    let (sender, chosen) = oneshot::channel();
    app.dialog().file().set_file_name(name).save_file(|path| {
        // Nobody waits where the window is gone.
        let _ = sender.send(path);
    });
    let Some(path) = path_of(chosen.await.ok().flatten())? else {
        return Ok(None);
    };
    let node = shell.node().await?;
    let path = node.statement(std::path::Path::new(&path), csv).await?;
    Ok(Some(path.display().to_string()))
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn transactions(shell: State<'_, Shell>) -> Answer<Vec<TransactionView>> {
    let all = shell.node().await?.transactions();
    Ok(all.into_iter().map(Into::into).collect())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn money_receive(shell: State<'_, Shell>, spend: bool) -> Answer<Receiving> {
    Ok(shell.node().await?.money_receive(spend)?.into())
}

#[tauri::command]
#[specta::specta]
pub(crate) async fn vote_status(shell: State<'_, Shell>) -> Answer<VoteStatus> {
    Ok(shell.node().await?.vote_status().await?.into())
}

/// What peers ask for each model now.
#[tauri::command]
#[specta::specta]
pub(crate) async fn money_offers(shell: State<'_, Shell>) -> Answer<Vec<OfferPrice>> {
    let offers = shell.node().await?.money_offers();
    Ok(offers.into_iter().map(Into::into).collect())
}

/// What this computer asks for each model that it lends.
#[tauri::command]
#[specta::specta]
pub(crate) async fn money_prices(shell: State<'_, Shell>) -> Answer<Vec<AskedPrice>> {
    let prices = shell.node().await?.money_prices();
    Ok(prices.into_iter().map(Into::into).collect())
}

/// The text of the first deposit that was signed here last, for whoever is to bring it. It is no secret.
#[tauri::command]
#[specta::specta]
pub(crate) async fn start_text(shell: State<'_, Shell>) -> Answer<String> {
    Ok(shell.node().await?.start_text()?)
}

/// A moment as JavaScript has it: the nearest whole millisecond that holds it, and zero where it is no number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "this is what the cast does"
)]
fn millis(unix_ms: f64) -> u64 {
    unix_ms as u64
}
