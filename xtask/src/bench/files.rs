//! The model files that engines are measured with: the starter, and what a script makes of it in target/bench-models.

use std::{path::PathBuf, process::Command};

use crate::{
    house::House,
    peers,
    sh::{self, Failure},
    starter,
};

/// Measured in every respect.
pub(super) const WHOLE: [&str; 3] = ["starter", "starter-q8_0", "1b-q4_k_m"];
/// One file per format, for the two speeds alone.
pub(super) const FORMATS: [&str; 13] = [
    "f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q2_k", "q3_k", "q4_k", "q5_k",
    "q6_k",
];

/// Arguments: the starter, the folder to write to, names.
const SCRIPT: &str = include_str!("models.py");

/// A file and the name that its rows carry.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) path: PathBuf,
    /// Whether it is measured in every respect.
    pub(super) whole: bool,
}

/// The files of those names, all of them where none is given; made where they are missing.
pub(super) fn files(house: &House, names: &[String]) -> Result<Vec<File>, Failure> {
    let known = || WHOLE.into_iter().chain(FORMATS);
    if let Some(unknown) = names
        .iter()
        .find(|name| !known().any(|known| known == **name))
    {
        let known: Vec<&str> = known().collect();
        return Err(
            Failure::new(format!("There is no file {unknown} to measure with."))
                .fix(format!("take one of {}", known.join(", "))),
        );
    }
    let starter = starter::fetch(house)?;
    let folder = house.target.join("bench-models");
    let files: Vec<File> = known()
        .filter(|name| names.is_empty() || names.iter().any(|wanted| wanted == name))
        .map(|name| File {
            name: name.to_owned(),
            path: if name == "starter" {
                starter.clone()
            } else {
                folder.join(format!("{name}.gguf"))
            },
            whole: WHOLE.contains(&name),
        })
        .collect();
    let missing: Vec<&str> = files
        .iter()
        .filter(|file| !file.path.exists())
        .map(|file| file.name.as_str())
        .collect();
    if !missing.is_empty() {
        println!("   making {}", missing.join(", "));
        sh::quiet(
            Command::new(peers::python(house)?)
                .args(["-c", SCRIPT])
                .arg(&starter)
                .arg(&folder)
                .args(missing),
        )?;
    }
    Ok(files)
}
