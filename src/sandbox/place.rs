//! Where something is attached in the view.
//!
//! Owns: the way to a place (no symbolic link is followed on it), and making a place and
//! its ancestors where the view has them to itself, or for a cover to stand on; and what tells a file from every other.
//! Never attaches anything.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::OFlag;
use nix::fcntl::OpenHow;
use nix::fcntl::ResolveFlag;
use nix::fcntl::openat2;
use nix::mount::MsFlags;
use rustix::fs::AtFlags;
use rustix::fs::StatxFlags;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::plan::Plan;
use crate::sandbox::view::tmpfs;

pub(super) fn make_directory(path: &Path) -> Result<(), SealError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .context(Layer::View, &format!("cannot make {}", path.display()))
}

/// Opens a path of the view, refusing symbolic links all the way.
pub(super) fn open_place(path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

/// Opens where something is to be attached; under a private directory, and in one of the `ways`
/// that were opened before, the place and its ancestors are made.
pub(super) fn target(
    plan: &Plan,
    path: &Path,
    directory: bool,
    ways: &mut Vec<PathBuf>,
) -> Result<OwnedFd, SealError> {
    let name = path.display();
    match open_place(path) {
        Ok(place) => return Ok(place),
        Err(Errno::ENOENT)
            if plan.is_private(path) || ways.iter().any(|way| path.starts_with(way)) => {}
        Err(Errno::EACCES) if plan.ids.is_some() => {
            ways.push(open_way(plan, path)?);
        }
        Err(errno) => {
            return Err(SealError::errno(
                Layer::View,
                &format!("cannot reach {name}"),
                errno,
            ));
        }
    }
    make_place(path, directory)?;
    open_place(path).context(Layer::View, &format!("cannot reach {name}"))
}

/// Makes an empty directory or file, and its ancestors, to attach something over.
pub(super) fn make_place(path: &Path, directory: bool) -> Result<(), SealError> {
    if directory {
        return make_directory(path);
    }
    path.parent().map_or(Ok(()), make_directory)?;
    fs::write(path, "").context(
        Layer::View,
        &format!("cannot make a place for {}", path.display()),
    )
}

/// Makes a file that says nothing, in the form that its name promises, where there is none.
pub fn make_file(path: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new();
    match file.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) if path.extension().is_some_and(|kind| kind == "json") => {
            file.write_all(b"{}\n")
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()), // made, or somebody else was faster
    }
}

/// Under a mapped uid an ancestor may be closed: it is replaced by an empty one, so that the path stands alone in it.
fn open_way(plan: &Plan, path: &Path) -> Result<PathBuf, SealError> {
    let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
    ancestors.reverse();
    for ancestor in ancestors {
        let inside = ancestor.join("x");
        if nix::sys::stat::lstat(&inside) == Err(Errno::EACCES) {
            tmpfs(
                ancestor,
                &format!("mode=0755{}", plan.owner()),
                MsFlags::empty(),
            )?;
            return Ok(ancestor.to_owned());
        }
    }
    Err(SealError::new(
        Layer::View,
        format!("{} is closed to the agent", path.display()),
    ))
}

/// What tells a file from every other: its device, and its number there.
pub(super) type FileId = (u32, u32, u64);

/// Identifies what lies at `path` below `directory`. A file system is not asked for it: the server of a mount may be
/// the one who waits.
pub(super) fn file_id(directory: impl AsFd, path: impl rustix::path::Arg) -> io::Result<FileId> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = rustix::fs::statx(directory, path, flags, StatxFlags::INO)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}
