//! The standard streams, as the program gets them.
//!
//! Owns: that all three are open, that none leads out of the seal, and that the agent can open its own by name
//! (`/dev/stdin`). A file that it owns is more than its bytes: through a descriptor it could change the mode, the times
//! and the attributes of the operator's, so standard input is a copy of such a file.
//! Never touches a terminal: that is `super::terminal`'s.

use std::fs::File;
use std::io;
use std::io::Seek;
use std::io::SeekFrom;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;

use nix::fcntl::FcntlArg;
use nix::fcntl::fcntl;
use nix::sys::memfd::MFdFlags;
use nix::sys::memfd::memfd_create;
use nix::sys::stat::FileStat;
use nix::sys::stat::fstat;
use nix::sys::statfs::FsType;
use nix::sys::statfs::fstatfs;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::inside;
use crate::sandbox::spec::Identity;
use crate::sandbox::spec::Spec;
use crate::sandbox::sys;

/// Where pipes without a name lie.
const PIPES: FsType = FsType(0x5049_5045);
/// A longer file is not kept in memory.
const COPY_BYTES_MAX: u64 = 256 << 20;

/// Makes the streams of this process those of the program. What is returned is kept until the program has ended.
pub(super) fn prepare(spec: &Spec) -> Result<Option<Given>, SealError> {
    all_open()?;
    let agent = match spec.identity {
        Identity::Own => nix::unistd::geteuid().as_raw(),
        Identity::Mapped { outside, .. } => outside,
    };
    let mut given = None;
    for (name, stream) in [
        ("input", sys::standard_stream::<0>()),
        ("output", sys::standard_stream::<1>()),
        ("error", sys::standard_stream::<2>()),
    ] {
        let failed = format!("cannot see the standard {name}");
        let found = fstat(stream).context(Layer::Launcher, &failed)?;
        match found.st_mode & libc::S_IFMT {
            libc::S_IFDIR => return Err(leads_out(name)),
            libc::S_IFREG if name == "input" && found.st_uid == agent => {
                given = Given::copy(stream, &found)?;
            }
            libc::S_IFIFO if spec.identity != Identity::Own => give(stream, agent),
            _ => {}
        }
    }
    Ok(given)
}

/// Opens `/dev/null` over a standard stream that the caller left closed.
fn all_open() -> Result<(), SealError> {
    loop {
        let closed = [0, 1, 2].into_iter().any(|raw| !sys::is_open(raw));
        if !closed {
            return Ok(());
        }
        // The lowest free number is the closed stream's.
        std::mem::forget(inside::open_null()?);
    }
}

fn leads_out(name: &str) -> SealError {
    let what =
        format!("the standard {name} is a directory: all that lies beneath is open through it");
    SealError::new(Layer::Launcher, what).fix("pass a file, or /dev/null")
}

/// Makes a pipe the agent's, which can be used all the same where that fails.
fn give(stream: BorrowedFd<'_>, agent: u32) {
    if fstatfs(stream).is_ok_and(|found| found.filesystem_type() == PIPES) {
        let _ = nix::unistd::fchown(stream, Some(agent.into()), None);
    }
}

/// A copy that stands in for the file on standard input. When it goes, the file is as far read as the copy was.
#[derive(Debug)]
pub(super) struct Given {
    file: File,
    copy: File,
    from: u64,
}

impl Given {
    fn copy(stream: BorrowedFd<'_>, found: &FileStat) -> Result<Option<Self>, SealError> {
        let failed = "cannot copy the standard input";
        let flags = fcntl(stream, FcntlArg::F_GETFL).context(Layer::Launcher, failed)?;
        // What is open for writing is given for more than to be read, and what has no name was made for this.
        if flags & libc::O_ACCMODE != libc::O_RDONLY || found.st_nlink == 0 {
            return Ok(None);
        }
        let copied = || {
            let mut file = File::from(stream.try_clone_to_owned()?);
            let from = file.stream_position()?;
            let mut copy = File::from(memfd_create("stdin", MFdFlags::MFD_CLOEXEC)?);
            let length = u64::try_from(found.st_size).unwrap_or_default();
            if length.saturating_sub(from) > COPY_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            io::copy(&mut file, &mut copy)?;
            copy.rewind()?;
            nix::unistd::dup2_stdin(copy.as_fd())?;
            Ok(Self { file, copy, from })
        };
        copied().map(Some).map_err(|error: io::Error| {
            SealError::io(Layer::Launcher, failed, &error)
                .fix("pass it through a pipe: `cat FILE | govfs run …`")
        })
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        // Whoever shares the file goes on where the program stopped reading.
        if let Ok(read) = self.copy.stream_position() {
            let _ = self.file.seek(SeekFrom::Start(self.from + read));
        }
    }
}
