//! Which lines a commit brought: what a provenance record says of it.

use git2::DiffOptions;

use super::{Repo, RepoError, fault, from_oid};
use crate::domain::base::Oid;
use crate::domain::path::RepoPath;

/// A file that a commit made or changed, and the new lines in it (first and last, from 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangedLines {
    pub path: RepoPath,
    pub ranges: Vec<(u32, u32)>,
}

impl Repo {
    /// Returns the lines that `commit` has and `onto` had not. Files without lines have no ranges.
    pub fn changed_lines(&self, onto: Oid, commit: Oid) -> Result<Vec<ChangedLines>, RepoError> {
        let doing = fault("compare the merge with what was there before");
        let tree = |oid: Oid| {
            self.inner
                .find_commit(from_oid(oid))
                .and_then(|commit| commit.tree())
        };
        let (old, new) = (tree(onto).map_err(&doing)?, tree(commit).map_err(&doing)?);
        let mut options = DiffOptions::new();
        options.context_lines(0).ignore_submodules(true);
        let diff = self
            .inner
            .diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))
            .map_err(&doing)?;
        let mut found = Vec::new();
        for (at, delta) in diff.deltas().enumerate() {
            let path = delta.new_file().path_bytes();
            let Some(path) = path.and_then(|path| RepoPath::parse(path).ok()) else {
                continue;
            };
            if delta.status() == git2::Delta::Deleted {
                continue;
            }
            let patch = git2::Patch::from_diff(&diff, at).map_err(&doing)?;
            let mut ranges = Vec::new();
            for hunk in 0..patch.as_ref().map_or(0, git2::Patch::num_hunks) {
                if let Some(patch) = &patch {
                    let (hunk, _) = patch.hunk(hunk).map_err(&doing)?;
                    let (first, count) = (hunk.new_start(), hunk.new_lines());
                    if count > 0 {
                        ranges.push((first, first + count - 1));
                    }
                }
            }
            found.push(ChangedLines { path, ranges });
        }
        Ok(found)
    }
}
