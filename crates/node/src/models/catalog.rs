//! The catalogue: models that this engine runs, with what was read about each of them.
//!
//! It is part of the program ([`Catalogue::built_in`]); a file `catalog.toml` in the data folder takes its place. Every rule that a row
//! must keep is checked here, so that the rest of the node can rely on it.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ServeForPay, digest::Sha};

/// Largest catalogue, in bytes: some thousand rows.
pub(super) const MAX_CATALOGUE_BYTES: u64 = 4 * 1024 * 1024;

/// Most rows: a list that a person scrolls.
const MAX_ROWS: usize = 2_000;

/// Most addresses of one file.
const MAX_SOURCES: usize = 16;

/// The form of the file that this program reads.
const VERSION: u32 = 1;

/// Longest head, in bytes: what `/decentralgpt/head/1` carries at most (docs/protocol.md, 2).
const MAX_HEAD_BYTES: u32 = 32 * 1024 * 1024;

/// Storage formats that the engine computes with, as a file's name says them; a mixture like `Q4_K_M` is made of these.
const QUANTS: [&str; 19] = [
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K_S", "Q3_K_M",
    "Q3_K_L", "Q4_K_S", "Q4_K_M", "Q4_K_L", "Q5_K_S", "Q5_K_M", "Q5_K_L", "Q6_K",
];

/// A wheel on the Python package index that holds the file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PipSource {
    /// Package.
    pub package: String,
    /// Its exact version.
    pub version: String,
    /// Path of the file inside the wheel.
    pub member: String,
}

/// One model. A field that no page was read for is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogueRow {
    /// Stable name in settings, chats and commands.
    pub id: String,
    /// Name for reading.
    pub name: String,
    /// Family, for reading.
    pub family: String,
    /// `general.architecture` of the file.
    pub architecture: String,
    /// For reading, like "1.7B".
    pub parameters: String,
    /// Name of the file.
    pub file: String,
    /// Exact size, in bytes.
    pub size: Option<u64>,
    /// Size as a page rounds it, in bytes: good for "does it fit", not for a check.
    pub size_about: Option<u64>,
    /// Quantisation.
    pub quant: String,
    /// Context it was trained for, in tokens.
    pub context: Option<u32>,
    /// Licence.
    pub licence: String,
    /// Where its text is.
    pub licence_url: Option<String>,
    /// Whether it lets others be served for pay.
    pub serve_for_pay: ServeForPay,
    /// Why.
    pub serve_for_pay_reason: String,
    /// Whether its training data can be had.
    pub training_data_open: Option<bool>,
    /// What it is good at, in one plain line.
    pub about: String,
    /// The system prompt it does best with.
    pub system_prompt: Option<String>,
    /// It comes with the program.
    #[serde(default)]
    pub starter: bool,
    /// Addresses of the file, best first.
    #[serde(default)]
    pub sources: Vec<String>,
    /// A wheel that holds the file.
    pub pip: Option<PipSource>,
    /// SHA-256 of the file.
    pub sha256: Option<Sha>,
    /// Bytes up to the end of the tensor table.
    pub head_len: Option<u32>,
    /// SHA-256 of those.
    pub head_sha256: Option<Sha>,
    /// The pages that were read for this row.
    pub cited: Vec<String>,
}

impl CatalogueRow {
    /// The size to plan with.
    pub(super) fn size_to_plan(&self) -> Option<u64> {
        self.size.or(self.size_about)
    }
}

/// Why a catalogue is refused. It is refused whole: a row that is wrong says that nobody checked the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CatalogueError {
    /// It is not TOML, or a field has another type than it must.
    #[error("it cannot be read: {0}")]
    Syntax(String),
    /// It was written for another version of the program.
    #[error("it has version {found}; this program reads version {VERSION}")]
    Version {
        /// The version it has.
        found: u32,
    },
    /// It has more rows than anybody scrolls.
    #[error("it has {found} rows; the limit is {MAX_ROWS}")]
    TooManyRows {
        /// How many.
        found: usize,
    },
    /// Two rows share what must be a row's own.
    #[error("two rows have the {what} {value:?}")]
    Twice {
        /// Which field.
        what: &'static str,
        /// Its value.
        value: String,
    },
    /// A field of a row is not what it must be.
    #[error("row {id:?}: {field} is {value:?}; {must}")]
    Field {
        /// The row.
        id: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// The rule.
        must: &'static str,
    },
}

/// All rows, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalogue {
    /// In the order of the file.
    pub rows: Vec<CatalogueRow>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    #[serde(default)]
    model: Vec<CatalogueRow>,
}

impl Catalogue {
    /// The one that came with the program.
    ///
    /// # Errors
    /// None in a released program: a test parses it.
    pub fn built_in() -> Result<Self, CatalogueError> {
        Self::parse(include_str!("../../../../models/catalog.toml"))
    }

    /// Reads and checks a catalogue.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, CatalogueError> {
        let read: OnDisk = toml::from_str(text)
            .map_err(|error| CatalogueError::Syntax(error.to_string().trim().to_owned()))?;
        if read.version != VERSION {
            return Err(CatalogueError::Version {
                found: read.version,
            });
        }
        if read.model.len() > MAX_ROWS {
            return Err(CatalogueError::TooManyRows {
                found: read.model.len(),
            });
        }
        let (mut ids, mut files, mut digests) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for row in &read.model {
            check(row)?;
            let twice = |what, value: String| CatalogueError::Twice { what, value };
            if !ids.insert(row.id.as_str()) {
                return Err(twice("id", row.id.clone()));
            }
            // On a disk that folds case, two such files would be one.
            if !files.insert(row.file.to_lowercase()) {
                return Err(twice("file", row.file.clone()));
            }
            if let Some(digest) = row.sha256
                && !digests.insert(digest)
            {
                return Err(twice("sha256", digest.to_string()));
            }
        }
        Ok(Self { rows: read.model })
    }
}

fn check(row: &CatalogueRow) -> Result<(), CatalogueError> {
    let wrong = |field, value: &str, must| {
        Err(CatalogueError::Field {
            id: row.id.clone(),
            field,
            value: value.chars().take(200).collect(),
            must,
        })
    };
    if row.id.is_empty() || row.id.len() > 80 || !row.id.chars().all(is_id_char) {
        return wrong(
            "id",
            &row.id,
            "it must be 1 to 80 of a-z, 0-9, '.', '_' and '-'",
        );
    }
    for (field, value) in [
        ("name", &row.name),
        ("family", &row.family),
        ("parameters", &row.parameters),
        ("licence", &row.licence),
        ("serve_for_pay_reason", &row.serve_for_pay_reason),
        ("about", &row.about),
    ] {
        if value.trim().is_empty() || value.len() > 400 || value.chars().any(char::is_control) {
            return wrong(field, value, "it must be one line of at most 400 bytes");
        }
    }
    if !engine::ARCHITECTURES.contains(&row.architecture.as_str()) {
        return wrong(
            "architecture",
            &row.architecture,
            "it must be one that the engine runs",
        );
    }
    if !QUANTS.contains(&row.quant.as_str()) {
        return wrong(
            "quant",
            &row.quant,
            "it must be a format that the engine computes with",
        );
    }
    if !is_plain_file_name(&row.file) {
        return wrong(
            "file",
            &row.file,
            "it must be a plain file name that ends in .gguf",
        );
    }
    for (field, size) in [("size", row.size), ("size_about", row.size_about)] {
        if size == Some(0) {
            return wrong(field, "0", "it must be more than nothing");
        }
    }
    if row.context == Some(0) {
        return wrong("context", "0", "it must be more than nothing");
    }
    if row.sources.is_empty() && row.pip.is_none() {
        return wrong("sources", "", "a row needs an address, or a wheel");
    }
    if row.sources.len() > MAX_SOURCES {
        return wrong(
            "sources",
            &row.sources.len().to_string(),
            "at most 16 addresses are tried",
        );
    }
    for source in &row.sources {
        if !is_address(source) {
            return wrong(
                "sources",
                source,
                "an address must begin with https:// (or http:// on this computer)",
            );
        }
    }
    if let Some(pip) = &row.pip
        && ![&pip.package, &pip.version]
            .into_iter()
            .all(|part| is_package_word(part))
    {
        return wrong(
            "pip",
            &pip.package,
            "package and version must be plain words",
        );
    }
    match (row.head_len, row.head_sha256) {
        (None, None) => {}
        (Some(len), Some(_)) if (1..=MAX_HEAD_BYTES).contains(&len) => {}
        (Some(len), Some(_)) => {
            return wrong("head_len", &len.to_string(), "a head has at most 32 MiB");
        }
        (Some(_), None) | (None, Some(_)) => {
            return wrong(
                "head_sha256",
                "",
                "head_len and head_sha256 belong together",
            );
        }
    }
    if row
        .sha256
        .is_some_and(|digest| Some(digest) == row.head_sha256)
    {
        return wrong(
            "sha256",
            "the same as head_sha256",
            "the file is longer than its head",
        );
    }
    if row.cited.is_empty() {
        return wrong(
            "cited",
            "",
            "a fact without a page is left out, and a row without facts is no row",
        );
    }
    for page in row.cited.iter().chain(row.licence_url.iter()) {
        if !page.starts_with("https://") {
            return wrong("cited", page, "a page is named by its https:// address");
        }
    }
    Ok(())
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

/// A file name that stays in its folder on every system.
pub(super) fn is_plain_file_name(name: &str) -> bool {
    name.len() <= 200
        && name.to_lowercase().ends_with(".gguf")
        && !name.starts_with(['.', '-'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '(' | ')'))
}

/// https everywhere; http only where nobody can stand in between.
fn is_address(source: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(source) else {
        return false;
    };
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]")),
        _ => false,
    }
}

fn is_package_word(word: &str) -> bool {
    !word.is_empty()
        && !word.starts_with('-')
        && word
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+'))
}
