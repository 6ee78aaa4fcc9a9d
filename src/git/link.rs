//! Whether a directory is a checkout of a git directory.
//!
//! A git directory that is kept apart from its checkout does not say where that
//! is, and libgit2 then takes the directory around it. That one is somebody else's:
//! nothing is read from it or written to it before its `.git` leads back.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use git2::Repository;

/// Returns the repository's working directory, if it is one: its `.git` leads back, or it
/// has none and the configuration names it.
pub(super) fn checkout(repo: &Repository) -> Option<&Path> {
    let root = repo.workdir()?;
    let is_named = || {
        let config = repo.config();
        !repo.is_worktree()
            && config.is_ok_and(|config| config.get_path("core.worktree").is_ok())
            && fs::symlink_metadata(root.join(".git")).is_err()
    };
    (leads_to(root, repo.path()) || is_named()).then_some(root)
}

/// Says whether the `.git` of `root`, a directory or a file that names one, is `git_dir`.
pub(super) fn leads_to(root: &Path, git_dir: &Path) -> bool {
    let link = root.join(".git");
    let named = if link.is_dir() {
        link
    } else {
        let Ok(text) = fs::read(&link) else {
            return false;
        };
        let Some(rest) = text.strip_prefix(b"gitdir:") else {
            return false;
        };
        root.join(OsStr::from_bytes(rest.trim_ascii()))
    };
    match (fs::canonicalize(named), fs::canonicalize(git_dir)) {
        (Ok(named), Ok(git_dir)) => named == git_dir,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_around_a_git_directory_is_no_checkout_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["home/d.git", "co", "other/.git"] {
            fs::create_dir_all(at(name)).expect("a directory");
        }
        for text in ["gitdir: ../home/d.git\n", "gitdir:../home/d.git"] {
            fs::write(at("co/.git"), text).expect("a link");
            assert!(leads_to(&at("co"), &at("home/d.git")), "{text}");
        }
        assert!(leads_to(&at("other"), &at("other/.git")));
        for name in ["home", "other", "none"] {
            assert!(!leads_to(&at(name), &at("home/d.git")), "{name}");
        }
        fs::write(at("co/.git"), "gitdir: ../none\n").expect("a link");
        assert!(!leads_to(&at("co"), &at("home/d.git")));
    }
}
