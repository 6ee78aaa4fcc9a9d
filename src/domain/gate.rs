//! The gate: who may change what, asked for every operation.
//!
//! Owns: the questions ([`Tried`]), the answers ([`Permit`], [`Refusal`]), the
//! table of rule names ([`RULES`]), the decision itself ([`Rules`], pure) and
//! the door between the overlay and everything behind it ([`Gate`]: backed by
//! the store; by a list in tests). Invariants: a permit is made in this file
//! alone; what no rule allows is refused. Never performs an operation.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;

use crate::domain::digest::Digest;
use crate::domain::logop::{Actor, LogOp};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::time::Timestamp;

mod check;
#[cfg(test)]
mod tests;

pub use check::{Check, Kept};

/// What somebody tried to do to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tried {
    Open,
    Access,
    Write,
    Create,
    Mkdir,
    Symlink,
    Link,
    Mknod,
    RenameFrom,
    RenameTo,
    Unlink,
    Rmdir,
    Truncate,
    Allocate,
    Mode,
    Owner,
    Times,
    Xattr,
    /// Seen, but the caller's system call could not be read.
    Unknown,
}

impl Tried {
    pub const ALL: [Self; 19] = [
        Self::Open,
        Self::Access,
        Self::Write,
        Self::Create,
        Self::Mkdir,
        Self::Symlink,
        Self::Link,
        Self::Mknod,
        Self::RenameFrom,
        Self::RenameTo,
        Self::Unlink,
        Self::Rmdir,
        Self::Truncate,
        Self::Allocate,
        Self::Mode,
        Self::Owner,
        Self::Times,
        Self::Xattr,
        Self::Unknown,
    ];

    /// Returns the word that stands in entries and in `.govfs/denials`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Access => "access",
            Self::Write => "write",
            Self::Create => "create",
            Self::Mkdir => "mkdir",
            Self::Symlink => "symlink",
            Self::Link => "link",
            Self::Mknod => "mknod",
            Self::RenameFrom => "rename-from",
            Self::RenameTo => "rename-to",
            Self::Unlink => "unlink",
            Self::Rmdir => "rmdir",
            Self::Truncate => "truncate",
            Self::Allocate => "allocate",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Times => "times",
            Self::Xattr => "xattr",
            Self::Unknown => "unknown",
        }
    }

    /// Says whether a directory on the way to a claim may be changed so.
    const fn is_way(self) -> bool {
        matches!(self, Self::Mkdir | Self::Rmdir)
    }
}

/// Proof that the gate said yes to one operation on one path. Only a gate makes one.
#[derive(Debug)]
pub struct Permit {
    claim: u64,
}

impl Permit {
    /// Returns the claim that allowed it.
    pub fn claim(&self) -> u64 {
        self.claim
    }
}

/// Every rule by which an operation is refused, and what it means.
pub const RULES: [(&str, &str); 14] = [
    ("not-claimed", "nobody holds the path; claim it first"),
    ("held", "another agent holds a claim that covers the path"),
    ("expired", "the claim that covered the path has run out"),
    (
        "role",
        "the path lies outside the paths of the agent's role",
    ),
    (
        "protected",
        "the charter protects the path from every agent",
    ),
    (
        "sensitive",
        "the path steers tools or people; only an explicit claim covers it",
    ),
    ("frozen", "the session is being merged; try again shortly"),
    (
        "ended",
        "the session was merged or abandoned; it is read-only",
    ),
    ("reserved", "some system takes the name for `.git`"),
    (
        "gitdir",
        "only what git itself writes may be made in `.git`",
    ),
    ("control", "`.govfs` is govfs's own"),
    (
        "transient",
        "the name is for saving a claimed file atomically, and for that alone",
    ),
    (
        "kind",
        "a governed file is a plain file, a directory or a symlink, without set-id bits, owned by the agent",
    ),
    ("hard-link", "git has no hard links; copy the file"),
];

/// Why not, and what to do instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One of the names in [`RULES`].
    pub rule: &'static str,
    pub reason: String,
    pub hint: String,
}

impl Refusal {
    /// Builds a refusal whose reason is the rule's own meaning.
    pub fn by_rule(rule: &'static str, hint: impl Into<String>) -> Self {
        let meaning = RULES.iter().find(|(name, _)| *name == rule);
        Self {
            rule,
            reason: meaning.map_or(rule, |(_, meaning)| meaning).to_owned(),
            hint: hint.into(),
        }
    }
}

/// A write claim of the session's own agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    pub id: u64,
    pub pattern: Pattern,
    /// When it ends by itself, in milliseconds of the boot clock.
    pub until_boot_ms: Option<u64>,
    /// The operator gave it beyond the paths of the agent's role.
    pub beyond_role: bool,
}

/// Somebody else's claim: only for the wording of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub agent: String,
    pub pattern: Pattern,
}

/// Why a whole session may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    Frozen,
    Ended,
}

/// Everything that a decision rests on, as it stands in the ledger.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub claims: Vec<Grant>,
    /// The paths of the agent's role; `None` where the role may write anywhere.
    pub role: Option<Vec<Pattern>>,
    pub protected: Vec<Pattern>,
    pub sensitive: Vec<Pattern>,
    pub others: Vec<Held>,
    pub halt: Option<Halt>,
    /// Which checks are made.
    #[doc(hidden)]
    pub kept: Kept,
    /// Literal claims by path, so that many claims cost a write nothing.
    literals: BTreeMap<RepoPath, usize>,
    globs: Vec<usize>,
}

impl Rules {
    pub fn new(claims: Vec<Grant>) -> Self {
        let mut rules = Self::default();
        for (at, grant) in claims.iter().enumerate() {
            match grant.pattern.literal() {
                Some(path) => {
                    rules.literals.insert(path.clone(), at);
                }
                None => rules.globs.push(at),
            }
        }
        rules.claims = claims;
        rules
    }

    /// Decides one operation on a governed path at `now_boot_ms`.
    pub fn decide(
        &self,
        tried: Tried,
        path: &RepoPath,
        now_boot_ms: u64,
    ) -> Result<Permit, Refusal> {
        if let Some(halt) = self.halt
            && self.kept.rule(halt.rule())
        {
            return Err(halted(halt));
        }
        if self.protected.iter().any(|pattern| pattern.covers(path)) && self.kept.rule("protected")
        {
            return Err(Refusal::by_rule(
                "protected",
                "leave it as it is; a person changes it outside any session",
            ));
        }
        let mut lapsed = false;
        let mut unexplicit = false;
        let mut outside = false;
        let sensitive = self.sensitive.iter().any(|pattern| pattern.covers(path));
        for grant in self.covering(path) {
            let is_over = grant.until_boot_ms.is_some_and(|end| end <= now_boot_ms);
            if is_over && self.kept.rule("expired") {
                lapsed = true;
            } else if sensitive && !grant.pattern.is_explicit() && self.kept.rule("sensitive") {
                unexplicit = true;
            } else if !grant.beyond_role && !self.in_role(path) && self.kept.rule("role") {
                outside = true;
            } else {
                return Ok(Permit { claim: grant.id });
            }
        }
        if outside {
            return Err(self.outside_role());
        }
        if tried.is_way()
            && let Some(grant) = self.leading(path, now_boot_ms)
        {
            return Ok(Permit { claim: grant.id });
        }
        if !self.kept.rule("not-claimed") {
            return Ok(Permit { claim: 0 });
        }
        Err(self.refusal(path, lapsed, unexplicit))
    }

    /// Says whether everything beneath `dir` gets the answer that `dir` gets.
    pub fn uniform(&self, dir: &RepoPath) -> bool {
        let touches = |pattern: &Pattern| pattern.covers(dir) || pattern.leads_to(dir);
        let lit = |path: &RepoPath| self.literals.contains_key(path);
        (lit(dir) || dir.ancestors().any(|up| lit(&up)))
            && !self.protected.iter().any(touches)
            && !self.sensitive.iter().any(touches)
            && (self.role.as_ref()).is_none_or(|role| {
                role.iter()
                    .any(|pattern| pattern.is_literal() && pattern.covers(dir))
            })
    }

    /// Says whether a claim that has not run out leads beneath the directory `path`.
    pub fn leads(&self, path: &RepoPath, now_boot_ms: u64) -> bool {
        self.leading(path, now_boot_ms).is_some()
    }

    /// Returns the base names of the literal claims that stand directly in `dir`.
    pub fn names_in(&self, dir: &RepoPath) -> Vec<Vec<u8>> {
        let names = self.literals.keys();
        names
            .filter(|path| path.parent().as_ref() == Some(dir))
            .map(|path| path.name().to_vec())
            .collect()
    }

    /// Says whether a path is on one of the charter's lists, or somebody else's.
    pub fn guards(&self, path: &RepoPath) -> bool {
        let covers = |pattern: &Pattern| pattern.covers(path);
        self.protected.iter().any(covers)
            || self.sensitive.iter().any(covers)
            || self.others.iter().any(|held| covers(&held.pattern))
    }

    fn covering<'a>(&'a self, path: &'a RepoPath) -> impl Iterator<Item = &'a Grant> {
        let bytes = path.as_bytes();
        let cuts = (0..bytes.len())
            .filter(|&at| bytes[at] == b'/')
            .map(|at| &bytes[..at])
            .chain(std::iter::once(bytes));
        let literal = cuts.filter_map(|cut| self.literals.get(cut));
        let globs = self.globs.iter();
        let globs = globs.filter(|&&at| self.claims[at].pattern.covers(path));
        literal.chain(globs).map(|&at| &self.claims[at])
    }

    fn leading(&self, dir: &RepoPath, now_boot_ms: u64) -> Option<&Grant> {
        self.claims.iter().find(|grant| {
            grant.until_boot_ms.is_none_or(|end| end > now_boot_ms) && grant.pattern.leads_to(dir)
        })
    }

    fn in_role(&self, path: &RepoPath) -> bool {
        let role = self.role.as_ref();
        role.is_none_or(|role| role.iter().any(|pattern| pattern.covers(path)))
    }

    fn outside_role(&self) -> Refusal {
        let paths: Vec<String> = self.role.iter().flatten().map(Pattern::to_string).collect();
        Refusal::by_rule("role", format!("the role may write {}", paths.join(" ")))
    }

    fn refusal(&self, path: &RepoPath, lapsed: bool, unexplicit: bool) -> Refusal {
        if let Some(held) = self.others.iter().find(|held| held.pattern.covers(path)) {
            return Refusal {
                rule: "held",
                reason: format!("{} holds {}, which covers {path}", held.agent, held.pattern),
                hint: format!(
                    "work on something else until it is free, then: govfs claim {}",
                    Pattern::argument(path)
                ),
            };
        }
        if unexplicit {
            let word = Pattern::argument(path);
            let hint = format!("claim the path itself: govfs claim {word}");
            return Refusal::by_rule("sensitive", hint);
        }
        if lapsed {
            return Refusal::by_rule(
                "expired",
                format!("claim it again: govfs claim {}", Pattern::argument(path)),
            );
        }
        let own: Vec<String> = (self.claims.iter())
            .take(8)
            .map(|grant| grant.pattern.to_string())
            .collect();
        let may = if own.is_empty() {
            "nothing is claimed yet".to_owned()
        } else {
            format!("you may write {}", own.join(" "))
        };
        Refusal::by_rule(
            "not-claimed",
            format!("{may}; or: govfs claim {}", Pattern::argument(path)),
        )
    }
}

impl Halt {
    const fn rule(self) -> &'static str {
        match self {
            Self::Frozen => "frozen",
            Self::Ended => "ended",
        }
    }
}

fn halted(halt: Halt) -> Refusal {
    let hint = match halt {
        Halt::Frozen => "try again when the merge is over",
        Halt::Ended => "mount or run again for a new session",
    };
    Refusal::by_rule(halt.rule(), hint)
}

/// Where an entry went, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub seq: u64,
    pub ts: Timestamp,
}

/// A refused operation, as it is put on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub path: RepoPath,
    pub tried: Tried,
    pub refusal: Refusal,
    /// How often it happened since the last entry about it.
    pub count: u64,
    pub by: Actor,
}

impl Denial {
    pub fn entry(&self) -> LogOp {
        LogOp::Denied {
            path: self.path.clone(),
            tried: self.tried.word().to_owned(),
            rule: self.refusal.rule.to_owned(),
            reason: self.refusal.reason.clone(),
            count: self.count,
            by: self.by.clone(),
        }
    }
}

/// What stands behind the overlay: decisions in, entries out.
///
/// Implementations: the session's (claims, charter, write log, versions on disk)
/// and a recording one in tests.
pub trait Gate: Send + Sync {
    /// Decides one operation on a governed path. Records nothing: the overlay
    /// hands every refusal to [`Gate::denied`] before it answers. Where the
    /// charter says `first-write`, a mutating question about a free path claims it.
    fn permit(&self, tried: Tried, path: &RepoPath, by: &Actor) -> Result<Permit, Refusal>;

    /// Hears of an open for writing that the kernel is about to refuse; where the
    /// charter says `first-write` it may claim the path. Says whether a write is allowed now.
    fn attempt(&self, path: &RepoPath, by: &Actor) -> bool {
        let _ = by;
        self.writable(path)
    }

    /// Says whether a write to `path` would be allowed now: the honest `w` bit. Records nothing.
    fn writable(&self, path: &RepoPath) -> bool;

    /// Says whether everything beneath `dir` gets the answer that `dir` gets, so
    /// that a renamed directory need not be walked. `false` is always right.
    fn uniform(&self, dir: &RepoPath) -> bool {
        let _ = dir;
        false
    }

    /// Says whether some claimed path lies beneath the directory `path`, so that
    /// it may be made, or removed when empty.
    fn leads_to_claim(&self, path: &RepoPath) -> bool;

    /// Returns the claimed literal file paths' base names in `dir`, from which transient names derive.
    fn claimed_names(&self, dir: &RepoPath) -> Vec<Vec<u8>>;

    /// Says whether a path is on one of the charter's lists, or somebody else's:
    /// then its name is none to save another file under.
    fn guards(&self, path: &RepoPath) -> bool;

    /// Appends one entry with one `write(2)`.
    fn record(&self, op: &LogOp) -> io::Result<Recorded>;

    /// Puts a refusal on record: an entry, and a line in `.govfs/denials`.
    fn denied(&self, denial: &Denial) -> io::Result<()> {
        self.record(&denial.entry()).map(|_| ())
    }

    /// Makes the log durable (fdatasync).
    fn sync(&self) -> io::Result<()>;

    /// Stores the settled bytes of `file` (`name` in the work directory) as the
    /// version `sha256`. With `take`, the file itself may become the version, under a
    /// name of its own beside the one it has; says whether it did.
    fn keep(&self, file: &File, name: &str, sha256: &Digest, take: bool) -> io::Result<bool>;

    /// Opens the version `sha256` for reading.
    fn version(&self, sha256: &Digest) -> io::Result<File>;
}
