//! Launches a program under the seal and stays with it until it ends.
//!
//! The phases, in order; any step that fails ends the launch with the layer's name, before the program runs:
//! 1. *Plan* (outside): one thread only; resolve every path; compile the call filter; make what needs the host's
//!    privileges (idmapped trees, for a root operator).
//! 2. *Join*: fork; enter the session's user and mount namespace; fork the first process of new mount, pid, ipc
//!    (and network) namespaces, as a child of the launcher.
//! 3. *View* (`super::view`): the mount over the repository's path, all else read-only, private or absent.
//! 4. *Give up*: capabilities, `no_new_privs`, no tracing; die with the launcher.
//! 5. *Leave*: no program is forked before the launcher says so, which it does once the launch is recorded.
//! 6. *Program*: own session and terminal, Landlock, seccomp, no descriptor but 0, 1, 2; exec.
//! 7. *Stay*: the launcher passes signals, keys and the window size in, output and the exit status out.
//! 8. *End*: the status comes once no other process of the session is left; [`Ending`] waits for the namespaces.
//!
//! The launcher never lowers a tier, and leaves neither process nor mount behind: the namespaces die with their
//! first process, which dies with the launcher.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

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
use crate::sandbox::inside;
use crate::sandbox::inside::Setup;
use crate::sandbox::plan::Plan;
use crate::sandbox::raise;
use crate::sandbox::rules;
use crate::sandbox::rules::CallRules;
use crate::sandbox::spec::Anchor;
use crate::sandbox::spec::MountSource;
use crate::sandbox::spec::Spec;
use crate::sandbox::spec::Tier;
use crate::sandbox::sys;
use crate::sandbox::sys::Fork;
use crate::sandbox::terminal::Mode;
use crate::sandbox::terminal::Outer;
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

/// Runs the program of `spec` under the seal, and returns its exit status (128 + n after signal n).
pub fn launch(spec: &Spec, source: &MountSource<'_>) -> Result<i32, SealError> {
    launch_when(spec, source, || true).map(|(status, _)| status)
}

/// What is left of a launch whose program has ended: nothing runs in it, but its namespaces are still being taken
/// down. Dropping it waits until they are gone.
#[derive(Debug)]
pub struct Ending(Pid);

impl Drop for Ending {
    fn drop(&mut self) {
        while waitpid(self.0, None) == Err(Errno::EINTR) {}
    }
}

/// Launches as [`launch`] does, but starts no program unless `ready` says so. In tier A it is asked while the view
/// is built; in a lower one, whose launch lowers the session's tier, only once all that can fail is prepared.
pub fn launch_when(
    spec: &Spec,
    source: &MountSource<'_>,
    ready: impl FnOnce() -> bool,
) -> Result<(i32, Ending), SealError> {
    raise::single_thread()?;
    check(spec, source)?;
    whole_streams()?;
    let own;
    let anchor = match source {
        MountSource::Join(anchor) => Some(*anchor),
        MountSource::Dir(_) if spec.tier == Tier::A => {
            own = raise::ground_only(spec.identity)?;
            Some(&own)
        }
        MountSource::Dir(_) => None,
    };
    let plan = Plan::new(spec, source)?;
    let filter = match spec.tier {
        Tier::C => None,
        Tier::A | Tier::B => Some(rules::call_filter(call_rules(spec))?),
    };
    let started = start(spec, plan, filter, anchor)?;
    stay(spec.tier, started, ready)
}

fn check(spec: &Spec, source: &MountSource<'_>) -> Result<(), SealError> {
    if !cfg!(debug_assertions) && !spec.without.is_empty() {
        return Err(SealError::new(
            Layer::Launcher,
            "layers can be left out in tests only",
        ));
    }
    if spec.tier == Tier::A {
        return Ok(());
    }
    let what = match source {
        MountSource::Join(_) => "a mount inside namespaces can only be joined in tier A",
        MountSource::Dir(_) if !spec.copies.is_empty() || !spec.readonly.is_empty() => {
            "private copies and binds need a mount namespace, which this tier has not"
        }
        MountSource::Dir(_) => return Ok(()),
    };
    Err(SealError::new(Layer::MountNamespace, what))
}

fn call_rules(spec: &Spec) -> CallRules {
    CallRules {
        unix_sockets: spec.unix_sockets,
        internet_sockets: spec.network || spec.tier == Tier::A,
        pid_namespace: spec.tier == Tier::A && spec.has(Layer::PidNamespace),
    }
}

/// Opens `/dev/null` over a standard stream that the caller left closed.
fn whole_streams() -> Result<(), SealError> {
    loop {
        let closed = [0, 1, 2].into_iter().any(|raw| !sys::is_open(raw));
        if !closed {
            return Ok(());
        }
        // The lowest free number is the closed stream's.
        std::mem::forget(inside::open_null()?);
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

/// A session whose first process exists. Dropped, it ends: the channel goes first, and the first process with it.
struct Started {
    channel: Channel,
    ending: Ending,
    early: Early,
    mode: Mode,
}

fn start(
    spec: &Spec,
    plan: Plan,
    filter: Option<rules::CallFilter>,
    anchor: Option<&Anchor>,
) -> Result<Started, SealError> {
    let (near, channel) = Channel::pair()?;
    let mut near = Some(near);
    let terminal = Mode::of_streams();
    let mask = SigSet::thread_get_mask().context(Layer::Launcher, "cannot read the signal mask")?;
    let mut setup = Setup {
        spec,
        plan,
        filter,
        channel,
        terminal,
        mask,
        umask: file_mode_mask(),
    };
    let failed = "cannot fork";
    let setup_process = match anchor {
        Some(anchor) => {
            let mut enter = || inside::enter(&mut setup, &mut near, anchor);
            Some(sys::fork_sharing(&mut enter).context(Layer::Launcher, failed)?)
        }
        None => match sys::fork_into(0).context(Layer::Launcher, failed)? {
            Fork::Child => {
                drop(near);
                inside::partial(setup)
            }
            Fork::Parent(_) => None,
        },
    };
    drop(setup);
    let near = near.ok_or_else(|| SealError::new(Layer::Launcher, "the channel is gone"))?;
    let first = first_process(&near);
    if let Some(child) = setup_process {
        let _ = waitpid(child, None);
    }
    let (first, early) = first?;
    Ok(Started {
        channel: near,
        ending: Ending(first),
        early,
        mode: terminal,
    })
}

/// Reads the file mode mask, which can only be read by setting it.
fn file_mode_mask() -> nix::sys::stat::Mode {
    let mask = nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    nix::sys::stat::umask(mask);
    mask
}

/// What the first process said before its number was known.
type Early = Vec<(Report, Vec<OwnedFd>)>;

fn first_process(channel: &Channel) -> Result<(Pid, Early), SealError> {
    let mut early = Vec::new();
    loop {
        match channel.receive()? {
            Some((Report::Init(first), _)) => return Ok((Pid::from_raw(first), early)),
            Some((Report::Unstarted(error), _)) => return Err(error),
            Some(other) => early.push(other),
            None => {
                return Err(SealError::new(
                    Layer::Launcher,
                    "the setup process ended without a word",
                ));
            }
        }
    }
}

/// Lets the program start once `ready` says so, stays with it until it is over, and clears up after it.
fn stay(
    tier: Tier,
    mut started: Started,
    ready: impl FnOnce() -> bool,
) -> Result<(i32, Ending), SealError> {
    if tier != Tier::A {
        started.wait_until_prepared()?;
    }
    if !ready() {
        return Err(SealError::new(Layer::Launcher, "the launch was called off"));
    }
    let signals = Signals::take()?;
    let mut outer = Outer::new(started.mode);
    let Started {
        channel,
        ending,
        early,
        ..
    } = started;
    drop(channel.send(&Order::Proceed, &[])); // whoever is gone has said why
    let outcome = attend(&channel, early, &mut outer, &signals);
    // A first process that is still there ends the session when nobody speaks to it any more.
    drop(channel);
    // It has no child left by the time it says the status: what can still be read is the last output.
    let outcome = outcome.map(|status| (status, ending));
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

/// What a poll found ready.
#[expect(
    clippy::struct_excessive_bools,
    reason = "one for each descriptor that was watched"
)]
struct Ready {
    signals: bool,
    channel: bool,
    output: bool,
    input: bool,
    keys: bool,
}

fn attend(
    channel: &Channel,
    early: Early,
    outer: &mut Outer,
    signals: &Signals,
) -> Result<i32, SealError> {
    for (report, descriptors) in early {
        if let Some(status) = take(report, descriptors, channel, outer)? {
            return Ok(status);
        }
    }
    loop {
        let ready = wait(channel, outer, signals)?;
        if ready.output {
            outer.copy_output();
        }
        if ready.input {
            outer.write_pending();
        }
        if ready.keys {
            outer.read_keys();
        }
        if ready.signals {
            forward(channel, outer, signals);
        }
        if ready.channel
            && let Some(status) = hear(channel, outer)?
        {
            return Ok(status);
        }
    }
}

fn wait(channel: &Channel, outer: &Outer, signals: &Signals) -> Result<Ready, SealError> {
    let mut watched = vec![
        PollFd::new(signals.reader.as_fd(), PollFlags::POLLIN),
        PollFd::new(channel.as_fd(), PollFlags::POLLIN),
    ];
    let master = outer.master();
    let keys = outer.keys();
    if let Some(master) = master {
        let wanted = if outer.has_pending() {
            PollFlags::POLLIN | PollFlags::POLLOUT
        } else {
            PollFlags::POLLIN
        };
        watched.push(PollFd::new(master, wanted));
    }
    if let Some(keys) = keys {
        watched.push(PollFd::new(keys, PollFlags::POLLIN));
    }
    match poll(&mut watched, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(SealError::errno(Layer::Launcher, "cannot wait", errno)),
    }
    let found = |index: usize| {
        watched
            .get(index)
            .and_then(PollFd::revents)
            .unwrap_or(PollFlags::empty())
    };
    let master_found = if master.is_some() {
        found(2)
    } else {
        PollFlags::empty()
    };
    let keys_index = if master.is_some() { 3 } else { 2 };
    Ok(Ready {
        signals: !found(0).is_empty(),
        channel: !found(1).is_empty(),
        output: master_found
            .intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR),
        input: master_found.contains(PollFlags::POLLOUT),
        keys: keys.is_some() && !found(keys_index).is_empty(),
    })
}

fn hear(channel: &Channel, outer: &mut Outer) -> Result<Option<i32>, SealError> {
    match channel.receive()? {
        Some((report, descriptors)) => take(report, descriptors, channel, outer),
        // The first process was killed from outside before it could say anything.
        None => Ok(Some(128 + Signal::SIGKILL as i32)),
    }
}

/// Takes one report. Returns the status when the program has ended.
fn take(
    report: Report,
    mut descriptors: Vec<OwnedFd>,
    channel: &Channel,
    outer: &mut Outer,
) -> Result<Option<i32>, SealError> {
    match report {
        Report::Exited(status) => return Ok(Some(status)),
        Report::Failed(error) | Report::Unstarted(error) => return Err(error),
        Report::Terminal => {
            if let Some(master) = descriptors.pop() {
                outer.connect(master)?;
            }
        }
        Report::WantsTerminal => {
            outer.give_keyboard();
            drop(channel.send(&Order::Foreground, &[]));
        }
        Report::Stopped => stop_with_program(channel, outer),
        Report::Made | Report::Raised | Report::Init(_) | Report::Prepared => {}
    }
    Ok(None)
}

/// Stops this job as the program has stopped, and goes on with it when the caller's shell says so.
fn stop_with_program(channel: &Channel, outer: &mut Outer) {
    while outer.copy_output() {}
    outer.restore();
    let mut stop = SigSet::empty();
    stop.add(Signal::SIGTSTP);
    let _ = killpg(nix::unistd::getpgrp(), Signal::SIGTSTP);
    // Here the process stops, unless nobody could ever continue it (an orphaned group): then it just goes on.
    let _ = sigprocmask(SigmaskHow::SIG_UNBLOCK, Some(&stop), None);
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop), None);
    outer.resize();
    outer.refresh();
    drop(channel.send(&Order::Continue, &[]));
}

fn forward(channel: &Channel, outer: &mut Outer, signals: &Signals) {
    while let Ok(Some(info)) = signals.reader.read_signal() {
        let Some(signal) = i32::try_from(info.ssi_signo)
            .ok()
            .and_then(|number| Signal::try_from(number).ok())
        else {
            continue;
        };
        match signal {
            Signal::SIGWINCH => outer.resize(),
            Signal::SIGCONT => {
                outer.resize();
                outer.refresh();
                drop(channel.send(&Order::Continue, &[]));
            }
            signal => {
                // What a terminal sends, it sends to the whole group in front.
                let group = matches!(
                    signal,
                    Signal::SIGINT | Signal::SIGQUIT | Signal::SIGTSTP | Signal::SIGHUP
                );
                drop(channel.send(
                    &Order::Signal {
                        number: signal as i32,
                        group,
                    },
                    &[],
                ));
                if signal == Signal::SIGHUP {
                    outer.hang_up_if_gone();
                }
            }
        }
    }
}
