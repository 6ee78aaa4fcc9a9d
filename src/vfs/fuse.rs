//! The kernel's door: requests in, answers out, nothing decided.
//!
//! Owns: the translation between the kernel's protocol and the overlay's calls,
//! the one table from errors to errnos, and the options of the connection.
//! Chosen on purpose: no message for open and opendir (answered with ENOSYS
//! once), attributes and names remembered for ever and invalidated explicitly,
//! no write-back cache (every write is a request with its caller), and never
//! `FUSE_ATOMIC_O_TRUNC`, which with silent opens would lose every truncation.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileAttr, FileHandle, FileType,
    Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner,
    OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::vfs::error::Error;
use crate::vfs::overlay::Attr;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::End;
use crate::vfs::overlay::FileKind;
use crate::vfs::overlay::Found;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::RenameHow;
use crate::vfs::overlay::SetAttr;
use crate::vfs::server::Counters;
use crate::vfs::server::Op;

/// As good as for ever.
const LASTING: Duration = Duration::from_secs(365 * 24 * 3600);
const WRITE_MAX: u32 = 1 << 20;
const READAHEAD_MAX: u32 = 1 << 20;
const BLOCK: u32 = 4096;
const NAME_MAX: u32 = 255;

/// The one table from what went wrong to what the caller is told.
fn errno(error: Error) -> Errno {
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
        Error::Io(error) => error.into(),
    }
}

fn time(nanos: i64) -> SystemTime {
    let span = Duration::from_nanos(nanos.unsigned_abs());
    let moved = if nanos < 0 {
        UNIX_EPOCH.checked_sub(span)
    } else {
        UNIX_EPOCH.checked_add(span)
    };
    moved.unwrap_or(UNIX_EPOCH)
}

fn nanos(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX),
    }
}

fn kind(kind: FileKind) -> FileType {
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

fn file_attr(attr: &Attr) -> FileAttr {
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
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

fn caller(request: &Request) -> Caller {
    Caller {
        uid: request.uid(),
        gid: request.gid(),
        pid: request.pid(),
    }
}

/// The overlay behind the kernel's door.
#[derive(Debug)]
pub struct Door {
    overlay: Arc<Overlay>,
    counters: Arc<Counters>,
    now: fn() -> SystemTime,
}

impl Door {
    pub fn new(overlay: Arc<Overlay>, counters: Arc<Counters>, now: fn() -> SystemTime) -> Self {
        Self {
            overlay,
            counters,
            now,
        }
    }

    fn nanos_of(&self, time: TimeOrNow) -> i64 {
        match time {
            TimeOrNow::SpecificTime(time) => nanos(time),
            TimeOrNow::Now => nanos((self.now)()),
        }
    }
}

fn answer_entry(found: Result<Found, Error>, reply: ReplyEntry) {
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

fn answer_made(made: Result<Attr, Error>, reply: ReplyEntry) {
    match made {
        Ok(attr) => reply.entry(&LASTING, &file_attr(&attr), Generation(0)),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_attr(attr: Result<Attr, Error>, reply: ReplyAttr) {
    match attr {
        Ok(attr) => reply.attr(&LASTING, &file_attr(&attr)),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_empty(done: Result<(), Error>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

fn answer_bytes(bytes: Result<Vec<u8>, Error>, size: u32, reply: ReplyXattr) {
    match bytes {
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() <= size as usize => reply.data(&bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(error) => reply.error(errno(error)),
    }
}

impl Filesystem for Door {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
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

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.counters.count(Op::Lookup);
        match self.overlay.lookup(parent.0, name.as_bytes()) {
            // Remember that the name is not there; every name that comes is a request.
            Err(Error::NoEntry) if self.overlay.remembers_absence(parent.0) => {
                let nothing = Attr {
                    ino: 0,
                    ..Attr::nothing()
                };
                reply.entry(&LASTING, &file_attr(&nothing), Generation(0));
            }
            found => answer_entry(found, reply),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, nlookup: u64) {
        self.counters.count(Op::Forget);
        self.overlay.forget(ino.0, nlookup);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.counters.count(Op::Getattr);
        answer_attr(self.overlay.getattr(ino.0, caller(request)), reply);
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.counters.count(Op::Setattr);
        let set = SetAttr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(|time| self.nanos_of(time)),
            mtime: mtime.map(|time| self.nanos_of(time)),
        };
        answer_attr(self.overlay.setattr(ino.0, &set, caller(request)), reply);
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        self.counters.count(Op::Readlink);
        match self.overlay.readlink(ino.0) {
            Ok(target) => reply.data(&target),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        self.counters.count(Op::Mknod);
        let made = self
            .overlay
            .mknod(parent.0, name.as_bytes(), mode, caller(request));
        answer_made(made, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.counters.count(Op::Mkdir);
        let made = self
            .overlay
            .mkdir(parent.0, name.as_bytes(), mode, caller(request));
        answer_made(made, reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.counters.count(Op::Unlink);
        let done = self
            .overlay
            .unlink(parent.0, name.as_bytes(), caller(request));
        answer_empty(done, reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.counters.count(Op::Rmdir);
        let done = self
            .overlay
            .rmdir(parent.0, name.as_bytes(), caller(request));
        answer_empty(done, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        self.counters.count(Op::Symlink);
        let target = target.as_os_str().as_bytes();
        let made = self
            .overlay
            .symlink(parent.0, name.as_bytes(), target, caller(request));
        answer_made(made, reply);
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Rename);
        let how = match flags {
            _ if flags.is_empty() => RenameHow::Replace,
            RenameFlags::RENAME_NOREPLACE => RenameHow::NoReplace,
            RenameFlags::RENAME_EXCHANGE => RenameHow::Exchange,
            _ => return reply.error(Errno::EINVAL), // a whiteout means nothing here
        };
        let from = End {
            dir: parent.0,
            name: name.as_bytes(),
        };
        let to = End {
            dir: newparent.0,
            name: newname.as_bytes(),
        };
        answer_empty(self.overlay.rename(from, to, how, caller(request)), reply);
    }

    fn link(
        &self,
        request: &Request,
        ino: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.counters.count(Op::Link);
        let name = newname.as_bytes();
        let made = self.overlay.link(ino.0, newparent.0, name, caller(request));
        answer_made(made, reply);
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.counters.count(Op::Open);
        reply.error(Errno::ENOSYS); // asked once: no open sends a message from here on
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.counters.count(Op::Open);
        reply.error(Errno::ENOSYS);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.counters.count(Op::Read);
        let mut reply = Some(reply);
        let done = self.overlay.read(ino.0, offset, size, |bytes| {
            if let Some(reply) = reply.take() {
                reply.data(bytes);
            }
        });
        if let (Err(error), Some(reply)) = (done, reply) {
            reply.error(errno(error));
        }
    }

    fn write(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.counters.count(Op::Write);
        let cached = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let mut caller = caller(request);
        if cached {
            caller.pid = 0; // a guess of the kernel's, not evidence
        }
        if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            self.overlay.drop_set_id(ino.0);
        }
        match self.overlay.write(ino.0, offset, data, cached, caller) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn flush(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Flush);
        reply.error(Errno::ENOSYS); // asked once
    }

    fn release(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Release);
        reply.ok();
    }

    fn fsync(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Fsync);
        answer_empty(self.overlay.fsync(ino.0), reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Fsync);
        answer_empty(self.overlay.fsync_dir(ino.0), reply);
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.counters.count(Op::Readdir);
        let done = self.overlay.list(ino.0, offset, false, &mut |listed| {
            let name = OsStr::from_bytes(&listed.name);
            reply.add(INodeNo(listed.ino), listed.next, kind(listed.kind), name)
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.counters.count(Op::Readdirplus);
        let done = self.overlay.list(ino.0, offset, true, &mut |listed| {
            let name = OsStr::from_bytes(&listed.name);
            let attr = listed.attr.unwrap_or(Attr {
                kind: listed.kind,
                ..Attr::nothing()
            });
            // A number of 0 tells the kernel to look the name up when it needs it;
            // it never takes `.` and `..` for more than their numbers.
            let dots = matches!(listed.name.as_slice(), b"." | b"..");
            let known = if dots {
                listed.ino
            } else {
                listed.attr.map_or(0, |attr| attr.ino)
            };
            let mut shown = file_attr(&attr);
            shown.ino = INodeNo(known);
            reply.add(
                INodeNo(listed.ino),
                listed.next,
                name,
                &LASTING,
                &shown,
                Generation(0),
            )
        });
        match done {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.counters.count(Op::Statfs);
        match self.overlay.statfs() {
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

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Xattr);
        let name = name.as_bytes();
        let done = self
            .overlay
            .set_xattr(ino.0, name, Some(value), flags, caller(request));
        answer_empty(done, reply);
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        self.counters.count(Op::Xattr);
        answer_bytes(self.overlay.xattr(ino.0, name.as_bytes()), size, reply);
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.counters.count(Op::Xattr);
        answer_bytes(self.overlay.xattrs(ino.0), size, reply);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.counters.count(Op::Xattr);
        let name = name.as_bytes();
        let done = self
            .overlay
            .set_xattr(ino.0, name, None, 0, caller(request));
        answer_empty(done, reply);
    }

    fn access(&self, _request: &Request, _ino: INodeNo, _mask: AccessFlags, reply: ReplyEmpty) {
        self.counters.count(Op::Access);
        reply.error(Errno::ENOSYS); // the kernel checks the honest modes itself
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        self.counters.count(Op::Create);
        let made = self
            .overlay
            .create(parent.0, name.as_bytes(), mode, caller(request));
        match made {
            Ok(attr) => reply.created(
                &LASTING,
                &file_attr(&attr),
                Generation(0),
                FileHandle(0),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn fallocate(
        &self,
        request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.counters.count(Op::Fallocate);
        let done = self
            .overlay
            .allocate(ino.0, offset, length, mode, caller(request));
        answer_empty(done, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.counters.count(Op::Lseek);
        let data = match whence {
            libc::SEEK_DATA => true,
            libc::SEEK_HOLE => false,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        match self.overlay.seek(ino.0, offset, data) {
            Ok(at) => reply.offset(at.cast_signed()),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        ino_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.counters.count(Op::CopyFileRange);
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        match self.overlay.copy_range(from, to, len, caller(request)) {
            Ok(copied) => reply.written(copied),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.counters.count(Op::Other);
        reply.error(Errno::ENOTTY);
    }

    fn poll(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _notifier: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        self.counters.count(Op::Other);
        reply.error(Errno::ENOSYS);
    }
}
