//! The graphics card that this build of the worker computes on: opened, described, and checked with known answers before
//! anything is computed for a person.
//!
//! A build for no card opens the processor, so that the check itself is tested where there is none.

use std::sync::OnceLock;

use candle_core::quantized::{GgmlDType, QMatMul, QTensor};
use candle_core::{Device as Place, Module as _, Tensor};

use crate::EngineError;
use crate::adapters::Device;

/// Formats that model files carry, of those that the tensor library multiplies on every device.
const FORMATS: [GgmlDType; 8] = [
    GgmlDType::Q4_0,
    GgmlDType::Q4_1,
    GgmlDType::Q5_0,
    GgmlDType::Q8_0,
    GgmlDType::Q3K,
    GgmlDType::Q4K,
    GgmlDType::Q5K,
    GgmlDType::Q6K,
];

/// Outputs and inputs of the matrix that is multiplied: two blocks of the largest format wide, no power of two high.
const SHAPE: (usize, usize) = (48, 512);

/// Rows multiplied at once: libraries have a kernel for one row and another for many.
const ROWS: [usize; 2] = [1, 33];

/// How far a product may be from the exact one, as a share of the sum of the magnitudes of its terms. Activations
/// rounded to 8 bits stay within 1/254 of each term's largest neighbour; a kernel that mixes up blocks or scales is
/// off by the root of the number of terms, a twentieth and more.
const BOUND: f64 = 0.01;

/// The card, opened once for the whole process, and what it is.
fn opened() -> Result<&'static (Place, Device), EngineError> {
    static OPENED: OnceLock<Result<(Place, Device), EngineError>> = OnceLock::new();
    OPENED.get_or_init(open).as_ref().map_err(Clone::clone)
}

/// The card.
pub(crate) fn place() -> Result<Place, EngineError> {
    opened().map(|(place, _)| place.clone())
}

/// Checks that the card multiplies right; gives what it is.
pub(crate) fn check() -> Result<Device, EngineError> {
    let (place, device) = opened()?;
    multiplies(place)?;
    Ok(device.clone())
}

/// Bytes that are free on the card; `None` for the processor, which computes in the machine's memory.
#[cfg(feature = "cuda")]
pub(crate) fn free_bytes(place: &Place) -> Result<Option<u64>, EngineError> {
    let cuda = place.as_cuda_device().map_err(failed)?;
    memory(cuda).map(|memory| memory.free)
}

/// The same. Metal and the processor share the machine's memory, which the app knows.
#[cfg(not(feature = "cuda"))]
pub(crate) fn free_bytes(_place: &Place) -> Result<Option<u64>, EngineError> {
    Ok(None)
}

/// An error of the tensor library. What it adds where `RUST_BACKTRACE` is set helps nobody who reads a message.
pub(crate) fn failed(error: candle_core::Error) -> EngineError {
    let error = match error {
        candle_core::Error::WithBacktrace { inner, .. } => *inner,
        other => other,
    };
    EngineError::Compute {
        detail: error.to_string(),
    }
}

#[cfg(feature = "cuda")]
fn open() -> Result<(Place, Device), EngineError> {
    let place = Place::new_cuda(0).map_err(failed)?;
    let cuda = place.as_cuda_device().map_err(failed)?;
    let name = cuda.cuda_stream().context().name();
    let device = Device::Adapter {
        name: name.unwrap_or_else(|_| "CUDA device 0".to_owned()),
        memory: Some(memory(cuda)?),
        software: false,
    };
    Ok((place, device))
}

#[cfg(feature = "cuda")]
fn memory(cuda: &candle_core::CudaDevice) -> Result<crate::adapters::AdapterMemory, EngineError> {
    let told = cuda.cuda_stream().context().mem_get_info();
    let (free, total) = told.map_err(|error| failed(candle_core::Error::wrap(error)))?;
    Ok(crate::adapters::AdapterMemory {
        total: total as u64,
        free: Some(free as u64),
    })
}

#[cfg(all(feature = "metal", not(feature = "cuda")))]
fn open() -> Result<(Place, Device), EngineError> {
    use crate::adapters::{Answer, Source, look};

    let place = Place::new_metal(0).map_err(failed)?;
    let sighting = match look(Source::Metal) {
        Answer::Sighted(sightings) => sightings.into_iter().next(),
        Answer::Absent(_) | Answer::Failed(_) => None,
    };
    let (name, memory) = sighting.map_or((None, None), |it| (it.name, it.memory));
    let device = Device::Adapter {
        name: name.unwrap_or_else(|| "Metal device 0".to_owned()),
        memory,
        software: false,
    };
    Ok((place, device))
}

#[cfg(not(any(feature = "cuda", feature = "metal")))]
fn open() -> Result<(Place, Device), EngineError> {
    Ok((Place::Cpu, Device::Processor))
}

/// Multiplies a known matrix of every format by known rows on the device, and compares with the exact products.
fn multiplies(place: &Place) -> Result<(), EngineError> {
    for format in FORMATS {
        for rows in ROWS {
            let worst = worst(place, format, rows).map_err(failed)?;
            if worst.is_nan() || worst > BOUND {
                return Err(EngineError::Compute {
                    detail: format!(
                        "the self-check failed: {rows} rows by a matrix in {format:?} are off by {worst:.4} of their terms, where {BOUND} is allowed"
                    ),
                });
            }
        }
    }
    Ok(())
}

/// The largest difference from the exact product, as a share of the sum of its terms' magnitudes.
fn worst(place: &Place, format: GgmlDType, rows: usize) -> candle_core::Result<f64> {
    let (outputs, inputs) = SHAPE;
    let weights = Tensor::from_vec(pattern(outputs * inputs, 1), SHAPE, &Place::Cpu)?;
    let activations = pattern(rows * inputs, 2);
    // The exact products are those of the weights as they were stored.
    let stored = QTensor::quantize(&weights, format)?.dequantize(&Place::Cpu)?;
    let stored = stored.flatten_all()?.to_vec1::<f32>()?;
    let matrix = QMatMul::from_qtensor(QTensor::quantize_onto(&weights, format, place)?)?;
    let given = Tensor::from_slice(&activations, (rows, inputs), place)?;
    let products = matrix.forward(&given)?.flatten_all()?.to_vec1::<f32>()?;
    let mut worst = 0.0f64;
    for (at, &product) in products.iter().enumerate() {
        let (row, output) = (at / outputs, at % outputs);
        let terms = activations[row * inputs..][..inputs]
            .iter()
            .zip(&stored[output * inputs..][..inputs])
            .map(|(&a, &w)| f64::from(a) * f64::from(w));
        let (exact, size) = terms.fold((0.0, 0.0), |(sum, size), term| {
            (sum + term, size + f64::abs(term))
        });
        let off = (f64::from(product) - exact).abs() / size;
        // `max` would drop a NaN.
        if off.is_nan() || off > worst {
            worst = off;
        }
    }
    Ok(worst)
}

/// Numbers between -1 and 1 that repeat with no block: a linear congruence of Knuth's constants.
fn pattern(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_passes_the_check_of_devices() {
        multiplies(&Place::Cpu).unwrap();
    }

    #[test]
    fn an_error_is_one_line() {
        let backtrace = Box::new(std::backtrace::Backtrace::force_capture());
        let inner = Box::new(candle_core::Error::Msg("no device".to_owned()));
        let told = failed(candle_core::Error::WithBacktrace { inner, backtrace });
        assert_eq!(
            told,
            EngineError::Compute {
                detail: "no device".to_owned()
            }
        );
    }

    #[test]
    fn a_matrix_of_another_format_would_be_noticed() {
        // What the check measures when the weights are others than the known ones: the same products, one block on.
        let (outputs, inputs) = SHAPE;
        let weights = pattern(outputs * inputs, 1);
        let rows = pattern(inputs, 2);
        let product = |shift: usize| -> f64 {
            let terms = rows.iter().zip(weights.iter().skip(shift));
            terms.map(|(&a, &w)| f64::from(a * w)).sum()
        };
        let size: f64 = rows
            .iter()
            .zip(&weights)
            .map(|(a, w)| f64::from((a * w).abs()))
            .sum();
        assert!((product(0) - product(32)).abs() / size > BOUND);
    }
}
