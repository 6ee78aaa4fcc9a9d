//! Launches a program under the seal.
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
//! 7. *Stay* (`super::stay`): the launcher passes signals, keys and the window size in, output and the exit status
//!    out; what stands over the host's names stays over them (`super::watch`).
//! 8. *End*: the status comes once no other process of the session is left; [`Ending`] waits for the namespaces.
//!
//! The launcher never lowers a tier, and leaves neither process nor mount behind: the namespaces die with their
//! first process, which dies with the launcher.

use nix::sys::signal::SigSet;
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
use crate::sandbox::stay::Early;
use crate::sandbox::stay::Ending;
use crate::sandbox::stay::Over;
use crate::sandbox::stay::Started;
use crate::sandbox::stay::stay;
use crate::sandbox::streams;
use crate::sandbox::sys;
use crate::sandbox::sys::Fork;
use crate::sandbox::terminal::Mode;
use crate::sandbox::watch::Watch;
use crate::sandbox::wire::Channel;
use crate::sandbox::wire::Report;

/// Says what of tier A is missing, as far as it can be known before anything is recorded of a launch.
pub fn look_ahead() -> Result<(), SealError> {
    rules::enforcing_version(true).map(drop)
}

/// Runs the program of `spec` under the seal, and returns its exit status (128 + n after signal n).
pub fn launch(spec: &Spec, source: &MountSource<'_>) -> Result<i32, SealError> {
    launch_when(spec, source, || true).map(|over| over.status)
}

/// Launches as [`launch`] does, but starts no program unless `ready` says so. In tier A it is asked while the view
/// is built; in a lower one, whose launch lowers the session's tier, only once all that can fail is prepared.
pub fn launch_when(
    spec: &Spec,
    source: &MountSource<'_>,
    ready: impl FnOnce() -> bool,
) -> Result<Over, SealError> {
    raise::single_thread()?;
    check(spec, source)?;
    let _given = streams::prepare(spec)?;
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
    // Before anything is covered: from here on no change goes unseen.
    let watch = anchor.map(|anchor| Watch::new(spec, &plan, anchor));
    let watch = watch.transpose()?;
    let copied = plan.copied();
    let started = start(spec, plan, filter, anchor)?;
    let over = stay(spec.tier, started, watch, ready)?;
    Ok(Over { copied, ..over })
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
