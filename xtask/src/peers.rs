//! The project that the engine is measured against: llama.cpp, from the source package of its Python binding, built here,
//! cached in target/peers. Nothing of it enters the tree.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    house::House,
    sh::{self, Failure},
    starter::python as python3,
};

/// The package, and with it the version of llama.cpp that every figure is relative to.
pub(crate) const PACKAGE: &str = "llama-cpp-python==0.3.36";
pub(crate) const NAME: &str = "llama.cpp (llama-cpp-python 0.3.36)";
/// One job of its C++ peaks below 1 GB; more jobs than this gain little on the machines we have.
const JOBS: usize = 4;

/// Where everything of it lies.
fn folder(house: &House) -> PathBuf {
    house.target.join("peers").join("llama-cpp-0.3.36")
}

/// The path of llama.cpp's own `llama-bench`, with `llama-batched-bench` and the library beside it, built when they are not
/// there yet.
///
/// # Errors
/// When the package cannot be had or does not build: the caller then skips what needs it, by name.
pub(crate) fn llama_bench(house: &House) -> Result<PathBuf, Failure> {
    let folder = folder(house);
    let build = folder.join("build");
    let program = |name: &str| {
        build
            .join("bin")
            .join(format!("{name}{}", env::consts::EXE_SUFFIX))
    };
    let bench = program("llama-bench");
    if bench.exists() && program("llama-batched-bench").exists() {
        println!("   llama-bench is there");
        return Ok(bench);
    }
    let source = source(&folder)?.join("vendor").join("llama.cpp");
    let tools = tools(&folder)?;
    let jobs = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(JOBS)
        .to_string();
    let cmake = tools.join(format!("cmake{}", env::consts::EXE_SUFFIX));
    let path = env::join_paths(
        std::iter::once(tools.clone())
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )
    .map_err(|error| Failure::new(format!("PATH cannot be extended: {error}.")))?;
    let mut configure = Command::new(&cmake);
    configure
        .env("PATH", &path)
        .arg("-S")
        .arg(&source)
        .arg("-B")
        .arg(&build)
        .args([
            "-G",
            "Ninja",
            "-DCMAKE_BUILD_TYPE=Release",
            // The tests of the engine ask the library itself.
            "-DBUILD_SHARED_LIBS=ON",
        ])
        .args([
            "-DLLAMA_CURL=OFF",
            "-DLLAMA_OPENSSL=OFF",
            "-DLLAMA_BUILD_TESTS=OFF",
        ]);
    sh::quiet(&mut configure)?;
    println!("   building llama-bench with native instructions (about three minutes on two cores)");
    let mut make = Command::new(&cmake);
    make.env("PATH", &path).arg("--build").arg(&build).args([
        "--target",
        "llama-bench",
        "llama-batched-bench",
        "-j",
        &jobs,
    ]);
    sh::quiet(&mut make)?;
    Ok(bench)
}

/// A Python that can read and write model files.
pub(crate) fn python(house: &House) -> Result<PathBuf, Failure> {
    let programs = tools(&folder(house))?;
    Ok(programs.join(format!("python{}", env::consts::EXE_SUFFIX)))
}

/// Fetches and unpacks its source, with the vocabularies and templates that the engine's tests compare with.
///
/// # Errors
/// When the package cannot be had.
pub(crate) fn fetch_source(house: &House) -> Result<(), Failure> {
    source(&folder(house)).map(drop)
}

/// The package, unpacked: the Python binding, and llama.cpp itself under `vendor`.
fn source(folder: &Path) -> Result<PathBuf, Failure> {
    let source = folder.join("source");
    if source.join("vendor").exists() {
        return Ok(source);
    }
    fs::create_dir_all(folder).map_err(|error| Failure::io("Cannot make", folder, &error))?;
    println!("   fetching {PACKAGE} (77 MB)");
    // Not --no-binary: that would build cmake from source as well.
    let mut pip = Command::new(python3());
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(folder)
        .arg(PACKAGE);
    sh::quiet(&mut pip)?;
    let mut unpack = Command::new(python3());
    unpack.args(["-c", UNPACK]).arg(folder);
    sh::quiet(&mut unpack)?;
    Ok(source)
}

/// Argument: the folder with one source package in it. Its one folder becomes `source`.
const UNPACK: &str = "\
import glob, os, sys, tarfile
archive = glob.glob(sys.argv[1] + '/*.tar.gz')[0]
tarfile.open(archive).extractall(sys.argv[1], filter='data')
os.rename(archive.removesuffix('.tar.gz'), sys.argv[1] + '/source')
os.remove(archive)
";

/// What the build, the scripts that make model files, and the package's Python binding need.
const TOOLS: [&str; 7] = [
    "cmake",
    "ninja",
    "numpy",
    "gguf",
    "jinja2",
    "typing-extensions",
    "diskcache",
];

/// A virtual environment with the tools; its folder of programs.
fn tools(folder: &Path) -> Result<PathBuf, Failure> {
    let environment = folder.join("venv");
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let done = environment.join("tools-are-here");
    if !done.exists() {
        fs::create_dir_all(folder).map_err(|error| Failure::io("Cannot make", folder, &error))?;
        sh::quiet(
            Command::new(python3())
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
        let pip = programs.join(format!("pip{}", env::consts::EXE_SUFFIX));
        sh::quiet(Command::new(pip).args(["install", "--quiet"]).args(TOOLS))?;
        fs::write(&done, "").map_err(|error| Failure::io("Cannot write", &done, &error))?;
    }
    Ok(programs)
}
