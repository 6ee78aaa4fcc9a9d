//! What a sealed launch is told: plain values, nothing opened or decided yet.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::sandbox::error::Layer;

/// How much of the enforcement is asked for. Never lowered by the launcher itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Namespaces, Landlock, seccomp.
    A,
    /// No namespaces: Landlock and seccomp around a mount of the host.
    B,
    /// The mount only.
    C,
}

/// The ids under which the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The caller's own, mapped to themselves.
    Own,
    /// `outside` on this machine, shown as `inside` to the program: what a root operator's agent gets.
    Mapped { inside: u32, outside: u32 },
}

/// A directory or file of the host that the program may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    pub path: PathBuf,
    /// Make the directory (0700) if it is not there; otherwise its absence is an error.
    pub create: bool,
}

/// Something shown at another place than where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    pub source: PathBuf,
    pub place: PathBuf,
}

/// Everything about one sealed launch.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Where the governed mount stands: the repository's own absolute path.
    pub repo: PathBuf,
    /// Where the program starts; the nearest directory above it that exists in the view.
    pub cwd: PathBuf,
    pub argv: Vec<OsString>,
    /// The whole environment; `PWD`, `OLDPWD`, `GOVFS` and the head of `PATH` are set by the launcher.
    pub env: Vec<(OsString, OsString)>,
    pub tier: Tier,
    pub network: bool,
    /// A widening: leave `socket(AF_UNIX)` open.
    pub unix_sockets: bool,
    pub home: Option<PathBuf>,
    pub writable: Vec<Writable>,
    /// Paths that are absent from the view. They win over everything but the mount itself.
    pub hidden: Vec<PathBuf>,
    /// Hidden as well, and never beneath a writable path, there or not: the operator obeys what lies in these.
    pub kept: Vec<PathBuf>,
    /// Mount points that are absent too, as the kernel names them. Nobody looks at them: whoever serves one may be
    /// silent, and that is no reason to wait here.
    pub hidden_mounts: Vec<PathBuf>,
    /// Private copies (`source`), writable, in the place of the operator's own.
    pub copies: Vec<Bind>,
    /// Shown read-only at `place`.
    pub readonly: Vec<Bind>,
    /// The govfs program, shown read-only and first in `PATH`.
    pub program: PathBuf,
    pub identity: Identity,
    /// Where per-session copies of writable directories may be made if they cannot be shown as they are
    /// (no idmapped mounts); outside every view.
    pub copy_room: Option<PathBuf>,
    /// Layers left out, to show in tests that each one counts. Refused in release builds.
    #[doc(hidden)]
    pub without: Vec<Layer>,
}

impl Spec {
    /// Returns a tier A spec without network or widenings.
    pub fn new(repo: PathBuf, program: PathBuf, argv: Vec<OsString>) -> Self {
        Self {
            cwd: repo.clone(),
            repo,
            argv,
            env: Vec::new(),
            tier: Tier::A,
            network: false,
            unix_sockets: false,
            home: None,
            writable: Vec::new(),
            hidden: Vec::new(),
            kept: Vec::new(),
            hidden_mounts: Vec::new(),
            copies: Vec::new(),
            readonly: Vec::new(),
            program,
            identity: Identity::of_caller(),
            copy_room: None,
            without: Vec::new(),
        }
    }

    pub(super) fn has(&self, layer: Layer) -> bool {
        !(cfg!(debug_assertions) && self.without.contains(&layer))
    }
}

/// The namespaces of a session, kept open by its server. Dropping the last one ends the mount.
#[derive(Debug)]
pub struct Anchor {
    pub user: OwnedFd,
    pub mount: OwnedFd,
    /// A user namespace that only says as whom the operator's files are shown to a mapped agent.
    pub owners: Option<OwnedFd>,
}

impl Anchor {
    /// Returns what [`Anchor::of`] makes an anchor of again, in another process.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let own = [self.user.as_fd(), self.mount.as_fd()];
        own.into_iter()
            .chain(self.owners.as_ref().map(AsFd::as_fd))
            .collect()
    }

    /// Makes an anchor of descriptors that another process had, in their order.
    pub fn of(descriptors: Vec<OwnedFd>) -> Option<Self> {
        let mut descriptors = descriptors.into_iter();
        Some(Self {
            user: descriptors.next()?,
            mount: descriptors.next()?,
            owners: descriptors.next(),
        })
    }
}

/// A mount that has just been made: the server reads requests from `fuse`.
#[derive(Debug)]
pub struct Raised {
    pub fuse: OwnedFd,
    pub anchor: Anchor,
    /// The ids that the mount's requests and attributes carry.
    pub uid: u32,
    pub gid: u32,
}

/// Where the governed mount comes from.
#[derive(Debug)]
pub enum MountSource<'a> {
    /// It was raised before, by this run or another of the session.
    Join(&'a Anchor),
    /// A directory of the host (a mount made outside, or none at all).
    Dir(PathBuf),
}
