//! What can be missing or go wrong around a seal: a layer by name, what happened, and what to do about it.
//!
//! A seal is whole or it is an error; nothing here has a "warn and go on" form.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

/// One layer of the seal, or one step of the launch, by the name that people read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    UserNamespace,
    MountNamespace,
    PidNamespace,
    IpcNamespace,
    NetNamespace,
    FuseDevice,
    FuseMount,
    Fusermount,
    View,
    ReadOnly,
    Hidden,
    OwnUid,
    Idmap,
    Privileges,
    Landlock,
    Seccomp,
    UnixSockets,
    Descriptors,
    Terminal,
    Program,
    Launcher,
}

impl Layer {
    /// Returns the name shown to people and written to the ledger.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespace",
            Self::MountNamespace => "mount namespace",
            Self::PidNamespace => "pid namespace",
            Self::IpcNamespace => "ipc namespace",
            Self::NetNamespace => "network namespace",
            Self::FuseDevice => "/dev/fuse",
            Self::FuseMount => "fuse mount",
            Self::Fusermount => "fusermount3",
            Self::View => "file system view",
            Self::ReadOnly => "read-only view",
            Self::Hidden => "hidden paths",
            Self::OwnUid => "own uid",
            Self::Idmap => "idmapped mount",
            Self::Privileges => "dropped privileges",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::UnixSockets => "unix socket filter",
            Self::Descriptors => "closed descriptors",
            Self::Terminal => "terminal",
            Self::Program => "program",
            Self::Launcher => "launcher",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Why the program was not started under a whole seal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{layer}: {what}")]
pub struct SealError {
    pub layer: Layer,
    pub what: String,
    /// What the operator can do; shown as the hint.
    pub fix: Option<String>,
    /// The errno behind it, where there was one.
    pub errno: Option<i32>,
}

impl SealError {
    /// Makes an error of a layer without a known fix.
    pub fn new(layer: Layer, what: impl Into<String>) -> Self {
        Self {
            layer,
            what: what.into(),
            fix: None,
            errno: None,
        }
    }

    /// Adds what the operator can do about it.
    #[must_use]
    pub fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// Keeps an errno as part of the text and of the data.
    pub(super) fn errno(layer: Layer, what: &str, errno: nix::errno::Errno) -> Self {
        Self {
            layer,
            what: format!("{what}: {}", errno.desc()),
            fix: None,
            errno: Some(errno as i32),
        }
    }

    pub(super) fn io(layer: Layer, what: &str, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self::errno(layer, what, nix::errno::Errno::from_raw(number)),
            None => Self::new(layer, format!("{what}: {error}")),
        }
    }
}

/// Names the layer and the step of a failed system call.
pub(super) trait Context<T> {
    fn context(self, layer: Layer, what: &str) -> Result<T, SealError>;
}

impl<T> Context<T> for nix::Result<T> {
    fn context(self, layer: Layer, what: &str) -> Result<T, SealError> {
        self.map_err(|errno| SealError::errno(layer, what, errno))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, layer: Layer, what: &str) -> Result<T, SealError> {
        self.map_err(|error| SealError::io(layer, what, &error))
    }
}
