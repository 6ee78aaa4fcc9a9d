//! Versions: the settled contents of files, named by their SHA-256.
//!
//! Owns: `versions/ab/cdef…`, one plain file with exactly the bytes for each
//! content, neither packed nor compressed. Invariants: a name appears only with
//! its whole content behind it (made aside, then renamed); a version is never
//! written again; whoever reads one checks the hash, so a byte that came in
//! behind our back is found. Durability is the caller's moment: nothing is
//! synced before [`Versions::make_durable`]. Never knows which path a content
//! belongs to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::unistd::linkat;

use crate::domain::digest::{Digest, Hasher};
use crate::store::make_dir;

/// More contents than this are made durable by syncing the whole file system once,
/// which waits for whatever else was written there.
const SYNC_EACH_MAX: usize = 256;
const BUFFER: usize = 1 << 17;
/// What is older than this beside the newest version was written out long ago.
const YOUNG_SECONDS: i64 = 3600;
/// Nobody writes a version, not even its owner.
const MODE: u32 = 0o400;

static NEXT: AtomicU64 = AtomicU64::new(0);

#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("version {sha256}: {source}")]
    Io { sha256: Digest, source: io::Error },
    #[error("version {0} is missing")]
    Missing(Digest),
    #[error("version {sha256} is altered: its bytes hash to {found}")]
    Altered { sha256: Digest, found: Digest },
}

/// A program is told the errno that the disk gave, not that something failed.
impl From<VersionError> for io::Error {
    fn from(error: VersionError) -> Self {
        match error {
            VersionError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Versions {
    dir: PathBuf,
}

impl Versions {
    /// The versions of the store `store`; directories in it are made as they are needed.
    pub fn of(store: &Path) -> Self {
        Self {
            dir: store.join("versions"),
        }
    }

    pub fn path(&self, sha256: &Digest) -> PathBuf {
        let hex = sha256.hex();
        self.dir.join(&hex[..2]).join(&hex[2..])
    }

    pub fn has(&self, sha256: &Digest) -> bool {
        self.path(sha256).exists()
    }

    /// Stores the bytes of `source`, which stays. The caller has hashed them.
    pub fn keep(&self, source: &File, sha256: &Digest) -> Result<(), VersionError> {
        self.make(sha256, |file| {
            // Through its own descriptor: reading moves no offset that somebody else uses.
            let mut source = reopen(source)?;
            io::copy(&mut source, file).map(drop)
        })
    }

    /// Stores `bytes` and returns their name.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, VersionError> {
        let sha256 = Digest::of(bytes);
        self.make(&sha256, |file| file.write_all(bytes))?;
        Ok(sha256)
    }

    /// Gives the open file `file`, `name` of the directory `dir`, a second name here:
    /// it is the version now, and nobody may write to it any more. The first name
    /// stays for its owner to drop.
    pub fn adopt(
        &self,
        dir: impl AsFd,
        name: &str,
        file: &File,
        sha256: &Digest,
    ) -> Result<(), VersionError> {
        let fault = |source: io::Error| VersionError::Io {
            sha256: *sha256,
            source,
        };
        let path = self.path(sha256);
        let link = || linkat(dir.as_fd(), name, AT_FDCWD, &path, AtFlags::empty());
        let linked = match link() {
            Err(Errno::ENOENT) => {
                self.make_parent(&path).map_err(fault)?;
                link()
            }
            linked => linked,
        };
        match linked {
            Ok(()) => file
                .set_permissions(fs::Permissions::from_mode(MODE))
                .map_err(|error| {
                    // Its owner keeps it then, and goes on writing to it.
                    let _ = fs::remove_file(&path);
                    fault(error)
                }),
            // The same content is here already.
            Err(Errno::EEXIST) => Ok(()),
            // Another file system, or one without second names.
            Err(Errno::EXDEV | Errno::EPERM | Errno::EMLINK | Errno::EOPNOTSUPP) => {
                self.keep(file, sha256)
            }
            Err(errno) => Err(fault(errno.into())),
        }
    }

    /// Makes a version aside and puts it in its place, if it is not there.
    fn make(
        &self,
        sha256: &Digest,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), VersionError> {
        let path = self.path(sha256);
        if path.exists() {
            return Ok(());
        }
        let made = (|| {
            self.make_parent(&path)?;
            let fresh = self.dir.join(format!(
                "new-{}-{}",
                std::process::id(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            ));
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(MODE)
                .open(&fresh)?;
            fill(&mut file)
                .and_then(|()| fs::rename(&fresh, &path))
                .inspect_err(|_| drop(fs::remove_file(&fresh)))
        })();
        made.map_err(|source| VersionError::Io {
            sha256: *sha256,
            source,
        })
    }

    /// Makes the directory of a version, in a store that is there.
    fn make_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if !parent.exists() => {
                make_dir(&self.dir)?;
                make_dir(parent)
            }
            _ => Ok(()),
        }
    }

    /// Opens a version for reading; the bytes are not checked.
    pub fn open(&self, sha256: &Digest) -> Result<File, VersionError> {
        File::open(self.path(sha256)).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => VersionError::Missing(*sha256),
            _ => VersionError::Io {
                sha256: *sha256,
                source,
            },
        })
    }

    /// Returns the bytes of a version, checked against its name.
    pub fn read(&self, sha256: &Digest) -> Result<Vec<u8>, VersionError> {
        let mut bytes = Vec::new();
        self.open(sha256)?
            .read_to_end(&mut bytes)
            .map_err(|source| VersionError::Io {
                sha256: *sha256,
                source,
            })?;
        let found = Digest::of(&bytes);
        if found == *sha256 {
            Ok(bytes)
        } else {
            Err(VersionError::Altered {
                sha256: *sha256,
                found,
            })
        }
    }

    /// Reads a version through and returns its size; it may be larger than memory.
    pub fn check(&self, sha256: &Digest) -> Result<u64, VersionError> {
        let mut file = self.open(sha256)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = file.read(&mut buffer).map_err(|source| VersionError::Io {
                sha256: *sha256,
                source,
            })?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
        }
        let len = hasher.len();
        let found = hasher.finish();
        if found == *sha256 {
            Ok(len)
        } else {
            Err(VersionError::Altered {
                sha256: *sha256,
                found,
            })
        }
    }

    /// Makes these versions survive a power loss: their bytes, and their names.
    pub fn make_durable(&self, versions: &[Digest]) -> Result<(), VersionError> {
        let Some(first) = versions.first() else {
            return Ok(());
        };
        if versions.len() > SYNC_EACH_MAX {
            let synced = File::open(&self.dir).and_then(|dir| Ok(nix::unistd::syncfs(dir)?));
            return synced.map_err(|source| VersionError::Io {
                sha256: *first,
                source,
            });
        }
        let mut parents = std::collections::BTreeSet::from([self.dir.clone()]);
        for sha256 in versions {
            self.open(sha256)?
                .sync_data()
                .map_err(|source| VersionError::Io {
                    sha256: *sha256,
                    source,
                })?;
            parents.extend(self.path(sha256).parent().map(Path::to_owned));
        }
        parents
            .iter()
            .try_for_each(|dir| File::open(dir)?.sync_all())
            .map_err(|source| VersionError::Io {
                sha256: *first,
                source,
            })
    }

    /// Puts out of the way what a power loss damaged: a version of which only the name
    /// survived would stand for its content for ever. Once in each boot, and only the
    /// newest are looked at: older bytes are long on the disk.
    pub fn after_boot(&self, boot: &str) -> Result<(), VersionError> {
        let mark = self.dir.join("boot");
        if fs::read_to_string(&mark).is_ok_and(|known| known == boot) {
            return Ok(());
        }
        let fault = |source| VersionError::Io {
            sha256: Digest::ZERO,
            source,
        };
        let changed =
            |sha256: Digest| Some((fs::metadata(self.path(&sha256)).ok()?.ctime(), sha256));
        let all = self.all().map_err(fault)?;
        let all: Vec<(i64, Digest)> = all.into_iter().filter_map(changed).collect();
        let newest = all
            .iter()
            .map(|(ctime, _)| *ctime)
            .max()
            .unwrap_or_default();
        for (_, sha256) in all
            .iter()
            .filter(|(ctime, _)| ctime + YOUNG_SECONDS >= newest)
        {
            self.set_aside_damaged(sha256)?;
        }
        if self.dir.exists() {
            fs::write(&mark, boot).map_err(fault)?;
        }
        Ok(())
    }

    /// Takes a version whose bytes are not its own out of its place; they are kept for whoever asks.
    pub fn set_aside_damaged(&self, sha256: &Digest) -> Result<(), VersionError> {
        match self.check(sha256) {
            Ok(_) | Err(VersionError::Missing(_)) => Ok(()),
            Err(VersionError::Altered { .. }) => {
                let aside = self.dir.join(format!("lost-{}", sha256.hex()));
                fs::rename(self.path(sha256), aside).map_err(|source| VersionError::Io {
                    sha256: *sha256,
                    source,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the names of all versions, in order.
    pub fn all(&self) -> io::Result<Vec<Digest>> {
        let mut found = Vec::new();
        let shards = match fs::read_dir(&self.dir) {
            Ok(shards) => shards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for shard in shards {
            let shard = shard?;
            if shard.file_name().len() != 2 || !shard.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(shard.path())? {
                let hex = [shard.file_name(), entry?.file_name()]
                    .map(std::ffi::OsString::into_encoded_bytes);
                if let Ok(sha256) = Digest::from_hex(&hex.concat()) {
                    found.push(sha256);
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Returns a version's size, if it is there.
    pub fn size(&self, sha256: &Digest) -> Option<u64> {
        fs::metadata(self.path(sha256)).ok().map(|meta| meta.size())
    }

    /// Drops a version and returns how many bytes that freed.
    pub fn remove(&self, sha256: &Digest) -> Result<u64, VersionError> {
        let size = self.size(sha256).ok_or(VersionError::Missing(*sha256))?;
        fs::remove_file(self.path(sha256))
            .map(|()| size)
            .map_err(|source| VersionError::Io {
                sha256: *sha256,
                source,
            })
    }
}

/// Opens the same file with an offset of its own.
fn reopen(file: &File) -> io::Result<File> {
    use std::os::fd::AsRawFd;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions() -> (tempfile::TempDir, Versions) {
        let dir = tempfile::tempdir().expect("a directory");
        let versions = Versions::of(dir.path());
        (dir, versions)
    }

    #[test]
    fn a_full_disk_keeps_its_errno() {
        for errno in [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS] {
            let source = io::Error::from_raw_os_error(errno);
            let sha256 = Digest::of(b"");
            let error = io::Error::from(VersionError::Io { sha256, source });
            assert_eq!(error.raw_os_error(), Some(errno));
        }
        let missing = io::Error::from(VersionError::Missing(Digest::of(b"")));
        assert_eq!(missing.raw_os_error(), None);
    }

    #[test]
    fn a_version_is_a_plain_file_with_exactly_the_bytes() {
        let (dir, versions) = versions();
        let sha256 = versions.put(b"hello\n").expect("stored");
        let hex = sha256.hex();
        let path = dir.path().join("versions").join(&hex[..2]).join(&hex[2..]);
        assert_eq!(fs::read(&path).expect("a plain file"), b"hello\n");
        assert_eq!(versions.put(b"hello\n").expect("stored once"), sha256);
        assert_eq!(versions.all().expect("listed"), [sha256]);
        assert_eq!(versions.read(&sha256).expect("read"), b"hello\n");
        versions.make_durable(&[sha256]).expect("durable");
        assert_eq!(versions.remove(&sha256).expect("removed"), 6);
        assert!(matches!(
            versions.read(&sha256),
            Err(VersionError::Missing(_))
        ));
    }

    #[test]
    fn a_working_file_gets_a_second_name_or_none_where_the_content_is_known() {
        let (dir, versions) = versions();
        let work = File::open(dir.path()).expect("the directory");
        let sha256 = Digest::of(b"bytes");
        for (name, links) in [("7", 2), ("8", 1)] {
            let path = dir.path().join(name);
            fs::write(&path, b"bytes").expect("a working file");
            let file = File::open(&path).expect("a working file");
            versions.adopt(&work, name, &file, &sha256).expect("kept");
            let meta = file.metadata().expect("its state");
            assert_eq!(meta.nlink(), links, "{name}");
            assert_eq!(meta.mode() & 0o222 == 0, links == 2, "{name}");
            fs::remove_file(&path).expect("its owner drops it");
            assert_eq!(versions.check(&sha256).expect("whole"), 5, "{name}");
        }
    }

    #[test]
    fn a_working_file_that_is_gone_is_no_version() {
        let (dir, versions) = versions();
        let work = File::open(dir.path()).expect("the directory");
        let sha256 = Digest::of(b"bytes");
        let none = versions.adopt(&work, "7", &work, &sha256);
        assert!(matches!(none, Err(VersionError::Io { .. })), "{none:?}");
        assert!(!versions.has(&sha256));
    }

    #[test]
    fn a_store_that_has_moved_is_not_made_again_where_it_was() {
        let (dir, _) = versions();
        let [store, moved] = ["store", "moved"].map(|name| dir.path().join(name));
        fs::create_dir(&store).expect("a store");
        let versions = Versions::of(&store);
        let before = versions.put(b"before").expect("stored");
        fs::write(dir.path().join("7"), b"bytes").expect("a working file");
        let work = File::open(dir.path()).expect("the directory");
        let file = File::open(dir.path().join("7")).expect("a working file");
        let sha256 = Digest::of(b"bytes");
        fs::rename(&store, &moved).expect("moved");
        for result in [
            versions.adopt(&work, "7", &file, &sha256),
            versions.keep(&file, &sha256),
            versions.put(b"bytes").map(drop),
        ] {
            assert!(matches!(result, Err(VersionError::Io { .. })), "{result:?}");
            assert!(!store.exists());
        }
        assert_eq!(Versions::of(&moved).all().expect("listed"), [before]);
    }

    #[test]
    fn keeping_a_file_moves_no_offset_of_it() {
        use std::io::Seek;
        let (_dir, versions) = versions();
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"0123456789").expect("written");
        file.seek(io::SeekFrom::Start(4)).expect("sought");
        versions
            .keep(&file, &Digest::of(b"0123456789"))
            .expect("kept");
        assert_eq!(file.stream_position().expect("offset"), 4);
        assert_eq!(
            versions.check(&Digest::of(b"0123456789")).expect("whole"),
            10
        );
    }

    #[test]
    fn an_altered_version_is_found() {
        let (_dir, versions) = versions();
        let sha256 = versions.put(b"right").expect("stored");
        let path = versions.path(&sha256);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&path, b"wrong").expect("altered");
        let found = Digest::of(b"wrong");
        for result in [
            versions.read(&sha256).map(drop),
            versions.check(&sha256).map(drop),
        ] {
            let altered =
                matches!(result, Err(VersionError::Altered { found: bytes, .. }) if bytes == found);
            assert!(altered, "{result:?}");
        }
    }
}
