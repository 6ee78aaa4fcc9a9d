//! New objects, in memory until they are all there, then on disk at once.
//!
//! Owns: where staged objects live and how they become durable. A few become
//! loose objects, many one pack; either way every file and its directory is
//! synced before [`Stage::settle`] returns, so a ref may name them.
//!
//! Never holds more than [`STAGED_MAX`] bytes of content: beyond that, and for
//! streamed content, objects go straight to disk.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Config, ConfigLevel, ObjectType, Odb, OdbLookupFlags, Repository};
use parking_lot::Mutex;

use super::{Promote, PromoteError, Result, from_git, io_error, to_git};
use crate::domain::base::Oid;
use crate::domain::digest::{Digest, Hasher};
use crate::domain::path::RepoPath;

/// From this many objects on, a pack costs fewer syncs and files than loose objects.
const PACK_FROM: usize = 24;
/// Bytes kept in memory before objects go straight to disk.
const STAGED_MAX: usize = 64 << 20;
/// One piece of streamed content.
const PIECE: usize = 1 << 16;
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
            view: Self::over(view),
            disk: Self::over(disk),
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
        let oid = git2::Oid::hash_object(kind, bytes)?;
        if self.staged.contains(&from_git(oid)) {
            return Ok(from_git(oid));
        }
        if exists(&self.disk.repo.odb()?, oid) {
            // Freshened, so that a `git gc` beside us does not take it for old garbage.
            self.disk.repo.odb()?.write(kind, bytes)?;
            return Ok(from_git(oid));
        }
        if self.staged_bytes + bytes.len() > STAGED_MAX {
            self.disk.repo.odb()?.write(kind, bytes)?;
            self.loose.push(from_git(oid));
        } else {
            let content = (kind, Arc::from(bytes));
            self.view.memory.lock().insert(from_git(oid), content);
            self.staged_bytes += bytes.len();
            self.staged.insert(from_git(oid));
        }
        Ok(from_git(oid))
    }

    /// Makes `roots` and everything they reach durable; only then may a ref name
    /// one. What they do not reach, such as trees on the way to a merge, stays staged.
    pub fn settle(&mut self, roots: &[Oid]) -> Result<()> {
        let objects = self.disk.common_dir().join("objects");
        let reached = self.reached(roots)?;
        if reached.len() >= PACK_FROM {
            self.pack(&reached, &objects.join("pack"))?;
        } else {
            self.loosen(&reached)?;
        }
        self.staged.retain(|oid| !reached.contains(oid));
        let mut memory = self.view.memory.lock();
        for (_, bytes) in reached.iter().filter_map(|oid| memory.remove(oid)) {
            self.staged_bytes -= bytes.len();
        }
        drop(memory);
        let loose = std::mem::take(&mut self.loose);
        sync_loose(&objects, &loose)?;
        self.disk.repo.odb()?.refresh()?;
        Ok(())
    }

    /// Returns the staged objects among `roots` and what they name.
    fn reached(&self, roots: &[Oid]) -> Result<BTreeSet<Oid>> {
        let mut out = BTreeSet::new();
        let mut waiting = roots.to_vec();
        while let Some(oid) = waiting.pop() {
            if !self.staged.contains(&oid) || !out.insert(oid) {
                continue;
            }
            let kind = self.view.memory.lock().get(&oid).map(|(kind, _)| *kind);
            match kind {
                Some(ObjectType::Commit) => waiting.push(self.view.tree_of(oid)?),
                Some(ObjectType::Tree) => {
                    waiting.extend(self.view.names(oid)?.values().map(|leaf| leaf.oid));
                }
                _ => {}
            }
        }
        Ok(out)
    }

    /// Returns staged objects with their contents.
    fn contents(&self, oids: &BTreeSet<Oid>) -> Vec<(Oid, ObjectType, Arc<[u8]>)> {
        let memory = self.view.memory.lock();
        let content = |oid: &Oid| {
            let (kind, bytes) = memory.get(oid)?;
            Some((*oid, *kind, Arc::clone(bytes)))
        };
        oids.iter().filter_map(content).collect()
    }

    fn loosen(&mut self, oids: &BTreeSet<Oid>) -> Result<()> {
        let disk = self.disk.repo.odb()?;
        for (oid, kind, bytes) in self.contents(oids) {
            disk.write(kind, &bytes)?;
            self.loose.push(oid);
        }
        Ok(())
    }

    fn pack(&self, oids: &BTreeSet<Oid>, dir: &Path) -> Result<()> {
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
        std::fs::create_dir_all(dir).map_err(io_error(dir.display().to_string()))?;
        builder.write(dir, 0)?;
        let name = builder
            .name()?
            .ok_or_else(|| git2::Error::from_str("the pack has no name"))?;
        for ending in ["pack", "idx"] {
            sync(&dir.join(format!("pack-{name}.{ending}")))?;
        }
        sync(dir)
    }
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
            // The same object came into a pack meanwhile; git keeps packs synced.
            Err(PromoteError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
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
