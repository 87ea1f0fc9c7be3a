//! Files that only their owner may read, written so that a crash leaves the old bytes or the new ones.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use crate::error::WalletError;

/// Writes a file of mode 0600 whole: beside itself, to the disk, and then into its place.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), WalletError> {
    write_to(path, bytes).map_err(|source| WalletError::File {
        path: path.to_owned(),
        what: "written",
        source,
    })
}

/// The name under which a file is written before it has its own.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    part.into()
}

fn write_to(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let part = part_of(path);
    // One left by a crash may have other permissions: it is made anew.
    match std::fs::remove_file(&part) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let written = options.open(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| std::fs::rename(&part, path)) {
        let _ = std::fs::remove_file(&part);
        return Err(error);
    }
    // The rename is on disk only when the folder is; where folders cannot be opened (Windows) the system does it.
    if let Ok(folder) = File::open(path.parent().unwrap_or(Path::new("."))) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Reads a text file of at most `cap` bytes that nobody but its owner may read.
///
/// # Errors
/// [`WalletError::Missing`], [`WalletError::TooOpen`], [`WalletError::Damaged`] when it is longer or no text,
/// [`WalletError::File`].
pub(crate) fn read(path: &Path, cap: usize) -> Result<Zeroizing<String>, WalletError> {
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            WalletError::Missing {
                path: path.to_owned(),
            }
        } else {
            WalletError::File {
                path: path.to_owned(),
                what: "read",
                source,
            }
        }
    };
    let file = File::open(path).map_err(failed)?;
    check_mode(path, &file)?;
    // Never grown: a buffer that moves leaves a copy of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(cap + 1));
    file.take(cap as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let damaged = |why| WalletError::Damaged {
        path: path.to_owned(),
        why,
    };
    if bytes.len() > cap {
        return Err(damaged("it is too long"));
    }
    if std::str::from_utf8(&bytes).is_err() {
        return Err(damaged("it is not text"));
    }
    let text = String::from_utf8(std::mem::take(&mut *bytes)).unwrap_or_default();
    Ok(Zeroizing::new(text))
}

#[cfg(unix)]
fn check_mode(path: &Path, file: &File) -> Result<(), WalletError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = file.metadata().map_err(|source| WalletError::File {
        path: path.to_owned(),
        what: "read",
        source,
    })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(WalletError::TooOpen {
            path: path.to_owned(),
            mode,
        })
    }
}

#[cfg(not(unix))]
fn check_mode(_path: &Path, _file: &File) -> Result<(), WalletError> {
    // Windows: the profile folder's access list already names the owner alone.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_belongs_to_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        // What a crash in the middle of a write leaves.
        std::fs::write(part_of(&path), b"half a fi").unwrap();
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(*read(&path, 10).unwrap(), "two");
        assert!(!part_of(&path).exists());
        assert!(matches!(read(&path, 2), Err(WalletError::Damaged { .. })));
        assert!(matches!(
            read(&folder.path().join("none"), 2),
            Err(WalletError::Missing { .. })
        ));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(
                std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
                0o600
            );
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
            assert!(matches!(
                read(&path, 10),
                Err(WalletError::TooOpen { mode: 0o640, .. })
            ));
        }
    }
}
