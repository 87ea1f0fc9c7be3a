//! Models in several files: `NAME-00001-of-00003.gguf` and its siblings. The first has all metadata, each has a tensor
//! table of its own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::header::MAX_TENSORS;
use super::{ModelFile, Part};
use crate::{EngineError, FileProblem};

/// Files of one model. The largest of 2026 come in some hundred.
const MAX_PARTS: u32 = 1024;

/// Opens the siblings of a first part and adds their tensors to its table. Does nothing for a model in one file.
pub(super) fn join(file: &mut ModelFile) -> Result<(), EngineError> {
    if file.header.metadata.get("split.count").is_none() {
        return Ok(());
    }
    let number = |key: &str, low, high| {
        let metadata = &file.header.metadata;
        metadata
            .required(key, low, high)
            .map_err(|problem| file.bad(problem))
    };
    let count = number("split.count", 0, MAX_PARTS)?;
    if count <= 1 {
        return Ok(());
    }
    // Any other part has no metadata to read the model by.
    number("split.no", 0, 0)?;
    let siblings: Option<Vec<PathBuf>> = (1..count)
        .map(|index| sibling(&file.path, index, count))
        .collect();
    let siblings = siblings.ok_or_else(|| {
        file.bad(FileProblem::BadValue {
            key: "split.count".to_owned(),
            value: format!("{count} in a file whose name does not end in -00001-of-{count:05}"),
        })
    })?;
    let tensors = &file.header.tensors;
    let mut names: BTreeSet<String> = tensors.iter().map(|it| it.name.clone()).collect();
    for (index, path) in (1..count).zip(siblings) {
        let (part, header) = Part::open(&path)?;
        let bad = |problem| EngineError::BadFile {
            file: path.clone(),
            problem,
        };
        let expect = |key: &str, due: u32| {
            let found = header.metadata.required(key, due, due);
            found.map_err(bad)
        };
        expect("split.no", index)?;
        expect("split.count", count)?;
        if !part.has_weights() {
            return Err(EngineError::NoWeights { file: path });
        }
        for mut tensor in header.tensors {
            if !names.insert(tensor.name.clone()) {
                return Err(bad(FileProblem::BadValue {
                    key: tensor.name,
                    value: "in two parts".to_owned(),
                }));
            }
            if names.len() as u64 > MAX_TENSORS {
                return Err(bad(FileProblem::TooLarge {
                    what: "number of tensors in all parts".to_owned(),
                    value: names.len() as u64,
                    cap: MAX_TENSORS,
                }));
            }
            tensor.part = file.parts.len();
            file.header.tensors.push(tensor);
        }
        file.parts.push(part);
    }
    let tensors = file.header.tensors.len() as u32;
    let due = file
        .header
        .metadata
        .required("split.tensors.count", tensors, tensors);
    due.map(|_| ()).map_err(|problem| file.bad(problem))
}

/// The path of the part of that index, where the first part's name says how parts are named.
fn sibling(first: &Path, index: u32, count: u32) -> Option<PathBuf> {
    let name = first.file_name()?.to_str()?;
    let stem = name.strip_suffix(&format!("-00001-of-{count:05}.gguf"))?;
    Some(first.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", index + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_numbered_from_one() {
        let first = Path::new("models/big-00001-of-00012.gguf");
        assert_eq!(
            sibling(first, 11, 12),
            Some("models/big-00012-of-00012.gguf".into())
        );
        assert_eq!(sibling(first, 1, 11), None);
        assert_eq!(sibling(Path::new("models/big.gguf"), 1, 2), None);
    }
}
