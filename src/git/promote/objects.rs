//! New objects, in memory until they are all there, then on disk at once.
//!
//! Owns: where staged objects live and how they become durable. A few become
//! loose objects, many one pack; either way every file and its directory is
//! synced before [`Stage::settle`] returns, so a ref may name them.
//!
//! Invariant: an object is on disk only after everything that it names. Whoever
//! is killed on the way leaves nothing that a later merge could take for whole.
//!
//! Never holds more than [`STAGED_MAX`] bytes of content: beyond that, and for
//! streamed content, blobs go straight to disk.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Config, ConfigLevel, ObjectType, Odb, OdbLookupFlags, Repository};
use parking_lot::Mutex;

use super::tree::parse;
use super::{Promote, PromoteError, Result, from_git, ids, io_error, to_git};
use crate::domain::base::Oid;
use crate::domain::digest::{Digest, Hasher};
use crate::domain::path::RepoPath;

/// From this many objects on, a pack costs fewer syncs and files than loose objects.
const PACK_FROM: usize = 24;
/// Bytes kept in memory before objects go straight to disk.
const STAGED_MAX: usize = 64 << 20;
/// One piece of streamed content.
const PIECE: usize = 1 << 16;
/// Where a pack is made; what a crash leaves behind under such a name, `git gc` removes.
const ASIDE: &str = "tmp_objdir-govfs-";
/// Staged objects by id.
pub(super) type Memory = Mutex<HashMap<Oid, (ObjectType, Arc<[u8]>)>>;

/// A place for new objects, beside the repository's own.
pub struct Stage {
    /// Sees staged objects and those on disk.
    view: Promote,
    /// Sees and writes only what is on disk.
    pub(super) disk: Promote,
    staged: BTreeSet<Oid>,
    staged_bytes: usize,
    /// Objects already on disk, not yet synced.
    loose: Vec<Oid>,
}

impl std::fmt::Debug for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stage({} objects)", self.staged.len() + self.loose.len())
    }
}

impl Promote {
    /// Opens a stage over this repository.
    pub fn stage(&self) -> Result<Stage> {
        let view = Repository::open(self.repo.path())?;
        let disk = Repository::open(self.repo.path())?;
        Ok(Stage {
            view: Self::over(view, self.seen_from.clone()),
            disk: Self::over(disk, None),
            staged: BTreeSet::new(),
            staged_bytes: 0,
            loose: Vec::new(),
        })
    }
}

impl Stage {
    /// Reads objects, staged ones included.
    pub fn view(&self) -> &Promote {
        &self.view
    }

    /// Stages a blob.
    pub fn blob(&mut self, bytes: &[u8]) -> Result<Oid> {
        self.write(ObjectType::Blob, bytes)
    }

    /// Writes a blob of `len` bytes from `reader` without holding it in memory,
    /// and checks that its SHA-256 is the promised one.
    pub fn blob_from(
        &mut self,
        path: &RepoPath,
        reader: &mut dyn Read,
        len: u64,
        sha256: &Digest,
    ) -> Result<Oid> {
        let altered = || PromoteError::Altered { path: path.clone() };
        let size = usize::try_from(len).map_err(|_| altered())?;
        let odb = self.disk.repo.odb()?;
        let mut writer = odb.writer(size, ObjectType::Blob)?;
        let mut hasher = Hasher::default();
        let mut piece = vec![0; PIECE];
        loop {
            let count = reader
                .read(&mut piece)
                .map_err(io_error(path.to_string()))?;
            if count == 0 {
                break;
            }
            hasher.update(&piece[..count]);
            if hasher.len() > len {
                return Err(altered());
            }
            writer
                .write_all(&piece[..count])
                .map_err(io_error(path.to_string()))?;
        }
        if hasher.len() != len || hasher.finish() != *sha256 {
            return Err(altered());
        }
        let oid = from_git(writer.finalize()?);
        self.loose.push(oid);
        Ok(oid)
    }

    /// Stages an object; one that the repository has already is only freshened.
    pub(super) fn write(&mut self, kind: ObjectType, bytes: &[u8]) -> Result<Oid> {
        let id = git2::Oid::hash_object(kind, bytes)?;
        let oid = from_git(id);
        if self.staged.contains(&oid) {
            return Ok(oid);
        }
        let there = exists(&self.disk.repo.odb()?, id);
        if there {
            // Freshened, so that a `git gc` beside us does not take it for old garbage.
            self.disk.repo.odb()?.write(kind, bytes)?;
        }
        let large = kind == ObjectType::Blob && self.staged_bytes + bytes.len() > STAGED_MAX;
        if there && self.is_whole(kind, oid, bytes)? {
            self.loose.push(oid); // whoever wrote it may have been killed before it was synced
        } else if large {
            self.disk.repo.odb()?.write(kind, bytes)?;
            self.loose.push(oid);
        } else {
            let content = (kind, Arc::from(bytes));
            self.view.memory.lock().insert(oid, content);
            self.staged_bytes += bytes.len();
            self.staged.insert(oid);
        }
        Ok(oid)
    }

    /// Says whether nothing that an object on disk names is only staged.
    fn is_whole(&self, kind: ObjectType, oid: Oid, bytes: &[u8]) -> Result<bool> {
        Ok(match kind {
            ObjectType::Commit => {
                let tree = ids(bytes, b"tree ").next();
                !tree.is_some_and(|tree| self.staged.contains(&tree))
            }
            ObjectType::Tree => {
                let names = parse(oid, bytes)?;
                !names.values().any(|leaf| self.staged.contains(&leaf.oid))
            }
            _ => true,
        })
    }

    /// Makes `roots` and everything they reach durable; only then may a ref name
    /// one. What they do not reach, such as trees on the way to a merge, stays staged.
    pub fn settle(&mut self, roots: &[Oid]) -> Result<()> {
        let objects = self.disk.common_dir().join("objects");
        let reached = self.reached(roots)?;
        if reached.len() >= PACK_FROM {
            self.pack(&reached, &objects)?;
        } else {
            self.loosen(&reached)?;
        }
        let mut memory = self.view.memory.lock();
        for oid in &reached {
            self.staged.remove(oid);
            let gone = memory.remove(oid);
            self.staged_bytes -= gone.map_or(0, |(_, bytes)| bytes.len());
        }
        drop(memory);
        let loose = std::mem::take(&mut self.loose);
        sync_loose(&objects, &loose)?;
        self.disk.repo.odb()?.refresh()?;
        Ok(())
    }

    /// Returns the staged objects among `roots` and what they name, each after all that it names.
    fn reached(&self, roots: &[Oid]) -> Result<Vec<Oid>> {
        let (mut seen, mut out) = (BTreeSet::new(), Vec::new());
        for root in roots {
            self.reach(*root, &mut seen, &mut out)?;
        }
        Ok(out)
    }

    fn reach(&self, oid: Oid, seen: &mut BTreeSet<Oid>, out: &mut Vec<Oid>) -> Result<()> {
        if !self.staged.contains(&oid) || !seen.insert(oid) {
            return Ok(());
        }
        let kind = self.view.memory.lock().get(&oid).map(|(kind, _)| *kind);
        match kind {
            Some(ObjectType::Commit) => self.reach(self.view.tree_of(oid)?, seen, out)?,
            Some(ObjectType::Tree) => {
                for leaf in self.view.names(oid)?.values() {
                    self.reach(leaf.oid, seen, out)?;
                }
            }
            _ => {}
        }
        out.push(oid);
        Ok(())
    }

    /// Returns staged objects with their contents.
    fn contents(&self, oids: &[Oid]) -> Vec<(Oid, ObjectType, Arc<[u8]>)> {
        let memory = self.view.memory.lock();
        let content = |oid: &Oid| {
            let (kind, bytes) = memory.get(oid)?;
            Some((*oid, *kind, Arc::clone(bytes)))
        };
        oids.iter().filter_map(content).collect()
    }

    fn loosen(&mut self, oids: &[Oid]) -> Result<()> {
        let disk = self.disk.repo.odb()?;
        for (oid, kind, bytes) in self.contents(oids) {
            disk.write(kind, &bytes)?;
            self.loose.push(oid);
        }
        Ok(())
    }

    fn pack(&self, oids: &[Oid], objects: &Path) -> Result<()> {
        // A handle of its own: its objects are these alone, and so is its configuration.
        let repo = Repository::open(self.disk.repo.path())?;
        let odb = Odb::new()?;
        odb.add_new_mempack_backend(1)?;
        for (_, kind, bytes) in self.contents(oids) {
            odb.write(kind, &bytes)?;
        }
        repo.set_odb(&odb)?;
        search_no_deltas(&repo)?;
        let mut builder = repo.packbuilder()?;
        for &oid in oids {
            builder.insert_object(to_git(oid), None)?;
        }
        // libgit2 puts the index in its place before the pack, so both are made aside.
        let aside = tempfile::Builder::new().prefix(ASIDE).tempdir_in(objects);
        let aside = aside.map_err(io_error(objects.display().to_string()))?;
        builder.write(aside.path(), 0)?;
        let name = builder
            .name()?
            .ok_or_else(|| git2::Error::from_str("the pack has no name"))?;
        publish(aside.path(), name, &objects.join("pack"))
    }
}

/// Moves a pack to where git looks for it, durable, its index last: that is what makes it seen.
fn publish(aside: &Path, name: &str, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(io_error(dir.display().to_string()))?;
    let files = ["pack", "idx"].map(|ending| format!("pack-{name}.{ending}"));
    for file in &files {
        sync(&aside.join(file))?;
    }
    for file in &files {
        let place = dir.join(file);
        std::fs::rename(aside.join(file), &place).map_err(io_error(place.display().to_string()))?;
    }
    sync(dir)
}

/// Gives a private handle a configuration by which packs are written without
/// deltas: searching them is most of a merge's time, and `git gc` does it later.
fn search_no_deltas(repo: &Repository) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new().map_err(io_error("temporary file"))?;
    // libgit2 takes this key for the size beyond which an object gets no delta.
    file.write_all(b"[pack]\n\tdeltaCacheSize = 50\n")
        .map_err(io_error("temporary file"))?;
    let mut config = Config::new()?;
    config.add_file(file.path(), ConfigLevel::App, true)?;
    let snapshot = config.snapshot()?;
    Ok(repo.set_config(&snapshot)?)
}

fn exists(odb: &Odb<'_>, oid: git2::Oid) -> bool {
    odb.exists_ext(oid, OdbLookupFlags::NO_REFRESH)
}

fn sync_loose(objects: &Path, oids: &[Oid]) -> Result<()> {
    let mut dirs = BTreeSet::new();
    for oid in oids {
        let path = loose_path(objects, oid);
        match sync(&path) {
            Ok(()) => {}
            // It is in a pack. Packs are synced before they are seen, their directory after.
            Err(PromoteError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let packs = objects.join("pack");
                dirs.extend(packs.exists().then_some(packs));
                continue;
            }
            Err(error) => return Err(error),
        }
        dirs.extend(path.parent().map(Path::to_path_buf));
    }
    dirs.iter().try_for_each(|dir| sync(dir))?;
    if dirs.is_empty() {
        Ok(())
    } else {
        sync(objects)
    }
}

fn loose_path(objects: &Path, oid: &Oid) -> PathBuf {
    let hex = oid.to_string();
    objects.join(&hex[..2]).join(&hex[2..])
}

/// Makes a file or directory durable.
pub(super) fn sync(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(io_error(path.display().to_string()))
}
