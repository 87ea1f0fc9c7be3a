//! `wallet balance | send | …`, `earnings`, `networks`: what moves money is shown whole before it is sent.

use std::{
    io::{IsTerminal as _, Write as _},
    path::Path,
    time::Duration,
};

use node::{
    money::{
        Claims, ClaimsError, Proof,
        view::{Joined, MoneyStatus},
    },
    wallet::{Amount, Intent, Preview, Simulation, WalletRole, WalletState},
};

use crate::{
    arguments::{Claim, Earnings, Networks, NetworksAct, Sure},
    core::Core,
    earnings,
    failure::Failure,
    output::Output,
    stop::Stop,
    wallet::PASSWORD,
    wallet_typed::secret,
    words::columns,
};

/// Digits behind the point of a token and of a coin.
const DECIMALS: usize = 18;
/// How long the network's first block is waited for: a command that was just started knows nothing yet.
const FIRST_BLOCK: Duration = Duration::from_secs(20);
/// How long a transaction is watched. It goes on without this command, as soon as a node runs.
const WATCH: Duration = Duration::from_secs(180);
/// How often.
const LOOK: Duration = Duration::from_millis(300);

/// Something to be signed.
pub(crate) struct Act<'a> {
    intent: Intent,
    sure: Sure,
    password_file: Option<&'a Path>,
    json: bool,
}

impl<'a> Act<'a> {
    pub(crate) fn new(
        intent: Intent,
        sure: Sure,
        password_file: Option<&'a Path>,
        json: bool,
    ) -> Self {
        Self {
            intent,
            sure,
            password_file,
            json,
        }
    }
}

/// Shows what would be sent, asks, sends it, and watches it until it is final; one transaction after another where it takes two. What
/// is signed for somebody else to send is signed, and that is all.
pub(crate) async fn sign(
    core: &Core,
    act: Act<'_>,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    while sign_one(core, &act, output, stop).await? {}
    Ok(())
}

/// One transaction. Whether another one has to follow it.
async fn sign_one(
    core: &Core,
    act: &Act<'_>,
    output: &mut Output,
    stop: &Stop,
) -> Result<bool, Failure> {
    let status = reached(core, output).await?;
    // A keychain that is closed or gone is no reason not to type the password.
    if status.wallet == WalletState::Locked
        && !core.client.wallet_open_remembered().await.unwrap_or(false)
    {
        let password = secret(act.password_file, PASSWORD).await?;
        core.client.wallet_unlock(password).await?;
    }
    let preview = core.client.sign_preview(&act.intent).await?;
    if !act.json || !act.sure.yes {
        for line in shown(&preview) {
            output.news(&line);
        }
    }
    if preview.simulation == Simulation::Reverts {
        return Err(Failure::new(
            "reverts",
            format!(
                "The chain would refuse it: {}.",
                preview.reason.as_deref().unwrap_or("it gives no reason")
            ),
            "Nothing was sent.",
        ));
    }
    if act.intent.is_sent() && preview.coin_after.is_none() {
        let coin = &preview.network.coin;
        return Err(Failure::new(
            "no_coin",
            format!(
                "There is not enough {coin} for the fee of at most {}.",
                tokens(&preview.fee_max)
            ),
            format!(
                "Send some {coin} to the account that pays: `decentralgpt wallet balance` shows its address. Nothing was sent."
            ),
        ));
    }
    let question = match act.intent.is_sent() {
        true => "Send it? [y/N] ",
        false => "Sign it? [y/N] ",
    };
    if !act.sure.yes && !asked(question)? {
        return Err(Failure::new(
            "not_sent",
            "Nothing was sent.",
            "Run it again and answer y, or give --yes.",
        ));
    }
    let before = core.client.transactions().await?;
    core.client
        .sign_confirm(&act.intent, &preview.digest)
        .await?;
    if !act.intent.is_sent() {
        return Ok(false);
    }
    let until = tokio::time::Instant::now() + WATCH;
    loop {
        let now = core.client.transactions().await?;
        // A replacement changes one that was there; anything else is new.
        let tx = now
            .iter()
            .find(|tx| !before.contains(tx))
            .or_else(|| now.first());
        if let Some(tx) = tx {
            output.progress(&format!("{}: {}", tx.title, tx.state));
            match tx.state.as_str() {
                "final" => {
                    output.clear_progress();
                    match act.json {
                        true => output.json(tx)?,
                        false => {
                            output.line(&format!("{}: final. {}", tx.title, tx.hash))?;
                        }
                    }
                    return Ok(preview.more);
                }
                "failed" | "lost" | "replaced" => {
                    output.clear_progress();
                    return Err(Failure::new(
                        "transaction_failed",
                        format!("{}: {}.", tx.title, tx.why.as_deref().unwrap_or(&tx.state)),
                        "Look at `decentralgpt wallet history`, then try again.",
                    ));
                }
                _ => {}
            }
        }
        if tokio::time::Instant::now() >= until {
            output.clear_progress();
            output.news("It is not final yet. It goes on while a window or `serve` runs; see `decentralgpt wallet history`.");
            return Ok(false);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.asked() => return Err(Failure::Interrupted),
        }
    }
}

/// Waits until the network was looked at.
pub(crate) async fn reached(core: &Core, output: &mut Output) -> Result<MoneyStatus, Failure> {
    let until = tokio::time::Instant::now() + FIRST_BLOCK;
    loop {
        let status = core.client.money_status().await?;
        match &status.network {
            None if status.problems.is_empty() => {
                let settings = core.client.settings_get().await?;
                if settings.money.network.is_none() {
                    return Err(Failure::new(
                        "no_money",
                        "No network of money is chosen.",
                        "Run `decentralgpt networks use FILE`. Everything else works without one.",
                    ));
                }
            }
            None => {
                if let Some(problem) = status.problems.first() {
                    return Err(problem.clone().into());
                }
            }
            Some(network) if network.final_block.is_some() => return Ok(status),
            Some(_) => {}
        }
        if tokio::time::Instant::now() >= until {
            return Err(Failure::new(
                "chain_offline",
                "No endpoint of the network answers.",
                "Look at `decentralgpt networks`, and at your connection.",
            ));
        }
        output.progress("asking the network");
        tokio::time::sleep(LOOK).await;
    }
}

fn shown(preview: &Preview) -> Vec<String> {
    let symbol = &preview.network.symbol;
    let worth = worth(preview.network.test);
    let mut lines = vec![preview.title.clone()];
    let known = match preview.known {
        true => "",
        false => "  — not a contract of this network",
    };
    lines.push(format!("  to      {}{known}", preview.to));
    for leaves in &preview.leaves {
        lines.push(format!(
            "  leaves  {} {}{worth}",
            tokens(&leaves.amount),
            leaves.symbol
        ));
    }
    let coin = &preview.network.coin;
    lines.push(format!(
        "  fee     at most {} {coin}",
        tokens(&preview.fee_max)
    ));
    let left = |amount: &Option<String>, symbol: &str| match amount {
        Some(amount) => format!("{} {symbol}", tokens(amount)),
        None => format!("not enough {symbol}"),
    };
    lines.push(format!(
        "  after   {}, {}",
        left(&preview.token_after, symbol),
        left(&preview.coin_after, coin)
    ));
    if preview.simulation == Simulation::NotTried {
        lines.push(
            "  not simulated: no endpoint can before it is signed; it is tried then, and not sent if it would be refused"
                .to_owned(),
        );
    }
    for field in &preview.fields {
        lines.push(format!("  {}: {}", field.name, field.value));
    }
    lines
}

pub(crate) fn asked(question: &str) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "not_confirmed",
            "There is no terminal to ask in.",
            "Give --yes to do it without being asked.",
        ));
    }
    let mut err = std::io::stderr();
    let _ = write!(err, "{question}");
    let _ = err.flush();
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .map_err(Failure::output)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

pub(crate) async fn balance(core: &Core, json: bool, output: &mut Output) -> Result<(), Failure> {
    let status = reached(core, output).await?;
    output.clear_progress();
    if json {
        return output.json(&status);
    }
    let Some(network) = &status.network else {
        return Ok(());
    };
    let worth = match network.test {
        true => " — a test network: every amount is worth nothing",
        false => "",
    };
    output.line(&format!("{}{worth}", network.title))?;
    let unknown = || "?".to_owned();
    let mut rows = Vec::new();
    for account in &status.accounts {
        let role = match account.role {
            WalletRole::Wallet => "wallet",
            WalletRole::Spend => "spend",
            WalletRole::Operator => "operator",
            WalletRole::Session => "session",
        };
        let holds = |amount: &Option<String>, symbol: &str| {
            amount
                .as_deref()
                .map_or_else(unknown, |amount| format!("{} {symbol}", tokens(amount)))
        };
        rows.push(vec![
            role.to_owned(),
            holds(&account.token, &network.symbol),
            holds(&account.coin, &network.coin),
            account.address.clone(),
        ]);
    }
    columns(&rows)
        .iter()
        .try_for_each(|line| output.line(line))?;
    let symbol = &network.symbol;
    if let Some(vault) = &status.vault {
        output.line(&format!(
            "vault: {} {symbol} free, {} promised of {} granted",
            tokens(&vault.free),
            tokens(&vault.promised),
            tokens(&vault.granted)
        ))?;
        if let Some(ended) = &vault.ended {
            output.line(&format!(
                "left of ended keys: {} {symbol}, of which {} can be withdrawn now",
                tokens(&ended.left),
                tokens(&ended.due)
            ))?;
        }
    }
    if let Some(earned) = &status.earned {
        output.line(&format!(
            "earned: {} {symbol} being checked, {} available, {} too small to collect yet, {} paid out",
            tokens(&earned.checking),
            tokens(&earned.available),
            tokens(&earned.too_small),
            tokens(&earned.paid_out)
        ))?;
        if let (Some(rules), Some(net)) = (&status.rules, &earned.available_net) {
            output.line(&format!(
                "fee on claims: {}. Of what is available {} {symbol} would reach the wallet; of what was paid out {} did",
                parts(rules.fee_bps),
                tokens(net),
                tokens(&earned.paid_net)
            ))?;
        }
    }
    if let Some(start) = &status.start {
        output.line(&format!(
            "signed: a first deposit of {} {symbol}, {} of it for who brings it (`decentralgpt wallet relay` on another computer)",
            tokens(&start.deposit),
            tokens(&start.fee)
        ))?;
    }
    if let Some(joined) = status.joined {
        output.line(match joined {
            Joined::Unregistered => "earnings: the node's key has not said yet where they go; it does by itself, for a little coin",
            Joined::No => "earnings: go to the wallet",
            Joined::Yes => "earnings: joined, this computer can spend them at once",
            Joined::Elsewhere => "earnings: go to another wallet, or to another device or account than the one that pays here",
        })?;
    }
    for problem in &status.problems {
        output.line(&format!("! {problem}"))?;
    }
    Ok(())
}

pub(crate) async fn history(core: &Core, json: bool, output: &mut Output) -> Result<(), Failure> {
    reached(core, output).await?;
    output.clear_progress();
    let all = core.client.transactions().await?;
    if json {
        return output.json(&all);
    }
    if all.is_empty() {
        return output.line("No transactions yet.");
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|tx| {
            let leaves: Vec<String> = tx
                .leaves
                .iter()
                .map(|asset| format!("{} {}", tokens(&asset.amount), asset.symbol))
                .collect();
            vec![
                tx.state.clone(),
                tx.title.clone(),
                leaves.join(", "),
                tx.why.clone().unwrap_or_default(),
                tx.id.clone(),
            ]
        })
        .collect();
    columns(&rows).iter().try_for_each(|line| output.line(line))
}

pub(crate) async fn earnings(
    core: &Core,
    command: Earnings,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Some(job) = &command.proof {
        let proof = core.client.proof_open(job).await?;
        return match command.json {
            true => output.json(&proof),
            false => proven(&proof).iter().try_for_each(|line| output.line(line)),
        };
    }
    if let Some(path) = &command.save {
        let csv = path.extension().is_none_or(|ending| ending != "json");
        // The node writes it, and may stand in another folder.
        let path = std::path::absolute(path).map_err(Failure::output)?;
        let path = core.client.statement(&path, csv).await?;
        return match command.json {
            true => output.json(&path),
            false => output.line(&format!("Written to {}.", path.display())),
        };
    }
    if let Some(path) = &command.export_claims {
        let path = std::path::absolute(path).map_err(Failure::output)?;
        reached(core, output).await?;
        output.clear_progress();
        let claims = core.client.export_claims(&path).await?;
        return match command.json {
            true => output.json(&claims),
            false => output.line(&format!(
                "{} vouchers written to {}. Whoever has it can see who paid you, and can bring them: `decentralgpt claim FILE`.",
                claims.rows.len(),
                path.display()
            )),
        };
    }
    earnings::list(core, &command, output).await
}

/// Brings what somebody handed over, in as many transactions as it takes.
pub(crate) async fn claim(
    core: &Core,
    command: Claim,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), Failure> {
    let unread = |error: ClaimsError| {
        Failure::new(
            "claims",
            format!("{error}."),
            "Ask for the file again: `decentralgpt earnings --export-claims FILE` writes it.",
        )
    };
    let claims = Claims::read(&command.file).map_err(unread)?;
    if claims.rows.is_empty() {
        return Err(unread(ClaimsError::Empty));
    }
    for claims in claims.batches() {
        let intent = Intent::Claim {
            claims: Box::new(claims),
        };
        let file = command.password_file.as_deref();
        let act = Act::new(intent, command.sure, file, command.json);
        sign(core, act, output, stop).await?;
    }
    Ok(())
}

/// What stands behind every amount of a test network.
pub(crate) fn worth(test: bool) -> &'static str {
    match test {
        true => " (worth nothing)",
        false => "",
    }
}

fn proven(proof: &Proof) -> Vec<String> {
    let mut lines = vec![format!("job {}", proof.job)];
    lines.push(match proof.receipt {
        true => "receipt: kept".to_owned(),
        false => "receipt: none is kept".to_owned(),
    });
    match &proof.signed {
        Some(signed) => {
            let holds = match signed.valid {
                true => "the signature holds",
                false => "the signature does not hold",
            };
            lines.push(format!(
                "voucher: {} in all, by {} for {} — {holds}",
                tokens(&signed.cumulative),
                signed.signer,
                signed.payee
            ));
        }
        None => lines.push("voucher: not checked".to_owned()),
    }
    lines.push(match &proof.chain {
        Some(chain) => {
            let covered = match chain.covered {
                true => "the rest is covered",
                false => "the rest is not covered",
            };
            format!(
                "chain: {} claimed, {covered} (block {}, {} endpoints)",
                tokens(&chain.claimed),
                chain.block,
                chain.endpoints
            )
        }
        None => "chain: not checked".to_owned(),
    });
    lines
}

pub(crate) async fn networks(
    core: &Core,
    command: Networks,
    output: &mut Output,
) -> Result<(), Failure> {
    let mut settings = core.client.settings_get().await?;
    match command.act {
        None | Some(NetworksAct::Show) => {}
        Some(NetworksAct::Use { file }) => {
            let name = node::money::keep_network(&core.data, &file)?;
            settings.money.network = Some(name);
            core.client.settings_set(settings).await?;
        }
        Some(NetworksAct::Off) => {
            settings.money.network = None;
            core.client.settings_set(settings).await?;
            output.news("Money is off. Everything else works.");
            return Ok(());
        }
    }
    let status = match reached(core, output).await {
        Err(Failure::Said(view)) if view.code == "no_money" && !command.json => {
            output.clear_progress();
            return output
                .line("No network of money is chosen: money is off, and everything else works.");
        }
        status => status?,
    };
    output.clear_progress();
    if command.json {
        return output.json(&status.network);
    }
    let Some(network) = &status.network else {
        return Ok(());
    };
    output.line(&format!(
        "{} ({}), chain {}, final block {}",
        network.title,
        network.name,
        network.chain_id,
        network
            .final_block
            .map_or("?".to_owned(), |block| block.to_string())
    ))?;
    for endpoint in &network.endpoints {
        output.line(&format!(
            "  {}  block {}{}",
            endpoint.host,
            endpoint
                .block
                .map_or("?".to_owned(), |block| block.to_string()),
            endpoint
                .problem
                .as_ref()
                .map(|problem| format!("  {problem}"))
                .unwrap_or_default()
        ))?;
    }
    Ok(())
}

/// Base units of an amount as people write it.
pub(crate) fn amount(text: &str) -> Result<Amount, Failure> {
    let bad = || {
        Failure::new(
            "bad_amount",
            format!("{text} is no amount."),
            "Write it as 12 or 12.5, with at most 18 digits behind the point.",
        )
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || part.len() > DECIMALS || !digits(whole) || !digits(part) {
        return Err(bad());
    }
    let units = format!("{whole}{part:0<DECIMALS$}");
    units.parse().map(Amount).map_err(|_| bad())
}

/// Base units as people read them, exactly: no digit is rounded away.
pub(crate) fn tokens(units: &str) -> String {
    let padded = format!("{units:0>width$}", width = DECIMALS + 1);
    let (whole, part) = padded.split_at(padded.len() - DECIMALS);
    let part = part.trim_end_matches('0');
    match part.is_empty() {
        true => whole.to_owned(),
        false => format!("{whole}.{part}"),
    }
}

/// A share in parts of 10,000, as people read it.
pub(crate) fn parts(bps: u16) -> String {
    format!("{}.{:02} %", bps / 100, bps % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_both_ways() {
        let read = |text: &str| amount(text).map(|amount| amount.0).ok();
        assert_eq!(read("12.5"), Some(12_500_000_000_000_000_000));
        assert_eq!(read("0.000000000000000001"), Some(1));
        assert_eq!(read("7"), Some(7 * 10u128.pow(18)));
        for bad in [
            "",
            ".5",
            "1e3",
            "-1",
            "+1",
            "1,5",
            "0.0000000000000000001",
            "1.2.3",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!(tokens("12500000000000000000"), "12.5");
        assert_eq!(tokens("1"), "0.000000000000000001");
        assert_eq!(tokens("0"), "0");
    }
}
