//! Stays with a program until it ends: signals, keys and the window size in, output and the exit status out.
//!
//! Owns: the launcher's loop, and what is left to do when the program is over. Whatever goes wrong here ends the
//! session: the channel goes, and the first process with it. Never starts anything but by its word to proceed.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sys::signal::SigSet;
use nix::sys::signal::SigmaskHow;
use nix::sys::signal::Signal;
use nix::sys::signal::killpg;
use nix::sys::signal::sigprocmask;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::spec::Tier;
use crate::sandbox::sys;
use crate::sandbox::terminal::Mode;
use crate::sandbox::terminal::Outer;
use crate::sandbox::watch::Uncovered;
use crate::sandbox::watch::Watch;
use crate::sandbox::wire::Channel;
use crate::sandbox::wire::Order;
use crate::sandbox::wire::Report;

/// Signals that are the program's, not the launcher's.
const FORWARDED: [Signal; 9] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGCONT,
];

/// How often a job in the background looks whether it is in front.
const LOOK_AGAIN_MS: u8 = 200;

/// What is left of a launch whose program has ended: nothing runs in it, but its namespaces are still being taken
/// down. Dropping it waits until they are gone.
#[derive(Debug)]
pub struct Ending(pub(super) Pid);

impl Drop for Ending {
    fn drop(&mut self) {
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }
}

/// The launcher's signals while it stays: blocked, and read from a descriptor.
struct Signals {
    before: SigSet,
    reader: SignalFd,
}

impl Signals {
    fn take() -> Result<Self, SealError> {
        let mut mask = SigSet::empty();
        // What the caller ignores (nohup) stays ignored, here and by the program.
        for signal in FORWARDED
            .into_iter()
            .filter(|signal| !sys::is_ignored(*signal as i32))
        {
            mask.add(signal);
        }
        let mut before = SigSet::empty();
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), Some(&mut before))
            .context(Layer::Launcher, "cannot block signals")?;
        let reader = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context(Layer::Launcher, "cannot watch signals")?;
        Ok(Self { before, reader })
    }

    fn give_back(&self) {
        let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// What came of a launch whose program has ended.
#[derive(Debug)]
pub struct Over {
    /// The exit status; 128 + n after signal n.
    pub status: i32,
    /// What was replaced from outside, and stood open to the program for a moment.
    pub uncovered: Vec<Uncovered>,
    /// What was to be written through, and was a copy of the session's instead: its owners cannot be mapped here.
    pub copied: Vec<PathBuf>,
    pub ending: Ending,
}

/// A session whose first process exists. Dropped, it ends: the channel goes first, and the first process with it.
pub(super) struct Started {
    pub(super) channel: Channel,
    pub(super) ending: Ending,
    pub(super) early: Early,
    pub(super) mode: Mode,
}

/// What the first process said before its number was known.
pub(super) type Early = Vec<(Report, Vec<OwnedFd>)>;

/// Lets the program start once `ready` says so, stays with it until it is over, and clears up after it.
pub(super) fn stay(
    tier: Tier,
    mut started: Started,
    watch: Option<Watch<'_>>,
    ready: impl FnOnce() -> bool,
) -> Result<Over, SealError> {
    if tier != Tier::A {
        started.wait_until_prepared()?;
    }
    if !ready() {
        return Err(SealError::new(Layer::Launcher, "the launch was called off"));
    }
    let signals = Signals::take()?;
    let Started {
        channel,
        ending,
        early,
        mode,
    } = started;
    let mut side = Side {
        channel,
        outer: Outer::new(mode),
        signals,
        watch,
    };
    side.send(&Order::Proceed);
    let outcome = side.attend(early);
    let Side {
        channel,
        mut outer,
        signals,
        watch,
    } = side;
    // A first process that is still there ends the session when nobody speaks to it any more.
    drop(channel);
    // It has no child left by the time it says the status: what can still be read is the last output.
    let outcome = outcome.map(|status| Over {
        status,
        uncovered: watch.map(Watch::uncovered).unwrap_or_default(),
        copied: Vec::new(),
        ending,
    });
    while outer.copy_output() {}
    outer.restore();
    signals.give_back();
    outcome
}

impl Started {
    fn wait_until_prepared(&mut self) -> Result<(), SealError> {
        loop {
            match self.channel.receive()? {
                Some((Report::Prepared, _)) => return Ok(()),
                Some((Report::Failed(error), _)) => return Err(error),
                Some(other) => self.early.push(other),
                None => {
                    let why = "the first process ended without a word";
                    return Err(SealError::new(Layer::Launcher, why));
                }
            }
        }
    }
}

/// The launcher's side of a session that runs.
struct Side<'a> {
    channel: Channel,
    outer: Outer,
    signals: Signals,
    watch: Option<Watch<'a>>,
}

/// What a poll found ready.
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each descriptor that was watched"
)]
struct Ready {
    signals: bool,
    channel: bool,
    changes: bool,
    output: bool,
    input: bool,
    keys: bool,
}

impl Side<'_> {
    fn attend(&mut self, early: Early) -> Result<i32, SealError> {
        for (report, descriptors) in early {
            if let Some(status) = self.take(report, descriptors)? {
                return Ok(status);
            }
        }
        loop {
            let ready = self.wait()?;
            if ready.changes
                && let Some(watch) = &mut self.watch
            {
                watch.cover_again()?;
            }
            if ready.output {
                self.outer.copy_output();
            }
            if ready.input {
                self.outer.write_pending();
            }
            if ready.keys {
                self.outer.read_keys();
            }
            if self.outer.waits_for_front() {
                self.outer.refresh();
            }
            if ready.signals {
                self.forward();
            }
            if ready.channel
                && let Some(status) = self.hear()?
            {
                return Ok(status);
            }
        }
    }

    fn wait(&self) -> Result<Ready, SealError> {
        let master = self.outer.master();
        let keys = self.outer.keys();
        let changes = self.watch.as_ref().and_then(Watch::changes);
        let output = if self.outer.has_pending() {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        let watched = [
            Some((self.signals.reader.as_fd(), PollFlags::POLLIN)),
            Some((self.channel.as_fd(), PollFlags::POLLIN)),
            changes.map(|changes| (changes, PollFlags::POLLIN)),
            master.map(|master| (master, output)),
            keys.map(|keys| (keys, PollFlags::POLLIN)),
        ];
        let mut polled: Vec<PollFd<'_>> = watched
            .iter()
            .flatten()
            .map(|&(descriptor, wanted)| PollFd::new(descriptor, wanted))
            .collect();
        let patience = if self.outer.waits_for_front() {
            PollTimeout::from(LOOK_AGAIN_MS)
        } else {
            PollTimeout::NONE
        };
        match poll(&mut polled, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(SealError::errno(Layer::Launcher, "cannot wait", errno)),
        }
        let mut found = polled
            .iter()
            .map(|one| one.revents().unwrap_or(PollFlags::empty()));
        let [signals, channel, changes, master, keys] =
            watched.map(|one| one.and_then(|_| found.next()).unwrap_or(PollFlags::empty()));
        Ok(Ready {
            signals: !signals.is_empty(),
            channel: !channel.is_empty(),
            changes: !changes.is_empty(),
            output: master.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
            input: master.contains(PollFlags::POLLOUT),
            keys: !keys.is_empty(),
        })
    }

    fn hear(&mut self) -> Result<Option<i32>, SealError> {
        match self.channel.receive()? {
            Some((report, descriptors)) => self.take(report, descriptors),
            // The first process was killed from outside before it could say anything.
            None => Ok(Some(128 + Signal::SIGKILL as i32)),
        }
    }

    /// Takes one report. Returns the status when the program has ended.
    fn take(
        &mut self,
        report: Report,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<Option<i32>, SealError> {
        match report {
            Report::Exited(status) => return Ok(Some(status)),
            Report::Failed(error) | Report::Unstarted(error) => return Err(error),
            Report::View => {
                if let (Some(view), Some(watch)) = (descriptors.pop(), &mut self.watch) {
                    watch.begin(view);
                }
            }
            Report::Terminal => {
                if let Some(master) = descriptors.pop() {
                    self.outer.connect(master)?;
                }
            }
            Report::WantsTerminal => {
                self.outer.give_keyboard();
                self.send(&Order::Foreground);
            }
            Report::Stopped => self.stop_with_program(),
            Report::Made | Report::Raised | Report::Init(_) | Report::Prepared => {}
        }
        Ok(None)
    }

    /// Whoever is gone has said why.
    fn send(&self, order: &Order) {
        drop(self.channel.send(order, &[]));
    }

    /// Stops this job as the program has stopped, and goes on with it when the caller's shell says so.
    fn stop_with_program(&mut self) {
        while self.outer.copy_output() {}
        self.outer.restore();
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTSTP);
        let _ = killpg(nix::unistd::getpgrp(), Signal::SIGTSTP);
        // Here the process stops, unless nobody could ever continue it (an orphaned group): then it just goes on.
        let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), None);
        let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop), None);
        self.outer.resize();
        self.outer.refresh();
        self.send(&Order::Continue);
    }

    fn forward(&mut self) {
        while let Ok(Some(info)) = self.signals.reader.read_signal() {
            let Some(signal) = i32::try_from(info.ssi_signo)
                .ok()
                .and_then(|number| Signal::try_from(number).ok())
            else {
                continue;
            };
            match signal {
                Signal::SIGWINCH => self.outer.resize(),
                Signal::SIGCONT => {
                    self.outer.resize();
                    self.outer.refresh();
                    self.send(&Order::Continue);
                }
                signal => {
                    // What a terminal sends, it sends to the whole group in front.
                    let group = matches!(
                        signal,
                        Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGHUP
                    );
                    self.send(&Order::Signal {
                        number: signal as i32,
                        group,
                    });
                    if signal == Signal::SIGHUP {
                        self.outer.hang_up_if_gone();
                    }
                }
            }
        }
    }
}
