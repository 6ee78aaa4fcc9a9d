//! Where the merge target is checked out.
//!
//! Owns: finding the worktrees (main and linked) whose `HEAD` is the branch, and
//! the work under way that a move of the branch would disturb. Never opens an
//! index, never changes anything.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use git2::Repository;

use super::checkout::{Obstacle, Trouble};
use super::index::break_lock;
use super::{Promote, Result, Target, io_error};
use crate::domain::path::RepoPath;
use crate::git::link;

/// A worktree that has the branch checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub root: PathBuf,
    pub(super) git_dir: PathBuf,
    pub(super) symlinks: bool,
    pub(super) file_mode: bool,
}

impl Place {
    /// Names one of its files, with the worktree.
    pub(super) fn file(&self, path: &RepoPath) -> String {
        let path = OsStr::from_bytes(path.as_bytes());
        self.root.join(path).display().to_string()
    }
}

impl Promote {
    /// Finds the worktrees on the branch, and work under way that is about it.
    pub(super) fn places(
        &self,
        target: &Target,
        obstacles: &mut Vec<Obstacle>,
    ) -> Result<Vec<Place>> {
        let common = self.common_dir();
        let mut out = Vec::new();
        let main = Repository::open(&common)?;
        // Where the git directory is kept apart, only its checkout leads to it.
        let seen = self.seen_from.as_deref();
        let seen = seen.filter(|root| !main.is_bare() && link::leads_to(root, &common));
        if let Some(root) = link::checkout(&main).or(seen) {
            let place = place_of(&main, root, &common);
            self.judge(target, place, &mut out, obstacles);
        }
        let Ok(list) = fs::read_dir(common.join("worktrees")) else {
            return Ok(out);
        };
        for entry in list {
            let admin = entry.map_err(io_error("worktrees"))?.path();
            let Some(root) = linked_root(&admin) else {
                continue;
            };
            // Another repository may stand where a worktree was.
            let repo = Repository::open(&root).ok();
            if let Some(repo) = repo.filter(|_| link::leads_to(&root, &admin)) {
                let place = place_of(&repo, &root, &admin);
                self.judge(target, place, &mut out, obstacles);
            } else if admin.join("locked").exists() && self.is_on(target, &admin) {
                obstacles.push(Obstacle {
                    place: root,
                    path: None,
                    trouble: Trouble::Away,
                });
            }
        }
        Ok(out)
    }

    /// Frees the indexes that a crashed merge had locked, of whatever branch. The
    /// caller holds the repository's merge lock, so no living one has any.
    pub fn break_locks(&self) {
        let common = self.common_dir();
        break_lock(&common);
        for entry in fs::read_dir(common.join("worktrees"))
            .into_iter()
            .flatten()
            .flatten()
        {
            break_lock(&entry.path());
        }
    }

    fn judge(
        &self,
        target: &Target,
        place: Place,
        out: &mut Vec<Place>,
        obstacles: &mut Vec<Obstacle>,
    ) {
        let on = self.is_on(target, &place.git_dir);
        if let Some(what) = under_way(&place.git_dir, target, on) {
            obstacles.push(Obstacle {
                place: place.root,
                path: None,
                trouble: Trouble::InProgress(what),
            });
        } else if on {
            out.push(place);
        }
    }

    fn is_on(&self, target: &Target, git_dir: &Path) -> bool {
        let Some(head) = head_of(git_dir) else {
            return false;
        };
        let full = self.target(&head);
        full.is_ok_and(|head| head.refname == target.refname)
    }
}

fn place_of(repo: &Repository, root: &Path, git_dir: &Path) -> Place {
    let flag = |key: &str| {
        let config = repo.config();
        config
            .and_then(|config| config.get_bool(key))
            .unwrap_or(true)
    };
    Place {
        root: root.to_path_buf(),
        git_dir: git_dir.to_path_buf(),
        symlinks: flag("core.symlinks"),
        file_mode: flag("core.filemode"),
    }
}

/// Returns the branch that a git directory's `HEAD` names.
fn head_of(git_dir: &Path) -> Option<String> {
    let head = fs::read_to_string(git_dir.join("HEAD")).ok()?;
    Some(head.strip_prefix("ref:")?.trim().to_owned())
}

/// Returns the root of the linked worktree that `admin` administers.
fn linked_root(admin: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(admin.join("gitdir")).ok()?;
    let file = admin.join(text.trim_end_matches('\n'));
    file.parent().map(Path::to_path_buf)
}

/// Names the work under way that a move of the branch would disturb.
fn under_way(git_dir: &Path, target: &Target, on: bool) -> Option<&'static str> {
    let says = |file: &str, words: &str| {
        let text = fs::read_to_string(git_dir.join(file)).unwrap_or_default();
        text.lines().any(|line| line.trim() == words)
    };
    let full = format!("refs/heads/{}", target.branch);
    for file in [
        "rebase-merge/head-name",
        "rebase-apply/head-name",
        "rebase-merge/update-refs",
    ] {
        if says(file, &full) || says(file, &target.refname) {
            return Some("rebase");
        }
    }
    if says("BISECT_START", &target.branch) {
        return Some("bisection");
    }
    let unfinished = [
        ("MERGE_HEAD", "merge"),
        ("CHERRY_PICK_HEAD", "cherry-pick"),
        ("REVERT_HEAD", "revert"),
    ];
    let found = unfinished
        .iter()
        .find(|(file, _)| on && git_dir.join(file).exists());
    found.map(|(_, what)| *what)
}
