//! The rows of a file's tables that are looked up one by one.
//!
//! They are read and not mapped: rows lie all over a table, and with each the system would map its neighbours, until the
//! whole table counted as this process's memory.

use crate::file::{ModelFile, TensorEntry};
use crate::{EngineError, kernels};

/// Writes the row of that index of a table into `row`.
pub(crate) fn look_up(
    file: &ModelFile,
    table: &TensorEntry,
    index: u32,
    row: &mut [f32],
) -> Result<(), EngineError> {
    let refused = |problem: kernels::PackError| EngineError::UnsupportedTensor {
        name: table.name.clone(),
        kind: problem.to_string(),
    };
    let length = kernels::row_length(table.kind, row.len()).map_err(refused)?;
    let mut bytes = vec![0; length];
    file.read(table, u64::from(index) * length as u64, &mut bytes)?;
    kernels::row(table.kind, &bytes, 0, row).map_err(refused)
}
