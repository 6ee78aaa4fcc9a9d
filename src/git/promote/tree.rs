//! Trees: read, rewritten along the changed paths only, and compared.
//!
//! Owns: git's tree format (`mode SP name NUL id`, sorted as if directories end
//! in `/`) and walks that enter only trees that differ. A 400 000-file
//! repository costs the same as one of 400, but for directories that the
//! changes themselves touch. Never merges.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use git2::ObjectType;
use parking_lot::Mutex;

use super::{Change, Leaf, MODE_COMMIT, MODE_LINK, MODE_TREE, Promote, PromoteError};
use super::{Result, Stage, What, raw_mode};
use crate::domain::base::Oid;
use crate::domain::merge::Status;
use crate::domain::path::{RepoPath, is_git_alias};

/// One directory: its names and what they are.
pub(super) type Names = BTreeMap<Vec<u8>, Leaf>;

/// Trees remembered, and the names that one may have to be remembered: some 20 MB at most.
const REMEMBERED_MAX: usize = 1024;
const REMEMBERED_NAMES_MAX: usize = 200;

/// Trees read lately.
pub(super) type Trees = Mutex<HashMap<Oid, Arc<Names>>>;

/// One differing path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    pub path: RepoPath,
    pub status: Status,
    pub old: Option<Leaf>,
    pub new: Option<Leaf>,
}

/// What stands at a path of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Directory,
    File,
    Symlink(Oid),
    Submodule,
    /// A mode that git does not know.
    Unknown(u32),
}

impl From<Leaf> for Found {
    fn from(leaf: Leaf) -> Self {
        match leaf.mode {
            MODE_TREE => Self::Directory,
            MODE_LINK => Self::Symlink(leaf.oid),
            MODE_COMMIT => Self::Submodule,
            _ if leaf.is_file() => Self::File,
            other => Self::Unknown(other),
        }
    }
}

impl Promote {
    /// Returns the names of one tree. A merge asks for most trees several times,
    /// so the latest are remembered.
    pub(super) fn names(&self, tree: Oid) -> Result<Arc<Names>> {
        if let Some(names) = self.trees.lock().get(&tree) {
            return Ok(Arc::clone(names));
        }
        let names = Arc::new(parse(tree, &self.object(tree, ObjectType::Tree)?)?);
        let mut trees = self.trees.lock();
        if trees.len() >= REMEMBERED_MAX {
            trees.clear();
        }
        if names.len() <= REMEMBERED_NAMES_MAX {
            trees.insert(tree, Arc::clone(&names));
        }
        Ok(names)
    }

    /// Returns what `tree` has at `path`.
    pub fn leaf(&self, tree: Oid, path: &RepoPath) -> Result<Option<Leaf>> {
        let mut at = Leaf {
            mode: MODE_TREE,
            oid: tree,
        };
        for part in path.components() {
            if !at.is_tree() {
                return Ok(None);
            }
            match scan(at.oid, &self.object(at.oid, ObjectType::Tree)?, part)? {
                Some(leaf) => at = leaf,
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Returns the names in the directory `dir` of `tree`, sorted; none where it is no directory.
    pub fn siblings(&self, tree: Oid, dir: &RepoPath) -> Result<Vec<(Vec<u8>, Found)>> {
        match self.leaf(tree, dir)? {
            Some(leaf) if leaf.is_tree() => Ok(self
                .names(leaf.oid)?
                .iter()
                .map(|(name, leaf)| (name.clone(), (*leaf).into()))
                .collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// Lists what differs between two trees: deletions first, then by path.
    pub fn diff(&self, old: Option<Oid>, new: Option<Oid>) -> Result<Vec<Delta>> {
        let mut out = Vec::new();
        self.diff_into(&RepoPath::root(), old, new, &mut out)?;
        out.sort_by(|a, b| {
            let rank = |delta: &Delta| delta.status != Status::Deleted;
            rank(a).cmp(&rank(b)).then_with(|| a.path.cmp(&b.path))
        });
        Ok(out)
    }

    fn diff_into(
        &self,
        dir: &RepoPath,
        old: Option<Oid>,
        new: Option<Oid>,
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        if old == new {
            return Ok(());
        }
        let (old, new) = (self.names_or_none(old)?, self.names_or_none(new)?);
        for (name, was) in old.iter() {
            let is = new.get(name).copied();
            if is != Some(*was) {
                self.diff_name(&child(dir, name)?, Some(*was), is, out)?;
            }
        }
        for (name, is) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
            self.diff_name(&child(dir, name)?, None, Some(*is), out)?;
        }
        Ok(())
    }

    fn diff_name(
        &self,
        path: &RepoPath,
        old: Option<Leaf>,
        new: Option<Leaf>,
        out: &mut Vec<Delta>,
    ) -> Result<()> {
        let tree = |leaf: Option<Leaf>| leaf.filter(Leaf::is_tree).map(|leaf| leaf.oid);
        self.diff_into(path, tree(old), tree(new), out)?;
        let file = |leaf: Option<Leaf>| leaf.filter(|leaf| !leaf.is_tree());
        let (old, new) = (file(old), file(new));
        let status = match (old, new) {
            (None, None) => return Ok(()),
            (Some(_), None) => Status::Deleted,
            (None, Some(_)) => Status::Added,
            (Some(was), Some(is)) if Found::kind(was) == Found::kind(is) => Status::Modified,
            (Some(_), Some(_)) => Status::Type,
        };
        out.push(Delta {
            path: path.clone(),
            status,
            old,
            new,
        });
        Ok(())
    }

    pub(super) fn names_or_none(&self, tree: Option<Oid>) -> Result<Arc<Names>> {
        tree.map_or_else(|| Ok(Arc::default()), |tree| self.names(tree))
    }
}

impl Found {
    fn kind(leaf: Leaf) -> u32 {
        leaf.mode & 0o170_000
    }
}

/// Returns the child of a directory; a name no path can hold makes the tree malformed.
pub(super) fn child(dir: &RepoPath, name: &[u8]) -> Result<RepoPath> {
    dir.join(name).map_err(|_| PromoteError::BadTree {
        oid: Oid([0; 20]),
        why: "a name that no path can hold",
    })
}

impl Stage {
    /// Builds the tree that `changes` make of `base`, rewriting only touched directories.
    pub fn tree(&mut self, base: Option<Oid>, changes: &[Change]) -> Result<Oid> {
        let steps: Vec<Step<'_>> = changes
            .iter()
            .map(|change| Step {
                rest: change.path.as_bytes(),
                change,
            })
            .collect();
        match self.rewrite(base, &steps)? {
            Some(tree) => Ok(tree),
            None => self.write_names(&Names::new()),
        }
    }

    /// Returns the rewritten directory, or `None` where nothing is left in it.
    fn rewrite(&mut self, base: Option<Oid>, steps: &[Step<'_>]) -> Result<Option<Oid>> {
        let before = self.view().names_or_none(base)?;
        let mut names = Names::clone(&before);
        for (name, group) in groups(steps) {
            let old = names.get(name).copied();
            match self.rewrite_name(old, &group)? {
                Some(leaf) => names.insert(name.to_vec(), leaf),
                None => names.remove(name),
            };
        }
        if names == *before {
            return Ok(base.filter(|_| !names.is_empty()));
        }
        self.write_dir(&names)
    }

    fn rewrite_name(&mut self, old: Option<Leaf>, group: &Group<'_>) -> Result<Option<Leaf>> {
        let old = match group.own.map(|change| change.what) {
            Some(What::Delete) => None,
            _ => old,
        };
        let puts = group
            .beneath
            .iter()
            .any(|step| step.change.what != What::Delete);
        let inner = match old {
            Some(leaf) if leaf.is_tree() => self.rewrite(Some(leaf.oid), &group.beneath)?,
            None => self.rewrite(None, &group.beneath)?,
            // Removals beneath a file say nothing new; additions need it gone.
            Some(leaf) => {
                if let (true, None, Some(step)) = (puts, group.own, group.beneath.first()) {
                    return Err(shape(step.change));
                }
                if group.own.is_none() {
                    return Ok(Some(leaf));
                }
                self.rewrite(None, &group.beneath)?
            }
        };
        match (group.own, inner) {
            (Some(change), Some(_)) if change.what != What::Delete => Err(shape(change)),
            (Some(change), inner) => match change.what {
                What::Delete => Ok(inner.map(directory)),
                What::Put { mode, blob } => put(change, raw_mode(mode), blob).map(Some),
            },
            (None, inner) => Ok(inner.map(directory)),
        }
    }

    /// Writes a directory, or says that it is empty.
    pub(super) fn write_dir(&mut self, names: &Names) -> Result<Option<Oid>> {
        if names.is_empty() {
            return Ok(None);
        }
        self.write_names(names).map(Some)
    }

    fn write_names(&mut self, names: &Names) -> Result<Oid> {
        self.write(ObjectType::Tree, &format(names))
    }
}

fn shape(change: &Change) -> PromoteError {
    PromoteError::Shape {
        path: change.path.clone(),
    }
}

/// The last guard: whatever the gates said, no tree gets a name that is `.git` somewhere.
fn put(change: &Change, mode: u32, oid: Oid) -> Result<Leaf> {
    if change.path.components().any(is_git_alias) {
        return Err(PromoteError::Reserved {
            path: change.path.clone(),
        });
    }
    Ok(Leaf { mode, oid })
}

const fn directory(oid: Oid) -> Leaf {
    Leaf {
        mode: MODE_TREE,
        oid,
    }
}

/// A change, and what of its path is still to be walked.
#[derive(Clone, Copy)]
struct Step<'a> {
    rest: &'a [u8],
    change: &'a Change,
}

/// What concerns one name of a directory.
#[derive(Default)]
struct Group<'a> {
    own: Option<&'a Change>,
    beneath: Vec<Step<'a>>,
}

fn groups<'a>(steps: &[Step<'a>]) -> BTreeMap<&'a [u8], Group<'a>> {
    let mut out: BTreeMap<&[u8], Group<'_>> = BTreeMap::new();
    for step in steps {
        let cut = step.rest.iter().position(|&byte| byte == b'/');
        let (name, rest) = match cut {
            Some(cut) => (&step.rest[..cut], Some(&step.rest[cut + 1..])),
            None => (step.rest, None),
        };
        let group = out.entry(name).or_default();
        match rest {
            Some(rest) => group.beneath.push(Step { rest, ..*step }),
            None => group.own = Some(step.change),
        }
    }
    out
}

/// Reads a tree object.
pub(super) fn parse(oid: Oid, data: &[u8]) -> Result<Names> {
    let mut names = Names::new();
    let mut rest = data;
    while !rest.is_empty() {
        let (name, leaf, after) = entry(oid, rest)?;
        if names.insert(name.to_vec(), leaf).is_some() {
            let why = "a name stands twice";
            return Err(PromoteError::BadTree { oid, why });
        }
        rest = after;
    }
    Ok(names)
}

/// Finds one name in a tree object without keeping the others.
fn scan(oid: Oid, data: &[u8], wanted: &[u8]) -> Result<Option<Leaf>> {
    let mut rest = data;
    while !rest.is_empty() {
        let (name, leaf, after) = entry(oid, rest)?;
        if name == wanted {
            return Ok(Some(leaf));
        }
        rest = after;
    }
    Ok(None)
}

fn entry(oid: Oid, data: &[u8]) -> Result<(&[u8], Leaf, &[u8])> {
    let bad = |why| PromoteError::BadTree { oid, why };
    let space = data
        .iter()
        .position(|&b| b == b' ')
        .filter(|&at| (1..=7).contains(&at))
        .ok_or_else(|| bad("no mode"))?;
    let mode = data[..space].iter().try_fold(0_u32, |mode, &digit| {
        if (b'0'..=b'7').contains(&digit) {
            Ok(mode << 3 | u32::from(digit - b'0'))
        } else {
            Err(bad("a mode that is no octal number"))
        }
    })?;
    let rest = &data[space + 1..];
    let end = rest
        .iter()
        .position(|&b| b == 0)
        .filter(|&at| at > 0)
        .ok_or_else(|| bad("no name"))?;
    let id = rest
        .get(end + 1..end + 21)
        .ok_or_else(|| bad("cut short"))?;
    let mut bytes = [0; 20];
    bytes.copy_from_slice(id);
    let leaf = Leaf {
        mode,
        oid: Oid(bytes),
    };
    Ok((&rest[..end], leaf, &rest[end + 21..]))
}

/// Writes a tree object.
fn format(names: &Names) -> Vec<u8> {
    let mut order: Vec<(Vec<u8>, &[u8], &Leaf)> = names
        .iter()
        .map(|(name, leaf)| {
            let mut key = name.clone();
            if leaf.is_tree() {
                key.push(b'/');
            }
            (key, name.as_slice(), leaf)
        })
        .collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    let mut out = Vec::with_capacity(order.iter().map(|(key, ..)| key.len() + 29).sum());
    for (_, name, leaf) in order {
        out.extend_from_slice(format!("{:o} ", leaf.mode).as_bytes());
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(&leaf.oid.0);
    }
    out
}
