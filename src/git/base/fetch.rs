//! Objects that a partial clone lacks, fetched by the operator's own git.
//!
//! Owns: [`PromisorGit`], which runs outside any agent's reach, in the operator's
//! repository, with that repository's configuration and no hooks. A fetch that
//! failed is not tried again for a while, so that a search through a tree whose
//! remote is away does not wait for each file.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::unistd::{AccessFlags, access};
use parking_lot::Mutex;

use crate::domain::base::Oid;

/// After a failed fetch the same object is missing for this long.
const BACKOFF: Duration = Duration::from_secs(30);
/// How many failed objects are remembered.
const FAILED_MAX: usize = 4096;

/// Finds a program of the operator's by its absolute path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|path| access(path, AccessFlags::X_OK).is_ok())
}

/// Brings a missing object into the object database.
pub trait Fetch: Send + Sync {
    /// Says whether the object may be there now.
    fn fetch(&self, oid: &Oid) -> bool;
}

/// Lets `git` fetch from the repository's promisor remote.
#[derive(Debug)]
pub struct PromisorGit {
    git: PathBuf,
    common_dir: PathBuf,
    failed: Mutex<HashMap<Oid, Instant>>,
}

impl PromisorGit {
    /// Uses the program at the absolute path `git`.
    pub fn new(git: PathBuf, common_dir: PathBuf) -> Self {
        Self {
            git,
            common_dir,
            failed: Mutex::default(),
        }
    }

    fn failed_lately(&self, oid: &Oid) -> bool {
        let failed = self.failed.lock();
        failed.get(oid).is_some_and(|at| at.elapsed() < BACKOFF)
    }

    fn note_failure(&self, oid: &Oid) {
        let mut failed = self.failed.lock();
        if failed.len() >= FAILED_MAX {
            failed.clear();
        }
        failed.insert(*oid, Instant::now());
    }
}

impl Fetch for PromisorGit {
    fn fetch(&self, oid: &Oid) -> bool {
        if self.failed_lately(oid) {
            return false;
        }
        // `cat-file` runs nothing that a repository configures, but for the transport of the fetch.
        let status = Command::new(&self.git)
            .arg("--git-dir")
            .arg(&self.common_dir)
            .args([
                "-c",
                "core.hooksPath=/dev/null",
                "-c",
                "core.fsmonitor=false",
            ])
            .args(["-c", "maintenance.auto=false", "cat-file", "-e"])
            .arg(oid.to_string())
            .env("GIT_TERMINAL_PROMPT", "0")
            .env_remove("GIT_DIR")
            .env_remove("GIT_OBJECT_DIRECTORY")
            .env_remove("GIT_ALTERNATE_OBJECT_DIRECTORIES")
            .env_remove("GIT_NO_LAZY_FETCH")
            .current_dir(&self.common_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let fetched = status.is_ok_and(|status| status.success());
        if !fetched {
            self.note_failure(oid);
        }
        fetched
    }
}
