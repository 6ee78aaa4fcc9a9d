//! Readings of a layer against its base: changed paths, leftovers, the whole tree.
//!
//! Owns: the comparison of what stands at each path with what the base has there.
//! Invariants: costs grow with the changes (and with what a renamed directory
//! holds), never with the base; deletions come first, each group by path.

use std::collections::BTreeSet;
use std::io;

use crate::domain::base::Base;
use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::digest::Digest;
use crate::domain::layer::place::{Place, Shown, base_mode, child, children, step, through};
use crate::domain::layer::{Layer, Node, Slot};
use crate::domain::logop::{Bytes, FileMode};
use crate::domain::path::RepoPath;

/// How a path differs from the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Deleted,
    Added,
    Modified,
    /// The bytes of the base's file `from`, in another place.
    Renamed,
    /// A file where a symlink was, or the other way round.
    Retyped,
}

impl Status {
    /// Returns git's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Deleted => 'D',
            Self::Added => 'A',
            Self::Modified => 'M',
            Self::Renamed => 'R',
            Self::Retyped => 'T',
        }
    }
}

/// Where the bytes of a path are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A deleted path has none.
    None,
    Version {
        sha256: Digest,
        size: u64,
    },
    /// As the base has them at this path.
    Base(RepoPath),
    /// A symlink's target.
    Target(Bytes),
    /// Written since the last version: the file has to settle first.
    Unsettled,
}

/// One changed path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: RepoPath,
    pub status: Status,
    /// `None` for a deleted path.
    pub mode: Option<FileMode>,
    pub content: Content,
    /// The base path that a renamed file came from.
    pub from: Option<RepoPath>,
}

/// One path of the whole tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    pub path: RepoPath,
    /// `None` for a directory.
    pub mode: Option<FileMode>,
    pub content: Content,
}

/// What stands at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `None` for a directory.
    pub mode: Option<FileMode>,
    pub content: Content,
    /// The content of its last settled state; [`Content::None`] where there was none.
    pub settled: Content,
}

/// Finds what the base has at `path`.
pub fn base_entry(base: &dyn Base, path: &RepoPath) -> io::Result<Option<BaseEntry>> {
    let mut found = BaseEntry {
        name: Vec::new(),
        kind: BaseKind::Dir,
        oid: base.root(),
    };
    for name in path.components() {
        if found.kind != BaseKind::Dir {
            return Ok(None);
        }
        match child(&base.list(&found.oid)?, name) {
            Some(entry) => found = entry.clone(),
            None => return Ok(None),
        }
    }
    Ok(Some(found))
}

impl Layer {
    /// Returns what differs from the base, deletions first. Left out are
    /// transient files, which are never merged.
    pub fn changes(&self, base: &dyn Base) -> io::Result<Vec<Change>> {
        let root = root_entry(base);
        let mut diff = Diff {
            base,
            out: Vec::new(),
        };
        diff.place(
            &Place {
                path: RepoPath::root(),
                shown: Shown::Node(&self.root),
                through: Some((RepoPath::root(), root.clone())),
            },
            Some(&root),
        )?;
        let mut changes = diff.out;
        changes.sort_by(|a, b| {
            let group = |change: &Change| change.status != Status::Deleted;
            (group(a), &a.path).cmp(&(group(b), &b.path))
        });
        Ok(changes)
    }

    /// Returns the transient files that were never renamed onto what they save.
    pub fn leftovers(&self) -> Vec<RepoPath> {
        let mut found = Vec::new();
        leftovers(&self.root, &RepoPath::root(), &mut found);
        found
    }

    /// Returns what stands at `path`.
    pub fn at(&self, base: &dyn Base, path: &RepoPath) -> io::Result<Option<Standing>> {
        let mut place = Place {
            path: RepoPath::root(),
            shown: Shown::Node(&self.root),
            through: Some((RepoPath::root(), root_entry(base))),
        };
        for name in path.components() {
            match step(base, &place, name)? {
                Some(next) => place = next,
                None => return Ok(None),
            }
        }
        Ok(Some(match place.file() {
            None => Standing {
                mode: None,
                content: Content::None,
                settled: Content::None,
            },
            Some((mode, content)) => Standing {
                mode: Some(mode),
                settled: place.settled().unwrap_or_else(|| content.clone()),
                content,
            },
        }))
    }

    /// Returns every path of the session's tree, directories included.
    pub fn tree(&self, base: &dyn Base) -> io::Result<Vec<TreeEntry>> {
        let mut out = Vec::new();
        let root = Place {
            path: RepoPath::root(),
            shown: Shown::Node(&self.root),
            through: Some((RepoPath::root(), root_entry(base))),
        };
        let mut stack = vec![root];
        while let Some(place) = stack.pop() {
            if place.is_dir() {
                stack.extend(children(base, &place)?);
            }
            if !place.path.is_root() {
                let (mode, content) = place
                    .file()
                    .map_or((None, Content::None), |(m, c)| (Some(m), c));
                out.push(TreeEntry {
                    path: place.path,
                    mode,
                    content,
                });
            }
        }
        out.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(out)
    }
}

fn root_entry(base: &dyn Base) -> BaseEntry {
    BaseEntry {
        name: Vec::new(),
        kind: BaseKind::Dir,
        oid: base.root(),
    }
}

fn leftovers(node: &Node, path: &RepoPath, found: &mut Vec<RepoPath>) {
    if node.transient {
        found.push(path.clone());
    }
    for (name, slot) in &node.children {
        if let (Slot::Here(kid), Ok(below)) = (slot, path.join(name)) {
            leftovers(kid, &below, found);
        }
    }
}

struct Diff<'a> {
    base: &'a dyn Base,
    out: Vec<Change>,
}

impl Diff<'_> {
    /// Compares what stands at a path with what the base has there.
    fn place(&mut self, place: &Place<'_>, here: Option<&BaseEntry>) -> io::Result<()> {
        let untouched = (place.through.as_ref()).is_some_and(|(path, _)| *path == place.path);
        match place.shown {
            Shown::Base if untouched => return Ok(()),
            Shown::Node(node) if untouched && place.is_dir() => {
                return self.descend(place, node, here);
            }
            Shown::Node(node) if node.transient => return self.deleted(&place.path, here),
            _ => {}
        }
        if place.is_dir() {
            return self.whole(place, here);
        }
        let Some((mode, content)) = place.file() else {
            return self.deleted(&place.path, here);
        };
        self.file(place, here, mode, content)
    }

    /// An unmoved directory: only the names that entries touched can differ.
    fn descend(
        &mut self,
        place: &Place<'_>,
        node: &Node,
        here: Option<&BaseEntry>,
    ) -> io::Result<()> {
        let list = match here {
            Some(entry) if entry.kind == BaseKind::Dir => Some(self.base.list(&entry.oid)?),
            _ => None,
        };
        for (name, slot) in &node.children {
            let Ok(path) = place.path.join(name) else {
                continue;
            };
            let before = list.as_ref().and_then(|list| child(list, name));
            match slot {
                Slot::Gone => self.deleted(&path, before)?,
                Slot::Here(node) => {
                    let below = Place {
                        path,
                        shown: Shown::Node(node),
                        through: through(self.base, node)?,
                    };
                    self.place(&below, before)?;
                }
            }
        }
        Ok(())
    }

    /// A directory that is new in its place: every path beneath counts.
    fn whole(&mut self, place: &Place<'_>, here: Option<&BaseEntry>) -> io::Result<()> {
        let list = match here {
            Some(entry) if entry.kind == BaseKind::Dir => Some(self.base.list(&entry.oid)?),
            Some(_) => {
                self.deleted(&place.path, here)?;
                None
            }
            None => None,
        };
        let mut seen = BTreeSet::new();
        for below in children(self.base, place)? {
            let name = below.path.name().to_vec();
            let before = list.as_ref().and_then(|list| child(list, &name));
            self.place(&below, before)?;
            seen.insert(name);
        }
        for entry in list.iter().flat_map(|list| list.iter()) {
            if !seen.contains(&entry.name)
                && let Ok(path) = place.path.join(&entry.name)
            {
                self.deleted(&path, Some(entry))?;
            }
        }
        Ok(())
    }

    fn deleted(&mut self, path: &RepoPath, here: Option<&BaseEntry>) -> io::Result<()> {
        match here {
            None => {}
            Some(entry) if entry.kind == BaseKind::Dir => {
                for kid in self.base.list(&entry.oid)?.iter() {
                    if let Ok(below) = path.join(&kid.name) {
                        self.deleted(&below, Some(kid))?;
                    }
                }
            }
            Some(_) => self.out.push(Change {
                path: path.clone(),
                status: Status::Deleted,
                mode: None,
                content: Content::None,
                from: None,
            }),
        }
        Ok(())
    }

    fn file(
        &mut self,
        place: &Place<'_>,
        here: Option<&BaseEntry>,
        mode: FileMode,
        content: Content,
    ) -> io::Result<()> {
        let is_file =
            |entry: &&BaseEntry| matches!(entry.kind, BaseKind::File { .. } | BaseKind::Symlink);
        let before = here.filter(is_file);
        if here.is_some() && before.is_none() {
            self.deleted(&place.path, here)?;
        }
        let same_bytes = match (&content, &place.through, before) {
            (Content::Base(_), Some((_, through)), Some(before)) => through.oid == before.oid,
            _ => false,
        };
        let was_link = before.is_some_and(|entry| entry.kind == BaseKind::Symlink);
        let from = match &content {
            Content::Base(path) if *path != place.path => Some(path.clone()),
            _ => None,
        };
        let status = match before {
            None if from.is_some() => Status::Renamed,
            None => Status::Added,
            Some(_) if was_link != (mode == FileMode::Symlink) => Status::Retyped,
            Some(entry) if same_bytes && base_mode(entry) == mode => return Ok(()),
            Some(_) => Status::Modified,
        };
        self.out.push(Change {
            path: place.path.clone(),
            status,
            mode: Some(mode),
            content,
            from: from.filter(|_| status == Status::Renamed),
        });
        Ok(())
    }
}
