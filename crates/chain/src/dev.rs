//! A whole network on this machine, for tests, the demo and benches: anvil with every contract, and keys with money.

use std::{env, io, path::PathBuf, time::Duration};

use alloy::node_bindings::{Anvil, AnvilInstance, NodeError};
use serde_json::{Value, json};

use crate::{
    deploy::{DeployOptions, Voting, deploy},
    error::ChainError,
    key::Key,
    network::{Coin, Network},
    rpc::endpoint::Endpoint,
};

/// The accounts that anvil gives money to, beside the one that deploys.
const ACCOUNTS: usize = 10;
/// One unit of the token or the coin.
const UNIT: u128 = 1_000_000_000_000_000_000;

/// How the network is to be.
#[derive(Clone, Debug)]
pub struct DevnetOptions {
    /// The contracts are made with these.
    pub deploy: DeployOptions,
    /// How often a block is made; `None` makes one for each transaction, and none otherwise.
    pub block_time: Option<Duration>,
    /// As anvil names it; its newest where `None`.
    pub hardfork: Option<String>,
    /// The port; any free one where `None`.
    pub port: Option<u16>,
    /// More of anvil's arguments.
    pub arguments: Vec<String>,
}

impl Default for DevnetOptions {
    fn default() -> Self {
        Self {
            deploy: DeployOptions {
                name: "devnet".to_owned(),
                title: "Development network".to_owned(),
                test: true,
                token: None,
                coin: Coin {
                    symbol: "devETH".to_owned(),
                    decimals: 18,
                },
                confirmations: 2,
                block_ms: 1000,
                // A lone claim is taken to cost a ten-thousandth of a token.
                token_per_gas: 1_000_000_000,
                gas_share: UNIT / 10_000,
                report_reward: UNIT / 2,
                max_minimum_stake: 1000 * UNIT,
                voting: Voting {
                    delay_s: 10,
                    period_s: 60,
                    threshold: 10 * UNIT,
                    quorum_percent: 4,
                    timelock_s: 10,
                },
            },
            block_time: Some(Duration::from_secs(1)),
            hardfork: None,
            port: None,
            arguments: Vec::new(),
        }
    }
}

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// The program is not where npm puts it.
    #[error("anvil is missing: {} is no file; `cargo xtask contracts` fetches it", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It did not start.
    #[error("anvil did not start")]
    Start(#[from] NodeError),
    /// It did not do what it was asked for.
    #[error("anvil refuses {method}: {problem}")]
    Control {
        /// What was asked.
        method: String,
        /// What it says.
        problem: String,
    },
    /// The contracts could not be made.
    #[error("the contracts could not be deployed")]
    Deploy(#[from] ChainError),
    /// What it needs cannot be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A running network. It ends when this is dropped.
#[derive(Debug)]
pub struct Devnet {
    /// What its network file would say.
    pub network: Network,
    anvil: AnvilInstance,
    control: Endpoint,
}

impl Devnet {
    /// Starts anvil and deploys everything.
    ///
    /// # Errors
    /// [`DevnetError`] with the step that failed.
    pub async fn start(options: &DevnetOptions) -> Result<Self, DevnetError> {
        let anvil = launch(options)?;
        let deployer = key(&anvil, 0)?;
        let control = Endpoint::new(&url(&anvil))?;
        let network = deploy(&[url(&anvil)], &deployer, &options.deploy).await?;
        let devnet = Self {
            network,
            anvil,
            control,
        };
        // The contracts are final from the first moment.
        devnet.mine(options.deploy.confirmations).await?;
        if let Some(time) = options.block_time {
            // Only now: each contract would have waited for a block of its own.
            devnet.control("evm_setAutomine", json!([false])).await?;
            let seconds = json!([time.as_secs().max(1)]);
            devnet.control("evm_setIntervalMining", seconds).await?;
        }
        Ok(devnet)
    }

    /// Of an account with 10,000 of the coin; 0 to 9, the first of which made the contracts.
    ///
    /// # Errors
    /// [`DevnetError::Io`] beyond the last.
    pub fn key(&self, number: usize) -> Result<Key, DevnetError> {
        key(&self.anvil, number)
    }

    /// The same, as the secret itself.
    ///
    /// # Errors
    /// As [`Devnet::key`].
    pub fn secret(&self, number: usize) -> Result<[u8; 32], DevnetError> {
        secret(&self.anvil, number)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        url(&self.anvil)
    }

    /// Makes blocks now.
    ///
    /// # Errors
    /// [`DevnetError::Control`].
    pub async fn mine(&self, blocks: u64) -> Result<(), DevnetError> {
        self.control("anvil_mine", json!([format!("{blocks:#x}")]))
            .await
            .map(|_| ())
    }

    /// Lets time pass on the chain, and makes a block in it.
    ///
    /// # Errors
    /// [`DevnetError::Control`].
    pub async fn pass(&self, seconds: u64) -> Result<(), DevnetError> {
        self.control("evm_increaseTime", json!([seconds])).await?;
        self.mine(1).await
    }

    /// Gives an account this much of the coin.
    ///
    /// # Errors
    /// [`DevnetError::Control`].
    pub async fn set_coin(
        &self,
        account: alloy::primitives::Address,
        amount: u128,
    ) -> Result<(), DevnetError> {
        let amount = format!("{amount:#x}");
        self.control("anvil_setBalance", json!([account, amount]))
            .await
            .map(|_| ())
    }

    /// Anything else that anvil can do.
    ///
    /// # Errors
    /// [`DevnetError::Control`].
    pub async fn control(&self, method: &str, params: Value) -> Result<Value, DevnetError> {
        control_call(&self.control, method, params).await
    }
}

/// anvil alone, without contracts.
///
/// # Errors
/// [`DevnetError::Missing`], [`DevnetError::Start`].
pub fn launch(options: &DevnetOptions) -> Result<AnvilInstance, DevnetError> {
    let path = program();
    if !path.is_file() {
        return Err(DevnetError::Missing { path });
    }
    let mut anvil = Anvil::at(path).args(["--accounts".to_owned(), ACCOUNTS.to_string()]);
    if let Some(hardfork) = &options.hardfork {
        anvil = anvil.args(["--hardfork", hardfork]);
    }
    if let Some(port) = options.port {
        anvil = anvil.port(port);
    }
    Ok(anvil.args(&options.arguments).try_spawn()?)
}

/// Where npm puts the program of this system.
fn program() -> PathBuf {
    let system = match env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let processor = match env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../contracts/node_modules/@foundry-rs")
        .join(format!("anvil-{system}-{processor}"))
        .join("bin")
        .join(format!("anvil{}", env::consts::EXE_SUFFIX))
}

/// By number: a name would have to be looked up.
fn url(anvil: &AnvilInstance) -> String {
    format!("http://127.0.0.1:{}", anvil.port())
}

async fn control_call(
    endpoint: &Endpoint,
    method: &str,
    params: Value,
) -> Result<Value, DevnetError> {
    endpoint
        .call(method, &params)
        .await
        .map_err(|error| DevnetError::Control {
            method: method.to_owned(),
            problem: error.to_string(),
        })
}

fn key(anvil: &AnvilInstance, number: usize) -> Result<Key, DevnetError> {
    Ok(Key::from_secret(&secret(anvil, number)?).map_err(ChainError::from)?)
}

fn secret(anvil: &AnvilInstance, number: usize) -> Result<[u8; 32], DevnetError> {
    anvil
        .keys()
        .get(number)
        .map(|key| key.to_bytes().into())
        .ok_or_else(|| {
            DevnetError::Io(io::Error::new(
                io::ErrorKind::NotFound,
                format!("there is no account {number}"),
            ))
        })
}
