//! Which commit wrote each line, through renames and merges.
//!
//! Owns: the walk back from a tip, handing each line to the parent that already
//! had it; and the list of commits that changed a path. Works on objects alone:
//! no worktree, no attributes, no mailmap.

use std::collections::{BTreeMap, BinaryHeap, HashMap};

use git2::{DiffOptions, Patch};

use super::renames::Renames;
use super::{Leaf, Promote, PromoteError, Result, to_git};
use crate::domain::base::Oid;
use crate::domain::merge::Status;
use crate::domain::path::RepoPath;

/// One line, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlamedLine {
    pub commit: Oid,
    /// The path it had there.
    pub path: RepoPath,
    /// Its number there, from 1.
    pub number: usize,
    pub text: Vec<u8>,
}

/// One commit that changed a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Touch {
    pub commit: Oid,
    /// The path as that commit left it (or removed it).
    pub path: RepoPath,
    pub status: Status,
    /// The name it had before, where the commit renamed it.
    pub renamed_from: Option<RepoPath>,
}

/// Says which path a commit is known to have renamed to this one.
pub(super) type Renamed<'a> = dyn Fn(Oid, &RepoPath) -> Option<RepoPath> + 'a;

/// Lines that wait for the commit they are suspected to be from:
/// (number in the final file, number in the suspect's file), both from 0.
type Lines = Vec<(usize, usize)>;

/// What is still to be looked at, newest first.
#[derive(Default)]
struct Queue {
    order: BinaryHeap<(i64, Oid, RepoPath)>,
    lines: BTreeMap<(Oid, RepoPath), Lines>,
}

impl Queue {
    fn push(&mut self, time: i64, commit: Oid, path: RepoPath, lines: Lines) {
        if lines.is_empty() {
            return;
        }
        let waiting = self.lines.entry((commit, path.clone())).or_default();
        if waiting.is_empty() {
            self.order.push((time, commit, path));
        }
        waiting.extend(lines);
    }

    fn pop(&mut self) -> Option<(Oid, RepoPath, Lines)> {
        let (_, commit, path) = self.order.pop()?;
        let lines = self.lines.remove(&(commit, path.clone()))?;
        Some((commit, path, lines))
    }
}

impl Promote {
    /// Says of each line of `path` at `tip` which commit wrote it; nothing
    /// where there is no such file. `renamed` knows of renames that were seen to
    /// happen; others are recognised by content.
    pub fn blame(
        &self,
        tip: Oid,
        path: &RepoPath,
        renamed: &Renamed<'_>,
    ) -> Result<Vec<BlamedLine>> {
        let Some(leaf) = self.file_at(tip, path)? else {
            return Ok(Vec::new());
        };
        let content = self.blob(leaf.oid)?;
        let texts: Vec<&[u8]> = content.split_inclusive(|&b| b == b'\n').collect();
        let mut found: Vec<Option<(Oid, RepoPath, usize)>> = vec![None; texts.len()];
        let mut queue = Queue::default();
        let all = (0..texts.len()).map(|at| (at, at)).collect();
        queue.push(self.time_of(tip)?, tip, path.clone(), all);
        while let Some((commit, path, lines)) = queue.pop() {
            for (last, here) in self.pass_up(commit, &path, lines, &mut queue, renamed)? {
                found[last] = Some((commit, path.clone(), here + 1));
            }
        }
        let line = |(text, found): (&[u8], Option<(Oid, RepoPath, usize)>)| {
            let (commit, path, number) = found?;
            Some(BlamedLine {
                commit,
                path,
                number,
                text: text.to_vec(),
            })
        };
        Ok(texts.into_iter().zip(found).filter_map(line).collect())
    }

    /// Hands lines to the parents that had them; returns those that none had.
    fn pass_up(
        &self,
        commit: Oid,
        path: &RepoPath,
        mut lines: Lines,
        queue: &mut Queue,
        renamed: &Renamed<'_>,
    ) -> Result<Lines> {
        let Some(leaf) = self.file_at(commit, path)? else {
            return Ok(lines);
        };
        let mut sources = Vec::new();
        for parent in self.parents_of(commit)? {
            match self.came_from(commit, parent, path, renamed) {
                Ok(Some((path, from))) => sources.push((parent, path, from)),
                Ok(None) => {}
                // A shallow clone ends here: nobody before is known.
                Err(PromoteError::Missing(oid)) if oid == parent => {}
                Err(error) => return Err(error),
            }
        }
        // A parent with the very same content has written all of it.
        if let Some((parent, path, _)) = sources.iter().find(|(.., from)| from.oid == leaf.oid) {
            queue.push(self.time_of(*parent)?, *parent, path.clone(), lines);
            return Ok(Vec::new());
        }
        let new = self.blob(leaf.oid)?;
        for (parent, path, from) in sources {
            let kept = kept_lines(&self.blob(from.oid)?, &new)?;
            let (passed, rest): (Vec<_>, Vec<_>) = lines
                .into_iter()
                .partition(|(_, here)| kept.contains_key(here));
            let passed = passed.into_iter().map(|(last, here)| (last, kept[&here]));
            queue.push(self.time_of(parent)?, parent, path, passed.collect());
            lines = rest;
        }
        Ok(lines)
    }

    /// Finds the file in `parent` that `path` in `commit` was, renames followed.
    fn came_from(
        &self,
        commit: Oid,
        parent: Oid,
        path: &RepoPath,
        renamed: &Renamed<'_>,
    ) -> Result<Option<(RepoPath, Leaf)>> {
        if let Some(leaf) = self.file_at(parent, path)? {
            return Ok(Some((path.clone(), leaf)));
        }
        if let Some(known) = renamed(commit, path)
            && let Some(leaf) = self.file_at(parent, &known)?
        {
            return Ok(Some((known, leaf)));
        }
        let (old, new) = (self.tree_of(parent)?, self.tree_of(commit)?);
        let renames = Renames::between(self, Some(old), Some(new))?;
        let Some(source) = renames.source(self, path)? else {
            return Ok(None);
        };
        let leaf = self.file_at(parent, &source)?;
        Ok(leaf.map(|leaf| (source, leaf)))
    }

    /// Lists the commits of the first-parent line that changed `path`, newest
    /// first, at most `limit`; a rename is followed to the older name.
    pub fn touches(&self, tip: Oid, path: &RepoPath, limit: usize) -> Result<Vec<Touch>> {
        let mut out = Vec::new();
        let mut path = path.clone();
        let mut next = Some(tip);
        while let Some(commit) = next.filter(|_| out.len() < limit) {
            let parent = self.first_parent(commit)?;
            let new = self.tree_of(commit)?;
            let old = parent.map(|parent| self.tree_of(parent)).transpose()?;
            let is = self.leaf(new, &path)?;
            let was = match old {
                Some(old) => self.leaf(old, &path)?,
                None => None,
            };
            if is != was {
                let touch = self.touch(commit, (old, new), &path, (was, is))?;
                let renamed = touch.renamed_from.clone();
                out.push(touch);
                path = renamed.unwrap_or(path);
            }
            next = parent;
        }
        Ok(out)
    }

    fn touch(
        &self,
        commit: Oid,
        (old, new): (Option<Oid>, Oid),
        path: &RepoPath,
        (was, is): (Option<Leaf>, Option<Leaf>),
    ) -> Result<Touch> {
        let status = match (was, is) {
            (None, _) => Status::Added,
            (_, None) => Status::Deleted,
            (Some(was), Some(is)) if was.is_file() == is.is_file() => Status::Modified,
            _ => Status::Type,
        };
        let renamed_from = if status == Status::Added && old.is_some() {
            Renames::between(self, old, Some(new))?.source(self, path)?
        } else {
            None
        };
        Ok(Touch {
            commit,
            path: path.clone(),
            status,
            renamed_from,
        })
    }

    fn file_at(&self, commit: Oid, path: &RepoPath) -> Result<Option<Leaf>> {
        let tree = self.tree_of(commit)?;
        Ok(self.leaf(tree, path)?.filter(Leaf::is_file))
    }

    fn time_of(&self, commit: Oid) -> Result<i64> {
        Ok(self.repo.find_commit(to_git(commit))?.time().seconds())
    }
}

/// Maps each line of `new` that `old` had to its number there, both from 0.
pub fn kept_lines(old: &[u8], new: &[u8]) -> Result<HashMap<usize, usize>> {
    let mut options = DiffOptions::new();
    options.context_lines(0).force_text(true);
    let patch = Patch::from_buffers(old, None, new, None, Some(&mut options))?;
    let mut changed: Vec<(usize, usize, usize, usize)> = Vec::new();
    for at in 0..patch.num_hunks() {
        let (hunk, _) = patch.hunk(at)?;
        let start = |first: u32, count: u32| {
            // An empty side names the line before it.
            let first = first as usize;
            if count == 0 { first } else { first - 1 }
        };
        changed.push((
            start(hunk.old_start(), hunk.old_lines()),
            hunk.old_lines() as usize,
            start(hunk.new_start(), hunk.new_lines()),
            hunk.new_lines() as usize,
        ));
    }
    let lines = new.split_inclusive(|&b| b == b'\n').count();
    let mut kept = HashMap::new();
    let (mut from, mut to) = (0, 0);
    for (old_at, old_count, new_at, new_count) in changed {
        while to < new_at {
            kept.insert(to, from);
            (from, to) = (from + 1, to + 1);
        }
        (from, to) = (old_at + old_count, new_at + new_count);
    }
    while to < lines {
        kept.insert(to, from);
        (from, to) = (from + 1, to + 1);
    }
    Ok(kept)
}
