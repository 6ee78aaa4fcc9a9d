//! The socket between the launcher and what it forks: one JSON message a packet, descriptors beside it.
//!
//! The sealed program never holds an end of it: every end is closed by exec, and its holders cannot be
//! traced or opened through /proc by the program.

use std::io::IoSlice;
use std::io::IoSliceMut;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::sys::socket::AddressFamily;
use nix::sys::socket::ControlMessage;
use nix::sys::socket::ControlMessageOwned;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockFlag;
use nix::sys::socket::SockType;
use nix::sys::socket::recv;
use nix::sys::socket::recvmsg;
use nix::sys::socket::sendmsg;
use nix::sys::socket::socketpair;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;

/// No message is longer; errors name at most a few paths.
const MESSAGE_BYTES_MAX: usize = 32 * 1024;
const DESCRIPTORS_MAX: usize = 4;

/// What the inside tells the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Report {
    /// Namespaces exist; their maps are to be written now.
    Made,
    /// The mount stands; beside it the descriptors of the FUSE device (if any), the user and the mount namespace.
    Raised,
    /// The first process of the pid namespace, by its number outside. It may have said more by then.
    Init(i32),
    /// There is no first process.
    Unstarted(SealError),
    /// In a tier below A: all that can be done before the program is started has been done.
    Prepared,
    /// The view stands; beside it, its mount namespace.
    View,
    /// The terminal's master side, beside the message.
    Terminal,
    /// The program, stopped by the terminal, asks for the keyboard.
    WantsTerminal,
    Stopped,
    Exited(i32),
    Failed(SealError),
}

/// What the launcher tells the inside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Go on: the maps are written; or, to a first process, the launch is recorded and the program may start.
    Proceed,
    /// Signal the program, or its whole process group as a terminal would.
    Signal {
        number: i32,
        group: bool,
    },
    /// Give the program the terminal and let it go on.
    Foreground,
    Continue,
}

/// One end of the socket.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    pub(super) fn pair() -> Result<(Self, Self), SealError> {
        let (near, far) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|errno| SealError::errno(Layer::Launcher, "cannot make a socket pair", errno))?;
        Ok((Self(near), Self(far)))
    }

    pub(super) fn send<T: Serialize>(
        &self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SealError> {
        let bytes = serde_json::to_vec(message).map_err(|error| {
            SealError::new(Layer::Launcher, format!("cannot write a message: {error}"))
        })?;
        let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        sendmsg::<()>(
            self.0.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map(drop)
        .map_err(|errno| SealError::errno(Layer::Launcher, "the other side is gone", errno))
    }

    /// Returns the next message, or nothing when the other side is gone.
    pub(super) fn receive<T: DeserializeOwned>(
        &self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, SealError> {
        let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_MAX]);
        let mut bytes = Vec::new();
        let (length, descriptors) = loop {
            // How long it is, first: room for the longest would cost more to make than a message does.
            let received = self.next_length().and_then(|length| {
                bytes.resize(length.min(MESSAGE_BYTES_MAX), 0);
                self.receive_raw(&mut bytes, &mut space)
            });
            match received {
                // A side that left an order unread resets the socket. The kernel says so once, and before what that
                // side said last, which is why it left: what follows is its words, then the end.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(errno) => {
                    return Err(SealError::errno(Layer::Launcher, "cannot receive", errno));
                }
                Ok(received) => break received,
            }
        };
        if length == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&bytes[..length]).map_err(|error| {
            SealError::new(Layer::Launcher, format!("cannot read a message: {error}"))
        })?;
        Ok(Some((message, descriptors)))
    }

    /// Waits for the next message and returns its length, 0 when the other side is gone.
    fn next_length(&self) -> nix::Result<usize> {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC;
        recv(self.0.as_raw_fd(), &mut [], flags)
    }

    fn receive_raw(
        &self,
        bytes: &mut [u8],
        space: &mut [u8],
    ) -> nix::Result<(usize, Vec<OwnedFd>)> {
        let mut slices = [IoSliceMut::new(bytes)];
        let received = recvmsg::<()>(
            self.0.as_raw_fd(),
            &mut slices,
            Some(space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for control in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = control {
                descriptors.extend(raw.into_iter().map(super::sys::adopt));
            }
        }
        Ok((received.bytes, descriptors))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_side_that_left_an_order_unread_is_heard() {
        let (near, far) = Channel::pair().expect("a pair");
        near.send(&Order::Proceed, &[]).expect("an order");
        let why = SealError::new(Layer::Launcher, "no");
        far.send(&Report::Failed(why), &[]).expect("a report");
        drop(far);
        let heard: Option<(Report, _)> = near.receive().expect("a report");
        assert!(matches!(heard, Some((Report::Failed(_), _))), "{heard:?}");
        let after: Option<(Report, _)> = near.receive().expect("the end");
        assert!(after.is_none(), "{after:?}");
    }
}
