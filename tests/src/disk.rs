//! A disk that can be made full: a file system in memory of a few megabytes, mounted where only this process and the programs that it
//! starts see it.

use std::{fs, io, path::Path};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Room for a node's databases, and little more.
const SIZE: &str = "size=8m";
/// What it is filled with, by the block, until nothing more fits.
const BLOCK: usize = 4096;
const FILLER: &str = "full";

/// Gives this thread a view of the mounts of its own, so that what it mounts ends with it. The threads and programs that it starts
/// later have the same view, and nobody else.
///
/// # Errors
/// Where the system does not allow it: then no disk can be made full here.
pub fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    Ok(())
}

/// Mounts a small empty disk on a folder.
///
/// # Errors
/// What the system says.
pub fn mount_small(folder: &Path) -> io::Result<()> {
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(SIZE),
    )?;
    Ok(())
}

/// Writes until the disk of this folder is full.
///
/// # Errors
/// Anything but that it is full.
pub fn fill(folder: &Path) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(folder.join(FILLER))?;
    let block = [0x55_u8; BLOCK];
    loop {
        match file.write_all(&block) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Takes what [`fill`] wrote away again.
///
/// # Errors
/// What the system says.
pub fn make_room(folder: &Path) -> io::Result<()> {
    fs::remove_file(folder.join(FILLER))
}
