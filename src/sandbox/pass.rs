//! Descriptors handed from one process of the operator's to another, over a socket.
//!
//! Owns: sending and receiving a few descriptors beside one byte. Neither end is
//! ever inside a seal.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

use crate::sandbox::sys;

const DESCRIPTORS_MAX: usize = 4;

/// Keeps every descriptor but the standard streams from the programs that this process starts.
pub fn keep_descriptors() -> io::Result<()> {
    Ok(sys::close_on_exec_from(3)?)
}

/// Opens what the caller handed over under a number: a file, a pipe or a socket.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    Ok(sys::duplicate(number)?)
}

/// Sends descriptors beside one byte.
pub fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let byte = [IoSlice::new(b".")];
    let (socket, flags) = (stream.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
    loop {
        match sendmsg::<()>(socket, &byte, &rights, flags, None) {
            Err(Errno::EINTR) => {}
            sent => return Ok(sent.map(drop)?),
        }
    }
}

/// Receives what [`send`] sent; each descriptor is closed on exec.
pub fn receive(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut slices = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = loop {
        // Where a time limit is set, the kernel does not go on by itself after a signal.
        match recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let mut received = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(raw) = control {
            received.extend(raw.into_iter().map(sys::adopt));
        }
    }
    Ok(received)
}
