//! The file of transactions: whole after every write, and on disk before anything is sent.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use alloy::primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

use super::{TxId, TxState};
use crate::{call::Described, error::ChainError};

const FILE: &str = "transactions.json";
/// Of what is settled the newest are kept to be shown; the ledger keeps what they did.
const MAX_SETTLED: usize = 500;
/// Some kilobytes for each transaction that may be in it.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The only form so far.
const VERSION: u32 = 1;

/// A transaction, with every form of it that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: TxId,
    pub(super) from: Address,
    pub(super) nonce: u64,
    pub(super) described: Described,
    pub(super) to: Address,
    pub(super) value: U256,
    pub(super) input: Bytes,
    /// In the order of their prices; none of them may be forgotten, since any may be mined.
    pub(super) forms: Vec<Form>,
    pub(super) state: TxState,
    /// Nothing more can happen to it.
    pub(super) settled: bool,
    pub(super) note: Option<String>,
    pub(super) sent_unix_ms: u64,
    /// The newest final block when it was signed: on a chain that has another one there, it means nothing.
    #[serde(default)]
    pub(super) seen: Option<Seen>,
}

/// A final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) block: u64,
    pub(super) hash: B256,
}

/// One signed form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Form {
    pub(super) hash: B256,
    pub(super) raw: Bytes,
    pub(super) gas: u64,
    #[serde(with = "crate::call::amount_as_text")]
    pub(super) max_fee: u128,
    #[serde(with = "tip_as_text")]
    pub(super) tip: Option<u128>,
    /// It does nothing but take the nonce.
    pub(super) cancels: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    version: u32,
    chain_id: u64,
    records: Vec<Record>,
}

#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    chain_id: u64,
    pub(super) records: Vec<Record>,
}

impl Store {
    pub(super) fn open(folder: &Path, chain_id: u64) -> Result<Self, ChainError> {
        let path = folder.join(FILE);
        let failed = |source| ChainError::Store {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(folder).map_err(failed)?;
        let records = match read(&path).map_err(failed)? {
            None => Vec::new(),
            Some(text) => parse(&text, chain_id).map_err(|problem| ChainError::Damaged {
                path: path.clone(),
                problem,
            })?,
        };
        Ok(Self {
            path,
            chain_id,
            records,
        })
    }

    /// Writes `records`, and only then takes them for what is so.
    pub(super) fn put(&mut self, mut records: Vec<Record>) -> Result<(), ChainError> {
        forget_old(&mut records);
        let whole = Whole {
            version: VERSION,
            chain_id: self.chain_id,
            records,
        };
        self.write(&whole).map_err(|source| ChainError::Store {
            path: self.path.clone(),
            source,
        })?;
        self.records = whole.records;
        Ok(())
    }

    fn write(&self, whole: &Whole) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        // Beside the file, with rights for its owner alone.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut file, whole)?;
        file.flush()?;
        file.as_file().sync_all()?;
        file.persist(&self.path).map_err(|error| error.error)?;
        sync_folder(folder)
    }
}

/// The new name is on disk as well: without it a crash could bring the old file back.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

/// Other systems order it themselves, and cannot open folders.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(Some(text))
}

fn parse(text: &str, chain_id: u64) -> Result<Vec<Record>, String> {
    let whole: Whole = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if whole.version != VERSION {
        return Err(format!("version {} is not known", whole.version));
    }
    if whole.chain_id != chain_id {
        return Err(format!(
            "it belongs to chain {} and not {chain_id}",
            whole.chain_id
        ));
    }
    Ok(whole.records)
}

fn forget_old(records: &mut Vec<Record>) {
    let settled = records.iter().filter(|record| record.settled).count();
    let mut surplus = settled.saturating_sub(MAX_SETTLED);
    records.retain(|record| {
        let forget = record.settled && surplus > 0;
        surplus -= usize::from(forget);
        !forget
    });
}

mod tip_as_text {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[allow(clippy::ref_option, reason = "what serde's attribute calls")]
    pub(super) fn serialize<S: Serializer>(tip: &Option<u128>, to: S) -> Result<S::Ok, S::Error> {
        tip.map(|tip| tip.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<u128>, D::Error> {
        Option::<String>::deserialize(from)?
            .map(|text| {
                text.parse()
                    .map_err(|_| D::Error::custom("a tip is a whole number"))
            })
            .transpose()
    }
}
