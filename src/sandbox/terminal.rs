//! The program's own terminal, and the launcher's part in it.
//!
//! If any of the standard streams is a terminal, the program gets a pseudo-terminal made inside the seal in its
//! place, and never a descriptor of the operator's: it can neither type into that terminal nor change it, and
//! `/dev/pts/0` is what `tty` says. The launcher copies bytes both ways, passes on the window size, and stops
//! and goes on together with the program (Ctrl-Z, `fg`, `bg`).
//!
//! If both stdin and stdout are terminals, the program has the keyboard from the start. Otherwise (a pipeline)
//! the operator's terminal is left as it is, and not read, until the program asks for the keyboard by reading.

use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::FcntlArg;
use nix::fcntl::OFlag;
use nix::fcntl::fcntl;
use nix::pty::PtyMaster;
use nix::sys::stat::Mode as FileMode;
use nix::sys::termios;
use nix::sys::termios::InputFlags;
use nix::sys::termios::OutputFlags;
use nix::sys::termios::SetArg;
use nix::sys::termios::Termios;
use nix::unistd::isatty;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::sys;

/// Which of the standard streams are terminals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    streams: [bool; 3],
    /// The job begins in the background: the terminal's settings are those of whoever is in front, a shell's editor say.
    behind: bool,
}

fn stream(index: usize) -> BorrowedFd<'static> {
    match index {
        0 => sys::standard_stream::<0>(),
        1 => sys::standard_stream::<1>(),
        _ => sys::standard_stream::<2>(),
    }
}

impl Mode {
    pub(super) fn of_streams() -> Self {
        let mut mode = Self {
            streams: [0, 1, 2].map(|index| isatty(stream(index)).unwrap_or(false)),
            behind: false,
        };
        let in_front = mode.outer([0, 1, 2]).map(nix::unistd::tcgetpgrp);
        mode.behind =
            in_front.is_some_and(|group| group.is_ok_and(|group| group != nix::unistd::getpgrp()));
        mode
    }

    /// Whether the program has the keyboard from the start.
    fn interactive(self) -> bool {
        self.streams[0] && self.streams[1]
    }

    fn outer(self, preference: [usize; 3]) -> Option<BorrowedFd<'static>> {
        preference
            .into_iter()
            .find(|index| self.streams[*index])
            .map(stream)
    }
}

/// The pseudo-terminal, seen from inside.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) slave: OwnedFd,
    pub(super) foreground: bool,
    streams: [bool; 3],
}

/// Opens a pseudo-terminal of the private `/dev/pts` where one is needed; its master side is for the launcher.
pub(super) fn open_inner(mode: Mode) -> Result<Option<(PtyMaster, Inner)>, SealError> {
    let Some(outer) = mode.outer([0, 1, 2]) else {
        return Ok(None);
    };
    let failed = "cannot open a pseudo-terminal";
    let master = nix::pty::posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .context(Layer::Terminal, failed)?;
    nix::pty::unlockpt(&master).context(Layer::Terminal, failed)?;
    let name = nix::pty::ptsname_r(&master).context(Layer::Terminal, failed)?;
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let slave = nix::fcntl::open(name.as_str(), flags, FileMode::empty())
        .context(Layer::Terminal, failed)?;
    if !mode.behind
        && let Ok(settings) = termios::tcgetattr(outer)
    {
        termios::tcsetattr(&slave, SetArg::TCSANOW, &settings).context(Layer::Terminal, failed)?;
    }
    if let Ok(size) = sys::window_size(outer) {
        sys::set_window_size(slave.as_fd(), &size).context(Layer::Terminal, failed)?;
    }
    Ok(Some((
        master,
        Inner {
            slave,
            foreground: mode.interactive(),
            streams: mode.streams,
        },
    )))
}

impl Inner {
    /// Puts the pseudo-terminal in the place of every standard stream that was a terminal.
    pub(super) fn give_to_program(&self) -> Result<(), SealError> {
        let failed = "cannot pass the terminal on";
        if self.streams[0] {
            nix::unistd::dup2_stdin(&self.slave).context(Layer::Terminal, failed)?;
        }
        if self.streams[1] {
            nix::unistd::dup2_stdout(&self.slave).context(Layer::Terminal, failed)?;
        }
        if self.streams[2] {
            nix::unistd::dup2_stderr(&self.slave).context(Layer::Terminal, failed)?;
        }
        Ok(())
    }
}

/// As much typed input is held back for a program that does not read.
const PENDING_MAX: usize = 64 * 1024;
const CHUNK: usize = 16 * 1024;

/// The launcher's side: the operator's terminal and the master of the program's.
#[derive(Debug)]
pub(super) struct Outer {
    mode: Mode,
    master: Option<OwnedFd>,
    /// Settings to restore, while the operator's terminal is in raw mode.
    saved: Option<Termios>,
    /// Whether keys go to the program whenever this job is in front.
    keyboard: bool,
    pending: Vec<u8>,
}

impl Outer {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            master: None,
            saved: None,
            keyboard: mode.interactive(),
            pending: Vec::new(),
        }
    }

    /// Takes the master side and, for an interactive program, the keyboard.
    pub(super) fn connect(&mut self, master: OwnedFd) -> Result<(), SealError> {
        let flags = fcntl(&master, FcntlArg::F_GETFL)
            .context(Layer::Terminal, "cannot read terminal flags")?;
        let flags = OFlag::from_bits_truncate(flags) | OFlag::O_NONBLOCK;
        fcntl(&master, FcntlArg::F_SETFL(flags))
            .context(Layer::Terminal, "cannot set terminal flags")?;
        self.master = Some(master);
        self.resize();
        self.refresh();
        Ok(())
    }

    /// Gives the program the keyboard although it did not start with it.
    pub(super) fn give_keyboard(&mut self) {
        self.keyboard = true;
        self.refresh();
    }

    /// Takes the operator's terminal over if this job has the right to it and is in front.
    pub(super) fn refresh(&mut self) {
        let Some(outer) = self.mode.outer([0, 2, 1]) else {
            return;
        };
        if !self.keyboard || self.saved.is_some() || !in_front(outer) {
            return;
        }
        let Ok(saved) = termios::tcgetattr(outer) else {
            return;
        };
        let mut raw = saved.clone();
        termios::cfmakeraw(&mut raw);
        if !self.mode.interactive() {
            // Others write to this terminal too: their lines still need a carriage return.
            raw.output_flags |= saved.output_flags & OutputFlags::OPOST;
        }
        raw.input_flags |= saved.input_flags & InputFlags::IUTF8;
        if termios::tcsetattr(outer, SetArg::TCSADRAIN, &raw).is_ok() {
            self.saved = Some(saved);
            self.resize(); // a job that is not in front hears of no change
        }
    }

    /// Says whether this job is to have the keys as soon as it is in front: a shell brings a job there that runs
    /// already without a word to it.
    pub(super) fn waits_for_front(&self) -> bool {
        let waits = self.keyboard && self.saved.is_none() && self.master.is_some();
        let outer = self.mode.outer([0, 2, 1]).filter(|_| waits);
        outer.is_some_and(|outer| nix::unistd::tcgetpgrp(outer).is_ok())
    }

    /// Gives the operator's terminal back as it was found.
    pub(super) fn restore(&mut self) {
        if let (Some(saved), Some(outer)) = (self.saved.take(), self.mode.outer([0, 2, 1]))
            && in_front(outer)
        {
            let _ = termios::tcsetattr(outer, SetArg::TCSADRAIN, &saved);
        }
    }

    /// Passes the window size on.
    pub(super) fn resize(&self) {
        if let (Some(outer), Some(master)) = (self.mode.outer([1, 2, 0]), &self.master)
            && let Ok(size) = sys::window_size(outer)
        {
            let _ = sys::set_window_size(master.as_fd(), &size);
        }
    }

    /// Returns what to wait for: the operator's keys, if they are wanted now.
    pub(super) fn keys(&self) -> Option<BorrowedFd<'static>> {
        let wanted =
            self.saved.is_some() && self.master.is_some() && self.pending.len() < PENDING_MAX;
        if wanted {
            self.mode.outer([0, 2, 1])
        } else {
            None
        }
    }

    pub(super) fn master(&self) -> Option<BorrowedFd<'_>> {
        self.master.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Reads keys and hands them to the program.
    pub(super) fn read_keys(&mut self) {
        let Some(outer) = self.keys() else { return };
        let mut chunk = [0; CHUNK];
        match nix::unistd::read(outer, &mut chunk) {
            Ok(0) => self.keyboard = false,
            Ok(count) => self.pending.extend_from_slice(&chunk[..count]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => self.hang_up(),
        }
        self.write_pending();
    }

    /// Lets go of the program's terminal if the operator's is gone, so that the program notices as it would there.
    pub(super) fn hang_up_if_gone(&mut self) {
        if self
            .mode
            .outer([0, 2, 1])
            .is_some_and(|outer| termios::tcgetattr(outer).is_err())
        {
            self.hang_up();
        }
    }

    fn hang_up(&mut self) {
        self.saved = None;
        self.keyboard = false;
        self.master = None;
    }

    pub(super) fn write_pending(&mut self) {
        let Some(master) = &self.master else { return };
        while !self.pending.is_empty() {
            match nix::unistd::write(master, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Copies what the program has written. Returns whether more may come.
    pub(super) fn copy_output(&mut self) -> bool {
        let Some(master) = &self.master else {
            return false;
        };
        let mut chunk = [0; CHUNK];
        match nix::unistd::read(master, &mut chunk) {
            Ok(0) => {}
            Ok(count) => {
                if let Some(outer) = self.mode.outer([1, 2, 0]) {
                    write_all(outer, &chunk[..count]);
                }
                return true;
            }
            Err(Errno::EINTR) => return true,
            Err(Errno::EAGAIN) => return false,
            // EIO: no process has the other side open any more.
            Err(_) => {}
        }
        self.master = None;
        false
    }
}

fn in_front(outer: BorrowedFd<'_>) -> bool {
    nix::unistd::tcgetpgrp(outer).is_ok_and(|group| group == nix::unistd::getpgrp())
}

/// Writes to the operator's terminal; if it is gone the program's output has nowhere to go.
fn write_all(outer: BorrowedFd<'_>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match nix::unistd::write(outer, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut watched = [nix::poll::PollFd::new(outer, nix::poll::PollFlags::POLLOUT)];
                let _ = nix::poll::poll(&mut watched, nix::poll::PollTimeout::NONE);
            }
            Err(_) => return,
        }
    }
}
