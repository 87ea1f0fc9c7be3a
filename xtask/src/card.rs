//! The worker for graphics cards: the same program with the kernels of one interface compiled in, beside the processor's.
//!
//! It is never part of an ordinary build. CUDA wants NVIDIA's toolkit (`nvcc`, no newer than the driver that will run it)
//! and takes minutes. `CUDA_COMPUTE_CAP` names the generation of cards that it is compiled for, by default that of this
//! machine's card; up to [`LAST_THAT_LASTS`] newer cards can use it as well. So a release is compiled for the oldest cards
//! that it is to serve: `CUDA_COMPUTE_CAP=75 cargo xtask package --cards cuda`. Metal wants macOS. A worker that does not
//! fit a machine fails its self-check there, and the processor's serves.

use std::{env, path::PathBuf, process::Command};

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

/// Names the generation of cards to compile for.
const CAPABILITY: &str = "CUDA_COMPUTE_CAP";

/// What `nvcc` adds to every command line of its own.
const COMPILER_FLAGS: &str = "NVCC_APPEND_FLAGS";

/// The last generation whose intermediate code drivers of newer cards compile: from the next one on the kernels' build
/// asks for instructions of one generation alone.
const LAST_THAT_LASTS: u32 = 89;

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
    if card == Card::Cuda {
        let capability = env::var(CAPABILITY).ok();
        serve_newer(&mut cargo, capability.and_then(|it| it.parse().ok()));
    }
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

/// Keeps the intermediate code of the kernels beside the compiled one, for the drivers of newer cards to compile.
fn serve_newer(cargo: &mut Command, capability: Option<u32>) {
    let Some(capability) = capability.filter(|&it| it <= LAST_THAT_LASTS) else {
        return;
    };
    let mut flags = env::var_os(COMPILER_FLAGS).unwrap_or_default();
    flags.push(format!(
        " -gencode=arch=compute_{capability},code=compute_{capability}"
    ));
    cargo.env(COMPILER_FLAGS, flags);
}

fn has_tools(card: Card) -> Result<(), Failure> {
    match card {
        Card::Cuda if !sh::answers("nvcc", "--version") => Err(Failure::new(
            "The worker for CUDA is compiled by NVIDIA's toolkit, and `nvcc` was not found.",
        )
        .fix("install the CUDA toolkit, put its bin folder into PATH, and set CUDA_COMPUTE_CAP (75 for every card that it still serves) where no card is in this machine")),
        Card::Metal if !cfg!(target_os = "macos") => Err(Failure::new(
            "The worker for Metal can be built on macOS alone.",
        )),
        Card::Cuda | Card::Metal => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intermediate_code_is_kept_where_newer_cards_can_use_it() {
        let flags = |capability| {
            let mut cargo = Command::new("cargo");
            serve_newer(&mut cargo, capability);
            let mut all = cargo.get_envs();
            all.find_map(|(name, value)| {
                (name == COMPILER_FLAGS).then(|| value?.to_str()).flatten()
            })
            .map(|flags| flags.trim().to_owned())
        };
        assert_eq!(
            flags(Some(75)).as_deref(),
            Some("-gencode=arch=compute_75,code=compute_75")
        );
        assert_eq!(
            flags(Some(90)),
            None,
            "its intermediate code is for it alone"
        );
        assert_eq!(flags(None), None);
    }
}
