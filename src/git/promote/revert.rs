//! Undoing one merge.
//!
//! Owns: the reverse of a merge's difference, applied three-way to today's tip,
//! and the later commits that stand in its way. The result is a tree like any
//! other: the gates, the commit and the ref are the caller's business.

use super::{Merged, Promote, Result, Stage};
use crate::domain::base::Oid;
use crate::domain::path::RepoPath;

/// Commits looked at for what collides.
const LOOKED_AT_MAX: usize = 10_000;

/// What a revert gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverted {
    pub merged: Merged,
    /// For each conflicting path the later commits that changed it, newest first.
    pub later: Vec<(RepoPath, Vec<Oid>)>,
}

impl Stage {
    /// Takes what `commit` did, against its first parent, out of the tree of `tip`.
    pub fn revert(&mut self, commit: Oid, tip: Oid) -> Result<Reverted> {
        let done = self.view().tree_of(commit)?;
        let before = match self.view().first_parent(commit)? {
            Some(parent) => self.view().tree_of(parent)?,
            None => self.tree(None, &[])?,
        };
        let now = self.view().tree_of(tip)?;
        let merged = self.merge(Some(done), Some(now), before)?;
        let mut later = Vec::new();
        for conflict in &merged.conflicts {
            let commits = self.view().later(commit, tip, &conflict.path)?;
            later.push((conflict.path.clone(), commits));
        }
        Ok(Reverted { merged, later })
    }
}

impl Promote {
    /// Lists the first-parent commits after `since`, up to `tip`, that changed
    /// `path` or anything above it.
    pub fn later(&self, since: Oid, tip: Oid, path: &RepoPath) -> Result<Vec<Oid>> {
        let mut out = Vec::new();
        let mut at = tip;
        for _ in 0..LOOKED_AT_MAX {
            if at == since {
                break;
            }
            let Some(parent) = self.first_parent(at)? else {
                break;
            };
            let is = self.leaf(self.tree_of(at)?, path)?;
            if is != self.leaf(self.tree_of(parent)?, path)? {
                out.push(at);
            }
            at = parent;
        }
        Ok(out)
    }
}
