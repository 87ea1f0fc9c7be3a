//! One entry per model that is known, and where its file stands; found by looking at the folders.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    ModelsError,
    catalog::{Catalogue, CatalogueRow},
    digest::Sha,
    part,
    records::{Facts, Pins, Records},
    store,
};
use crate::error::ErrorView;

/// Where a model's file stands, downloads that run now left aside.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Standing {
    /// Not here.
    Absent,
    /// A part of it is here.
    Left { done: u64, total: Option<u64> },
    /// Here, and being hashed.
    Checking {
        path: PathBuf,
        done: u64,
        total: u64,
    },
    /// Here, whole, and the right one.
    Ready { path: PathBuf, facts: Option<Facts> },
    /// It cannot be used. `path` is the file that is wrong, `done` the bytes of a part that are kept.
    Failed {
        path: Option<PathBuf>,
        error: ErrorView,
        done: u64,
    },
}

/// A known model.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its row, for models of the catalogue.
    pub(super) row: Option<CatalogueRow>,
    /// Name for reading of a model that has no row.
    pub(super) name: String,
    /// What its file was when it was last hashed, where it has no row: a disk that is away makes no stranger's model of the person's own.
    pub(super) last_digest: Option<Sha>,
    pub(super) standing: Standing,
}

impl Entry {
    pub(super) fn facts(&self) -> Option<&Facts> {
        match &self.standing {
            Standing::Ready { facts, .. } => facts.as_ref(),
            Standing::Absent
            | Standing::Left { .. }
            | Standing::Checking { .. }
            | Standing::Failed { .. } => None,
        }
    }

    /// The file on this disk, right or wrong.
    pub(super) fn path(&self) -> Option<&Path> {
        match &self.standing {
            Standing::Ready { path, .. } | Standing::Checking { path, .. } => Some(path),
            Standing::Failed { path, .. } => path.as_deref(),
            Standing::Absent | Standing::Left { .. } => None,
        }
    }
}

/// A file that must be hashed, and opened, before it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ToCheck {
    pub(super) id: String,
    pub(super) path: PathBuf,
}

/// What the folders hold.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: BTreeMap<String, Entry>,
    pub(super) to_check: Vec<ToCheck>,
}

/// The digest that a row's file must have: the catalogue's, else the pinned one.
pub(super) fn expected(row: &CatalogueRow, pins: &Pins) -> Option<Sha> {
    row.sha256
        .or_else(|| pins.pin.get(&row.id).map(|pin| pin.sha256))
}

/// The size that a row's file must have.
pub(super) fn expected_size(row: &CatalogueRow, pins: &Pins) -> Option<u64> {
    row.size
        .or_else(|| pins.pin.get(&row.id).map(|pin| pin.size))
}

/// Looks at `folders` (the first is the one that downloads go to) and says what stands where. Nothing is hashed here.
pub(super) fn look(
    catalogue: &Catalogue,
    folders: &[PathBuf],
    records: &Records,
    pins: &Pins,
) -> Found {
    let mut found = Found::default();
    for row in &catalogue.rows {
        let standing = stand_of(row, folders, records, pins, &mut found.to_check);
        found.entries.insert(
            row.id.clone(),
            Entry {
                row: Some(row.clone()),
                name: row.name.clone(),
                last_digest: None,
                standing,
            },
        );
    }
    for folder in folders {
        for path in store::model_files(folder) {
            let Some(name) = store::name_of(&path) else {
                continue;
            };
            if !catalogue
                .rows
                .iter()
                .any(|row| row.file.eq_ignore_ascii_case(name))
            {
                found.stray(path, records);
            }
        }
    }
    for added in &records.added {
        if !found
            .entries
            .values()
            .any(|entry| entry.path() == Some(&added.path))
        {
            found.added(&added.id, &added.path, &added.facts, records);
        }
    }
    found
}

fn stand_of(
    row: &CatalogueRow,
    folders: &[PathBuf],
    records: &Records,
    pins: &Pins,
    to_check: &mut Vec<ToCheck>,
) -> Standing {
    let expected = expected(row, pins);
    let mut wrong = None;
    for path in folders
        .iter()
        .map(|folder| folder.join(&row.file))
        .filter(|path| path.is_file())
    {
        let Some(facts) = records.facts_of(&path) else {
            let total = std::fs::metadata(&path).map_or(0, |meta| meta.len());
            to_check.push(ToCheck {
                id: row.id.clone(),
                path: path.clone(),
            });
            return Standing::Checking {
                path,
                done: 0,
                total,
            };
        };
        match expected {
            Some(expected) if expected != facts.digest => {
                let error = ModelsError::WrongDigest {
                    name: row.name.clone(),
                    expected,
                    found: facts.digest,
                };
                wrong.get_or_insert(Standing::Failed {
                    path: Some(path),
                    error: error.view(),
                    done: 0,
                });
            }
            Some(_) | None => {
                return Standing::Ready {
                    path,
                    facts: Some(facts.clone()),
                };
            }
        }
    }
    if let Some(wrong) = wrong {
        return wrong;
    }
    // The same bytes under another name; but only where the worker may read, which a folder of an earlier run is not.
    let elsewhere = records.seen.iter().find(|seen| {
        Some(seen.facts.digest) == expected
            && records.is_readable(&seen.path, folders)
            && records.facts_of(&seen.path).is_some()
    });
    if let Some(seen) = elsewhere {
        return Standing::Ready {
            path: seen.path.clone(),
            facts: Some(seen.facts.clone()),
        };
    }
    match folders
        .first()
        .and_then(|folder| part::left_over(&folder.join(&row.file)))
    {
        Some((done, total)) => Standing::Left {
            done,
            total: total.or(row.size),
        },
        None => Standing::Absent,
    }
}

impl Found {
    /// A file in one of the folders that the catalogue does not know.
    fn stray(&mut self, path: PathBuf, records: &Records) {
        let facts = records.facts_of(&path).cloned();
        if facts
            .as_ref()
            .is_some_and(|facts| self.is_here(&facts.digest))
        {
            return;
        }
        let id = self.free_id(&path);
        let last_digest = records.last_digest_of(&path);
        let name = facts
            .as_ref()
            .map_or_else(|| stem_of(&path), |facts| facts.name.clone());
        let standing = match facts {
            Some(facts) => Standing::Ready {
                path,
                facts: Some(facts),
            },
            None => {
                let total = std::fs::metadata(&path).map_or(0, |meta| meta.len());
                self.to_check.push(ToCheck {
                    id: id.clone(),
                    path: path.clone(),
                });
                Standing::Checking {
                    path,
                    done: 0,
                    total,
                }
            }
        };
        self.entries.insert(
            id,
            Entry {
                row: None,
                name,
                last_digest,
                standing,
            },
        );
    }

    /// A file that a person added in place.
    fn added(&mut self, id: &str, path: &Path, facts: &Facts, records: &Records) {
        let standing = if records.facts_of(path).is_some() {
            Standing::Ready {
                path: path.to_owned(),
                facts: Some(facts.clone()),
            }
        } else if path.is_file() {
            self.to_check.push(ToCheck {
                id: id.to_owned(),
                path: path.to_owned(),
            });
            Standing::Checking {
                path: path.to_owned(),
                done: 0,
                total: facts.size,
            }
        } else {
            let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
            let error = ModelsError::File {
                path: path.to_owned(),
                what: "read",
                source: missing,
            };
            Standing::Failed {
                path: None,
                error: error.view(),
                done: 0,
            }
        };
        match self.entries.get_mut(id) {
            // A row of the catalogue that is here anyhow needs no second file.
            Some(entry) if !matches!(entry.standing, Standing::Absent | Standing::Left { .. }) => {}
            Some(entry) => entry.standing = standing,
            None => {
                self.entries.insert(
                    id.to_owned(),
                    Entry {
                        row: None,
                        name: facts.name.clone(),
                        last_digest: Some(facts.digest),
                        standing,
                    },
                );
            }
        }
    }

    fn is_here(&self, digest: &Sha) -> bool {
        self.entries
            .values()
            .any(|entry| entry.facts().is_some_and(|facts| facts.digest == *digest))
    }

    fn free_id(&self, path: &Path) -> String {
        free_id(path, |id| self.entries.contains_key(id))
    }
}

/// An id made of a file's name that nothing else has.
pub(super) fn free_id(path: &Path, taken: impl Fn(&str) -> bool) -> String {
    let slug: String = stem_of(path)
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    let slug = if slug.is_empty() {
        "model".to_owned()
    } else {
        slug
    };
    let mut id = slug.clone();
    let mut number = 1u32;
    while taken(&id) {
        number += 1;
        id = format!("{slug}-{number}");
    }
    id
}

pub(super) fn stem_of(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}
