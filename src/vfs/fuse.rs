//! The kernel's door: requests in, answers out, nothing decided.
//!
//! Owns: the translation between the kernel's protocol and the overlay's calls,
//! (in `answer`) the one table from errors to errnos, and the options of the connection.
//! Chosen on purpose: no message for open and opendir (answered with ENOSYS
//! once), attributes and names remembered for ever and invalidated explicitly,
//! no write-back cache (every write is a request with its caller), and never
//! `FUSE_ATOMIC_O_TRUNC`, which with silent opens would lose every truncation.

mod answer;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, INodeNo, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::vfs::counters::Counters;
use crate::vfs::counters::Op;
use crate::vfs::error::Error;
use crate::vfs::overlay::Caller;
use crate::vfs::overlay::End;
use crate::vfs::overlay::Overlay;
use crate::vfs::overlay::SetAttr;
use crate::vfs::server::ServeOptions;
use answer::{
    LASTING, answer_absent, answer_attr, answer_bytes, answer_created, answer_empty, answer_entry,
    answer_made, answer_statfs, answer_written, configure, errno, list, list_plus, nanos,
    rename_how,
};

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
    options: ServeOptions,
}

impl Door {
    pub fn new(overlay: Arc<Overlay>, counters: Arc<Counters>, options: ServeOptions) -> Self {
        Self {
            overlay,
            counters,
            options,
        }
    }

    fn nanos_of(&self, time: TimeOrNow) -> i64 {
        match time {
            TimeOrNow::SpecificTime(time) => nanos(time),
            TimeOrNow::Now => nanos((self.options.now)()),
        }
    }
}

impl Filesystem for Door {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        configure(config)
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _timed = self.counters.time(Op::Lookup);
        match self.overlay.lookup(parent.0, name.as_bytes()) {
            // Every name that comes to be is a request, so its absence may be remembered.
            Err(Error::NoEntry) if self.overlay.remembers_absence(parent.0) => {
                answer_absent(reply);
            }
            found => answer_entry(found, reply),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, nlookup: u64) {
        let _timed = self.counters.time(Op::Forget);
        self.overlay.forget(ino.0, nlookup);
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let _timed = self.counters.time(Op::Getattr);
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
        let _timed = self.counters.time(Op::Setattr);
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
        let _timed = self.counters.time(Op::Readlink);
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
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _timed = self.counters.time(Op::Mknod);
        let (name, caller) = (name.as_bytes(), caller(request));
        let made = self.overlay.mknod(parent.0, name, (mode, rdev), caller);
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
        let _timed = self.counters.time(Op::Mkdir);
        let (name, caller) = (name.as_bytes(), caller(request));
        answer_made(self.overlay.mkdir(parent.0, name, mode, caller), reply);
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.counters.time(Op::Unlink);
        let (name, caller) = (name.as_bytes(), caller(request));
        answer_empty(self.overlay.unlink(parent.0, name, caller), reply);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.counters.time(Op::Rmdir);
        let (name, caller) = (name.as_bytes(), caller(request));
        answer_empty(self.overlay.rmdir(parent.0, name, caller), reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let _timed = self.counters.time(Op::Symlink);
        let target = target.as_os_str().as_bytes();
        let done = self
            .overlay
            .symlink(parent.0, name.as_bytes(), target, caller(request));
        answer_made(done, reply);
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
        let _timed = self.counters.time(Op::Rename);
        let Some(how) = rename_how(flags) else {
            return reply.error(Errno::EINVAL);
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
        let _timed = self.counters.time(Op::Link);
        let name = newname.as_bytes();
        let done = self.overlay.link(ino.0, newparent.0, name, caller(request));
        answer_made(done, reply);
    }

    fn open(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _timed = self.counters.time(Op::Open);
        reply.error(Errno::ENOSYS); // asked once: no open sends a message from here on
    }

    fn opendir(&self, _request: &Request, _ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _timed = self.counters.time(Op::Open);
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
        let _timed = self.counters.time(Op::Read);
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
        let _timed = self.counters.time(Op::Write);
        let cached = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let mut caller = caller(request);
        if cached {
            caller.pid = 0; // a guess of the kernel's, not evidence
        }
        if write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID) {
            self.overlay.drop_set_id(ino.0);
        }
        let written = self.overlay.write(ino.0, offset, data, cached, caller);
        answer_written(written, reply);
    }

    fn fsync(
        &self,
        _request: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let _timed = self.counters.time(Op::Fsync);
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
        let _timed = self.counters.time(Op::Fsync);
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
        let _timed = self.counters.time(Op::Readdir);
        match list(&self.overlay, ino.0, offset, &mut reply) {
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
        let _timed = self.counters.time(Op::Readdirplus);
        match list_plus(&self.overlay, ino.0, offset, &mut reply) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(errno(error)),
        }
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let _timed = self.counters.time(Op::Statfs);
        answer_statfs(self.overlay.statfs(), reply);
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
        let _timed = self.counters.time(Op::Xattr);
        if !self.options.xattrs {
            return reply.error(Errno::ENOSYS);
        }
        let (name, value) = (name.as_bytes(), Some(value));
        let caller = caller(request);
        answer_empty(
            self.overlay.set_xattr(ino.0, name, value, flags, caller),
            reply,
        );
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let _timed = self.counters.time(Op::Xattr);
        if !self.options.xattrs {
            return reply.error(Errno::ENOSYS); // asked once
        }
        answer_bytes(self.overlay.xattr(ino.0, name.as_bytes()), size, reply);
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let _timed = self.counters.time(Op::Xattr);
        answer_bytes(self.overlay.xattrs(ino.0), size, reply);
    }

    fn removexattr(&self, request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _timed = self.counters.time(Op::Xattr);
        let name = name.as_bytes();
        let caller = caller(request);
        answer_empty(self.overlay.set_xattr(ino.0, name, None, 0, caller), reply);
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
        let _timed = self.counters.time(Op::Create);
        let caller = caller(request);
        let done = self.overlay.create(parent.0, name.as_bytes(), mode, caller);
        let remembered = if self.overlay.remembers(parent.0, name.as_bytes()) {
            LASTING
        } else {
            Duration::ZERO
        };
        answer_created(done, &remembered, reply);
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
        let _timed = self.counters.time(Op::Fallocate);
        let caller = caller(request);
        answer_empty(
            self.overlay.allocate(ino.0, offset, length, mode, caller),
            reply,
        );
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
        let _timed = self.counters.time(Op::Lseek);
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
        let _timed = self.counters.time(Op::CopyFileRange);
        let (from, to) = ((ino_in.0, offset_in), (ino_out.0, offset_out));
        let copied = self.overlay.copy_range(from, to, len, caller(request));
        answer_written(copied, reply);
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
        let _timed = self.counters.time(Op::Other);
        reply.error(Errno::ENOTTY);
    }
}
