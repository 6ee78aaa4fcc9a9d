//! Directories that the tree on disk is known not to have.
//!
//! Owns: the memory of such paths. Beside most governed directories scratch has
//! nothing, and every new name there would be asked about on disk. Invariants:
//! whoever makes or moves a directory forgets everything afterwards; what was
//! found missing before that is not remembered after it.

use std::collections::HashSet;
use std::io;

use parking_lot::Mutex;

use crate::domain::path::RepoPath;

/// More than this are not worth their memory.
const PATHS_MAX: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct Missing(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    paths: HashSet<RepoPath>,
    /// Counts the times that everything was forgotten.
    round: u64,
}

impl Missing {
    /// Runs `open` for a directory, unless that is known to be missing.
    pub(super) fn or<T>(
        &self,
        dir: &RepoPath,
        open: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let round = {
            let known = self.0.lock();
            if known.paths.contains(dir) {
                return Err(io::Error::from_raw_os_error(libc::ENOENT));
            }
            known.round
        };
        let opened = open();
        if let Err(error) = &opened
            && error.raw_os_error() == Some(libc::ENOENT)
        {
            self.note(dir, round);
        }
        opened
    }

    fn note(&self, dir: &RepoPath, round: u64) {
        let mut known = self.0.lock();
        if known.round != round {
            return; // a directory was made meanwhile
        }
        if known.paths.len() >= PATHS_MAX {
            known.paths.clear();
        }
        known.paths.insert(dir.clone());
    }

    /// A directory was made, or stands at another place.
    pub(super) fn forget(&self) {
        let mut known = self.0.lock();
        known.round += 1;
        known.paths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_missing_directory_is_asked_about_once_until_one_is_made() {
        let missing = Missing::default();
        let mut asked = 0;
        let mut ask = |dir: &str, errno: i32| {
            let answer = missing.or(&path(dir), || -> io::Result<()> {
                asked += 1;
                Err(io::Error::from_raw_os_error(errno))
            });
            let errno = answer.unwrap_err().raw_os_error();
            (asked, errno)
        };
        assert_eq!(ask("a", libc::ENOENT), (1, Some(libc::ENOENT)));
        assert_eq!(ask("a", libc::ENOENT), (1, Some(libc::ENOENT)));
        assert_eq!(ask("b", libc::EIO), (2, Some(libc::EIO)));
        assert_eq!(ask("b", libc::EIO), (3, Some(libc::EIO)));
        missing.forget();
        assert_eq!(ask("a", libc::ENOENT), (4, Some(libc::ENOENT)));
    }

    #[test]
    fn what_was_made_while_it_was_looked_for_is_found() {
        let missing = Missing::default();
        let gone = || io::Error::from_raw_os_error(libc::ENOENT);
        let looked = missing.or(&path("a"), || -> io::Result<()> {
            missing.forget();
            Err(gone())
        });
        assert!(looked.is_err());
        assert!(missing.or(&path("a"), || Ok(())).is_ok());
    }
}
