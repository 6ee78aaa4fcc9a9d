//! The candidate: what a merge would make, computed from the ledger alone.
//!
//! Owns: the way from a session's log to a tree: contents by hash from the kept
//! versions, converted back by the base's attributes, laid over the base, merged
//! with the target's tip. The same log, base and tip give the same tree, which is
//! what `replay` counts on. Never asks a mount or a working file, runs nothing,
//! and writes nothing but objects that no ref names.

use std::collections::BTreeMap;
use std::io::Read;

use crate::app::failure::Failure;
use crate::domain::base::{Base, BaseEntry, BaseKind, Oid};
use crate::domain::convert::{Conversion, Filter, LfsPointer, lfs_pointer, to_git};
use crate::domain::digest::Digest;
use crate::domain::event::{MergedPath, Status as Letter};
use crate::domain::layer;
use crate::domain::layer::Content;
use crate::domain::merge::{MergeRefusal, Status};
use crate::domain::path::{RepoPath, is_git_alias};
use crate::git::base::GitBase;
use crate::git::promote::{Change, Delta, Merged, PromoteError, Stage, What};
use crate::store::versions::{VersionError, Versions};

/// A larger file is streamed into the repository instead of held in memory, where nothing converts it.
const HELD_MAX: u64 = 16 << 20;
/// No pointer of Git LFS is larger.
const POINTER_MAX: u64 = 1024;

/// What the session made of one path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Its content as git stores it; none where the session removed it.
    pub blob: Option<Oid>,
    /// The version that the ledger accounts for.
    pub sha256: Option<Digest>,
    /// The base path it was renamed from.
    pub from: Option<RepoPath>,
}

/// The session's own tree, before anybody else's work is taken in.
#[derive(Debug, Default)]
pub struct Laid {
    pub paths: BTreeMap<RepoPath, Made>,
    pub changes: Vec<Change>,
    /// Contents that belong into the operator's LFS store.
    pub lfs: Vec<(Digest, u64)>,
    /// What could not be converted back.
    pub refusals: Vec<MergeRefusal>,
}

/// A tree that could become the target's next.
#[derive(Debug)]
pub struct Candidate {
    pub onto: Oid,
    /// The tree of the session by itself.
    pub own: Oid,
    pub merged: Merged,
    /// From the target's tip to the merged tree.
    pub deltas: Vec<Delta>,
    pub made: BTreeMap<RepoPath, Made>,
    pub lfs: Vec<(Digest, u64)>,
    pub refusals: Vec<MergeRefusal>,
}

/// What a candidate is made from.
#[derive(Clone, Copy, Debug)]
pub struct Ground<'a> {
    pub base: &'a GitBase,
    pub versions: &'a Versions,
}

impl Ground<'_> {
    /// Turns the layer's changes into git's, with every content fetched and checked by its hash.
    pub fn lay(&self, stage: &mut Stage, changes: &[layer::Change]) -> Result<Laid, Failure> {
        let mut laid = Laid::default();
        for change in changes {
            if change.path.components().any(is_git_alias) {
                laid.refusals.push(MergeRefusal::at(
                    "git-directory",
                    &change.path,
                    "some system takes a part of it for git's own directory",
                    "rename it",
                ));
                continue;
            }
            self.lay_one(stage, change, &mut laid)?;
        }
        Ok(laid)
    }

    fn lay_one(
        &self,
        stage: &mut Stage,
        change: &layer::Change,
        laid: &mut Laid,
    ) -> Result<(), Failure> {
        let path = &change.path;
        let mut made = Made {
            from: change.from.clone(),
            ..Made::default()
        };
        let blob = match &change.content {
            Content::None => None,
            Content::Unsettled => {
                return Err(Failure::integrity(format!(
                    "{path}: its last bytes never settled, so no entry accounts for them"
                ))
                .hint("mount the session once more and save the file again"));
            }
            Content::Target(target) => Some(stage.blob(&target.0).map_err(git_failure)?),
            Content::Base(from) => self.of_base(stage, path, from, laid)?,
            Content::Version { sha256, size } => {
                made.sha256 = Some(*sha256);
                self.of_version(stage, path, sha256, *size, laid)?
            }
        };
        made.blob = blob;
        let what = match (blob, change.mode) {
            (Some(blob), Some(mode)) => What::Put { mode, blob },
            (None, _) if change.content != Content::None => return Ok(()), // refused above
            _ => What::Delete,
        };
        laid.changes.push(Change {
            path: path.clone(),
            what,
        });
        laid.paths.insert(path.clone(), made);
        Ok(())
    }

    /// The base's own bytes: the same blob, unless another place means another conversion.
    fn of_base(
        &self,
        stage: &mut Stage,
        path: &RepoPath,
        from: &RepoPath,
        laid: &mut Laid,
    ) -> Result<Option<Oid>, Failure> {
        let entry = self.base.find(from).map_err(|error| lost(from, &error))?;
        let Some(entry) = entry else {
            return Err(Failure::integrity(format!(
                "{path}: the base has no {from} to take its bytes from"
            )));
        };
        let moved = path != from && entry.kind != BaseKind::Symlink;
        if !moved || self.conversion(path)? == self.conversion(from)? {
            return Ok(Some(entry.oid));
        }
        let bytes = self.shown(from, &entry)?;
        self.convert(stage, path, &bytes, laid)
    }

    fn of_version(
        &self,
        stage: &mut Stage,
        path: &RepoPath,
        sha256: &Digest,
        size: u64,
        laid: &mut Laid,
    ) -> Result<Option<Oid>, Failure> {
        let conversion = self.conversion(path)?;
        if conversion.filter() == Filter::Lfs && size > POINTER_MAX {
            self.checked_size(path, sha256, size)?;
            laid.lfs.push((*sha256, size));
            let pointer = lfs_pointer(sha256, size);
            return stage
                .blob(pointer.as_bytes())
                .map(Some)
                .map_err(git_failure);
        }
        if size > HELD_MAX && !conversion.stores_other_bytes() {
            let mut file = self
                .versions
                .open(sha256)
                .map_err(|error| bad(path, &error))?;
            return stage
                .blob_from(path, &mut file, size, sha256)
                .map(Some)
                .map_err(git_failure);
        }
        let bytes = self
            .versions
            .read(sha256)
            .map_err(|error| bad(path, &error))?;
        if bytes.len() as u64 != size {
            return Err(wrong_size(path, bytes.len() as u64, size));
        }
        if conversion.shows_other_bytes()
            && let Some(blob) = self.unchanged(path, &bytes)?
        {
            return Ok(Some(blob));
        }
        self.convert(stage, path, &bytes, laid)
    }

    fn checked_size(&self, path: &RepoPath, sha256: &Digest, size: u64) -> Result<(), Failure> {
        let found = self
            .versions
            .check(sha256)
            .map_err(|error| bad(path, &error))?;
        if found == size {
            Ok(())
        } else {
            Err(wrong_size(path, found, size))
        }
    }

    /// Returns the base's blob where the bytes are what a checkout of it shows.
    fn unchanged(&self, path: &RepoPath, bytes: &[u8]) -> Result<Option<Oid>, Failure> {
        let found = self.base.find(path).map_err(|error| lost(path, &error))?;
        let Some(entry) = found.filter(|entry| matches!(entry.kind, BaseKind::File { .. })) else {
            return Ok(None);
        };
        Ok((self.shown(path, &entry)? == bytes).then_some(entry.oid))
    }

    fn conversion(&self, path: &RepoPath) -> Result<Conversion, Failure> {
        let found = self.base.conversion(path);
        found.map_err(|error| lost(path, &error))
    }

    /// Returns what a checkout of the base shows at `path`.
    fn shown(&self, path: &RepoPath, entry: &BaseEntry) -> Result<Vec<u8>, Failure> {
        let found = self.base.read(path, entry);
        found.map_err(|error| lost(path, &error))
    }

    /// Returns the blob that git would store for `bytes` at `path`; none where that is refused.
    fn convert(
        &self,
        stage: &mut Stage,
        path: &RepoPath,
        bytes: &[u8],
        laid: &mut Laid,
    ) -> Result<Option<Oid>, Failure> {
        let conversion = self.conversion(path)?;
        let before = self.base.find(path).map_err(|error| lost(path, &error))?;
        let before = match before {
            Some(entry) if conversion.stores_other_bytes() && is_file(entry.kind) => Some(
                self.base
                    .blob(&entry.oid)
                    .map_err(|error| Failure::failed(format!("{path}: {error}")))?,
            ),
            _ => None,
        };
        match to_git(bytes, &conversion, before.as_deref()) {
            Ok(stored) => {
                if conversion.filter() == Filter::Lfs && LfsPointer::parse(bytes).is_none() {
                    laid.lfs.push((Digest::of(bytes), bytes.len() as u64));
                }
                stage.blob(&stored).map(Some).map_err(git_failure)
            }
            Err(error) => {
                laid.refusals.push(MergeRefusal::at(
                    "encoding",
                    path,
                    error.to_string(),
                    "save it in the encoding that .gitattributes says",
                ));
                Ok(None)
            }
        }
    }
}

fn is_file(kind: BaseKind) -> bool {
    matches!(kind, BaseKind::File { .. })
}

impl Candidate {
    /// Lays the changes over the base and merges the result with the tip `onto`.
    pub fn make(
        stage: &mut Stage,
        ground: &Ground<'_>,
        changes: &[layer::Change],
        onto: Oid,
    ) -> Result<Self, Failure> {
        let laid = ground.lay(stage, changes)?;
        let mut refusals = laid.refusals;
        let base = ground.base.root();
        let own = match stage.tree(Some(base), &laid.changes) {
            Ok(tree) => tree,
            Err(PromoteError::Reserved { path }) => {
                refusals.push(MergeRefusal::at(
                    "git-directory",
                    &path,
                    "some system takes a part of it for git's own directory",
                    "rename it",
                ));
                base
            }
            Err(PromoteError::Shape { path }) => {
                refusals.push(MergeRefusal::at(
                    "file-directory",
                    &path,
                    "a file or a submodule stands where it needs a directory",
                    "move it elsewhere, or remove what stands there",
                ));
                base
            }
            Err(error) => return Err(git_failure(error)),
        };
        let ours = stage.view().tree_of(onto).map_err(git_failure)?;
        let merged = stage
            .merge(Some(base), Some(ours), own)
            .map_err(git_failure)?;
        let deltas = stage
            .view()
            .diff(Some(ours), Some(merged.tree))
            .map_err(git_failure)?;
        let candidate = Self {
            onto,
            own,
            merged,
            deltas,
            made: laid.paths,
            lfs: laid.lfs,
            refusals,
        };
        candidate.refuse_foreign()?;
        Ok(candidate)
    }

    /// Nothing may differ from the tip that the session did not change.
    fn refuse_foreign(&self) -> Result<(), Failure> {
        let foreign = self
            .deltas
            .iter()
            .find(|delta| !self.made.contains_key(&delta.path));
        match foreign {
            Some(delta) => Err(Failure::integrity(format!(
                "{}: the merge would change it, and no entry of the session accounts for that",
                delta.path
            ))),
            None => Ok(()),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.deltas.is_empty() && self.merged.conflicts.is_empty() && self.refusals.is_empty()
    }

    /// Returns what the `merge` entry keeps of each path: which blobs, and the
    /// SHA-256 that the ledger accounts for.
    pub fn records(&self, stage: &Stage, base: Oid) -> Result<Vec<MergedPath>, Failure> {
        let mut out = Vec::with_capacity(self.deltas.len());
        for delta in &self.deltas {
            let made = self.made.get(&delta.path).cloned().unwrap_or_default();
            let was = stage.view().leaf(base, &delta.path).map_err(git_failure)?;
            out.push(MergedPath {
                path: delta.path.clone(),
                status: letter(delta.status, made.from.is_some()),
                from: made.from,
                base: was.filter(|leaf| !leaf.is_tree()).map(|leaf| leaf.oid),
                session: made.blob,
                result: delta.new.map(|leaf| leaf.oid),
                mode: delta.new.map(|leaf| leaf.mode),
                sha256: made.sha256,
            });
        }
        Ok(out)
    }
}

/// Returns git's letter for a change.
pub fn letter(status: Status, renamed: bool) -> Letter {
    match status {
        Status::Deleted => Letter::D,
        Status::Added if renamed => Letter::R,
        Status::Added => Letter::A,
        Status::Modified => Letter::M,
        Status::Type => Letter::T,
    }
}

/// Copies contents into the operator's LFS store, where git-lfs looks for them.
pub fn store_lfs(
    common: &std::path::Path,
    versions: &Versions,
    objects: &[(Digest, u64)],
) -> Result<(), Failure> {
    for (sha256, size) in objects {
        let hex = sha256.hex();
        let dir = common.join("lfs/objects").join(&hex[..2]).join(&hex[2..4]);
        let place = dir.join(&hex);
        if std::fs::metadata(&place).is_ok_and(|meta| meta.len() == *size) {
            continue;
        }
        let failed =
            |error: std::io::Error| Failure::failed(format!("{}: {error}", place.display()));
        std::fs::create_dir_all(&dir).map_err(failed)?;
        let mut aside = tempfile::NamedTempFile::new_in(&dir).map_err(failed)?;
        let source = versions.open(sha256).map_err(Failure::integrity)?;
        std::io::copy(&mut source.take(size + 1), &mut aside).map_err(failed)?;
        aside.as_file().sync_all().map_err(failed)?;
        aside.persist(&place).map_err(|error| failed(error.error))?;
    }
    Ok(())
}

/// Says what a git error means to the caller.
pub fn git_failure(error: PromoteError) -> Failure {
    match &error {
        PromoteError::Altered { path } => {
            Failure::integrity(format!("{path}: its version is not what the ledger names"))
        }
        PromoteError::Missing(oid) => Failure::failed(format!("object {oid} is missing"))
            .hint("git fsck says what else is; fetch it and try again"),
        PromoteError::BadBranch(_) => Failure::missing(&error),
        PromoteError::Promise { .. } => Failure::integrity(&error),
        _ => Failure::failed(&error),
    }
}

pub(super) fn bad(path: &RepoPath, error: &VersionError) -> Failure {
    match error {
        VersionError::Io { .. } => Failure::failed(format!("{path}: {error}")),
        VersionError::Missing(_) | VersionError::Altered { .. } => {
            Failure::integrity(format!("{path}: {error}")).hint("govfs verify --deep")
        }
    }
}

pub(super) fn lost(path: &RepoPath, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{path}: the base cannot be read: {error}"))
}

fn wrong_size(path: &RepoPath, found: u64, size: u64) -> Failure {
    Failure::integrity(format!(
        "{path}: its version has {found} bytes, the ledger says {size}"
    ))
}
