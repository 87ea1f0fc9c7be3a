//! Model files: a GGUF reader for files that nobody vouches for.
//!
//! Caps come first ([`header`]), every length is checked against what is left of the file before anything is allocated,
//! and every tensor's extent lies inside the file before a weight is touched. The file is mapped, not read: weights are
//! computed with where they lie.

mod header;
mod kinds;
mod metadata;

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

pub use header::{Header, TensorEntry, parse};
pub use kinds::TensorKind;
pub use metadata::{Array, Metadata, Value};

use crate::{EngineError, FileProblem};

/// Pages of memory are a multiple of it.
#[cfg(unix)]
const PAGE_BYTES: usize = 4096;

/// A mapped model file, or the head of one, whose table was checked.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    map: Mmap,
    header: Header,
    has_weights: bool,
}

impl ModelFile {
    /// Maps and checks a file. A file that ends with its tensor table (give or take padding) is a head.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let bad = |problem| EngineError::BadFile {
            file: path.to_owned(),
            problem,
        };
        let io = |error: std::io::Error| {
            bad(FileProblem::Io {
                cause: error.to_string(),
            })
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Err(EngineError::NotReadable {
                    file: path.to_owned(),
                });
            }
            opened => opened.map_err(io)?,
        };
        if !file.metadata().map_err(io)?.is_file() {
            return Err(bad(FileProblem::NotGguf));
        }
        // SAFETY: nobody may shorten the file while it is mapped. Should somebody do so, reading it ends this process,
        // which is the worker's and holds nothing that could be lost.
        #[allow(unsafe_code)]
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let header = parse(&map).map_err(bad)?;
        let has_weights = map.len() as u64 > header.data_offset;
        if has_weights {
            header.check_extents(map.len() as u64).map_err(bad)?;
        }
        Ok(Self {
            path: path.to_owned(),
            map,
            header,
            has_weights,
        })
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its metadata and tensor table.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// False for a head.
    pub fn has_weights(&self) -> bool {
        self.has_weights
    }

    /// SHA-256 of the bytes up to the end of the tensor table.
    pub fn head_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.map[..self.header.head_len as usize]).into()
    }

    /// All bytes behind the header.
    pub fn data(&self) -> &[u8] {
        self.map
            .get(self.header.data_offset as usize..)
            .unwrap_or_default()
    }

    /// The bytes of a tensor of this file's table.
    pub fn tensor_bytes(&self, tensor: &TensorEntry) -> Result<&[u8], EngineError> {
        if !self.has_weights {
            return Err(EngineError::NoWeights {
                file: self.path.clone(),
            });
        }
        let extent = tensor.bytes().and_then(|length| {
            let start =
                usize::try_from(self.header.data_offset.checked_add(tensor.offset)?).ok()?;
            self.map
                .get(start..start.checked_add(usize::try_from(length).ok()?)?)
        });
        extent.ok_or_else(|| EngineError::UnsupportedTensor {
            name: tensor.name.clone(),
            kind: tensor.kind.to_string(),
        })
    }

    /// Says that these bytes of a tensor were taken over: their pages need not stay in memory.
    pub fn used(&self, tensor: &TensorEntry, bytes: std::ops::Range<usize>) {
        #[cfg(unix)]
        {
            let start = self.header.data_offset as usize + tensor.offset as usize + bytes.start;
            // Whole pages alone: the ends may belong to a neighbour. The offset may lie anywhere in a page.
            let first = start.next_multiple_of(PAGE_BYTES);
            let end = (start + bytes.len()) / PAGE_BYTES * PAGE_BYTES;
            if first < end && end <= self.map.len() {
                // SAFETY: the map is of a file and read alone, so a page that is looked at again is read again.
                #[allow(unsafe_code)]
                let dropped = unsafe {
                    self.map.unchecked_advise_range(
                        memmap2::UncheckedAdvice::DontNeed,
                        first,
                        end - first,
                    )
                };
                // A refusal leaves the pages to the system, which drops them when it needs room.
                dropped.ok();
            }
        }
        #[cfg(not(unix))]
        let _ = (tensor, bytes);
    }

    /// The name that people know it by: its own, or the file's.
    pub fn name(&self) -> String {
        let own = self
            .header
            .metadata
            .text("general.name")
            .unwrap_or_default();
        if !own.is_empty() {
            return own.to_owned();
        }
        self.path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Wraps a problem of this file.
    pub fn bad(&self, problem: FileProblem) -> EngineError {
        EngineError::BadFile {
            file: self.path.clone(),
            problem,
        }
    }
}
