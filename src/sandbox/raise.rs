//! Raises a session's mount in namespaces of its own, without any privilege of the host.
//!
//! In order: fork into a new user and mount namespace; the parent writes the id maps; the child makes every
//! mount private, opens `/dev/fuse` (only then: a descriptor opened before cannot mount there), mounts over the
//! repository's path, and hands back the device and both namespaces. The host never sees the mount; it lives
//! as long as somebody holds the [`Anchor`], and dies closed with its server.
//! Nothing here runs or reads anything that an agent could have made.

use std::fs;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::fcntl::open;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::fix;
use crate::sandbox::owners;
use crate::sandbox::spec::Anchor;
use crate::sandbox::spec::Identity;
use crate::sandbox::spec::Raised;
use crate::sandbox::sys;
use crate::sandbox::sys::Fork;
use crate::sandbox::wire::Channel;
use crate::sandbox::wire::Order;
use crate::sandbox::wire::Report;

/// Raises a FUSE mount over `repo`. `options` are added to the mount options (`max_read=…`).
///
/// The mount answers nothing before a server reads from the returned device.
pub fn raise(repo: &Path, identity: Identity, options: &str) -> Result<Raised, SealError> {
    let (uid, gid) = shown_ids(identity);
    let (mut descriptors, mut anchor) = ground(identity, Some((repo, options)))?;
    if let Identity::Mapped { outside, .. } = identity {
        anchor.owners = Some(owners::operator_as(outside)?);
    }
    let fuse = descriptors
        .pop()
        .ok_or_else(|| SealError::new(Layer::FuseMount, "no device was handed back"))?;
    Ok(Raised {
        fuse,
        anchor,
        uid,
        gid,
    })
}

/// Makes the namespaces alone, for a launch over a directory of the host.
pub(super) fn ground_only(identity: Identity) -> Result<Anchor, SealError> {
    ground(identity, None).map(|(_, anchor)| anchor)
}

/// Returns the ids that the program sees as its own.
pub(super) fn shown_ids(identity: Identity) -> (u32, u32) {
    match identity {
        Identity::Own => (
            nix::unistd::geteuid().as_raw(),
            nix::unistd::getegid().as_raw(),
        ),
        Identity::Mapped { inside, .. } => (inside, inside),
    }
}

fn ground(
    identity: Identity,
    fuse: Option<(&Path, &str)>,
) -> Result<(Vec<OwnedFd>, Anchor), SealError> {
    single_thread()?;
    let (near, far) = Channel::pair()?;
    let ids = shown_ids(identity);
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    let child = match sys::fork_into(flags).map_err(fix::user_namespace)? {
        Fork::Child => {
            drop(near);
            if let Err(error) = inside(&far, fuse, ids) {
                drop(far.send(&Report::Failed(error), &[]));
            }
            sys::exit_now(0)
        }
        Fork::Parent(child) => child,
    };
    drop(far);
    let result = outside(&near, child, identity);
    drop(near);
    let _ = waitpid(child, None);
    result
}

/// The launcher and its forks allocate between fork and exec, which is sound in a process of one thread only.
pub(super) fn single_thread() -> Result<(), SealError> {
    let threads = fs::read_dir("/proc/self/task")
        .context(Layer::Launcher, "cannot count threads")?
        .count();
    if threads == 1 {
        return Ok(());
    }
    Err(SealError::new(
        Layer::Launcher,
        format!("a launch needs a process of one thread, this one has {threads}"),
    ))
}

fn outside(
    channel: &Channel,
    child: Pid,
    identity: Identity,
) -> Result<(Vec<OwnedFd>, Anchor), SealError> {
    expect(channel, |report| matches!(report, Report::Made))?;
    write_maps(child, identity)?;
    channel.send(&Order::Proceed, &[])?;
    let mut descriptors = expect(channel, |report| matches!(report, Report::Raised))?;
    let (Some(mount), Some(user)) = (descriptors.pop(), descriptors.pop()) else {
        return Err(SealError::new(
            Layer::UserNamespace,
            "the namespaces were not handed back",
        ));
    };
    let owners = None;
    let anchor = Anchor {
        user,
        mount,
        owners,
    };
    Ok((descriptors, anchor))
}

/// Receives one report, of the kind wanted, and its descriptors.
pub(super) fn expect(
    channel: &Channel,
    wanted: fn(&Report) -> bool,
) -> Result<Vec<OwnedFd>, SealError> {
    match channel.receive()? {
        Some((Report::Failed(error), _)) => Err(error),
        Some((report, descriptors)) if wanted(&report) => Ok(descriptors),
        Some((report, _)) => Err(SealError::new(
            Layer::Launcher,
            format!("unexpected report {report:?}"),
        )),
        None => Err(SealError::new(
            Layer::Launcher,
            "the setup process ended without a word",
        )),
    }
}

/// Writes the id maps of a child in a new user namespace.
pub(super) fn write_maps(child: Pid, identity: Identity) -> Result<(), SealError> {
    let write = |file: &str, text: String| fs::write(format!("/proc/{child}/{file}"), text);
    let (uid, gid) = match identity {
        Identity::Own => {
            // A process without privilege may map its group only after giving up setgroups.
            write("setgroups", "deny".to_owned()).map_err(|error| fix::maps(&error))?;
            let (uid, gid) = shown_ids(identity);
            ((uid, uid), (gid, gid))
        }
        Identity::Mapped { inside, outside } => ((inside, outside), (inside, outside)),
    };
    write("uid_map", format!("{} {} 1", uid.0, uid.1)).map_err(|error| fix::maps(&error))?;
    write("gid_map", format!("{} {} 1", gid.0, gid.1)).map_err(|error| fix::maps(&error))
}

fn inside(
    channel: &Channel,
    fuse: Option<(&Path, &str)>,
    ids: (u32, u32),
) -> Result<(), SealError> {
    channel.send(&Report::Made, &[])?;
    if channel.receive::<Order>()?.is_none() {
        return Err(SealError::new(Layer::Launcher, "the launcher is gone"));
    }
    make_private()?;
    let device = fuse
        .map(|(repo, options)| mount_fuse(repo, options, ids))
        .transpose()?;
    let user = open_namespace("user")?;
    let mounts = open_namespace("mnt")?;
    let mut descriptors = Vec::new();
    descriptors.extend(device.as_ref().map(AsFd::as_fd));
    descriptors.extend([user.as_fd(), mounts.as_fd()]);
    channel.send(&Report::Raised, &descriptors)
}

/// Cuts every mount off from the host's, so that nothing done here is seen there, or the other way round.
pub(super) fn make_private() -> Result<(), SealError> {
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .map_err(|errno| fix::mounting("cannot make / private", errno))
}

fn open_namespace(kind: &str) -> Result<OwnedFd, SealError> {
    let path = format!("/proc/self/ns/{kind}");
    open(
        path.as_str(),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .context(Layer::UserNamespace, &format!("cannot open {path}"))
}

pub(super) fn mount_fuse(
    repo: &Path,
    options: &str,
    (uid, gid): (u32, u32),
) -> Result<OwnedFd, SealError> {
    let device = open("/dev/fuse", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(fix::fuse_device)?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={uid},group_id={gid},allow_other,default_permissions",
        device.as_raw_fd()
    );
    if !options.is_empty() {
        data.push(',');
        data.push_str(options);
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    match mount(
        Some("govfs"),
        repo,
        Some("fuse.govfs"),
        flags,
        Some(data.as_str()),
    ) {
        Ok(()) => Ok(device),
        Err(Errno::ENODEV) => Err(fix::fuse_device(Errno::ENODEV)),
        Err(errno) => Err(fix::fuse_mount(repo, errno)),
    }
}
