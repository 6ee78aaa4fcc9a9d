//! What a session has of the host for itself: its own copies of the operator's caches.
//!
//! Owns: the session's room beneath the state directory, outside every view. A copy
//! is made at the session's first run and stays until the session is closed;
//! a cache that is too large to copy begins empty, and the entry says so. Programs
//! of other sessions, and the operator's, never read what an agent put there.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::state::{Kind, SessionState};

/// More than this is not copied: the first run should not take long.
const BYTES_MAX: u64 = 32 << 20;
const FILES_MAX: usize = 4_000;

/// A session's own copy of a cache.
pub(super) struct Copy {
    pub(super) dir: PathBuf,
    /// The operator's was too large.
    pub(super) empty: bool,
}

/// Returns where a session keeps what its runs share outside the repository.
pub(super) fn of(site: &Site, session: &Session) -> Result<PathBuf, Failure> {
    Ok(all(site)?.join(session.id.as_str()))
}

fn all(site: &Site) -> Result<PathBuf, Failure> {
    let store = Digest::of(site.store.as_os_str().as_bytes()).hex();
    Ok(keys::state_dir()?.join("rooms").join(&store[..12]))
}

/// Returns the session's copy of the directory or file `source`, without what is hidden.
pub(super) fn copy(room: &Path, source: &Path, hidden: &[PathBuf]) -> Result<Copy, Failure> {
    let name = Digest::of(source.as_os_str().as_bytes()).hex();
    let name = &name[..12];
    let caches = room.join("caches");
    let fault = |error: io::Error| Failure::failed(format!("{}: {error}", caches.display()));
    private(&caches).map_err(fault)?;
    let (full, empty) = (caches.join(name), caches.join(format!("{name}.empty")));
    for (dir, empty) in [(&full, false), (&empty, true)] {
        if dir.exists() {
            let dir = dir.clone();
            return Ok(Copy { dir, empty });
        }
    }
    // Made aside and renamed, so that two first runs do not meet in a half of it.
    let aside = caches.join(format!("{name}.{}", std::process::id()));
    let mut budget = Budget {
        bytes: BYTES_MAX,
        files: FILES_MAX,
    };
    // Looked through first: a cache that is too large costs a walk, not half a copy.
    let made = if source.is_file() {
        fs::copy(source, &aside).map(drop)
    } else {
        measure(source, &mut budget).and_then(|()| copy_dir(source, &aside, hidden))
    };
    let (dir, is_empty) = if made.is_ok() {
        (full, false)
    } else {
        let _ = fs::remove_dir_all(&aside).or_else(|_| fs::remove_file(&aside)); // what stays of it is swept with the room
        private(&aside).map_err(fault)?;
        (empty, true)
    };
    match fs::rename(&aside, &dir) {
        Err(_) if dir.is_dir() => fs::remove_dir_all(&aside).map_err(fault)?, // another run was faster
        renamed => renamed.map_err(fault)?,
    }
    Ok(Copy {
        dir,
        empty: is_empty,
    })
}

fn private(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

struct Budget {
    bytes: u64,
    files: usize,
}

/// Fails where a directory holds more than may be copied.
fn measure(source: &Path, budget: &mut Budget) -> io::Result<()> {
    let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        budget.files = budget.files.checked_sub(1).ok_or_else(too_large)?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            measure(&entry.path(), budget)?;
        } else if meta.is_file() {
            budget.bytes = budget.bytes.checked_sub(meta.len()).ok_or_else(too_large)?;
        }
    }
    Ok(())
}

/// Copies directories, files and links; sockets, fifos and devices are nobody's to copy.
fn copy_dir(source: &Path, target: &Path, hidden: &[PathBuf]) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        if hidden.contains(&from) {
            continue;
        }
        let meta = entry.metadata()?;
        if meta.is_dir() {
            copy_dir(&from, &to, hidden)?;
        } else if meta.is_symlink() {
            symlink(fs::read_link(&from)?, &to)?;
        } else if meta.is_file() {
            fs::copy(&from, &to)?;
        }
    }
    Ok(())
}

/// Removes the rooms of sessions that are over.
pub(super) fn sweep(site: &mut Site) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(all(site)?) else {
        return Ok(());
    };
    let rooms: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    if rooms.len() < 2 {
        return Ok(()); // at most the one that is in use
    }
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    for room in rooms {
        let open = state.sessions.iter().any(|(id, row)| {
            row.state == SessionState::Open
                && room.file_name() == Some(std::ffi::OsStr::new(id.as_str()))
        });
        if !open && let Err(error) = fs::remove_dir_all(&room) {
            tracing::warn!(%error, room = %room.display(), "a room of a closed session stays");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_is_copied_once_or_begins_empty() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("cache");
        fs::create_dir_all(cache.join("deep")).unwrap();
        fs::write(cache.join("deep/file"), "bytes").unwrap();
        symlink("deep/file", cache.join("link")).unwrap();
        let room = dir.path().join("room");
        let made = copy(&room, &cache, &[]).unwrap();
        assert!(!made.empty);
        assert_eq!(fs::read_to_string(made.dir.join("link")).unwrap(), "bytes");
        fs::write(made.dir.join("new"), "").unwrap();
        let again = copy(&room, &cache, &[]).unwrap();
        assert!(again.dir.join("new").exists());
        fs::File::create(cache.join("large"))
            .unwrap()
            .set_len(BYTES_MAX + 1)
            .unwrap();
        let other = copy(&dir.path().join("other"), &cache, &[]).unwrap();
        assert!(other.empty);
        assert_eq!(fs::read_dir(other.dir).unwrap().count(), 0);
        fs::remove_file(cache.join("large")).unwrap();
        let hidden = [cache.join("deep/file")];
        let third = copy(&dir.path().join("third"), &cache, &hidden).unwrap();
        assert!(third.dir.join("deep").exists() && !third.dir.join("deep/file").exists());
    }
}
