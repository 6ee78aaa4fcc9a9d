//! Which shape a repository has, and which cannot be served.
//!
//! Owns: finding the repository of a path, what kind of checkout it is, the settings
//! that a base is pinned to, and what its file system is unfit for. Reads only the
//! repository's configuration and the kernel's table of mounts; changes nothing.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;

use git2::Config;
use git2::ErrorCode;
use git2::Repository;
use git2::RepositoryOpenFlags;

use crate::domain::convert::AutoCrlf;
use crate::domain::convert::Eol;
use crate::domain::convert::EolConfig;

#[derive(Debug, thiserror::Error)]
pub enum ShapeError {
    #[error("no git repository at or above {path}")]
    NotARepository { path: PathBuf },
    #[error("the repository uses {format} object ids; only SHA-1 can be read")]
    ObjectFormat { format: String },
    #[error("the repository keeps its refs as {format}; only plain files can be read")]
    RefStorage { format: String },
    #[error("the repository uses the git extension {name}, which cannot be read")]
    Extension { name: String },
    #[error("the repository {path} belongs to another user and is not in safe.directory")]
    Owner { path: PathBuf },
    #[error("the repository {path} cannot be opened: {reason}")]
    Unreadable { path: PathBuf, reason: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShapeKind {
    /// A checkout with its own `.git` directory.
    Main,
    /// A linked worktree.
    Linked,
    /// A submodule's checkout, or another with a `.git` file.
    Separate,
    Bare,
}

/// What `init` and `mount` must know of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    pub kind: ShapeKind,
    /// The checkout's root; a bare repository has none.
    pub worktree: Option<PathBuf>,
    /// The checkout's own git directory.
    pub git_dir: PathBuf,
    /// The directory with the objects and refs.
    pub common_dir: PathBuf,
    /// The checkout shows only a part of the tree; a mount shows all of it.
    pub sparse: bool,
    pub shallow: bool,
    /// Some objects are only at the remote.
    pub partial: bool,
    pub eol: EolConfig,
}

/// Finds the repository that `path` is in.
pub fn discover(path: &Path) -> Result<Shape, ShapeError> {
    let none: [&Path; 0] = [];
    let found = Repository::discover_path(path, none).map_err(|_| ShapeError::NotARepository {
        path: path.to_path_buf(),
    })?;
    refuse_formats(&common_dir_of(&found))?;
    // From the path itself: a git directory kept apart does not know its checkout.
    let repository = Repository::open_ext(path, RepositoryOpenFlags::empty(), none)
        .map_err(|error| open_error(&found, &error))?;
    let unreadable = |error: &git2::Error| open_error(&found, error);
    let mut config = repository.config().map_err(|error| unreadable(&error))?;
    let config = config.snapshot().map_err(|error| unreadable(&error))?;
    let worktree = repository.workdir().map(canonical);
    let common_dir = canonical(repository.commondir());
    Ok(Shape {
        kind: kind_of(&repository, worktree.as_deref()),
        git_dir: canonical(repository.path()),
        sparse: config.get_bool("core.sparsecheckout").unwrap_or(false),
        shallow: fs::metadata(common_dir.join("shallow")).is_ok_and(|data| data.len() > 0),
        partial: has_promisor(&config),
        eol: eol_of(&config),
        worktree,
        common_dir,
    })
}

fn kind_of(repository: &Repository, worktree: Option<&Path>) -> ShapeKind {
    match worktree {
        None => ShapeKind::Bare,
        Some(_) if repository.is_worktree() => ShapeKind::Linked,
        Some(dir) if dir.join(".git").is_file() => ShapeKind::Separate,
        Some(_) => ShapeKind::Main,
    }
}

fn canonical(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_path_buf())
}

fn common_dir_of(git_dir: &Path) -> PathBuf {
    match fs::read(git_dir.join("commondir")) {
        Ok(text) => git_dir.join(std::ffi::OsStr::from_bytes(text.trim_ascii_end())),
        Err(_) => git_dir.to_path_buf(),
    }
}

/// Names the formats that libgit2 would only call unknown.
fn refuse_formats(common_dir: &Path) -> Result<(), ShapeError> {
    let Ok(config) = Config::open(&common_dir.join("config")) else {
        return Ok(());
    };
    match config.get_string("extensions.objectformat") {
        Ok(format) if format != "sha1" => return Err(ShapeError::ObjectFormat { format }),
        _ => {}
    }
    match config.get_string("extensions.refstorage") {
        Ok(format) if format != "files" => Err(ShapeError::RefStorage { format }),
        _ => Ok(()),
    }
}

fn open_error(path: &Path, error: &git2::Error) -> ShapeError {
    let path = path.to_path_buf();
    if error.code() == ErrorCode::Owner {
        return ShapeError::Owner { path };
    }
    match error.message().strip_prefix("unsupported extension name ") {
        Some(name) => ShapeError::Extension {
            name: name.to_owned(),
        },
        None => ShapeError::Unreadable {
            path,
            reason: error.message().to_owned(),
        },
    }
}

fn has_promisor(config: &Config) -> bool {
    let mut promisor = config.get_string("extensions.partialclone").is_ok();
    if let Ok(entries) = config.entries(Some(r"^remote\..*\.promisor$")) {
        let _ = entries.for_each(|entry| promisor |= entry.value().is_ok_and(|v| v != "false"));
    }
    promisor
}

/// Reads the settings as git does; an odd value is the default.
fn eol_of(config: &Config) -> EolConfig {
    let text = |name| config.get_string(name).unwrap_or_default();
    let autocrlf = if text("core.autocrlf").eq_ignore_ascii_case("input") {
        AutoCrlf::Input
    } else if config.get_bool("core.autocrlf").unwrap_or(false) {
        AutoCrlf::True
    } else {
        AutoCrlf::False
    };
    let crlf = text("core.eol").eq_ignore_ascii_case("crlf");
    EolConfig {
        autocrlf,
        eol: if crlf { Eol::Crlf } else { Eol::Lf },
    }
}

/// What a store's or a repository's file system is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSystem {
    /// The kernel's name for it, such as `ext4`.
    pub kind: String,
    /// Its locks and renames are not those of one machine.
    pub network: bool,
    /// Names that differ in case only are one file.
    pub folds_case: bool,
}

const NETWORK: [&str; 11] = [
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "afs",
    "9p",
    "ceph",
    "glusterfs",
    "lustre",
    "fuse.sshfs",
];

/// Says what the git directory's file system is; `git_dir` must hold a `HEAD`.
pub fn file_system(git_dir: &Path) -> std::io::Result<FileSystem> {
    let git_dir = git_dir.canonicalize()?;
    let kind = mounted_kind(&fs::read("/proc/self/mountinfo")?, &git_dir).unwrap_or_default();
    let head = fs::symlink_metadata(git_dir.join("HEAD"))?;
    let folds_case = fs::symlink_metadata(git_dir.join("head"))
        .is_ok_and(|lower| (lower.dev(), lower.ino()) == (head.dev(), head.ino()));
    Ok(FileSystem {
        network: NETWORK.contains(&kind.as_str()),
        kind,
        folds_case,
    })
}

/// Finds the type of the mount that `path` is on: the last of the deepest ones.
fn mounted_kind(mountinfo: &[u8], path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mountinfo.split(|&b| b == b'\n') {
        let mut fields = line.split(|&b| b == b' ');
        let Some(point) = fields.nth(4).map(unescape) else {
            continue;
        };
        let point = Path::new(std::ffi::OsStr::from_bytes(&point)).to_path_buf();
        let kind = fields.skip_while(|field| *field != b"-").nth(1);
        let Some(kind) = kind.filter(|_| path.starts_with(&point)) else {
            continue;
        };
        let depth = point.components().count();
        if best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, String::from_utf8_lossy(kind).into_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// Undoes the kernel's `\040` and its like.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\');
        let value =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(value.unwrap_or(byte));
        rest = if value.is_some() { &tail[3..] } else { tail };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    use super::super::tests::Repo;
    use super::super::tests::git_in;

    fn shape(path: &Path) -> Shape {
        discover(path).expect("a shape")
    }

    #[test]
    fn every_kind_of_checkout_is_told_apart() {
        let repo = Repo::new();
        repo.write("dir/a", "a");
        repo.commit();
        let top = repo.path().canonicalize().expect("path");
        let main = shape(&top.join("dir"));
        assert_eq!(main.kind, ShapeKind::Main);
        assert_eq!(main.worktree.as_deref(), Some(top.as_path()));
        assert!(!main.sparse && !main.shallow && !main.partial);

        let other = tempfile::TempDir::new().expect("tempdir");
        let at = |name: &str| other.path().canonicalize().expect("path").join(name);
        let text = |name: &str| at(name).to_str().expect("utf-8").to_owned();
        repo.git(["worktree", "add", "-q", "--detach", &text("linked")]);
        let linked = shape(&at("linked/dir"));
        assert_eq!(
            (linked.kind, &linked.common_dir),
            (ShapeKind::Linked, &main.common_dir)
        );
        assert_ne!(linked.git_dir, linked.common_dir);

        let url = format!("file://{}", top.display());
        git_in(
            other.path(),
            ["clone", "-q", "--bare", "--depth=1", &url, "bare"],
        );
        let bare = shape(&at("bare"));
        assert_eq!(
            (bare.kind, bare.shallow, bare.worktree),
            (ShapeKind::Bare, true, None)
        );

        repo.git(["config", "uploadpack.allowFilter", "true"]);
        git_in(
            other.path(),
            [
                "clone",
                "-q",
                "--filter=tree:0",
                "--sparse",
                &url,
                "partial",
            ],
        );
        let partial = shape(&at("partial"));
        assert!(partial.partial && partial.sparse);

        git_in(
            other.path(),
            [
                "clone",
                "-q",
                "--separate-git-dir=sep.git",
                &url,
                "separate",
            ],
        );
        assert_eq!(shape(&at("separate")).kind, ShapeKind::Separate);
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let dir = tempfile::TempDir::new().expect("tempdir");
        git_in(
            dir.path(),
            ["init", "-q", "--object-format=sha256", "sha256"],
        );
        // As `init --ref-format=reftable` writes it, which git knows since 2.45.
        git_in(dir.path(), ["init", "-q", "reftable"]);
        let table = dir.path().join("reftable");
        git_in(&table, ["config", "core.repositoryformatversion", "1"]);
        git_in(&table, ["config", "extensions.refstorage", "reftable"]);
        git_in(dir.path(), ["init", "-q", "odd"]);
        let odd = dir.path().join("odd");
        git_in(&odd, ["config", "core.repositoryformatversion", "1"]);
        git_in(&odd, ["config", "extensions.novel", "true"]);
        let refused = |name: &str| {
            discover(&dir.path().join(name))
                .expect_err(name)
                .to_string()
        };
        assert!(refused("sha256").contains("sha256"));
        assert!(refused("reftable").contains("reftable"));
        assert!(refused("odd").contains("extensions.novel"));
        assert!(refused("").contains("no git repository"));
    }

    #[test]
    fn line_ending_settings_are_read_as_git_reads_them() {
        let repo = Repo::new();
        for (autocrlf, eol, expected) in [
            ("input", "lf", (AutoCrlf::Input, Eol::Lf)),
            ("yes", "CRLF", (AutoCrlf::True, Eol::Crlf)),
            ("0", "native", (AutoCrlf::False, Eol::Lf)),
        ] {
            repo.git(["config", "core.autocrlf", autocrlf]);
            repo.git(["config", "core.eol", eol]);
            let got = shape(repo.path()).eol;
            assert_eq!((got.autocrlf, got.eol), expected);
        }
    }

    #[test]
    fn the_deepest_and_last_mount_names_the_file_system() {
        let table = b"1 0 8:1 / / rw - ext4 /dev/a rw\n\
            2 1 0:2 / /mnt/my\\040share rw,x shared:1 - nfs4 host:/x rw\n\
            3 1 0:3 / /mnt rw - vfat /dev/b rw\n";
        let kind = |path: &str| mounted_kind(table, Path::new(path));
        assert_eq!(kind("/mnt/my share/r/.git").as_deref(), Some("nfs4"));
        assert_eq!(kind("/mnt/other").as_deref(), Some("vfat"));
        assert_eq!(kind("/home").as_deref(), Some("ext4"));
        let repo = Repo::new();
        let here = file_system(&repo.common()).expect("a file system");
        assert!(!here.kind.is_empty() && !here.folds_case);
    }
}
