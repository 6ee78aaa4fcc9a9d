//! Shows the operator's files to an agent under another uid, while the operator stays their owner on disk.
//!
//! A root operator's agent has a kernel uid of its own, to which root's files are closed. Each place is therefore
//! cloned outside, as root, and its owners are mapped on the clone (an idmapped mount). Where the file system or a
//! missing capability forbids that, a writable directory becomes a copy that lives with the session, what the
//! agent can read anyway stays as it is, a closed home is rebuilt from its open entries, and anything else is an error that names the directory.
//! Only the operator's own id is mapped; files of others stay others'.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::fs::File;
use std::hash::Hash;
use std::hash::Hasher;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::fchown;
use std::os::unix::fs::lchown;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::wait::waitpid;

use crate::sandbox::absent;
use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::fix;
use crate::sandbox::plan::Place;
use crate::sandbox::raise;
use crate::sandbox::spec::Identity;
use crate::sandbox::sys;
use crate::sandbox::sys::Fork;
use crate::sandbox::wire::Channel;
use crate::sandbox::wire::Order;
use crate::sandbox::wire::Report;

/// More than this is never copied behind the operator's back.
const COPY_BYTES_MAX: u64 = 4 << 30;

/// Makes every place usable by the agent with the kernel id `outside`, in the session's namespace of owners if it has one.
pub(super) fn show_to(
    outside: u32,
    namespace: Option<&OwnedFd>,
    places: &mut [Place],
    copy_room: Option<&Path>,
) -> Result<(), SealError> {
    let own;
    let namespace = if let Some(namespace) = namespace {
        namespace
    } else {
        own = operator_as(outside)?;
        &own
    };
    for place in places {
        match mapped_tree(&place.source, namespace) {
            Ok(tree) => place.tree = Some(tree),
            Err(errno) => without_mapping(place, outside, copy_room, errno)?,
        }
    }
    Ok(())
}

/// Makes a user namespace that only says "the operator's id on disk is this id in memory".
pub(super) fn operator_as(outside: u32) -> Result<OwnedFd, SealError> {
    let (near, far) = Channel::pair()?;
    let child = match sys::fork_into(libc::CLONE_NEWUSER).map_err(fix::user_namespace)? {
        Fork::Child => {
            drop(near);
            drop(far.send(&Report::Made, &[]));
            // Lives until the launcher has taken the namespace and lets go of the socket.
            drop(far.receive::<Order>());
            sys::exit_now(0)
        }
        Fork::Parent(child) => child,
    };
    drop(far);
    let operator = nix::unistd::geteuid().as_raw();
    let result = raise::write_maps(
        child,
        Identity::Mapped {
            inside: operator,
            outside,
        },
    )
    .and_then(|()| {
        File::open(format!("/proc/{child}/ns/user"))
            .map(OwnedFd::from)
            .context(Layer::Idmap, "cannot open the mapping's namespace")
    });
    drop(near);
    let _ = waitpid(child, None);
    result
}

/// Tries whether the owners of a path can be mapped, and leaves nothing behind.
pub(super) fn try_mapping(outside: u32, path: &Path) -> Result<(), SealError> {
    let namespace = operator_as(outside)?;
    mapped_tree(path, &namespace).map(drop).map_err(|errno| {
        SealError::errno(Layer::Idmap, &format!("cannot map the owners of {}", path.display()), errno)
            .fix("CAP_SYS_ADMIN, and a file system that knows idmapped mounts; without them copies are used")
    })
}

fn mapped_tree(source: &Path, namespace: &OwnedFd) -> nix::Result<OwnedFd> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(source.as_os_str()))
        .map_err(|_| Errno::EINVAL)?;
    let tree = sys::clone_tree(&path)?;
    sys::map_owners(tree.as_fd(), namespace.as_fd())?;
    Ok(tree)
}

/// What is done where owners cannot be mapped.
fn without_mapping(
    place: &mut Place,
    outside: u32,
    copy_room: Option<&Path>,
    errno: Errno,
) -> Result<(), SealError> {
    if place.home && absent::is_small(&place.source) {
        place.closed = true; // also one that is open has files that are not
        return Ok(());
    }
    if !place.writable && open_to_all(&place.source) {
        return Ok(());
    }
    if place.home {
        place.closed = true;
        return Ok(());
    }
    let Some(room) = copy_room else {
        let what = format!(
            "{} cannot be shown under the agent's own uid",
            place.source.display()
        );
        return Err(SealError::errno(Layer::Idmap, &what, errno)
            .fix("run as an ordinary user, or with CAP_SYS_ADMIN on a file system that knows idmapped mounts"));
    };
    let copy = session_copy(&place.source, room, outside)?;
    let metadata = fs::metadata(&copy).context(Layer::Idmap, "cannot see the session's copy")?;
    place.identity = (metadata.dev(), metadata.ino());
    place.copied = place.writable && place.source == place.path;
    place.source = copy;
    Ok(())
}

/// Whether everybody may read (and enter) a path.
pub(super) fn open_to_all(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else {
        return false;
    };
    let wanted = if metadata.is_dir() { 0o005 } else { 0o004 };
    metadata.mode() & wanted == wanted
}

/// Returns the session's copy of a directory or file, made at its first use and kept for later launches.
fn session_copy(source: &Path, room: &Path, owner: u32) -> Result<PathBuf, SealError> {
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let copy = room.join(format!("{:016x}", hasher.finish()));
    if fs::symlink_metadata(&copy).is_ok() {
        return Ok(copy);
    }
    // Two launches of a session may get here together: each copies apart, and the first to finish is used.
    let unfinished = copy.with_extension(std::process::id().to_string());
    let failed = format!("cannot copy {} for the session", source.display());
    remove(&unfinished).context(Layer::Idmap, &failed)?;
    fs::create_dir_all(room).context(Layer::Idmap, &failed)?;
    let mut left = COPY_BYTES_MAX;
    copy_tree(source, &unfinished, owner, &mut left).context(Layer::Idmap, &failed)?;
    if let Err(error) = fs::rename(&unfinished, &copy) {
        remove(&unfinished).context(Layer::Idmap, &failed)?;
        if fs::symlink_metadata(&copy).is_err() {
            return Err(SealError::io(Layer::Idmap, &failed, &error));
        }
    }
    Ok(copy)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Copies directories, regular files and links; sockets, fifos and devices are nobody's to copy.
fn copy_tree(source: &Path, target: &Path, owner: u32, left: &mut u64) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(source)?;
    if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
        return lchown(target, Some(owner), Some(owner));
    }
    if metadata.is_dir() {
        fs::create_dir(target)?;
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            copy_tree(&entry.path(), &target.join(entry.file_name()), owner, left)?;
        }
        fs::set_permissions(target, fs::Permissions::from_mode(metadata.mode() & 0o777))?;
        return lchown(target, Some(owner), Some(owner));
    }
    if metadata.is_file() {
        *left = left
            .checked_sub(metadata.len())
            .ok_or_else(|| std::io::Error::other("too large to copy"))?;
        let mut file = File::create_new(target)?;
        std::io::copy(&mut File::open(source)?, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o777))?;
        return fchown(&file, Some(owner), Some(owner));
    }
    Ok(())
}
