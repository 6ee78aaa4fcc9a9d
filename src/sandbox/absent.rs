//! Makes paths absent: their directory is built anew, from its other entries.
//!
//! A cover (an empty directory over the real one) hides contents; the name stays, and programs trip over it. So
//! the parent of a hidden path is replaced by a small read-only directory in which every other entry is bound
//! again and links are made again. The same serves a home that is closed to the agent's own uid and cannot be
//! mapped: what everybody may read is bound, small files are copied.
//! Where a directory cannot be rebuilt (too large, not readable, writable by the agent) the path is covered
//! instead: never less than empty.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::mount::MsFlags;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::owners;
use crate::sandbox::place;
use crate::sandbox::view;

/// A directory with more entries is covered, not rebuilt: each entry costs a mount.
const ENTRIES_MAX: usize = 256;
/// A closed file of a closed home is copied up to this size.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Directories that are never rebuilt.
const FIXED: [&str; 4] = ["/", "/dev", "/proc", "/sys"];

/// Says whether a directory can be rebuilt.
pub(super) fn is_small(directory: &Path) -> bool {
    fs::read_dir(directory)
        .is_ok_and(|entries| entries.take(ENTRIES_MAX + 1).count() <= ENTRIES_MAX)
}

enum Kept {
    Tree { tree: OwnedFd, directory: bool },
    Link(PathBuf),
    Copy(Vec<u8>),
}

/// A directory to be: its entries are held open, so that it can be built where it lies.
pub(super) struct Skeleton {
    directory: PathBuf,
    mode: u32,
    entries: Vec<(OsString, Kept)>,
}

impl Skeleton {
    /// Takes every entry of a directory but the named ones. With `closed`, only what everybody may read is bound.
    pub(super) fn of(
        directory: &Path,
        without: &[OsString],
        closed: bool,
    ) -> Result<Self, SealError> {
        let failed = format!("cannot list {}", directory.display());
        let mode = fs::metadata(directory)
            .context(Layer::Hidden, &failed)?
            .mode()
            & 0o777;
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory).context(Layer::Hidden, &failed)? {
            let entry = entry.context(Layer::Hidden, &failed)?;
            if without.contains(&entry.file_name()) {
                continue;
            }
            if entries.len() == ENTRIES_MAX {
                return Err(SealError::new(
                    Layer::Hidden,
                    format!("{} has too many entries", directory.display()),
                ));
            }
            if let Some(kept) = keep(&entry, closed)? {
                entries.push((entry.file_name(), kept));
            }
        }
        Ok(Self {
            directory: directory.to_owned(),
            mode,
            entries,
        })
    }

    /// Builds the directory where it lies, with places for what is attached below it later.
    pub(super) fn build(self, owner: &str, places: &[(PathBuf, bool)]) -> Result<(), SealError> {
        let options = format!("mode={:o}{owner}", self.mode);
        view::tmpfs(&self.directory, &options, MsFlags::empty())?;
        let failed = format!("cannot rebuild {}", self.directory.display());
        for (name, kept) in self.entries {
            put(&self.directory.join(name), kept).map_err(|error| SealError {
                what: format!("{failed}: {}", error.what),
                ..error
            })?;
        }
        // What lies in a directory that is closed to the agent stands in what is attached over that one.
        let missing = |place: &Path| {
            let found = fs::symlink_metadata(place);
            found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
        };
        for (place, directory) in places {
            if place.starts_with(&self.directory) && missing(place) {
                place::make_place(place, *directory)?;
            }
        }
        view::protect(&self.directory)
    }
}

fn keep(entry: &fs::DirEntry, closed: bool) -> Result<Option<Kept>, SealError> {
    let path = entry.path();
    let failed = format!("cannot keep {}", path.display());
    let kind = entry.file_type().context(Layer::Hidden, &failed)?;
    if kind.is_symlink() {
        return fs::read_link(&path)
            .map(|target| Some(Kept::Link(target)))
            .context(Layer::Hidden, &failed);
    }
    if closed && !owners::open_to_all(&path) {
        let small = fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= FILE_BYTES_MAX);
        let copied = kind.is_file() && small;
        return if copied {
            fs::read(&path)
                .map(|bytes| Some(Kept::Copy(bytes)))
                .context(Layer::Hidden, &failed)
        } else {
            Ok(None)
        };
    }
    let tree = view::clone_read_only(&path)?;
    Ok(Some(Kept::Tree {
        tree,
        directory: kind.is_dir(),
    }))
}

fn put(path: &Path, kept: Kept) -> Result<(), SealError> {
    let failed = format!("cannot show {}", path.display());
    match kept {
        Kept::Link(target) => {
            std::os::unix::fs::symlink(target, path).context(Layer::Hidden, &failed)
        }
        Kept::Copy(bytes) => {
            use std::io::Write;
            let mut file = fs::OpenOptions::new();
            let file = file.write(true).create_new(true).mode(0o600).open(path);
            file.and_then(|mut file| file.write_all(&bytes))
                .context(Layer::Hidden, &failed)
        }
        Kept::Tree { tree, directory } => {
            place::make_place(path, directory)?;
            view::attach_at(&tree, path)
        }
    }
}

/// Makes paths absent by rebuilding their directories, outermost first. Returns those that must be covered instead.
pub(super) fn remove(
    hidden: &[PathBuf],
    writable: &[PathBuf],
    owner: &str,
    places: &[(PathBuf, bool)],
) -> Result<Vec<PathBuf>, SealError> {
    let mut parents: BTreeMap<(usize, &Path), Vec<OsString>> = BTreeMap::new();
    let mut covered = Vec::new();
    for path in hidden {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) if can_rebuild(parent, writable) => {
                let depth = parent.components().count();
                parents
                    .entry((depth, parent))
                    .or_default()
                    .push(name.to_owned());
            }
            _ => covered.push(path.clone()),
        }
    }
    for ((_, parent), names) in parents {
        if !names
            .iter()
            .any(|name| fs::symlink_metadata(parent.join(name)).is_ok())
        {
            continue;
        }
        match Skeleton::of(parent, &names, false) {
            Ok(skeleton) => skeleton.build(owner, places)?,
            Err(_) => covered.extend(names.iter().map(|name| parent.join(name))),
        }
    }
    Ok(covered)
}

fn can_rebuild(parent: &Path, writable: &[PathBuf]) -> bool {
    !FIXED.iter().any(|fixed| parent == Path::new(fixed))
        && !writable.iter().any(|path| parent.starts_with(path))
}
