//! Answers: the overlay's values in the kernel's words.
//!
//! Owns: the one table from errors to errnos (exhaustive: a new error has to
//! choose), times, kinds and attributes. Decides nothing.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, RenameFlags, ReplyAttr, ReplyCreate, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use rustix::fs::StatVfs;

use crate::vfs::error::Error;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Found;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::RenameHow;

/// As good as for ever.
pub(super) const LASTING: Duration = Duration::from_hours(365 * 24);
const BLOCK: u32 = 4096;
const NAME_MAX: u32 = 255;
const WRITE_MAX: u32 = 1 << 20;
const READAHEAD_MAX: u32 = 1 << 20;

/// The one table from what went wrong to what the caller is told.
pub(super) fn errno(error: Error) -> Errno {
    match error {
        Error::NoEntry => Errno::ENOENT,
        Error::Exists => Errno::EEXIST,
        Error::NotDir => Errno::ENOTDIR,
        Error::IsDir => Errno::EISDIR,
        Error::NotEmpty => Errno::ENOTEMPTY,
        // Not EPERM, which suggests a missing capability, nor EROFS: agents name this one rightly.
        Error::Denied => Errno::EACCES,
        // What tools take for "this file system has no such thing": they copy instead.
        Error::NotPermitted => Errno::EPERM,
        Error::CrossZone => Errno::EXDEV,
        Error::NameTooLong => Errno::ENAMETOOLONG,
        Error::Invalid => Errno::EINVAL,
        Error::NoAttribute => Errno::ENODATA,
        Error::NotSupported => Errno::EOPNOTSUPP,
        Error::Range => Errno::ERANGE,
        Error::PastEnd => Errno::ENXIO,
        Error::Stale => Errno::ESTALE,
        Error::TooBig => Errno::EFBIG,
        Error::Io(error) => io_errno(&error),
    }
}

/// Returns the number that the disk gave, or the one that means the same.
fn io_errno(error: &io::Error) -> Errno {
    if let Some(number) = error.raw_os_error() {
        return Errno::from_i32(number);
    }
    // A library put its own words around it.
    match error.kind() {
        io::ErrorKind::StorageFull => Errno::ENOSPC,
        io::ErrorKind::QuotaExceeded => Errno::EDQUOT,
        io::ErrorKind::ReadOnlyFilesystem => Errno::EROFS,
        io::ErrorKind::FileTooLarge => Errno::EFBIG,
        io::ErrorKind::OutOfMemory => Errno::ENOMEM,
        _ => Errno::EIO,
    }
}

pub(super) fn time(nanos: i64) -> SystemTime {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    let moved = if nanos < 0 {
        UNIX_EPOCH.checked_sub(span)
    } else {
        UNIX_EPOCH.checked_add(span)
    };
    moved.unwrap_or(UNIX_EPOCH)
}

pub(super) fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

pub(super) fn kind(kind: FileKind) -> FileType {
    match kind {
        FileKind::Directory => FileType::Directory,
        FileKind::Regular => FileType::RegularFile,
        FileKind::Symlink => FileType::Symlink,
        FileKind::Fifo => FileType::NamedPipe,
        FileKind::Socket => FileType::Socket,
        FileKind::Char => FileType::CharDevice,
        FileKind::Block => FileType::BlockDevice,
    }
}

pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: time(attr.atime),
        mtime: time(attr.mtime),
        ctime: time(attr.ctime),
        crtime: UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: attr.perm,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: BLOCK,
        flags: 0,
    }
}

pub(super) fn answer_entry(found: Result<Found, Error>, reply: ReplyEntry) {
    match found {
        Ok(found) => {
            let entry_ttl = if found.lasting {
                LASTING
            } else {
                Duration::ZERO
            };
            reply.entry_with_ttls(&LASTING, &entry_ttl, &file_attr(&found.attr), Generation(0));
        }
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_made(made: Result<Attr, Error>, reply: ReplyEntry) {
    match made {
        Ok(attr) => reply.entry(&LASTING, &file_attr(&attr), Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_attr(attr: Result<Attr, Error>, reply: ReplyAttr) {
    match attr {
        Ok(attr) => reply.attr(&LASTING, &file_attr(&attr)),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_empty(done: Result<(), Error>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_bytes(bytes: Result<Vec<u8>, Error>, size: u32, reply: ReplyXattr) {
    match bytes {
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() <= size as usize => reply.data(&bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(error) => reply.error(errno(error)),
    }
}

/// Asks for what the connection needs, and for what makes it faster.
pub(super) fn configure(config: &mut KernelConfig) -> io::Result<()> {
    let needed = InitFlags::FUSE_NO_OPEN_SUPPORT
        | InitFlags::FUSE_NO_OPENDIR_SUPPORT
        | InitFlags::FUSE_EXPLICIT_INVAL_DATA;
    config.add_capabilities(needed).map_err(|missing| {
        let why = format!("this kernel's FUSE lacks {missing:?} (Linux 5.2 or newer has it)");
        io::Error::new(io::ErrorKind::Unsupported, why)
    })?;
    for wanted in [
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_ASYNC_DIO,
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    ] {
        let _ = config.add_capabilities(wanted); // faster with it, right without
    }
    let _ = config.set_max_write(WRITE_MAX);
    let _ = config.set_max_readahead(READAHEAD_MAX);
    Ok(())
}

pub(super) fn list(
    overlay: &Overlay,
    ino: u64,
    offset: u64,
    reply: &mut ReplyDirectory,
) -> Result<(), Error> {
    overlay.list(ino, offset, false, &mut |listed| {
        let name = OsStr::from_bytes(&listed.name);
        reply.add(INodeNo(listed.ino), listed.next, kind(listed.kind), name)
    })
}

pub(super) fn list_plus(
    overlay: &Overlay,
    ino: u64,
    offset: u64,
    reply: &mut ReplyDirectoryPlus,
) -> Result<(), Error> {
    overlay.list(ino, offset, true, &mut |listed| {
        let name = OsStr::from_bytes(&listed.name);
        let attr = listed.attr.unwrap_or(Attr {
            kind: listed.kind,
            ..Attr::nothing()
        });
        // Without a number programs would not see the name at all; what has none of its
        // own attributes yet, and what is virtual, is looked up again when it is needed.
        let mut shown = file_attr(&attr);
        shown.ino = INodeNo(listed.ino);
        let ttl = match listed.attr {
            Some(attr)
                if overlay.remembers_absence(attr.ino) && overlay.remembers(ino, &listed.name) =>
            {
                LASTING
            }
            _ => Duration::ZERO,
        };
        let ino = INodeNo(listed.ino);
        reply.add(ino, listed.next, name, &ttl, &shown, Generation(0))
    })
}

pub(super) fn answer_statfs(stat: Result<StatVfs, Error>, reply: ReplyStatfs) {
    match stat {
        Ok(stat) => reply.statfs(
            stat.f_blocks,
            stat.f_bfree,
            stat.f_bavail,
            stat.f_files,
            stat.f_ffree,
            u32::try_from(stat.f_bsize).unwrap_or(BLOCK),
            NAME_MAX,
            u32::try_from(stat.f_frsize).unwrap_or(BLOCK),
        ),
        Err(error) => reply.error(errno(error)),
    }
}

/// Returns how a rename treats its target; a whiteout means nothing here.
pub(super) fn rename_how(flags: RenameFlags) -> Option<RenameHow> {
    match flags {
        _ if flags.is_empty() => Some(RenameHow::Replace),
        RenameFlags::RENAME_NOREPLACE => Some(RenameHow::NoReplace),
        RenameFlags::RENAME_EXCHANGE => Some(RenameHow::Exchange),
        _ => None,
    }
}

/// Returns the answer to a name that is not there, which the kernel remembers.
pub(super) fn answer_absent(reply: ReplyEntry) {
    reply.entry(&LASTING, &file_attr(&Attr::nothing()), Generation(0));
}

pub(super) fn answer_written(written: Result<u32, Error>, reply: ReplyWrite) {
    match written {
        Ok(written) => reply.written(written),
        Err(error) => reply.error(errno(error)),
    }
}

pub(super) fn answer_created(made: Result<Attr, Error>, remembered: &Duration, reply: ReplyCreate) {
    match made {
        Ok(attr) => reply.created(
            remembered,
            &file_attr(&attr),
            Generation(0),
            FileHandle(0),
            FopenFlags::FOPEN_KEEP_CACHE,
        ),
        Err(error) => reply.error(errno(error)),
    }
}
