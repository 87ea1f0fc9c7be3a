//! First steps of somebody who has tokens and no coin: a deposit and a grant, signed here and brought to the chain by anyone,
//! who pays the gas and gets the share that was signed for.
//!
//! What was signed is a text that can be given away: it does what it says, once, before its deadline, and nothing else.

use std::path::{Path, PathBuf};

use chain::{Address, B256, Call, Permit, Start, U256};
use serde::{Deserialize, Serialize};

use super::{
    ActError, Live,
    calls::first_steps,
    view::{MoneyStatus, StartView},
};
use crate::{
    Node,
    data::{self, AtomicWrite},
    error::NodeError,
    node::Inner,
    wallet::{Leaves, NamedValue, Preview, PreviewNetwork, Simulation, WalletProblem, WalletRole},
};

/// Long enough to find somebody who brings it, short enough that a forgotten one ends by itself.
const LIFE_S: u64 = 7 * 24 * 60 * 60;
/// A signed text has about a kilobyte.
pub(crate) const MAX_BYTES: usize = 8 * 1024;
/// A change of this form is another one.
const FORMAT: u32 = 1;

/// What is shown before it is signed.
#[derive(Debug)]
pub(crate) struct Shown {
    digest: String,
    role: WalletRole,
    start: Start,
    token_nonce: U256,
}

/// What was signed, as it travels. Amounts are decimal digits of base units, times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Signed {
    format: u32,
    chain_id: u64,
    vault: Address,
    payer: Address,
    #[serde(with = "digits")]
    deposit: u128,
    signer: Address,
    #[serde(with = "digits")]
    grant: u128,
    until: u64,
    #[serde(with = "digits")]
    bond: u128,
    #[serde(with = "digits")]
    gas_pot: u128,
    #[serde(with = "digits")]
    relayer_fee: u128,
    nonce: U256,
    deadline: u64,
    /// r, and s with the parity of v in its top bit, in hexadecimal.
    signature: String,
    permit_v: u8,
    permit_r: B256,
    permit_s: B256,
}

mod digits {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(amount: &u128, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(amount)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u128, D::Error> {
        let text = String::deserialize(from)?;
        crate::money::settings::sum(&text)
            .ok_or_else(|| D::Error::custom("an amount is a whole number in digits"))
    }
}

impl Node {
    /// What would be signed, and who gets what of it. Nothing is signed yet, and nothing is sent from here.
    pub(super) async fn show_start(
        &self,
        live: &Live,
        amount: u128,
        fee: u128,
    ) -> Result<Preview, ActError> {
        let role = self.payer_role();
        let payer = self.address(role)?;
        let account = live.chain.account(payer).await?;
        if account.token < amount {
            return Err(ActError::NotEnough);
        }
        let deadline = live.chain_now() + LIFE_S;
        let signer = self.address(WalletRole::Session)?;
        let start = first_steps(live, payer, signer, (amount, fee), deadline).await?;
        let network = live.chain.network();
        let token = |amount: u128| {
            let token = &network.token;
            chain::amount_text(U256::from(amount), token.decimals, &token.symbol)
        };
        let named = |name: &str, value: String| NamedValue {
            name: name.to_owned(),
            value,
        };
        let digest = digest(live, &start, account.token_nonce);
        let preview = Preview {
            digest: digest.clone(),
            title: "Sign a first deposit that somebody else brings to the chain".to_owned(),
            to: network.vault.to_checksum(None),
            known: true,
            leaves: vec![Leaves {
                amount: amount.to_string(),
                symbol: network.token.symbol.clone(),
            }],
            fee_max: "0".to_owned(),
            coin_after: Some(account.coin.to_string()),
            token_after: Some((account.token - amount).to_string()),
            more: false,
            fields: vec![
                named("For who brings it", token(start.relayer_fee)),
                named("Device", start.signer.to_checksum(None)),
                named("It may spend", token(start.grant)),
                named("Until (Unix seconds)", start.until.to_string()),
                named("Bond", token(start.bond)),
                named("For late claims", token(start.gas_pot)),
                named("Can be brought until (Unix seconds)", deadline.to_string()),
            ],
            simulation: Simulation::NotSent,
            reason: None,
            network: PreviewNetwork {
                title: network.title.clone(),
                test: network.test,
                symbol: network.token.symbol.clone(),
                coin: network.coin.symbol.clone(),
            },
        };
        self.inner.money.start_shown(Some(Shown {
            digest,
            role,
            start,
            token_nonce: account.token_nonce,
        }));
        Ok(preview)
    }

    /// Signs exactly what was shown, and keeps the text until it was brought.
    pub(super) async fn sign_start(&self, live: &Live, digest: &str) -> Result<(), ActError> {
        let shown = self
            .inner
            .money
            .start_shown(None)
            .filter(|shown| shown.digest == digest)
            .ok_or(ActError::OtherDigest)?;
        let key = self.key(shown.role)?;
        let held = live.chain.account(key.address()).await?;
        self.inner.wallet.signing_allowed(held.token)?;
        let network = live.chain.network();
        let start = shown.start;
        let permit = key.permit(network, start.deposit, shown.token_nonce, start.deadline)?;
        let signed = Signed {
            format: FORMAT,
            chain_id: network.chain_id,
            vault: network.vault,
            payer: start.payer,
            deposit: start.deposit,
            signer: start.signer,
            grant: start.grant,
            until: start.until,
            bond: start.bond,
            gas_pot: start.gas_pot,
            relayer_fee: start.relayer_fee,
            nonce: start.nonce,
            deadline: u64::try_from(start.deadline).unwrap_or(u64::MAX),
            signature: hex::encode(key.start(network, &start)?),
            permit_v: permit.v,
            permit_r: permit.r,
            permit_s: permit.s,
        };
        let path = path(&self.inner, live);
        // Our own types are a map with text keys: this cannot fail.
        let text = serde_json::to_string_pretty(&signed).unwrap_or_default();
        data::write_atomically(&path, text.as_bytes(), AtomicWrite::Secret)
            .map_err(|source| ActError::File { path, source })?;
        live.moved.notify_waiters();
        Ok(())
    }

    /// The text of the first steps that were signed here last, for whoever is to bring them.
    ///
    /// # Errors
    /// [`NodeError::Act`] where there is no network, or nothing was signed.
    pub fn start_text(&self) -> Result<String, NodeError> {
        let live = self
            .inner
            .money
            .live()
            .ok_or(ActError::Wallet(WalletProblem::NoMoney))?;
        let text = data::read_capped(&path(&self.inner, &live), MAX_BYTES as u64)
            .map_err(|_| ActError::NoStart)?;
        Ok(text)
    }
}

impl super::Money {
    /// Keeps what was shown last, or takes it.
    fn start_shown(&self, new: Option<Shown>) -> Option<Shown> {
        let mut shown = self
            .start_shown
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::replace(&mut *shown, new)
    }
}

/// What waits to be brought: signed by the account that asking is paid from, not over, and not on the chain.
pub(super) fn waiting(inner: &Inner, live: &Live, status: &MoneyStatus) -> Option<StartView> {
    let payer = live.purse.as_ref()?.payer();
    let brought = status
        .vault
        .as_ref()
        .is_some_and(|vault| vault.granted != "0");
    if brought {
        return None;
    }
    let text = data::read_capped(&path(inner, live), MAX_BYTES as u64).ok()?;
    let signed = read(&text, live.chain.network()).ok()?;
    (signed.payer == payer && signed.deadline > live.chain_now()).then(|| StartView {
        deposit: signed.deposit.to_string(),
        fee: signed.relayer_fee.to_string(),
        deadline_unix_s: signed.deadline,
    })
}

/// What brings a signed text to the chain.
pub(super) fn bring(text: &str, network: &chain::Network) -> Result<Call, ActError> {
    let signed = read(text, network)?;
    let mut signature = [0; 64];
    hex::decode_to_slice(&signed.signature, &mut signature).map_err(|_| ActError::NoStart)?;
    let start = Start {
        payer: signed.payer,
        deposit: signed.deposit,
        signer: signed.signer,
        grant: signed.grant,
        until: signed.until,
        bond: signed.bond,
        gas_pot: signed.gas_pot,
        relayer_fee: signed.relayer_fee,
        nonce: signed.nonce,
        deadline: U256::from(signed.deadline),
    };
    let permit = Permit {
        value: signed.deposit,
        deadline: U256::from(signed.deadline),
        v: signed.permit_v,
        r: signed.permit_r,
        s: signed.permit_s,
    };
    Ok(Call::StartFor {
        start,
        permit: Some(permit),
        signature,
    })
}

fn read(text: &str, network: &chain::Network) -> Result<Signed, ActError> {
    if text.len() > MAX_BYTES {
        return Err(ActError::NoStart);
    }
    let signed: Signed = serde_json::from_str(text).map_err(|_| ActError::NoStart)?;
    if signed.format != FORMAT {
        return Err(ActError::NoStart);
    }
    if (signed.chain_id, signed.vault) != (network.chain_id, network.vault) {
        return Err(ActError::OtherNetwork);
    }
    Ok(signed)
}

fn path(inner: &Inner, live: &Live) -> PathBuf {
    Path::new(&inner.data.chain(&live.network().name)).join("start.json")
}

/// Binds both things that are signed.
fn digest(live: &Live, start: &Start, token_nonce: U256) -> String {
    let network = live.chain.network();
    let permit = chain::permit_digest(
        network,
        start.payer,
        start.deposit,
        token_nonce,
        start.deadline,
    );
    let mut hash = blake3::Hasher::new();
    hash.update(chain::start_digest(network, start).as_slice());
    hash.update(permit.as_slice());
    hash.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> chain::Network {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../networks/devnet.toml");
        chain::Network::load(path.as_ref()).unwrap()
    }

    fn signed(network: &chain::Network) -> Signed {
        Signed {
            format: FORMAT,
            chain_id: network.chain_id,
            vault: network.vault,
            payer: Address::repeat_byte(1),
            deposit: u128::MAX,
            signer: Address::repeat_byte(2),
            grant: 7,
            until: 9,
            bond: 1,
            gas_pot: 2,
            relayer_fee: 3,
            nonce: U256::MAX,
            deadline: 10,
            signature: "ab".repeat(64),
            permit_v: 27,
            permit_r: B256::repeat_byte(3),
            permit_s: B256::repeat_byte(4),
        }
    }

    #[test]
    fn what_is_written_is_what_is_brought() {
        let network = network();
        let text = serde_json::to_string(&signed(&network)).unwrap();
        let Ok(Call::StartFor {
            start,
            permit: Some(permit),
            signature,
        }) = bring(&text, &network)
        else {
            panic!("{text}");
        };
        assert_eq!((start.deposit, start.relayer_fee), (u128::MAX, 3));
        assert_eq!((start.nonce, permit.value), (U256::MAX, u128::MAX));
        assert_eq!(signature, [0xab; 64]);
    }

    #[test]
    fn a_foreign_or_broken_text_is_brought_nowhere() {
        let network = network();
        let good = signed(&network);
        let text = |signed: &Signed| serde_json::to_string(signed).unwrap();
        let other = Signed {
            chain_id: network.chain_id + 1,
            ..good.clone()
        };
        assert!(matches!(
            bring(&text(&other), &network),
            Err(ActError::OtherNetwork)
        ));
        let short = Signed {
            signature: "ab".repeat(63),
            ..good.clone()
        };
        let newer = Signed {
            format: FORMAT + 1,
            ..good.clone()
        };
        let long = format!("{}{}", text(&good), " ".repeat(MAX_BYTES));
        let more = text(&good).replacen('{', "{\"more\":1,", 1);
        let negative = text(&good).replace("\"grant\":\"7\"", "\"grant\":\"-7\"");
        for bad in [
            text(&short),
            text(&newer),
            long,
            more,
            negative,
            String::new(),
        ] {
            assert!(
                matches!(bring(&bad, &network), Err(ActError::NoStart)),
                "{bad}"
            );
        }
    }
}
