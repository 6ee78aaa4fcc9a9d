//! Refs: the merge target found, moved by compare-and-swap, and looked at again.
//!
//! Owns: which ref a branch name means, the only function that moves one, the
//! check afterwards, and the refs that keep a session's commits from git's
//! garbage collection. Never forces, never runs a hook.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use git2::{ErrorCode, Reference};

use super::objects::sync;
use super::{
    Change, Leaf, Promote, PromoteError, Result, What, from_git, io_error, raw_mode, to_git,
};
use crate::domain::base::Oid;
use crate::domain::names::SessionId;
use crate::domain::path::RepoPath;

/// How often, and after what pause, a ref that another process has locked is tried again.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// A lock that does not change for so long was left behind.
const LOCK_STALE: Duration = Duration::from_millis(200);
/// Nobody keeps the lock of a ref of our own for so long.
const KEEP_STALE: Duration = Duration::from_secs(10);

/// Where a merge goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name people use.
    pub branch: String,
    /// The ref that is moved, symbolic ones followed.
    pub refname: String,
    /// None for a branch without a commit.
    pub tip: Option<Oid>,
}

impl Promote {
    /// Finds the branch `branch` (a short name, or a full one beneath `refs/heads/`).
    pub fn target(&self, branch: &str) -> Result<Target> {
        let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let full = format!("refs/heads/{short}");
        if !Reference::is_valid_name(&full) || short.starts_with('-') {
            return Err(PromoteError::BadBranch(branch.to_owned()));
        }
        let (refname, tip) = self.follow_symbolic(full)?;
        Ok(Target {
            branch: short.to_owned(),
            refname,
            tip,
        })
    }

    /// Follows symbolic refs, also to one that does not exist yet.
    fn follow_symbolic(&self, mut name: String) -> Result<(String, Option<Oid>)> {
        for _ in 0..5 {
            let reference = match self.repo.find_reference(&name) {
                Ok(reference) => reference,
                Err(error) if error.code() == ErrorCode::NotFound => return Ok((name, None)),
                Err(error) => return Err(error.into()),
            };
            if let Some(oid) = reference.target() {
                return Ok((name, Some(from_git(oid))));
            }
            let next = reference.symbolic_target_bytes().unwrap_or_default();
            name = String::from_utf8_lossy(next).into_owned();
        }
        Err(PromoteError::BadBranch(name))
    }

    /// Moves the target from the tip that was seen to `commit`, or fails with
    /// [`PromoteError::Moved`] where somebody else was faster. Durable on return.
    pub fn advance(&self, target: &Target, commit: Oid, reflog: &str) -> Result<()> {
        let mut moved = self.swap(target, commit, reflog);
        for _ in 0..LOCK_TRIES {
            match &moved {
                Err(error) if error.code() == ErrorCode::Locked => {
                    std::thread::sleep(LOCK_PAUSE);
                    moved = self.swap(target, commit, reflog);
                }
                _ => break,
            }
        }
        if let Err(error) = moved {
            let lost = matches!(
                error.code(),
                ErrorCode::Modified | ErrorCode::Exists | ErrorCode::NotFound
            );
            let found = self.follow_symbolic(target.refname.clone())?.1;
            if lost && found != target.tip {
                return Err(PromoteError::Moved {
                    branch: target.branch.clone(),
                    expected: target.tip,
                    found,
                });
            }
            return Err(error.into());
        }
        self.sync_ref(&target.refname)
    }

    /// Takes away the lock of a ref that was left by a process killed while it moved
    /// the ref to one of `values`; one that says anything else is somebody's own.
    pub fn break_ref_lock(&self, refname: &str, values: &[Oid]) -> Result<()> {
        let path = self.common_dir().join(format!("{refname}.lock"));
        let look = || -> Option<(u64, i64, i64)> {
            let meta = std::fs::metadata(&path).ok()?;
            let text = std::fs::read(&path).ok()?;
            let ours = values
                .iter()
                .any(|value| format!("{value}\n").as_bytes().starts_with(&text));
            ours.then(|| (meta.ino(), meta.mtime(), meta.mtime_nsec()))
        };
        let Some(before) = look() else { return Ok(()) };
        // Git fills its locks at once: one that stays as it is has no owner any more.
        std::thread::sleep(LOCK_STALE);
        if look() == Some(before) {
            std::fs::remove_file(&path).map_err(io_error(path.display().to_string()))?;
        }
        Ok(())
    }

    fn swap(
        &self,
        target: &Target,
        commit: Oid,
        reflog: &str,
    ) -> std::result::Result<(), git2::Error> {
        let (name, id) = (&target.refname, to_git(commit));
        match target.tip {
            Some(tip) => self
                .repo
                .reference_matching(name, id, true, to_git(tip), reflog),
            None => self.repo.reference(name, id, false, reflog),
        }
        .map(drop)
    }

    /// Undoes [`Promote::advance`] where the branch still is at `commit`.
    pub fn retreat(&self, target: &Target, commit: Oid, reflog: &str) -> Result<()> {
        if let Some(tip) = target.tip {
            let now = Target {
                tip: Some(commit),
                ..target.clone()
            };
            return self.advance(&now, tip, reflog);
        }
        let mut reference = self.repo.find_reference(&target.refname)?;
        if reference.target().map(from_git) == Some(commit) {
            // libgit2 compares with what was read before it deletes.
            reference.delete()?;
        }
        Ok(())
    }

    fn sync_ref(&self, refname: &str) -> Result<()> {
        let path = self.common_dir().join(refname);
        if !path.exists() {
            // Packed, or a ref store that is no file: durable by its own rules.
            return Ok(());
        }
        sync(&path)?;
        path.parent().map_or(Ok(()), sync)
    }

    /// Checks that the branch, read anew, holds each declared change exactly, and
    /// nothing else: `promised` says what each differing file was to become.
    pub fn recheck(
        &self,
        target: &Target,
        commit: Oid,
        promised: &[(RepoPath, Option<Leaf>)],
    ) -> Result<()> {
        let found = self.follow_symbolic(target.refname.clone())?.1;
        if found != Some(commit) {
            return Err(PromoteError::Moved {
                branch: target.branch.clone(),
                expected: Some(commit),
                found,
            });
        }
        let tree = self.tree_of(commit)?;
        for (path, leaf) in promised {
            // A directory may stand where a file is gone: what is in it is declared by itself.
            let found = self.leaf(tree, path)?.filter(|found| !found.is_tree());
            if found != *leaf {
                return Err(PromoteError::Promise { path: path.clone() });
            }
        }
        // Nothing but what was declared.
        let declared: HashSet<&RepoPath> = promised.iter().map(|(path, _)| path).collect();
        let parent = self.first_parent(commit)?;
        let old = parent.map(|parent| self.tree_of(parent)).transpose()?;
        for delta in self.diff(old, Some(tree))? {
            if !declared.contains(&delta.path) {
                return Err(PromoteError::Promise { path: delta.path });
            }
        }
        Ok(())
    }

    /// Says whether `commit` is `ancestor` or comes from it.
    pub fn descends(&self, commit: Oid, ancestor: Oid) -> Result<bool> {
        if commit == ancestor {
            return Ok(true);
        }
        Ok(self
            .repo
            .graph_descendant_of(to_git(commit), to_git(ancestor))?)
    }

    /// Keeps `commit` for `session`, whatever becomes of the branches.
    pub fn keep(&self, session: &SessionId, commit: Oid) -> Result<()> {
        let name = keep_name(session);
        let lock = self.common_dir().join(format!("{name}.lock"));
        let age = std::fs::metadata(&lock).and_then(|meta| meta.modified());
        if age.is_ok_and(|age| age.elapsed().is_ok_and(|age| age > KEEP_STALE)) {
            let _ = std::fs::remove_file(&lock); // a killed process left it; if it stays, that is told below
        }
        self.repo
            .reference(&name, to_git(commit), true, "govfs: keep")?;
        self.sync_ref(&name)
    }

    /// Ends [`Promote::keep`]; nothing happens where there is none.
    pub fn drop_keep(&self, session: &SessionId) -> Result<()> {
        match self.repo.find_reference(&keep_name(session)) {
            Ok(mut reference) => Ok(reference.delete()?),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Returns what is kept for `session`.
    pub fn kept(&self, session: &SessionId) -> Result<Option<Oid>> {
        Ok(self.follow_symbolic(keep_name(session))?.1)
    }
}

fn keep_name(session: &SessionId) -> String {
    format!("refs/govfs/keep/{session}")
}

/// Returns what changes promise of their paths in a tree.
impl Change {
    pub fn promise(&self) -> (RepoPath, Option<Leaf>) {
        let leaf = match self.what {
            What::Put { mode, blob } => Some(Leaf {
                mode: raw_mode(mode),
                oid: blob,
            }),
            What::Delete => None,
        };
        (self.path.clone(), leaf)
    }
}
