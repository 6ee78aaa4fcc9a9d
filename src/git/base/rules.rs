//! What `.gitattributes` and `.gitignore` say in each directory of a base.
//!
//! Owns: the bounded caches of what was read and put together. A directory without
//! an attribute file of its own shares its parent's rules. A directory that the
//! base does not have (an agent may make one) has the rules of those above it.
//! A symlink is no such file, as git does not follow one there.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::domain::attributes::AttributeFile;
use crate::domain::attributes::AttributeStack;
use crate::domain::base::BaseEntry;
use crate::domain::base::BaseKind;
use crate::domain::base::Oid;
use crate::domain::convert::Conversion;
use crate::domain::ignore::IgnoreFile;
use crate::domain::path::RepoPath;

use super::GitBase;

/// How many directories are remembered before the memory starts anew.
const DIRECTORIES_MAX: usize = 16_384;
/// How many sizes of converted files are remembered before the memory starts anew.
const SIZES_MAX: usize = 65_536;
/// Git ignores attribute and ignore files that are larger.
const FILE_MAX: u64 = 100 * 1024 * 1024;

type AttributeFiles = Arc<[(RepoPath, Arc<AttributeFile>)]>;

#[derive(Debug)]
pub(super) struct Directory {
    tree: Option<Oid>,
    files: AttributeFiles,
    pub(super) attributes: Arc<AttributeStack>,
    pub(super) ignore: Option<Arc<IgnoreFile>>,
}

#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<HashMap<RepoPath, Arc<Directory>>>);

/// Returns the rules that hold in the directory `path`.
pub(super) fn directory(base: &GitBase, path: &RepoPath) -> io::Result<Arc<Directory>> {
    if let Some(known) = base.rules.0.lock().get(path) {
        return Ok(known.clone());
    }
    let directory = Arc::new(match path.parent() {
        None => build(base, path, Some(base.root), None)?,
        Some(parent) => {
            let parent = directory(base, &parent)?;
            let tree = match parent.tree {
                Some(tree) => base.child(&tree, path.name())?,
                None => None,
            };
            let tree = tree.filter(|entry| entry.kind == BaseKind::Dir);
            build(base, path, tree.map(|entry| entry.oid), Some(&parent))?
        }
    });
    let mut known = base.rules.0.lock();
    if known.len() >= DIRECTORIES_MAX {
        known.clear();
    }
    known.insert(path.clone(), directory.clone());
    Ok(directory)
}

fn build(
    base: &GitBase,
    path: &RepoPath,
    tree: Option<Oid>,
    parent: Option<&Directory>,
) -> io::Result<Directory> {
    let own = |name: &[u8]| match tree {
        Some(tree) => text_of(base, base.child(&tree, name)?),
        None => Ok(None),
    };
    let ignore = own(b".gitignore")?.map(|bytes| Arc::new(IgnoreFile::parse(&bytes)));
    let (files, attributes) = match (own(b".gitattributes")?, parent) {
        (None, Some(parent)) => (parent.files.clone(), parent.attributes.clone()),
        (None, None) => (Arc::default(), Arc::default()),
        (Some(bytes), parent) => {
            let above = parent.map(|parent| parent.files.to_vec());
            let mut files = above.unwrap_or_default();
            files.push((path.clone(), Arc::new(AttributeFile::parse(&bytes))));
            let stack = Arc::new(AttributeStack::new(&files));
            (files.into(), stack)
        }
    };
    Ok(Directory {
        tree,
        files,
        attributes,
        ignore,
    })
}

fn text_of(base: &GitBase, entry: Option<BaseEntry>) -> io::Result<Option<Vec<u8>>> {
    let Some(entry) = entry.filter(|entry| matches!(entry.kind, BaseKind::File { .. })) else {
        return Ok(None);
    };
    if base.objects.size(&entry.oid)? > FILE_MAX {
        return Ok(None);
    }
    Ok(Some(base.objects.read(&entry.oid)?))
}

/// The sizes of files whose content must be converted to know them.
#[derive(Default)]
pub(super) struct SizeCache(Mutex<HashMap<(Oid, Conversion), u64>>);

impl std::fmt::Debug for SizeCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SizeCache({} sizes)", self.0.lock().len())
    }
}

impl SizeCache {
    pub(super) fn get(&self, oid: &Oid, conversion: &Conversion) -> Option<u64> {
        self.0.lock().get(&(*oid, conversion.clone())).copied()
    }

    pub(super) fn keep(&self, oid: Oid, conversion: Conversion, size: u64) {
        let mut sizes = self.0.lock();
        if sizes.len() >= SIZES_MAX {
            sizes.clear();
        }
        sizes.insert((oid, conversion), size);
    }
}
