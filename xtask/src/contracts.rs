//! `contracts/`: built and tested by forge, from npm packages alone; what the app reads of them lies committed in
//! `contracts/abi`.

use std::{fs, path::PathBuf, process::Command};

use serde_json::{Value, json};

use crate::{
    build,
    house::House,
    sh::{self, Failure},
};

const FOLDER: &str = "contracts";

/// A contract that the app reads: its name, the folder of its source, and how it is compiled.
struct Wanted {
    name: &'static str,
    built: Build,
}

/// How a contract is compiled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    /// For chains without the opcodes of the last years: money has to work wherever there is an EVM.
    Oldest,
    /// With them: OpenZeppelin's votes need them.
    Newest,
}

impl Build {
    fn out(self) -> &'static str {
        match self {
            Self::Oldest => "out-oldest",
            Self::Newest => "out",
        }
    }
}

const WANTED: &[Wanted] = &[
    oldest("PayVault"),
    oldest("ProviderStake"),
    newest("DgcDev"),
    newest("DgcGovernor"),
    newest("MemoryRegistry"),
    newest("ModelRegistry"),
    newest("NetworkParams"),
    newest("TimelockController"),
    newest("VoteDgc"),
];

const fn oldest(name: &'static str) -> Wanted {
    Wanted {
        name,
        built: Build::Oldest,
    }
}

const fn newest(name: &'static str) -> Wanted {
    Wanted {
        name,
        built: Build::Newest,
    }
}

/// What is to be done about contracts/abi.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Abi {
    /// Written anew.
    Write,
    /// Compared, and an error where it differs.
    Check,
}

/// Compiles every contract and writes or compares contracts/abi.
pub(crate) fn build(house: &House, abi: Abi) -> Result<(), Failure> {
    build::npm_packages(house, FOLDER)?;
    sh::run(forge(house)?.args(["build", "--quiet"]))?;
    sh::run(
        forge(house)?
            .args(["build", "--quiet"])
            .env("FOUNDRY_PROFILE", "oldest"),
    )?;
    for wanted in WANTED {
        let made = artifact(house, wanted)?;
        let committed = folder(house)
            .join("abi")
            .join(format!("{}.json", wanted.name));
        match abi {
            Abi::Write => {
                fs::write(&committed, made)
                    .map_err(|error| Failure::io("cannot write", &committed, &error))?;
            }
            Abi::Check => {
                if fs::read_to_string(&committed).ok().as_deref() != Some(&made) {
                    return Err(Failure::new(format!(
                        "contracts/abi/{}.json is not what its source compiles to.",
                        wanted.name
                    ))
                    .fix("cargo xtask contracts --write, then commit contracts/abi"));
                }
            }
        }
    }
    Ok(())
}

/// Runs the contracts' own tests: units, fuzz, invariants.
///
/// Returns how many passed.
pub(crate) fn test(house: &House) -> Result<usize, Failure> {
    let mut passed = 0;
    sh::tee(forge(house)?.args(["test", "--color", "never"]), |line| {
        // forge's closing line: `Ran 5 test suites in …: 58 tests passed, 0 failed, 0 skipped (58 total tests)`
        if line.starts_with("Ran ") && line.contains("total tests") {
            passed = line
                .split_once("tests passed")
                .and_then(|(before, _)| before.rsplit(' ').nth(1)?.parse().ok())
                .unwrap_or(0);
        }
    })?;
    Ok(passed)
}

fn folder(house: &House) -> PathBuf {
    house.root.join(FOLDER)
}

/// The program inside the npm package of this system. The packages' own launchers are not used: their install scripts
/// would fetch from elsewhere.
fn forge(house: &House) -> Result<Command, Failure> {
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        "windows" => "win32",
        other => other,
    };
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let program = folder(house)
        .join("node_modules/@foundry-rs")
        .join(format!("forge-{system}-{machine}"))
        .join("bin")
        .join(format!("forge{}", std::env::consts::EXE_SUFFIX));
    if !program.exists() {
        return Err(Failure::new(format!(
            "There is no forge for {system} on {machine} among the npm packages of contracts/."
        ))
        .fix("npm ci in contracts/, on Linux, macOS or Windows"));
    }
    let mut command = Command::new(program);
    command.current_dir(folder(house));
    Ok(command)
}

/// Interface and code of a contract, as they are committed.
fn artifact(house: &House, wanted: &Wanted) -> Result<String, Failure> {
    let path = folder(house)
        .join(wanted.built.out())
        .join(format!("{}.sol", wanted.name))
        .join(format!("{}.json", wanted.name));
    let text =
        fs::read_to_string(&path).map_err(|error| Failure::io("cannot read", &path, &error))?;
    let whole: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("{} is no JSON: {error}", path.display())))?;
    let kept = json!({ "abi": whole["abi"], "bytecode": whole["bytecode"]["object"] });
    serde_json::to_string_pretty(&kept)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
