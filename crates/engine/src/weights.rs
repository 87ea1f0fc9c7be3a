//! Weights where they lie: tensors of a mapped file, as candle's quantised matrices.

use std::marker::PhantomData;
use std::sync::Arc;

use candle_core::quantized::k_quants::{
    BlockQ2K, BlockQ3K, BlockQ4_0, BlockQ4_1, BlockQ4K, BlockQ5_0, BlockQ5_1, BlockQ5K, BlockQ6K,
    BlockQ8_0, matmul, matmul_f16,
};
use candle_core::quantized::{GgmlDType, GgmlType, QMatMul, QStorage, QTensor, QuantizedType};
use candle_core::{CpuStorage, Device, Tensor};
use half::{bf16, f16};

use crate::file::{ModelFile, TensorEntry};
use crate::{EngineError, FileProblem};

/// A matrix that rows are multiplied with.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: QMatMul,
    bias: Option<Vec<f32>>,
    outputs: usize,
}

impl Linear {
    /// Multiplies rows (`[count][inputs]`) and gives `[count][outputs]`.
    pub(crate) fn forward(&self, rows: &Tensor) -> Result<Vec<f32>, EngineError> {
        use candle_core::Module as _;
        let product = self.weight.forward(rows).map_err(compute)?;
        let mut values = values_of(&product)?;
        if let Some(bias) = &self.bias {
            crate::vectors::add_bias(&mut values, bias);
        }
        Ok(values)
    }

    /// Rows of output per row of input.
    pub(crate) fn outputs(&self) -> usize {
        self.outputs
    }
}

/// Rows as a tensor (`[count][width]`).
pub(crate) fn tensor_of(rows: Vec<f32>, width: usize) -> Result<Tensor, EngineError> {
    let count = rows.len() / width;
    Tensor::from_vec(rows, (count, width), &Device::Cpu).map_err(compute)
}

fn values_of(tensor: &Tensor) -> Result<Vec<f32>, EngineError> {
    tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1())
        .map_err(compute)
}

/// An error of the tensor library.
pub(crate) fn compute(error: candle_core::Error) -> EngineError {
    EngineError::Compute {
        detail: error.to_string(),
    }
}

/// The tensors of a file, by name and due shape.
#[derive(Debug)]
pub(crate) struct Weights {
    file: Arc<ModelFile>,
}

impl Weights {
    pub(crate) fn new(file: Arc<ModelFile>) -> Self {
        Self { file }
    }

    /// Whether a tensor is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.file.header().tensor(name).is_some()
    }

    /// A matrix of that many outputs and inputs, with a bias where a name is given.
    pub(crate) fn linear(
        &self,
        name: &str,
        bias: Option<&str>,
        outputs: usize,
        inputs: usize,
    ) -> Result<Linear, EngineError> {
        let weight = Arc::new(self.quantised(name, &[outputs, inputs])?);
        Ok(Linear {
            weight: QMatMul::from_arc(weight).map_err(compute)?,
            bias: bias.map(|name| self.vector(name, outputs)).transpose()?,
            outputs,
        })
    }

    /// A matrix as a table of rows, and the same as a matrix to multiply with where `shared`.
    pub(crate) fn table(
        &self,
        name: &str,
        rows: usize,
        width: usize,
    ) -> Result<Arc<QTensor>, EngineError> {
        self.quantised(name, &[rows, width]).map(Arc::new)
    }

    /// A table as a matrix to multiply with.
    pub(crate) fn as_linear(table: &Arc<QTensor>, outputs: usize) -> Result<Linear, EngineError> {
        Ok(Linear {
            weight: QMatMul::from_arc(table.clone()).map_err(compute)?,
            bias: None,
            outputs,
        })
    }

    /// A vector of that length, as 32-bit floats.
    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, EngineError> {
        let tensor = self.quantised(name, &[length])?;
        values_of(&tensor.dequantize(&Device::Cpu).map_err(compute)?)
    }

    /// Rows of the vocabulary's table, which may be more than there are pieces.
    pub(crate) fn rows_of(&self, name: &str) -> Result<u64, EngineError> {
        Ok(self.entry(name)?.shape[0])
    }

    fn entry(&self, name: &str) -> Result<&TensorEntry, EngineError> {
        let missing = || {
            self.file.bad(FileProblem::MissingTensor {
                name: name.to_owned(),
            })
        };
        self.file.header().tensor(name).ok_or_else(missing)
    }

    fn quantised(&self, name: &str, shape: &[usize]) -> Result<QTensor, EngineError> {
        let entry = self.entry(name)?;
        let expected: Vec<u64> = shape.iter().map(|&size| size as u64).collect();
        if entry.shape != expected {
            return Err(self.file.bad(FileProblem::WrongShape {
                name: name.to_owned(),
                found: entry.shape.clone(),
                expected,
            }));
        }
        // candle computes these by two blocks at a time and panics at an odd one.
        let paired = matches!(entry.kind.to_string().as_str(), "Q5_0" | "Q5_1");
        if paired && shape.last().is_some_and(|width| !width.is_multiple_of(64)) {
            return Err(unsupported(entry));
        }
        let storage = QStorage::Cpu(self.mapped(entry)?);
        QTensor::new(storage, shape).map_err(compute)
    }

    fn mapped(&self, entry: &TensorEntry) -> Result<Box<dyn QuantizedType>, EngineError> {
        Ok(match entry.kind.to_string().as_str() {
            "F32" => Box::new(Mapped::<f32>::new(&self.file, entry)?),
            "F16" => Box::new(Mapped::<f16>::new(&self.file, entry)?),
            "BF16" => Box::new(Mapped::<bf16>::new(&self.file, entry)?),
            "Q4_0" => Box::new(Mapped::<BlockQ4_0>::new(&self.file, entry)?),
            "Q4_1" => Box::new(Q4_1(Mapped::new(&self.file, entry)?)),
            "Q5_0" => Box::new(Mapped::<BlockQ5_0>::new(&self.file, entry)?),
            "Q5_1" => Box::new(Mapped::<BlockQ5_1>::new(&self.file, entry)?),
            "Q8_0" => Box::new(Mapped::<BlockQ8_0>::new(&self.file, entry)?),
            "Q2_K" => Box::new(Mapped::<BlockQ2K>::new(&self.file, entry)?),
            "Q3_K" => Box::new(Mapped::<BlockQ3K>::new(&self.file, entry)?),
            "Q4_K" => Box::new(Mapped::<BlockQ4K>::new(&self.file, entry)?),
            "Q5_K" => Box::new(Mapped::<BlockQ5K>::new(&self.file, entry)?),
            "Q6_K" => Box::new(Mapped::<BlockQ6K>::new(&self.file, entry)?),
            _ => return Err(unsupported(entry)),
        })
    }
}

fn unsupported(entry: &TensorEntry) -> EngineError {
    EngineError::UnsupportedTensor {
        name: entry.name.clone(),
        kind: entry.kind.to_string(),
    }
}

/// Blocks of one kind inside a mapped file. Keeps the map alive.
struct Mapped<T> {
    file: Arc<ModelFile>,
    start: *const T,
    count: usize,
    kind: PhantomData<T>,
}

// SAFETY: the bytes behind `start` are a read-only map that `file` keeps; the blocks in it are plain numbers.
#[allow(unsafe_code)]
unsafe impl<T: Sync> Send for Mapped<T> {}
// SAFETY: as above; nothing is ever written through it.
#[allow(unsafe_code)]
unsafe impl<T: Sync> Sync for Mapped<T> {}

impl<T: GgmlType> Mapped<T> {
    fn new(file: &Arc<ModelFile>, entry: &TensorEntry) -> Result<Self, EngineError> {
        let bytes = file.tensor_bytes(entry)?;
        let start = bytes.as_ptr().cast::<T>();
        // The reader refuses alignments below 8 and offsets that are no multiple of it, and maps begin at a page.
        if !start.is_aligned() || bytes.len() % size_of::<T>() != 0 {
            return Err(unsupported(entry));
        }
        Ok(Self {
            file: file.clone(),
            start,
            count: bytes.len() / size_of::<T>(),
            kind: PhantomData,
        })
    }

    fn blocks(&self) -> &[T] {
        debug_assert!(self.file.has_weights());
        // SAFETY: `new` checked alignment and length against the map, which lives as long as `self`; every pattern of
        // bits is a value of a block, which is made of integers and floats.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start, self.count)
        }
    }
}

impl<T: GgmlType> QuantizedType for Mapped<T> {
    fn dtype(&self) -> GgmlDType {
        T::DTYPE
    }

    fn matmul_t(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f32],
        dst: &mut [f32],
    ) -> candle_core::Result<()> {
        matmul(mkn, lhs, self.blocks(), dst)
    }

    fn matmul_t_f16(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f16],
        dst: &mut [f16],
    ) -> candle_core::Result<()> {
        matmul_f16(mkn, lhs, self.blocks(), dst)
    }

    fn embedding(
        &self,
        ids: &[u32],
        rows: usize,
        hidden: usize,
    ) -> candle_core::Result<CpuStorage> {
        let per_row = hidden / T::BLCK_SIZE;
        if self.count != rows * per_row || ids.iter().any(|&id| id as usize >= rows) {
            candle_core::bail!("a row outside the table of {rows}");
        }
        let mut out = vec![0.0f32; ids.len() * hidden];
        for (out, &id) in out.chunks_exact_mut(hidden).zip(ids) {
            T::to_float(&self.blocks()[id as usize * per_row..][..per_row], out);
        }
        Ok(CpuStorage::F32(out))
    }

    fn dequantize(&self, elem_count: usize) -> candle_core::Result<CpuStorage> {
        let mut out = vec![0.0f32; elem_count];
        T::to_float(self.blocks(), &mut out);
        Ok(CpuStorage::F32(out))
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.count * size_of::<T>()
    }

    fn as_ptr(&self) -> *const u8 {
        self.start.cast()
    }

    fn block_size(&self) -> usize {
        T::BLCK_SIZE
    }

    fn from_float(&mut self, _: &[f32]) {
        unreachable!("weights of a file are read and never written");
    }

    fn from_float_imatrix(&mut self, _: &[f32], _: &[f32], _: usize) {
        unreachable!("weights of a file are read and never written");
    }

    fn size(&self) -> usize {
        self.storage_size_in_bytes()
    }
}

/// Q4_1 blocks, with products of this crate's own.
struct Q4_1(Mapped<BlockQ4_1>);

impl Q4_1 {
    fn bytes(&self) -> &[u8] {
        let blocks = self.0.blocks();
        // SAFETY: the same memory as `blocks`, which are made of bytes without padding.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(blocks.as_ptr().cast(), size_of_val(blocks))
        }
    }
}

impl QuantizedType for Q4_1 {
    fn dtype(&self) -> GgmlDType {
        self.0.dtype()
    }

    fn matmul_t(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f32],
        dst: &mut [f32],
    ) -> candle_core::Result<()> {
        crate::q4_1::matmul(mkn, lhs, self.bytes(), dst);
        Ok(())
    }

    fn matmul_t_f16(
        &self,
        mkn: (usize, usize, usize),
        lhs: &[f16],
        dst: &mut [f16],
    ) -> candle_core::Result<()> {
        self.0.matmul_t_f16(mkn, lhs, dst)
    }

    fn embedding(
        &self,
        ids: &[u32],
        rows: usize,
        hidden: usize,
    ) -> candle_core::Result<CpuStorage> {
        self.0.embedding(ids, rows, hidden)
    }

    fn dequantize(&self, elem_count: usize) -> candle_core::Result<CpuStorage> {
        self.0.dequantize(elem_count)
    }

    fn storage_size_in_bytes(&self) -> usize {
        self.0.storage_size_in_bytes()
    }

    fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn block_size(&self) -> usize {
        self.0.block_size()
    }

    fn from_float(&mut self, values: &[f32]) {
        self.0.from_float(values);
    }

    fn from_float_imatrix(&mut self, values: &[f32], importance: &[f32], width: usize) {
        self.0.from_float_imatrix(values, importance, width);
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
