//! Reading a header out of bytes that nobody vouches for.

use std::collections::{BTreeMap, BTreeSet};

use super::kinds::TensorKind;
use super::metadata::{Array, Metadata, Value};
use crate::FileProblem;

/// Longest head in bytes. The largest vocabularies of 2026 take 20 MB; over the network 32 MiB are allowed.
pub(super) const MAX_HEAD: u64 = 64 << 20;

/// Metadata entries. Real files have 20 to 60.
pub(super) const MAX_ENTRIES: u64 = 4096;

/// Tensors. The largest mixture models have some 2,000.
pub(super) const MAX_TENSORS: u64 = 65_536;

/// Length of a key or tensor name in bytes; the specification says 65,535 and 64, real ones stay under 64.
pub(super) const MAX_NAME: u64 = 1024;

/// Length of any other text in bytes. Chat templates stay under 100 KiB.
pub(super) const MAX_TEXT: u64 = 4 << 20;

/// Elements of a list. Vocabularies have up to 262,144 entries, their merges twice that.
pub(super) const MAX_ELEMENTS: u64 = 4 << 20;

/// Dimensions of a tensor, as in ggml.
pub(super) const MAX_DIMENSIONS: u32 = 4;

/// Alignment of tensor data where the file names none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Largest alignment that makes sense: a huge page.
const MAX_ALIGNMENT: u64 = 2 << 20;

/// The header of a model file.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// The key-value part.
    pub metadata: Metadata,
    /// The tensor table, in the file's order.
    pub tensors: Vec<TensorEntry>,
    /// Bytes up to the end of the tensor table.
    pub head_len: u32,
    /// Where tensor data begins: the head's end, aligned.
    pub data_offset: u64,
    /// Alignment of every tensor's data.
    pub alignment: u64,
}

/// A row of the tensor table.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Its shape, outermost dimension first (the file has the innermost first).
    pub shape: Vec<u64>,
    /// How its values are stored.
    pub kind: TensorKind,
    /// Where its data begins, counted from [`Header::data_offset`] of its part.
    pub offset: u64,
    /// Which part of a model in several files holds it.
    pub part: usize,
}

impl TensorEntry {
    /// Number of values. The reader has checked that it does not overflow.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }

    /// Bytes of its data; `None` when the storage format is not known.
    pub fn bytes(&self) -> Option<u64> {
        let (elements, bytes) = self.kind.block()?;
        (self.elements() / elements).checked_mul(bytes)
    }
}

impl Header {
    /// A tensor by name.
    pub fn tensor(&self, name: &str) -> Option<&TensorEntry> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// Checks that every tensor's data lies inside a file of that many bytes.
    pub fn check_extents(&self, file_len: u64) -> Result<(), FileProblem> {
        for tensor in &self.tensors {
            let length = tensor.bytes().unwrap_or(0);
            let start = self.data_offset.saturating_add(tensor.offset);
            let end = start.saturating_add(length);
            if end > file_len {
                return Err(FileProblem::Truncated {
                    what: format!("tensor {}", tensor.name),
                    at: start,
                    need: end - file_len,
                });
            }
        }
        Ok(())
    }
}

/// Reads a header from the beginning of a file (or of a head).
pub fn parse(bytes: &[u8]) -> Result<Header, FileProblem> {
    let capped = &bytes[..bytes.len().min(MAX_HEAD as usize)];
    let mut reader = Reader {
        bytes: capped,
        at: 0,
    };
    if bytes.get(..4) != Some(b"GGUF") {
        return Err(FileProblem::NotGguf);
    }
    reader.at = 4;
    let version = reader.u32("version")?;
    if !(2..=3).contains(&version) {
        return Err(FileProblem::Version { version });
    }
    let tensor_count = reader.count("number of tensors", MAX_TENSORS)?;
    let entry_count = reader.count("number of metadata entries", MAX_ENTRIES)?;
    let metadata = reader.metadata(entry_count)?;
    let alignment = alignment(&metadata)?;
    let tensors = reader.tensors(tensor_count, alignment)?;
    let head_len = u32::try_from(reader.at).unwrap_or(u32::MAX);
    Ok(Header {
        metadata,
        tensors,
        head_len,
        data_offset: u64::from(head_len).next_multiple_of(alignment),
        alignment,
    })
}

fn alignment(metadata: &Metadata) -> Result<u64, FileProblem> {
    let key = "general.alignment";
    let Some(value) = metadata.get(key) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    let alignment = metadata.u32(key).map(u64::from);
    // At least 8: blocks are read where they lie, and the widest of them hold 32-bit floats.
    let good =
        alignment.filter(|number| number.is_power_of_two() && (8..=MAX_ALIGNMENT).contains(number));
    good.ok_or_else(|| FileProblem::BadValue {
        key: key.to_owned(),
        value: value.brief(),
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64, what: &str) -> Result<&'a [u8], FileProblem> {
        let left = (self.bytes.len() - self.at) as u64;
        if length > left {
            return Err(FileProblem::Truncated {
                what: what.to_owned(),
                at: self.at as u64,
                need: length - left,
            });
        }
        let start = self.at;
        self.at += length as usize;
        Ok(&self.bytes[start..self.at])
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], FileProblem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    fn u32(&mut self, what: &str) -> Result<u32, FileProblem> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, FileProblem> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn count(&mut self, what: &str, cap: u64) -> Result<u64, FileProblem> {
        let value = self.u64(what)?;
        if value > cap {
            return Err(FileProblem::TooLarge {
                what: what.to_owned(),
                value,
                cap,
            });
        }
        Ok(value)
    }

    /// Text that must be UTF-8.
    fn name(&mut self, what: &str) -> Result<String, FileProblem> {
        let length = self.count(&format!("length of a {what}"), MAX_NAME)?;
        let bytes = self.take(length, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| FileProblem::BadValue {
            key: what.to_owned(),
            value: "not UTF-8".to_owned(),
        })
    }

    /// Text of a value: some vocabularies carry broken UTF-8, which must not make the whole model unreadable.
    fn text(&mut self, key: &str) -> Result<String, FileProblem> {
        let length = self.count(&format!("length of a text in {key}"), MAX_TEXT)?;
        Ok(String::from_utf8_lossy(self.take(length, key)?).into_owned())
    }

    fn metadata(&mut self, count: u64) -> Result<Metadata, FileProblem> {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let key = self.name("metadata key")?;
            let number = self.u32(&key)?;
            let value = self.value(&key, number)?;
            if entries.insert(key.clone(), value).is_some() {
                return Err(FileProblem::BadValue {
                    key,
                    value: "there twice".to_owned(),
                });
            }
        }
        Ok(Metadata(entries))
    }

    fn value(&mut self, key: &str, number: u32) -> Result<Value, FileProblem> {
        Ok(match number {
            0 => Value::Unsigned(u64::from(u8::from_le_bytes(self.array(key)?))),
            1 => Value::Signed(i64::from(i8::from_le_bytes(self.array(key)?))),
            2 => Value::Unsigned(u64::from(u16::from_le_bytes(self.array(key)?))),
            3 => Value::Signed(i64::from(i16::from_le_bytes(self.array(key)?))),
            4 => Value::Unsigned(u64::from(self.u32(key)?)),
            5 => Value::Signed(i64::from(i32::from_le_bytes(self.array(key)?))),
            6 => Value::Float(f64::from(f32::from_le_bytes(self.array(key)?))),
            7 => Value::Bool(self.array::<1>(key)?[0] != 0),
            8 => Value::Text(self.text(key)?),
            9 => Value::Array(self.list(key)?),
            10 => Value::Unsigned(self.u64(key)?),
            11 => Value::Signed(i64::from_le_bytes(self.array(key)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(key)?)),
            other => return Err(bad_type(key, other)),
        })
    }

    fn list(&mut self, key: &str) -> Result<Array, FileProblem> {
        let number = self.u32(key)?;
        let count = self.count(&format!("length of the list {key}"), MAX_ELEMENTS)?;
        let width = match number {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            10..=12 => 8,
            // A text takes at least its own length field.
            8 => 8,
            // Lists of lists have no use in any model and would nest without end.
            9 => {
                return Err(FileProblem::BadValue {
                    key: key.to_owned(),
                    value: "a list of lists".to_owned(),
                });
            }
            other => return Err(bad_type(key, other)),
        };
        let left = (self.bytes.len() - self.at) as u64;
        if count * width > left {
            return Err(FileProblem::Truncated {
                what: format!("the list {key}"),
                at: self.at as u64,
                need: count * width - left,
            });
        }
        if number == 8 {
            let texts: Result<Vec<String>, FileProblem> =
                (0..count).map(|_| self.text(key)).collect();
            return Ok(Array::Text(texts?));
        }
        let bytes = self.take(count * width, key)?;
        let items = bytes.chunks_exact(width as usize);
        Ok(match number {
            1 | 3 | 5 | 11 => Array::Signed(items.map(signed).collect()),
            6 => Array::Float(
                items
                    .map(|item| f64::from(f32::from_bits(unsigned(item) as u32)))
                    .collect(),
            ),
            12 => Array::Float(items.map(|item| f64::from_bits(unsigned(item))).collect()),
            7 => Array::Bool(items.map(|item| item[0] != 0).collect()),
            _ => Array::Unsigned(items.map(unsigned).collect()),
        })
    }

    fn tensors(&mut self, count: u64, alignment: u64) -> Result<Vec<TensorEntry>, FileProblem> {
        // Smallest row: an empty name, one dimension.
        const SMALLEST: u64 = 8 + 4 + 8 + 4 + 8;
        let left = (self.bytes.len() - self.at) as u64;
        if count * SMALLEST > left {
            return Err(FileProblem::Truncated {
                what: "the tensor table".to_owned(),
                at: self.at as u64,
                need: count * SMALLEST - left,
            });
        }
        let mut names = BTreeSet::new();
        let mut tensors = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let tensor = self.tensor(alignment)?;
            if !names.insert(tensor.name.clone()) {
                return Err(FileProblem::BadValue {
                    key: tensor.name,
                    value: "in the tensor table twice".to_owned(),
                });
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    fn tensor(&mut self, alignment: u64) -> Result<TensorEntry, FileProblem> {
        let name = self.name("tensor name")?;
        let bad = |value: String| FileProblem::BadValue {
            key: format!("tensor {name}"),
            value,
        };
        let dimensions = self.u32("number of dimensions")?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(bad(format!("of {dimensions} dimensions")));
        }
        let mut shape = Vec::with_capacity(dimensions as usize);
        for _ in 0..dimensions {
            shape.push(self.u64("a dimension")?);
        }
        let kind = TensorKind::from_number(self.u32("a tensor's format")?);
        let offset = self.u64("a tensor's offset")?;
        let elements = shape
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(size));
        // A bit less than 64 bits, so that sums with offsets cannot wrap.
        let Some(elements) = elements.filter(|count| (1..=1 << 48).contains(count)) else {
            return Err(bad(format!("of shape {shape:?}")));
        };
        if let Some((block, bytes)) = kind.block() {
            if !shape[0].is_multiple_of(block) {
                return Err(bad(format!("{kind} with rows of {}", shape[0])));
            }
            if (elements / block).checked_mul(bytes).is_none() {
                return Err(bad(format!("of shape {shape:?}")));
            }
        }
        if !offset.is_multiple_of(alignment) || offset > 1 << 50 {
            return Err(bad(format!("at offset {offset}")));
        }
        shape.reverse();
        Ok(TensorEntry {
            name,
            shape,
            kind,
            offset,
            part: 0,
        })
    }
}

fn bad_type(key: &str, number: u32) -> FileProblem {
    FileProblem::BadValue {
        key: key.to_owned(),
        value: format!("of the unknown type {number}"),
    }
}

/// A little-endian number of one to eight bytes.
fn unsigned(item: &[u8]) -> u64 {
    item.iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// The same with its sign extended.
fn signed(item: &[u8]) -> i64 {
    let unused = 64 - 8 * item.len() as u32;
    (unsigned(item) << unused) as i64 >> unused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_sign() {
        assert_eq!(signed(&[0xff]), -1);
        assert_eq!(signed(&[0xfe, 0xff, 0xff, 0xff]), -2);
        assert_eq!(signed(&[5, 0]), 5);
        assert_eq!(unsigned(&[0x34, 0x12]), 0x1234);
    }

    #[test]
    fn counts_are_refused_before_they_are_believed() {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(0u64.to_le_bytes());
        assert!(matches!(
            parse(&bytes),
            Err(FileProblem::TooLarge {
                value: u64::MAX,
                ..
            })
        ));
    }

    #[test]
    fn other_files_and_other_versions_are_named() {
        assert_eq!(parse(b""), Err(FileProblem::NotGguf));
        assert_eq!(parse(b"PK\x03\x04"), Err(FileProblem::NotGguf));
        assert_eq!(
            parse(b"GGUF\x01\0\0\0"),
            Err(FileProblem::Version { version: 1 })
        );
    }
}
