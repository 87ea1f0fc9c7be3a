//! Model files: a GGUF reader for files that nobody vouches for.
//!
//! Caps come first ([`header`]), every length is checked against what is left of the file before anything is allocated,
//! and every tensor's extent lies inside the file before a weight is touched. The file is mapped, not read: weights are
//! computed with where they lie.

mod header;
mod kinds;
mod metadata;
mod parts;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use sha2::{Digest, Sha256};

pub use header::{Header, TensorEntry, parse};
pub use kinds::TensorKind;
pub use metadata::{Array, Metadata, Value};

use crate::{EngineError, FileProblem};

/// The largest memory page of the systems that this runs on, so that a multiple of it is one of every page.
#[cfg(unix)]
const PAGE_BYTES: usize = 64 << 10;

/// A mapped model file, in one part or several, or the head of one, whose table was checked.
#[derive(Debug)]
pub struct ModelFile {
    path: PathBuf,
    parts: Vec<Part>,
    header: Header,
}

/// One file of a model.
#[derive(Debug)]
struct Part {
    map: Mmap,
    /// The same bytes, to be read without becoming this process's memory.
    file: File,
    /// Where its tensors' data begins.
    data_offset: u64,
}

impl ModelFile {
    /// Maps and checks a file, and the parts that belong to it. A file that ends with its tensor table (give or take
    /// padding) is a head.
    pub fn open(path: &Path) -> Result<Self, EngineError> {
        let (part, header) = Part::open(path)?;
        let mut file = Self {
            path: path.to_owned(),
            parts: vec![part],
            header,
        };
        if file.has_weights() {
            parts::join(&mut file)?;
        }
        Ok(file)
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
        self.parts.iter().all(Part::has_weights)
    }

    /// SHA-256 of the bytes up to the end of the tensor table.
    pub fn head_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.parts[0].map[..self.header.head_len as usize]).into()
    }

    /// The bytes of a tensor of this file's table.
    pub fn tensor_bytes(&self, tensor: &TensorEntry) -> Result<&[u8], EngineError> {
        if !self.has_weights() {
            return Err(EngineError::NoWeights {
                file: self.path.clone(),
            });
        }
        let bytes = self
            .extent(tensor)
            .and_then(|(part, extent)| part.map.get(extent));
        bytes.ok_or_else(|| EngineError::UnsupportedTensor {
            name: tensor.name.clone(),
            kind: tensor.kind.to_string(),
        })
    }

    /// Reads the bytes of a tensor of this file's table from that offset on.
    pub(crate) fn read(
        &self,
        tensor: &TensorEntry,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), EngineError> {
        let inside = self.extent(tensor).filter(|(_, extent)| {
            let end = offset.checked_add(bytes.len() as u64);
            end.is_some_and(|end| end <= extent.len() as u64)
        });
        let Some((part, extent)) = inside else {
            return Err(EngineError::UnsupportedTensor {
                name: tensor.name.clone(),
                kind: tensor.kind.to_string(),
            });
        };
        read_at(&part.file, bytes, extent.start as u64 + offset).map_err(|error| {
            self.bad(FileProblem::Io {
                cause: error.to_string(),
            })
        })
    }

    /// Says that these bytes of a tensor were taken over: their pages need not stay in memory.
    pub fn used(&self, tensor: &TensorEntry, bytes: Range<usize>) {
        #[cfg(unix)]
        if let Some((part, extent)) = self.extent(tensor) {
            // Whole pages alone: the ends may belong to a neighbour.
            let first = (extent.start + bytes.start).next_multiple_of(PAGE_BYTES);
            let end = (extent.start + bytes.end).min(extent.end) / PAGE_BYTES * PAGE_BYTES;
            if first < end && end <= part.map.len() {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                // SAFETY: the map is of a file and only read, so a page that is looked at again is read again.
                #[allow(unsafe_code)]
                let dropped =
                    unsafe { part.map.unchecked_advise_range(advice, first, end - first) };
                // A refusal leaves the pages to the system, which drops them when it needs room.
                dropped.ok();
            }
        }
        #[cfg(not(unix))]
        let _ = (tensor, bytes);
    }

    /// Says that all that is computed with was taken over, whole pages or not: what is looked at once more is read again.
    pub(crate) fn loaded(&self) {
        #[cfg(unix)]
        for part in &self.parts {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: as above.
            #[allow(unsafe_code)]
            let dropped = unsafe { part.map.unchecked_advise(advice) };
            dropped.ok();
        }
    }

    /// Where a tensor's bytes lie.
    fn extent(&self, tensor: &TensorEntry) -> Option<(&Part, Range<usize>)> {
        let part = self.parts.get(tensor.part)?;
        let length = usize::try_from(tensor.bytes()?).ok()?;
        let start = usize::try_from(part.data_offset.checked_add(tensor.offset)?).ok()?;
        Some((part, start..start.checked_add(length)?))
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

impl Part {
    /// Maps a file and checks its header against its length.
    fn open(path: &Path) -> Result<(Self, Header), EngineError> {
        let bad = |problem| EngineError::BadFile {
            file: path.to_owned(),
            problem,
        };
        let io = |error: io::Error| {
            bad(FileProblem::Io {
                cause: error.to_string(),
            })
        };
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
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
        let part = Self {
            map,
            file,
            data_offset: header.data_offset,
        };
        if part.has_weights() {
            let length = part.map.len() as u64;
            header.check_extents(length).map_err(bad)?;
        }
        Ok((part, header))
    }

    fn has_weights(&self) -> bool {
        self.map.len() as u64 > self.data_offset
    }
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
        }
    }
    Ok(())
}
