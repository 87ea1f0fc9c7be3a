//! Measures what is served: askers choose by speed, and a speed that nobody measured is none.

use std::{path::PathBuf, sync::Arc};

use crate::node::Inner;

/// The models of `files` that this build of the engine has not measured on this device yet, by id.
pub(super) fn unmeasured(inner: &Inner, files: &[PathBuf]) -> Vec<(String, PathBuf)> {
    let rows = inner.models.view().borrow().rows.clone();
    let device = inner.engine.benchmark_device();
    let is_measured = |id: &str| {
        rows.iter()
            .find(|row| row.id == id)
            .and_then(|row| row.measured.as_ref()?.benchmark.as_ref())
            .is_some_and(|benchmark| {
                benchmark.build == engine::BUILD && benchmark.device.starts_with(&device)
            })
    };
    let models = inner.models.all().into_iter();
    models
        .filter_map(|model| Some((model.id, model.file?)))
        .filter(|(id, file)| files.contains(file) && !is_measured(id))
        .collect()
}

/// Measures one after the other, in the last class of work. One that fails is tried again when offers are made the next time.
pub(super) async fn measure(inner: Arc<Inner>, models: Vec<(String, PathBuf)>) {
    for (id, file) in models {
        match inner.engine.benchmark(&file).await {
            Ok(benchmark) => inner.models.record_benchmark(&id, benchmark),
            Err(error) => tracing::info!(model = id, %error, "a model was not measured"),
        }
    }
}
