//! The words for what a machine lacks: one error with its fix for each step that a kernel or a container may forbid.

use std::path::Path;

use nix::errno::Errno;

use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;

/// What to do where the kernel or `AppArmor` forbids namespaces.
pub(super) const USER_NAMESPACE: &str = "allow user namespaces: on Ubuntu an AppArmor profile for govfs with `userns,` \
    (`govfs doctor --apparmor` prints one); elsewhere `sysctl user.max_user_namespaces=15000` and, where it exists, \
    `kernel.unprivileged_userns_clone=1`; in Docker `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`; \
    inside a plain chroot the kernel allows none: start govfs outside it, or make it a container, which changes its root by pivot_root";

/// What to do where a container masks /proc or forbids mounts.
pub(super) const MOUNTING: &str = "in Docker `--security-opt seccomp=unconfined --security-opt apparmor=unconfined \
    --security-opt systempaths=unconfined`; on Ubuntu an AppArmor profile for govfs with `userns,`";

/// What to do without a usable FUSE device.
pub(super) const FUSE_DEVICE: &str = "load the fuse module and give users the device (`modprobe fuse`, `chmod 0666 /dev/fuse`); \
    in Docker add `--device /dev/fuse`";

pub(super) fn user_namespace(errno: Errno) -> SealError {
    let what = match errno {
        Errno::ENOSPC => "the limit of user namespaces is reached or zero",
        Errno::EPERM => "creating one is forbidden here",
        Errno::EINVAL | Errno::ENOSYS => "this kernel has none",
        _ => "cannot create one",
    };
    SealError::errno(Layer::UserNamespace, what, errno).fix(USER_NAMESPACE)
}

pub(super) fn maps(error: &std::io::Error) -> SealError {
    SealError::io(
        Layer::UserNamespace,
        "cannot map the agent's uid and gid",
        error,
    )
    .fix(USER_NAMESPACE)
}

pub(super) fn mounting(what: &str, errno: Errno) -> SealError {
    SealError::errno(Layer::MountNamespace, what, errno).fix(MOUNTING)
}

pub(super) fn fuse_device(errno: Errno) -> SealError {
    SealError::errno(Layer::FuseDevice, "cannot be used", errno).fix(FUSE_DEVICE)
}

pub(super) fn fuse_mount(repo: &Path, errno: Errno) -> SealError {
    SealError::errno(
        Layer::FuseMount,
        &format!("cannot mount at {}", repo.display()),
        errno,
    )
    .fix(MOUNTING)
}
