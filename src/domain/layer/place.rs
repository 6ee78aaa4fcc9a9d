//! What stands at a path of a layer, with what it shows of the base.
//!
//! Owns: the children of a directory as the session sees them, and where a file's
//! bytes and mode come from. Asks the base for one directory at a time.

use std::collections::BTreeMap;
use std::io;

use crate::domain::base::Base;
use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::layer::diff::{Content, base_entry};
use crate::domain::layer::{FileState, Held, Node, Slot};
use crate::domain::logop::FileMode;
use crate::domain::path::RepoPath;

/// What stands at a path.
#[derive(Clone, Copy)]
pub(super) enum Shown<'a> {
    /// An untouched part of the base, whose path there is given apart.
    Base,
    Node(&'a Node),
}

/// What stands at `path`, with what it shows of the base.
pub(super) struct Place<'a> {
    pub(super) path: RepoPath,
    pub(super) shown: Shown<'a>,
    /// The base path and entry whose bytes or names show through.
    pub(super) through: Option<(RepoPath, BaseEntry)>,
}

impl Place<'_> {
    pub(super) fn is_dir(&self) -> bool {
        match self.shown {
            Shown::Base => self.through_is_dir(),
            Shown::Node(node) if node.made_dir => true,
            Shown::Node(node) if node.file.is_some() => self.through_is_dir(),
            Shown::Node(_) => self.through.is_none() || self.through_is_dir(),
        }
    }

    pub(super) fn through_is_dir(&self) -> bool {
        (self.through.as_ref())
            .is_some_and(|(_, entry)| matches!(entry.kind, BaseKind::Dir | BaseKind::Submodule))
    }

    /// Returns mode and content, if a file or a symlink stands here.
    pub(super) fn file(&self) -> Option<(FileMode, Content)> {
        if self.is_dir() {
            return None;
        }
        match self.shown {
            Shown::Base => self.of_base(),
            Shown::Node(node) => match &node.file {
                None => self.of_base(),
                Some(file) => Some(file.shown(self.of_base())),
            },
        }
    }

    pub(super) fn of_base(&self) -> Option<(FileMode, Content)> {
        let (path, entry) = self.through.as_ref()?;
        Some((base_mode(entry), Content::Base(path.clone())))
    }

    /// Returns the last settled content of a file that was changed.
    pub(super) fn settled(&self) -> Option<Content> {
        match self.shown {
            Shown::Node(node) => {
                let (_, content) = node.file.as_ref()?.settled(self.of_base());
                Some(content)
            }
            Shown::Base => None,
        }
    }
}

impl FileState {
    pub(super) fn shown(&self, of_base: Option<(FileMode, Content)>) -> (FileMode, Content) {
        let (mode, settled) = self.settled(of_base);
        match settled {
            Content::None => (mode, Content::Unsettled),
            _ if self.open => (mode, Content::Unsettled),
            settled => (mode, settled),
        }
    }

    /// Returns the mode, and the content of the last settled state.
    pub(super) fn settled(&self, of_base: Option<(FileMode, Content)>) -> (FileMode, Content) {
        let (base_mode, base_content) = of_base.unwrap_or((FileMode::Plain, Content::None));
        let content = match &self.bytes {
            Held::OfBase => base_content,
            Held::Nothing => Content::None,
            Held::Settled { sha256, size } => Content::Version {
                sha256: *sha256,
                size: *size,
            },
            Held::Target(target) => Content::Target(target.clone()),
        };
        (self.mode.unwrap_or(base_mode), content)
    }
}

pub fn base_mode(entry: &BaseEntry) -> FileMode {
    match entry.kind {
        BaseKind::Symlink => FileMode::Symlink,
        BaseKind::File { exec: true } => FileMode::Exec,
        _ => FileMode::Plain,
    }
}

/// Returns what stands directly in a directory.
pub(super) fn children<'a>(base: &dyn Base, place: &Place<'a>) -> io::Result<Vec<Place<'a>>> {
    let mut found = BTreeMap::new();
    if let Some((at, entry)) = &place.through
        && entry.kind == BaseKind::Dir
    {
        for child in base.list(&entry.oid)?.iter() {
            let (Ok(path), Ok(through)) = (place.path.join(&child.name), at.join(&child.name))
            else {
                continue;
            };
            let below = Place {
                path,
                shown: Shown::Base,
                through: Some((through, child.clone())),
            };
            found.insert(child.name.clone(), below);
        }
    }
    if let Shown::Node(node) = place.shown {
        for (name, slot) in &node.children {
            match slot {
                Slot::Gone => {
                    found.remove(name);
                }
                Slot::Here(child) => {
                    let Ok(path) = place.path.join(name) else {
                        continue;
                    };
                    let through = through(base, child)?;
                    let shown = Shown::Node(child);
                    found.insert(
                        name.clone(),
                        Place {
                            path,
                            shown,
                            through,
                        },
                    );
                }
            }
        }
    }
    Ok(found.into_values().collect())
}

/// Finds one name in what stands at a place.
pub(super) fn step<'a>(
    base: &dyn Base,
    place: &Place<'a>,
    name: &[u8],
) -> io::Result<Option<Place<'a>>> {
    if !place.is_dir() {
        return Ok(None);
    }
    let path = place.path.join(name).map_err(io::Error::other)?;
    if let Shown::Node(node) = place.shown
        && let Some(slot) = node.children.get(name)
    {
        return match slot {
            Slot::Gone => Ok(None),
            Slot::Here(child) => Ok(Some(Place {
                path,
                shown: Shown::Node(child),
                through: through(base, child)?,
            })),
        };
    }
    let Some((at, entry)) = place.through.as_ref() else {
        return Ok(None);
    };
    if entry.kind != BaseKind::Dir {
        return Ok(None);
    }
    let list = base.list(&entry.oid)?;
    let Some(found) = child(&list, name) else {
        return Ok(None);
    };
    Ok(Some(Place {
        path,
        shown: Shown::Base,
        through: Some((at.join(name).map_err(io::Error::other)?, found.clone())),
    }))
}

pub(super) fn through(base: &dyn Base, node: &Node) -> io::Result<Option<(RepoPath, BaseEntry)>> {
    let Some(path) = &node.base else {
        return Ok(None);
    };
    Ok(base_entry(base, path)?.map(|entry| (path.clone(), entry)))
}

pub(super) fn child<'a>(list: &'a [BaseEntry], name: &[u8]) -> Option<&'a BaseEntry> {
    let at = list.binary_search_by(|entry| entry.name.as_slice().cmp(name));
    at.ok().map(|at| &list[at])
}
