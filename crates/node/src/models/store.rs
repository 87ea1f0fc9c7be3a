//! Files and folders: what lies where, how much room there is, and moving it all to another disk.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;

use super::{ModelsError, digest};

/// Most model files that are looked at in one folder. A folder with more is somebody's archive, not a models folder.
const MAX_FILES: usize = 500;

/// Endings of what belongs to the models folder: models, and downloads with their notes.
const OURS: [&str; 3] = [".gguf", ".gguf.part", ".gguf.part.json"];

/// Ending of a file that is being copied into its new folder.
const COPYING: &str = ".moving";

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// Kept free on the disk that models are moved to.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// Free bytes of the disk that holds `path`, or would.
pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let mut at = path;
    loop {
        match fs4::available_space(at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => match at.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => at = parent,
                Some(_) | None => return fs4::available_space("."),
            },
            other => return other,
        }
    }
}

/// Makes the renames in a file's folder certain. Where folders cannot be opened (Windows) the system does it.
pub(super) fn sync_folder_of(file: &Path) {
    if let Some(folder) = file.parent()
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

/// The model files in a folder, by name.
pub(super) fn model_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.is_file()
                && name_of(path).is_some_and(|name| name.to_lowercase().ends_with(".gguf"))
        })
        .take(MAX_FILES)
        .collect();
    files.sort();
    files
}

/// Removes what a run that was cut left half-made in a folder: copies without their name, and unpacked wheels.
pub(super) fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(name) = name_of(&path) else { continue };
        let swept = if name.ends_with(&format!(".gguf{COPYING}")) {
            std::fs::remove_file(&path)
        } else if name.starts_with(super::pip::ASIDE) && path.is_dir() {
            std::fs::remove_dir_all(&path)
        } else {
            continue;
        };
        if let Err(error) = swept {
            tracing::warn!(path = %path.display(), %error, "a left-over could not be removed");
        }
    }
}

/// Bytes that models and parts of them take in a folder.
pub(super) fn used_bytes(folder: &Path) -> u64 {
    our_files(folder)
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|meta| meta.len())
        .sum()
}

fn our_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.is_file()
                && name_of(path).is_some_and(|name| {
                    let name = name.to_lowercase();
                    OURS.iter().any(|end| name.ends_with(end))
                })
        })
        .collect();
    files.sort();
    files
}

pub(super) fn name_of(path: &Path) -> Option<&str> {
    path.file_name().and_then(|name| name.to_str())
}

/// Copies a file so that it is whole or not there: copied beside its place, compared, renamed.
pub(super) fn copy_whole(
    from: &Path,
    to: &Path,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(u64),
) -> Result<(), ModelsError> {
    let mut beside = to.as_os_str().to_owned();
    beside.push(COPYING);
    let beside = PathBuf::from(beside);
    let copied = copy_and_compare(from, &beside, stop, progress).and_then(|same| {
        if same {
            std::fs::rename(&beside, to)
        } else {
            Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the copy differs from the file",
            ))
        }
    });
    if let Err(source) = copied {
        let _ = std::fs::remove_file(&beside);
        return Err(ModelsError::File {
            path: to.to_owned(),
            what: "written",
            source,
        });
    }
    sync_folder_of(to);
    Ok(())
}

fn copy_and_compare(
    from: &Path,
    beside: &Path,
    stop: &CancellationToken,
    progress: &mut dyn FnMut(u64),
) -> io::Result<bool> {
    use sha2::{Digest as _, Sha256};
    let (mut source, mut target) = (File::open(from)?, File::create(beside)?);
    let (mut hash, mut piece, mut done) = (Sha256::new(), vec![0; PIECE], 0u64);
    loop {
        if stop.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped"));
        }
        let read = source.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        target.write_all(&piece[..read])?;
        done += read as u64;
        progress(done);
    }
    target.sync_all()?;
    drop(target);
    let copy = digest::hash_file(beside, stop, |_| {})?;
    Ok(copy.0 == <[u8; 32]>::from(hash.finalize()))
}

/// How a file gets to another folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carry {
    /// Renamed where the disk is the same, copied where it is not.
    Cheapest,
    /// Copied in any case.
    #[cfg(test)]
    ByCopy,
}

/// Whether the models may be moved from `from` to `to`. Nothing is written.
pub(super) fn may_move(from: &Path, to: &Path) -> Result<(), ModelsError> {
    let bad = |why| {
        Err(ModelsError::BadFolder {
            path: to.to_owned(),
            why,
        })
    };
    if !to.is_absolute() {
        return bad("it is not a full path");
    }
    if to.exists() && !to.is_dir() {
        return bad("it is a file");
    }
    if to != from && (to.starts_with(from) || from.starts_with(to)) {
        return bad("one folder lies inside the other");
    }
    for file in our_files(from) {
        if let Some(name) = file.file_name() {
            let there = to.join(name);
            if there.exists()
                && std::fs::metadata(&there).ok().map(|meta| meta.len())
                    != std::fs::metadata(&file).ok().map(|meta| meta.len())
            {
                return Err(ModelsError::OtherFile { path: there });
            }
        }
    }
    Ok(())
}

/// Brings every model, and every part of one, from `from` to `to`. Each file is whole in one of the two folders at every moment, so that a
/// run that ends in between loses nothing and the next one goes on. `step` is told what is about to happen; its error stops the move.
pub(super) fn move_all(
    from: &Path,
    to: &Path,
    carry: Carry,
    stop: &CancellationToken,
    step: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<(), ModelsError> {
    may_move(from, to)?;
    let failed = |path: &Path, what| {
        let path = path.to_owned();
        move |source| ModelsError::File { path, what, source }
    };
    std::fs::create_dir_all(to).map_err(failed(to, "made"))?;
    for file in our_files(from) {
        let Some(name) = file.file_name() else {
            continue;
        };
        let target = to.join(name);
        step("look").map_err(failed(&file, "moved"))?;
        if target.exists() {
            // A run before this one brought it: the old one goes when both are the same.
            if !same_bytes(&file, &target, stop).map_err(failed(&target, "read"))? {
                return Err(ModelsError::OtherFile { path: target });
            }
        } else {
            let renamed = match carry {
                Carry::Cheapest => std::fs::rename(&file, &target),
                #[cfg(test)]
                Carry::ByCopy => Err(io::Error::from(io::ErrorKind::CrossesDevices)),
            };
            match renamed {
                Ok(()) => {
                    sync_folder_of(&target);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                    let need = std::fs::metadata(&file)
                        .map_err(failed(&file, "read"))?
                        .len()
                        + SPARE_BYTES;
                    let have = free_bytes(to).map_err(failed(to, "read"))?;
                    if need > have {
                        return Err(ModelsError::NoSpace {
                            path: to.to_owned(),
                            need,
                            have,
                        });
                    }
                    step("copy").map_err(failed(&file, "copied"))?;
                    copy_whole(&file, &target, stop, &mut |_| {})?;
                }
                Err(error) => return Err(failed(&file, "moved")(error)),
            }
        }
        step("remove").map_err(failed(&file, "removed"))?;
        std::fs::remove_file(&file).map_err(failed(&file, "removed"))?;
    }
    sync_folder_of(&from.join("x"));
    Ok(())
}

fn same_bytes(a: &Path, b: &Path, stop: &CancellationToken) -> io::Result<bool> {
    if std::fs::metadata(a)?.len() != std::fs::metadata(b)?.len() {
        return Ok(false);
    }
    Ok(digest::hash_file(a, stop, |_| {})? == digest::hash_file(b, stop, |_| {})?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let files: Vec<(String, Vec<u8>)> = ["a.gguf", "b.gguf", "c.gguf.part", "c.gguf.part.json"]
            .into_iter()
            .enumerate()
            .map(|(n, name)| (name.to_owned(), vec![n as u8; 3000 + n]))
            .collect();
        std::fs::create_dir_all(folder).unwrap();
        for (name, bytes) in &files {
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        std::fs::write(folder.join("holiday.jpg"), b"not ours").unwrap();
        files
    }

    fn whole_somewhere(files: &[(String, Vec<u8>)], from: &Path, to: &Path) {
        for (name, bytes) in files {
            let whole =
                |folder: &Path| std::fs::read(folder.join(name)).is_ok_and(|there| there == *bytes);
            assert!(
                whole(from) || whole(to),
                "{name} is whole in neither folder"
            );
        }
    }

    #[test]
    fn a_move_that_is_cut_at_any_step_loses_nothing_and_goes_on() {
        for carry in [Carry::Cheapest, Carry::ByCopy] {
            for cut in 0.. {
                let root = tempfile::tempdir().unwrap();
                let (from, to) = (root.path().join("from"), root.path().join("to"));
                let files = filled(&from);
                let never = CancellationToken::new();
                let mut steps = 0;
                let first = move_all(&from, &to, carry, &never, &mut |_| {
                    steps += 1;
                    if steps > cut {
                        Err(io::Error::other("cut"))
                    } else {
                        Ok(())
                    }
                });
                whole_somewhere(&files, &from, &to);
                let done = first.is_ok();
                move_all(&from, &to, carry, &never, &mut |_| Ok(())).unwrap();
                for (name, bytes) in &files {
                    assert_eq!(&std::fs::read(to.join(name)).unwrap(), bytes);
                    assert!(!from.join(name).exists());
                }
                assert!(from.join("holiday.jpg").exists());
                if done {
                    break;
                }
            }
        }
    }

    #[test]
    fn another_file_of_the_same_name_is_never_overwritten() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        let files = filled(&from);
        std::fs::create_dir_all(&to).unwrap();
        // The same length, other bytes.
        std::fs::write(to.join("a.gguf"), vec![9; 3000]).unwrap();
        let error = move_all(
            &from,
            &to,
            Carry::Cheapest,
            &CancellationToken::new(),
            &mut |_| Ok(()),
        )
        .unwrap_err();
        assert!(matches!(error, ModelsError::OtherFile { .. }), "{error}");
        assert_eq!(std::fs::read(to.join("a.gguf")).unwrap(), vec![9; 3000]);
        whole_somewhere(&files, &from, &to);
    }

    #[test]
    fn folders_that_cannot_take_the_models_are_refused_before_anything_is_written() {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("from");
        filled(&from);
        std::fs::write(root.path().join("file"), b"x").unwrap();
        for to in [
            from.join("inside"),
            root.path().to_owned(),
            root.path().join("file"),
            PathBuf::from("relative"),
        ] {
            let error = may_move(&from, &to).unwrap_err();
            assert!(
                matches!(error, ModelsError::BadFolder { .. }),
                "{}: {error}",
                to.display()
            );
        }
    }

    #[test]
    fn a_folder_that_is_not_there_yet_has_the_room_of_its_disk() {
        let root = tempfile::tempdir().unwrap();
        assert!(free_bytes(&root.path().join("not/yet")).unwrap() > 0);
        assert_eq!(used_bytes(&root.path().join("not/yet")), 0);
        filled(root.path());
        assert_eq!(used_bytes(root.path()), 3000 + 3001 + 3002 + 3003);
        assert_eq!(model_files(root.path()).len(), 2);
    }
}
