//! What runs inside the namespaces, from the fork to the program's exec.
//!
//! Three processes, none of which outlives its job: `enter` joins the session's namespaces and forks the first
//! process of a new pid namespace; `first` builds the view, gives up every privilege, forks the program, and then
//! only reaps, passes signals on and tells the launcher; `program` takes its terminal, Landlock and seccomp and
//! becomes the program. When the first process ends, the kernel kills everything in its pid namespace; it ends
//! with the program, and when the launcher is gone.
//! Nothing here trusts the program: it holds no descriptor of the launcher's, and can neither trace nor signal
//! the first process.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::poll::poll;
use nix::sched::CloneFlags;
use nix::sched::setns;
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::sys::signal::SigmaskHow;
use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::sys::signal::killpg;
use nix::sys::signal::sigprocmask;
use nix::sys::signalfd::SfdFlags;
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::Mode;
use nix::sys::stat::umask;
use nix::sys::wait::WaitPidFlag;
use nix::sys::wait::WaitStatus;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::fix;
use crate::sandbox::plan::Plan;
use crate::sandbox::program;
use crate::sandbox::rules::CallFilter;
use crate::sandbox::spec::Anchor;
use crate::sandbox::spec::Spec;
use crate::sandbox::spec::Tier;
use crate::sandbox::sys;
use crate::sandbox::sys::Fork;
use crate::sandbox::terminal;
use crate::sandbox::terminal::Inner;
use crate::sandbox::terminal::Mode as TerminalMode;
use crate::sandbox::view;
use crate::sandbox::wire::Channel;
use crate::sandbox::wire::Order;
use crate::sandbox::wire::Report;

/// Everything the inside needs, made before the first fork.
pub(super) struct Setup<'a> {
    pub(super) spec: &'a Spec,
    pub(super) plan: Plan,
    /// The call filter, unless the tier has none.
    pub(super) filter: Option<CallFilter>,
    pub(super) channel: Channel,
    pub(super) terminal: TerminalMode,
    /// The caller's signal mask and file mode mask, which the program gets back.
    pub(super) mask: SigSet,
    pub(super) umask: Mode,
}

/// Joins the session's namespaces and starts the first process as a child of the launcher. It uses the launcher's
/// memory and leaves it as it is; the first process has memory of its own, where `near` is given up.
pub(super) fn enter(setup: &mut Setup<'_>, near: &mut Option<Channel>, anchor: &Anchor) {
    match try_enter(setup, anchor) {
        Ok(Fork::Parent(first)) => drop(setup.channel.send(&Report::Init(first.as_raw()), &[])),
        Ok(Fork::Child) => {
            drop(near.take());
            first(setup)
        }
        Err(error) => drop(setup.channel.send(&Report::Unstarted(error), &[])),
    }
}

fn try_enter(setup: &Setup<'_>, anchor: &Anchor) -> Result<Fork, SealError> {
    setns(&anchor.user, CloneFlags::CLONE_NEWUSER)
        .context(Layer::UserNamespace, "cannot join the session's")?;
    setns(&anchor.mount, CloneFlags::CLONE_NEWNS)
        .context(Layer::MountNamespace, "cannot join the session's")?;
    let mut flags = libc::CLONE_NEWNS | libc::CLONE_PARENT;
    for (layer, flag) in [
        (Layer::PidNamespace, libc::CLONE_NEWPID),
        (Layer::IpcNamespace, libc::CLONE_NEWIPC),
    ] {
        if setup.spec.has(layer) {
            flags |= flag;
        }
    }
    if !setup.spec.network {
        flags |= libc::CLONE_NEWNET;
    }
    sys::fork_into(flags)
        .map_err(|errno| fix::mounting("cannot make namespaces for the program", errno))
}

/// Starts a program of a lower tier: no namespaces, only what a process can put on itself.
pub(super) fn partial(mut setup: Setup<'_>) -> ! {
    drop(
        setup
            .channel
            .send(&Report::Init(nix::unistd::getpid().as_raw()), &[]),
    );
    let prepared = watch_over(&setup.channel, setup.terminal);
    if setup.spec.tier == Tier::C {
        setup.filter = None;
    }
    run(&setup, prepared)
}

/// Adopts whatever the program leaves behind, so that it can be ended with it.
fn watch_over(channel: &Channel, mode: TerminalMode) -> Result<Option<Inner>, SealError> {
    prctl::set_child_subreaper(true).context(Layer::Launcher, "cannot adopt processes")?;
    let inner = open_terminal(channel, mode)?;
    prctl::set_no_new_privs().context(Layer::Privileges, "cannot set no_new_privs")?;
    prctl::set_dumpable(false)
        .context(Layer::Privileges, "cannot close this process to tracing")?;
    Ok(inner)
}

/// Ends everything that descends from this process, however it detached itself.
fn end_descendants() {
    loop {
        for child in children() {
            let _ = kill(child, Signal::SIGKILL);
        }
        if waitpid(None, None) == Err(Errno::ECHILD) {
            return;
        }
    }
}

fn children() -> Vec<Pid> {
    let list = std::fs::read_to_string("/proc/self/task/self/children").or_else(|_| {
        std::fs::read_to_string(format!(
            "/proc/self/task/{}/children",
            nix::unistd::getpid()
        ))
    });
    list.unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

fn first(setup: &mut Setup<'_>) -> ! {
    let prepared = prepare(setup.spec, &mut setup.plan, &setup.channel, setup.terminal);
    run(setup, prepared)
}

fn run(setup: &Setup<'_>, prepared: Result<Option<Inner>, SealError>) -> ! {
    let done = prepared.and_then(|inner| start_and_serve(setup, inner));
    if setup.spec.tier != Tier::A {
        end_descendants();
    } else if nix::unistd::getpid() == Pid::from_raw(1) {
        end_namespace();
    }
    // Said last: whoever hears it knows that nothing of the session runs any more.
    let last = match done {
        Ok(status) => status.map(Report::Exited),
        Err(error) => Some(Report::Failed(error)),
    };
    if let Some(report) = last {
        drop(setup.channel.send(&report, &[]));
    }
    sys::exit_now(0)
}

/// Ends every other process of the pid namespace whose first one this is, and reaps them.
fn end_namespace() {
    loop {
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
        if waitpid(None, None) == Err(Errno::ECHILD) {
            return;
        }
    }
}

fn prepare(
    spec: &Spec,
    plan: &mut Plan,
    channel: &Channel,
    mode: TerminalMode,
) -> Result<Option<Inner>, SealError> {
    if !spec.network {
        raise_loopback()?;
    }
    umask(Mode::empty());
    view::build(plan, spec)?;
    channel.send(&Report::View, &[own_view()?.as_fd()])?;
    let inner = open_terminal(channel, mode)?;
    if spec.has(Layer::Privileges) {
        sys::drop_capabilities().context(Layer::Privileges, "cannot drop capabilities")?;
        prctl::set_no_new_privs().context(Layer::Privileges, "cannot set no_new_privs")?;
    }
    prctl::set_dumpable(false)
        .context(Layer::Privileges, "cannot close this process to tracing")?;
    prctl::set_pdeathsig(Signal::SIGKILL)
        .context(Layer::Launcher, "cannot tie the session to its launcher")?;
    Ok(inner)
}

/// Opens the mount namespace of this process, through which the launcher can cover again what is uncovered.
fn own_view() -> Result<OwnedFd, SealError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    nix::fcntl::open("/proc/self/ns/mnt", flags, Mode::empty())
        .context(Layer::View, "cannot open the view")
}

fn open_terminal(channel: &Channel, mode: TerminalMode) -> Result<Option<Inner>, SealError> {
    let Some((master, inner)) = terminal::open_inner(mode)? else {
        return Ok(None);
    };
    channel.send(&Report::Terminal, &[master.as_fd()])?;
    Ok(Some(inner))
}

fn raise_loopback() -> Result<(), SealError> {
    let socket = nix::sys::socket::socket(
        nix::sys::socket::AddressFamily::Inet,
        nix::sys::socket::SockType::Datagram,
        nix::sys::socket::SockFlag::SOCK_CLOEXEC,
        None,
    )
    .context(Layer::NetNamespace, "cannot open a socket")?;
    sys::raise_loopback(socket.as_fd())
        .context(Layer::NetNamespace, "cannot raise the loopback interface")
}

/// Returns the program's status, or nothing when the launcher is gone.
fn start_and_serve(setup: &Setup<'_>, inner: Option<Inner>) -> Result<Option<i32>, SealError> {
    let signals = watch_children()?;
    // The leader of the session, so that the program's group is an ordinary job that can be stopped.
    nix::unistd::setsid().context(Layer::Terminal, "cannot lead a session")?;
    if let Some(inner) = &inner {
        sys::take_terminal(inner.slave.as_fd())
            .context(Layer::Terminal, "cannot take the terminal")?;
    }
    if setup.spec.tier != Tier::A {
        program::look_up(setup)?;
        setup.channel.send(&Report::Prepared, &[])?;
    }
    match setup.channel.receive()? {
        Some((Order::Proceed, _)) => {}
        Some(_) | None => return Ok(None),
    }
    let mut become_program = || {
        let error = program::become_program(setup, inner.as_ref());
        drop(setup.channel.send(&Report::Failed(error), &[]));
    };
    let child = sys::fork_sharing(&mut become_program).context(Layer::Program, "cannot fork")?;
    settle_group(child, inner.as_ref());
    let slave = inner.map(|inner| inner.slave);
    serve(&setup.channel, &signals, child, slave.as_ref())
}

fn watch_children() -> Result<SignalFd, SealError> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)
        .context(Layer::Launcher, "cannot block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context(Layer::Launcher, "cannot watch children")
}

/// Puts the program into its own group, and in front of the terminal if it is an interactive one.
/// Both sides do it, so that neither runs before it is done; the second attempt fails harmlessly.
fn settle_group(child: Pid, inner: Option<&Inner>) {
    let _ = nix::unistd::setpgid(child, child);
    if let Some(inner) = inner
        && inner.foreground
    {
        let _ = nix::unistd::tcsetpgrp(&inner.slave, child);
    }
}

fn serve(
    channel: &Channel,
    signals: &SignalFd,
    program: Pid,
    terminal: Option<&OwnedFd>,
) -> Result<Option<i32>, SealError> {
    loop {
        let mut watched = [
            PollFd::new(channel.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut watched, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(SealError::errno(Layer::Launcher, "cannot wait", errno)),
        }
        let ready = |index: usize| watched[index].any().unwrap_or(false);
        let (orders, children) = (ready(0), ready(1));
        if children {
            let _ = signals.read_signal();
            let status = reap(channel, program)?;
            if status.is_some() {
                return Ok(status);
            }
        }
        if orders {
            match channel.receive()? {
                Some((order, _)) => obey(&order, program, terminal),
                None => return Ok(None),
            }
        }
    }
}

fn obey(order: &Order, program: Pid, terminal: Option<&OwnedFd>) {
    // A program that is already gone gets nothing; its exit is on the way.
    match order {
        Order::Proceed => {}
        Order::Signal { number, group } => {
            if let Ok(signal) = Signal::try_from(*number) {
                let _ = if *group {
                    killpg(program, signal)
                } else {
                    kill(program, signal)
                };
            }
        }
        Order::Foreground => {
            if let Some(terminal) = terminal {
                let _ = nix::unistd::tcsetpgrp(terminal, program);
            }
            let _ = killpg(program, Signal::SIGCONT);
        }
        Order::Continue => {
            let _ = killpg(program, Signal::SIGCONT);
        }
    }
}

/// Reaps whoever ended. Returns the program's status if it did.
fn reap(channel: &Channel, program: Pid) -> Result<Option<i32>, SealError> {
    loop {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        match waitpid(None, Some(flags)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == program => return Ok(Some(status)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == program => {
                return Ok(Some(128 + signal as i32));
            }
            Ok(WaitStatus::Stopped(pid, Signal::SIGTTIN | Signal::SIGTTOU)) if pid == program => {
                channel.send(&Report::WantsTerminal, &[])?;
            }
            Ok(WaitStatus::Stopped(pid, _)) if pid == program => {
                channel.send(&Report::Stopped, &[])?;
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(SealError::errno(Layer::Launcher, "cannot reap", errno)),
        }
    }
}

/// Opens `/dev/null`, for a standard stream that the caller left closed.
pub(super) fn open_null() -> Result<OwnedFd, SealError> {
    nix::fcntl::open("/dev/null", OFlag::O_RDWR, Mode::empty())
        .context(Layer::Descriptors, "cannot open /dev/null")
}
