//! A small disk that can be filled, and folders that can break.

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Room on the disk.
const ROOM: &str = "size=1g";

/// What is written at once while the disk is being filled.
const CHUNK: usize = 1 << 20;

/// Name of the file that takes all the room.
const FILLER: &str = "filler";

/// A folder on a file system of its own where mounting is permitted; else an ordinary one.
pub struct Disk {
    folder: TempDir,
    mounted: bool,
}

impl Disk {
    /// Makes the disk.
    ///
    /// # Errors
    /// A folder that cannot be made.
    pub fn new() -> Result<Disk> {
        let folder = tempfile::tempdir()?;
        let (target, kind, room) = (text(folder.path())?, c"tmpfs", CString::new(ROOM)?);
        // SAFETY: all strings live during the call.
        let mounted = unsafe {
            libc::mount(
                kind.as_ptr(),
                target.as_ptr(),
                kind.as_ptr(),
                0,
                room.as_ptr().cast(),
            )
        };
        let mounted = mounted == 0;
        Ok(Disk { folder, mounted })
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Says whether it is a disk of its own, which [`Disk::fill`] can fill.
    pub fn is_mounted(&self) -> bool {
        self.mounted
    }

    /// Fills it to the last byte.
    ///
    /// # Errors
    /// A file that cannot be made, or a disk that takes too much.
    pub fn fill(&self) -> Result<()> {
        ensure!(self.mounted, "this disk is everybody's");
        let mut file = File::create(self.filler())?;
        let mut chunk = CHUNK;
        // From large writes to single bytes, so that nothing is left.
        while 0 < chunk {
            match file.write_all(&vec![1; chunk]) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => chunk /= 16,
                Err(error) => return Err(error).context("cannot fill the disk"),
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn free(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.path().join(FILLER)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let (true, Ok(target)) = (self.mounted, text(self.folder.path())) {
            // SAFETY: the string lives during the call. Detached, since a child may still end.
            unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Puts a file in the place of a folder, or the folder back, in one step: nobody can make a new folder in between.
///
/// # Errors
/// A file system that cannot exchange names.
pub fn exchange(folder: &Path) -> Result<()> {
    let aside = folder.with_extension("aside");
    if !aside.exists() {
        File::create(&aside)?;
    }
    let (one, other) = (text(folder)?, text(&aside)?);
    // SAFETY: both strings live during the call.
    let exchanged = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    let error = std::io::Error::last_os_error();
    ensure!(
        exchanged == 0,
        "cannot exchange {} with {}: {error}",
        folder.display(),
        aside.display()
    );
    Ok(())
}

fn text(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
