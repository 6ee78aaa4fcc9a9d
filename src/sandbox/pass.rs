//! Descriptors handed from one process of the operator's to another, over a socket.
//!
//! Owns: sending and receiving a few descriptors beside one short line. Neither end is
//! ever inside a seal.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::sandbox::sys;

const DESCRIPTORS_MAX: usize = 4;
const LINE_MAX: usize = 16 << 20;
const PIECE: usize = 8192;

/// Keeps every descriptor but the standard streams from the programs that this process starts.
pub fn keep_descriptors() -> io::Result<()> {
    Ok(sys::close_on_exec_from(3)?)
}

/// Opens what the caller handed over under a number: a file, a pipe or a socket.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    Ok(sys::duplicate(number)?)
}

/// Sends a line, and descriptors beside it.
pub fn send(stream: &UnixStream, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let bytes = [IoSlice::new(line)];
    let (socket, flags) = (stream.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    loop {
        match sendmsg::<()>(socket, &bytes, &rights, flags, None) {
            Err(Errno::EINTR) => {}
            Ok(count) if count < line.len() => return Err(io::ErrorKind::WriteZero.into()),
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Receives a line, and what [`send`] sent beside it; each descriptor is closed on exec.
pub fn receive(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (mut line, mut descriptors) = receive_once(stream)?;
    while line.last() != Some(&b'\n') {
        let (more, others) = receive_once(stream)?;
        if more.is_empty() || line.len() > LINE_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.extend(more);
        descriptors.extend(others);
    }
    Ok((line, descriptors))
}

/// Receives what comes with one message: nothing where the other end is closed.
pub(super) fn receive_once(stream: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = [0; PIECE];
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        // Where a time limit is set, the kernel does not go on by itself after a signal.
        match recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let mut descriptors = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            descriptors.extend(raw.into_iter().map(sys::adopt));
        }
    }
    let count = message.bytes;
    Ok((bytes[..count].to_vec(), descriptors))
}
