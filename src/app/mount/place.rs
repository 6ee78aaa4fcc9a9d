//! Where a mount may stand.
//!
//! Owns: the place of a mount that nobody gave one, and which places are refused.
//! Makes nothing.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::app::failure::Failure;
use crate::app::keys;
use crate::app::mounts;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::digest::Digest;

/// Returns the place of mounts that nobody gave one: beneath the state directory.
pub(super) fn default(session: &Session) -> Result<PathBuf, Failure> {
    let repo = session
        .dir
        .parent()
        .and_then(Path::parent)
        .unwrap_or(&session.dir);
    let digest = Digest::of(repo.as_os_str().as_bytes()).hex();
    let state = keys::state_dir()?;
    Ok(state
        .join("mounts")
        .join(&digest[..12])
        .join(session.agent.as_str()))
}

/// A mount over the repository itself or its store would hide what it is made from.
pub(super) fn refuse(site: &Site, dir: &Path) -> Result<(), Failure> {
    let common = site.repo.common_dir();
    if common.starts_with(dir) || dir.starts_with(common) || dir == site.repo.root() {
        return Err(Failure::refused(format!(
            "{} holds the repository or is part of its git directory",
            dir.display()
        ))
        .hint("name an empty directory elsewhere"));
    }
    // Over another mount, or in one, each would be in the way of the other's end.
    if let Some(other) = mounts::around(dir) {
        return Err(
            Failure::refused(format!("{} is another session's mount", other.display()))
                .hint("name a directory elsewhere, or unmount that one: govfs status"),
        );
    }
    Ok(())
}
