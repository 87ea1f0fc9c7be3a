//! The worker for graphics cards: the same program with the kernels of one interface compiled in, beside the processor's.
//!
//! It is never part of an ordinary build. CUDA wants NVIDIA's toolkit (`nvcc`, no newer than the driver that will run it)
//! and takes minutes; it is compiled for the one generation of cards that `CUDA_COMPUTE_CAP` names, as 90. Metal wants
//! macOS. A worker that does not fit a machine fails its self-check there, and the processor's serves.

use std::path::PathBuf;

use clap::ValueEnum;

use crate::{
    build,
    house::House,
    sh::{self, Failure},
};

/// An interface to graphics cards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Card {
    /// NVIDIA's.
    Cuda,
    /// Apple's.
    Metal,
}

impl Card {
    fn feature(self) -> &'static str {
        match self {
            Card::Cuda => "cuda",
            Card::Metal => "metal",
        }
    }

    /// The program's name, by which the engine finds it.
    pub(crate) fn worker(self) -> &'static str {
        match self {
            Card::Cuda => "decentralgpt-worker-cuda",
            Card::Metal => "decentralgpt-worker-metal",
        }
    }
}

/// Builds the worker for release, and puts it beside the programs of a profile (`debug` or `release`).
pub(crate) fn worker(house: &House, card: Card, profile: &str) -> Result<PathBuf, Failure> {
    has_tools(card)?;
    // A folder of its own: the same crates with other features would be compiled again at every change of mind.
    let folder = house.target.join(card.feature());
    let mut cargo = house.cargo([
        "build",
        "--release",
        "--locked",
        "--package",
        "decentralgpt-engine",
        "--bin",
        "decentralgpt-worker",
        "--features",
        card.feature(),
    ]);
    sh::run(cargo.env("CARGO_TARGET_DIR", &folder))?;
    let suffix = std::env::consts::EXE_SUFFIX;
    let built = folder
        .join("release")
        .join(format!("decentralgpt-worker{suffix}"));
    let beside = house
        .target
        .join(profile)
        .join(format!("{}{suffix}", card.worker()));
    build::install(&built, &beside)?;
    Ok(beside)
}

fn has_tools(card: Card) -> Result<(), Failure> {
    match card {
        Card::Cuda if !sh::answers("nvcc", "--version") => Err(Failure::new(
            "The worker for CUDA is compiled by NVIDIA's toolkit, and `nvcc` was not found.",
        )
        .fix("install the CUDA toolkit, put its bin folder into PATH, and set CUDA_COMPUTE_CAP (as 90) where no card is in this machine")),
        Card::Metal if !cfg!(target_os = "macos") => Err(Failure::new(
            "The worker for Metal can be built on macOS alone.",
        )),
        Card::Cuda | Card::Metal => Ok(()),
    }
}
