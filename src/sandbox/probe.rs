//! What this machine can enforce, found out by doing it: each layer is tried in a process of its own that ends at once.
//!
//! No setting is read as evidence; the kernel's answer to the real call is. Nothing is left behind: mounts are
//! made in namespaces that die with the probe, and rules are put on processes that end.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::MntFlags;
use nix::mount::MsFlags;
use nix::mount::mount;
use nix::mount::umount2;
use nix::sched::CloneFlags;
use nix::sched::setns;
use nix::sys::wait::waitpid;

use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::fix;
use crate::sandbox::pass;
use crate::sandbox::raise;
use crate::sandbox::rules;
use crate::sandbox::rules::CallRules;
use crate::sandbox::rules::WriteRules;
use crate::sandbox::spec::Identity;
use crate::sandbox::spec::Tier;
use crate::sandbox::sys;
use crate::sandbox::sys::Fork;
use crate::sandbox::wire::Channel;

/// What came of trying one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    pub layer: Layer,
    pub ok: bool,
    /// What was done and what the kernel said.
    pub evidence: String,
    pub fix: Option<String>,
}

/// What this machine can enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    /// The best tier that holds; none where there is no usable FUSE device.
    pub tier: Option<Tier>,
    pub layers: Vec<Tried>,
    pub landlock_version: i32,
}

/// Tries every layer. The caller must be a process of one thread.
pub fn probe() -> Result<Findings, SealError> {
    raise::single_thread()?;
    let identity = Identity::of_caller();
    let mut layers = vec![
        tried(Layer::UserNamespace, || user_namespace(identity)),
        tried(Layer::MountNamespace, || mount_namespace(identity)),
        tried(Layer::PidNamespace, || pid_namespace(identity)),
        tried(Layer::IpcNamespace, || ipc_namespace(identity)),
        tried(Layer::FuseDevice, fuse_device),
        tried(Layer::FuseMount, || fuse_mount(identity)),
        tried(Layer::Landlock, landlock),
        tried(Layer::Seccomp, seccomp),
        tried(Layer::UnixSockets, unix_sockets),
        tried(Layer::Fusermount, host_mount),
    ];
    if let Identity::Mapped { outside, .. } = identity {
        layers.push(tried(Layer::Idmap, || idmap(outside)));
    }
    let landlock_version = rules::landlock_version();
    let tier = tier(&layers, landlock_version);
    Ok(Findings {
        tier,
        layers,
        landlock_version,
    })
}

/// Decides the tier from what was tried.
fn tier(layers: &[Tried], landlock_version: i32) -> Option<Tier> {
    let holds = |wanted: &[Layer]| {
        wanted
            .iter()
            .all(|layer| layers.iter().any(|tried| tried.layer == *layer && tried.ok))
    };
    let sealed = [
        Layer::UserNamespace,
        Layer::MountNamespace,
        Layer::PidNamespace,
        Layer::IpcNamespace,
        Layer::FuseMount,
        Layer::Landlock,
        Layer::Seccomp,
        Layer::UnixSockets,
    ];
    let host_mount = holds(&[Layer::FuseDevice, Layer::Fusermount]);
    if holds(&sealed) {
        Some(Tier::A)
    } else if !host_mount {
        None
    } else if holds(&[Layer::Landlock, Layer::Seccomp, Layer::UnixSockets])
        && landlock_version >= rules::LANDLOCK_SCOPES
    {
        Some(Tier::B)
    } else {
        Some(Tier::C)
    }
}

/// Runs one trial in a process of its own.
fn tried(layer: Layer, trial: impl FnOnce() -> Result<String, SealError>) -> Tried {
    match in_child(trial) {
        Ok(evidence) => Tried {
            layer,
            ok: true,
            evidence,
            fix: None,
        },
        Err(error) => Tried {
            layer,
            ok: false,
            evidence: error.to_string(),
            fix: error.fix,
        },
    }
}

fn in_child(trial: impl FnOnce() -> Result<String, SealError>) -> Result<String, SealError> {
    let fork = || sys::fork_into(0).context(Layer::Launcher, "cannot fork");
    answer_of(Layer::Launcher, fork, trial)
}

/// Makes a child, lets it try, and returns what it says.
fn answer_of(
    layer: Layer,
    fork: impl FnOnce() -> Result<Fork, SealError>,
    trial: impl FnOnce() -> Result<String, SealError>,
) -> Result<String, SealError> {
    let (near, far) = Channel::pair()?;
    let child = match fork()? {
        Fork::Child => {
            drop(near);
            drop(far.send(&trial(), &[]));
            sys::exit_now(0)
        }
        Fork::Parent(child) => child,
    };
    drop(far);
    let answer = near.receive::<Result<String, SealError>>();
    let _ = waitpid(child, None);
    match answer? {
        Some((answer, _)) => answer,
        None => Err(SealError::new(layer, "the trial ended without an answer")),
    }
}

fn user_namespace(identity: Identity) -> Result<String, SealError> {
    raise::ground_only(identity)?;
    let (uid, _) = raise::shown_ids(identity);
    Ok(format!("made one, with uid {uid} mapped in it"))
}

/// Enters new namespaces for the rest of this process.
fn enter(identity: Identity) -> Result<(), SealError> {
    let anchor = raise::ground_only(identity)?;
    setns(&anchor.user, CloneFlags::CLONE_NEWUSER)
        .context(Layer::UserNamespace, "cannot join one")?;
    setns(&anchor.mount, CloneFlags::CLONE_NEWNS).context(Layer::MountNamespace, "cannot join one")
}

fn mount_namespace(identity: Identity) -> Result<String, SealError> {
    enter(identity)?;
    mount(
        Some("tmpfs"),
        "/tmp",
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        None::<&str>,
    )
    .map_err(|errno| fix::mounting("cannot mount a tmpfs", errno))?;
    Ok("mounted a tmpfs over /tmp in one".to_owned())
}

fn pid_namespace(identity: Identity) -> Result<String, SealError> {
    enter(identity)?;
    let trial = || {
        mount(
            Some("proc"),
            "/proc",
            Some("proc"),
            MsFlags::MS_NOSUID,
            None::<&str>,
        )
        .map_err(|errno| fix::mounting("cannot mount /proc of a new one", errno))?;
        Ok("made one and mounted its /proc".to_owned())
    };
    in_namespace(
        libc::CLONE_NEWPID | libc::CLONE_NEWNS,
        Layer::PidNamespace,
        trial,
    )
}

fn ipc_namespace(identity: Identity) -> Result<String, SealError> {
    enter(identity)?;
    in_namespace(libc::CLONE_NEWIPC, Layer::IpcNamespace, || {
        Ok("made one".to_owned())
    })
}

fn in_namespace(
    flags: libc::c_int,
    layer: Layer,
    trial: impl FnOnce() -> Result<String, SealError>,
) -> Result<String, SealError> {
    let fork = || {
        sys::fork_into(flags).map_err(|errno| SealError {
            fix: Some(fix::USER_NAMESPACE.to_owned()),
            ..SealError::errno(layer, "cannot make one", errno)
        })
    };
    answer_of(layer, fork, trial)
}

fn fuse_device() -> Result<String, SealError> {
    match fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/fuse")
    {
        Ok(file) if is_fuse(&file) => Ok("opened for reading and writing".to_owned()),
        Ok(_) => {
            let what = "something else stands there";
            Err(SealError::new(Layer::FuseDevice, what).fix(fix::FUSE_DEVICE))
        }
        Err(error) => {
            Err(SealError::io(Layer::FuseDevice, "cannot open it", &error).fix(fix::FUSE_DEVICE))
        }
    }
}

/// The device has the same number everywhere.
fn is_fuse(file: &fs::File) -> bool {
    let number = nix::sys::stat::makedev(10, 229);
    file.metadata()
        .is_ok_and(|metadata| metadata.file_type().is_char_device() && metadata.rdev() == number)
}

fn fuse_mount(identity: Identity) -> Result<String, SealError> {
    raise::raise(Path::new("/tmp"), identity, "")?;
    Ok("mounted over /tmp in namespaces of its own".to_owned())
}

fn landlock() -> Result<String, SealError> {
    let version = rules::landlock_version();
    rules::restrict_writes(&WriteRules {
        allowed: Vec::new(),
        scopes_redundant: true,
    })?;
    match fs::OpenOptions::new().write(true).open("/dev/null") {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let scopes = if version >= rules::LANDLOCK_SCOPES {
                "with scopes"
            } else {
                "without scopes, which the pid and ipc namespaces and the socket filter make redundant"
            };
            Ok(format!(
                "version {version}, {scopes}: a write outside the allowed paths was refused"
            ))
        }
        other => Err(SealError::new(
            Layer::Landlock,
            format!("a write outside the allowed paths: {other:?}"),
        )),
    }
}

fn filtered() -> Result<(), SealError> {
    let calls = CallRules {
        unix_sockets: false,
        internet_sockets: true,
        pid_namespace: true,
    };
    rules::restrict_calls(&rules::call_filter(calls)?)
}

fn seccomp() -> Result<String, SealError> {
    filtered()?;
    match nix::sched::unshare(CloneFlags::CLONE_FS) {
        Err(nix::errno::Errno::EPERM) => {
            Ok("filter loaded: a call on the list was refused".to_owned())
        }
        other => Err(SealError::new(
            Layer::Seccomp,
            format!("a call on the list: {other:?}"),
        )),
    }
}

fn unix_sockets() -> Result<String, SealError> {
    filtered()?;
    let made = std::os::unix::net::UnixDatagram::unbound();
    let pair = std::os::unix::net::UnixStream::pair();
    match (made, pair) {
        (Err(error), Ok(_)) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Ok("filter loaded: socket(AF_UNIX) was refused, socketpair works".to_owned())
        }
        (made, pair) => Err(SealError::new(
            Layer::UnixSockets,
            format!("socket: {:?}, socketpair: {:?}", made.is_ok(), pair.is_ok()),
        )),
    }
}

/// Mounts on the host, as tiers B and C do, and takes it away again. Tier A does not need it.
fn host_mount() -> Result<String, SealError> {
    let place = tempfile::tempdir().context(Layer::Fusermount, "cannot make a directory")?;
    if nix::unistd::geteuid().is_root() {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS)
            .context(Layer::Fusermount, "cannot mount directly")?;
        let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            .context(Layer::Fusermount, "cannot mount directly")?;
        let device = raise::mount_fuse(place.path(), "", (0, 0))?;
        // What is mounted on cannot be removed, in this namespace either.
        umount2(place.path(), MntFlags::MNT_DETACH)
            .context(Layer::Fusermount, "cannot unmount what was mounted")?;
        drop(device);
        return Ok("mounted directly, as root".to_owned());
    }
    by_fusermount(place.path())?;
    Ok("fusermount3 mounted and unmounted a directory".to_owned())
}

fn by_fusermount(place: &Path) -> Result<(), SealError> {
    let lacking = |what: String, fix: &str| {
        let what = format!("{what}; needed for tiers B and C only");
        SealError::new(Layer::Fusermount, what).fix(fix)
    };
    let (near, far) = UnixStream::pair().context(Layer::Fusermount, "cannot make a socket pair")?;
    let number = far.as_raw_fd();
    nix::fcntl::fcntl(
        &far,
        nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()),
    )
    .context(Layer::Fusermount, "cannot hand on a socket")?;
    let program = |arguments: &[&str]| {
        let mut command = Command::new("fusermount3");
        command.args(arguments).arg("--").arg(place);
        command.env("_FUSE_COMMFD", number.to_string());
        command
    };
    let mounted = program(&["-o", "nosuid,nodev,fsname=govfs,subtype=govfs"]).output();
    let mounted = mounted.map_err(|error| {
        let fix = if error.kind() == std::io::ErrorKind::NotFound {
            "install the package fuse3"
        } else {
            "let this user run fusermount3"
        };
        lacking(format!("cannot be started: {error}"), fix)
    })?;
    if !mounted.status.success() {
        let said = String::from_utf8_lossy(&mounted.stderr);
        return Err(lacking(
            format!("refused: {}", said.trim()),
            fix_of_refusal(&said),
        ));
    }
    let device = pass::receive_once(&near);
    let gone = program(&["-u", "-q", "-z"]).status();
    let received = device.is_ok_and(|(_, descriptors)| !descriptors.is_empty());
    if received && gone.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    Err(lacking(
        "mounted, but did not hand over the device".to_owned(),
        "install the package fuse3 again: this one is not whole",
    ))
}

/// Names what keeps an installed fusermount3 from mounting, by what it says.
fn fix_of_refusal(said: &str) -> &'static str {
    if said.contains("/dev/fuse") || said.contains("modprobe") {
        fix::FUSE_DEVICE
    } else if said.contains("Operation not permitted") {
        "fusermount3 is there, but may not mount: it has to be setuid root (`chmod u+s`), on a file system that \
         is not nosuid, without no_new_privs; a container has to allow mounts"
    } else {
        "fusermount3 is there: mend what it says (its settings are in /etc/fuse.conf)"
    }
}

fn idmap(outside: u32) -> Result<String, SealError> {
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    crate::sandbox::owners::try_mapping(outside, &home)?;
    Ok(format!("mapped the owners of {}", home.display()))
}

/// Returns an `AppArmor` profile that lets this program make user namespaces, for systems that restrict them.
pub fn apparmor_profile(program: &Path) -> String {
    let program = program.display();
    format!(
        "abi <abi/4.0>,\ninclude <tunables/global>\n\nprofile govfs \"{program}\" flags=(unconfined) {{\n  userns,\n  include if exists <local/govfs>\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(missing: &[Layer]) -> Vec<Tried> {
        let all = [
            Layer::UserNamespace,
            Layer::MountNamespace,
            Layer::PidNamespace,
            Layer::IpcNamespace,
            Layer::FuseDevice,
            Layer::FuseMount,
            Layer::Landlock,
            Layer::Seccomp,
            Layer::UnixSockets,
            Layer::Fusermount,
        ];
        let tried = |layer| Tried {
            layer,
            ok: !missing.contains(&layer),
            evidence: String::new(),
            fix: None,
        };
        all.map(tried).into()
    }

    #[test]
    fn a_refusal_of_a_fusermount_that_is_there_is_not_mended_by_installing_it() {
        for (said, fix) in [
            (
                "fusermount3: failed to open /dev/fuse: Permission denied",
                "chmod 0666 /dev/fuse",
            ),
            (
                "fusermount3: fuse device not found, try 'modprobe fuse' first",
                "modprobe fuse",
            ),
            (
                "fusermount3: mount failed: Operation not permitted",
                "setuid root",
            ),
            (
                "fusermount3: too many FUSE filesystems mounted",
                "/etc/fuse.conf",
            ),
        ] {
            let told = fix_of_refusal(said);
            assert!(told.contains(fix), "{said}: {told}");
            assert!(!told.contains("install"), "{said}: {told}");
        }
    }

    #[test]
    fn the_tier_is_the_best_that_holds_whole() {
        assert_eq!(tier(&layers(&[]), 3), Some(Tier::A));
        assert_eq!(
            tier(&layers(&[Layer::Fusermount]), 7),
            Some(Tier::A),
            "only tier B needs fusermount3"
        );
        for missing in [
            Layer::UserNamespace,
            Layer::PidNamespace,
            Layer::IpcNamespace,
            Layer::MountNamespace,
        ] {
            assert_ne!(tier(&layers(&[missing]), 7), Some(Tier::A), "{missing}");
        }
        assert_ne!(tier(&layers(&[Layer::Seccomp]), 7), Some(Tier::A));
        assert_ne!(tier(&layers(&[Layer::Landlock]), 0), Some(Tier::B));
        assert_eq!(tier(&layers(&[Layer::UserNamespace]), 6), Some(Tier::B));
        assert_eq!(
            tier(&layers(&[Layer::UserNamespace]), 5),
            Some(Tier::C),
            "scopes are not redundant in tier B"
        );
        assert_eq!(
            tier(&layers(&[Layer::FuseDevice, Layer::FuseMount]), 7),
            None
        );
        assert_eq!(
            tier(&layers(&[Layer::UserNamespace, Layer::Fusermount]), 7),
            None
        );
    }
}
