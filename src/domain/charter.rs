//! The charter: what `governor.md` says that is enforced.
//!
//! The file is prose for people with exactly one fenced block ```` ```toml charter ````.
//! Owns: the settings, their defaults, their strict reading, and their
//! explanation in plain words. Invariants: every pattern compiles and every role,
//! check and validator that is named exists; an unknown key, a wrong type or a
//! doubtful value is an error, and all errors are found together, with their
//! line in the file. `governor.md` itself is protected whatever the lists say.
//! Never decides anything: claims, gate, merge and sandbox read it.

mod block;
mod defaults;
mod explain;
mod lanes;
mod read;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::digest::Digest;
use crate::domain::event::Tier;
use crate::domain::names::AgentName;
use crate::domain::names::RoleName;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;

/// Where the charter stands in a repository.
pub const CHARTER_FILE: &str = "governor.md";

/// The charter that a repository gets which has none; this project's own.
pub const DEFAULT_CHARTER: &str = include_str!("../../governor.md");

/// One fault of a charter; `key` is dotted, and empty where it is about the whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CharterError {
    /// Counted in the whole file, from 1.
    pub line: usize,
    pub key: String,
    pub message: String,
}

impl fmt::Display for CharterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charter {
    digest: Digest,
    pub paths: Paths,
    pub claims: Claims,
    pub scratch: Vec<Pattern>,
    pub transient: Transient,
    /// Directories that a new mount starts with, copied from the operator's checkout.
    pub share: Vec<Pattern>,
    /// The role of an agent that was added without one.
    pub default_role: RoleName,
    pub roles: BTreeMap<RoleName, Role>,
    pub sandbox: Sandbox,
    pub reviews: Reviews,
    /// Acceptance checks in the order of the file.
    pub checks: Vec<Check>,
    pub plans: Plans,
    pub facts: Facts,
    pub merge: Merge,
    pub ledger: Ledger,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Nobody may write these; a wider claim does not reach them.
    pub protected: Vec<Pattern>,
    /// Instead of the usual sensitive ones, and besides.
    sensitive: Option<Vec<Pattern>>,
    also_sensitive: Vec<Pattern>,
}

impl Paths {
    /// These need a claim that names them: a literal, or a glob without a wildcard at its end.
    pub fn sensitive(&self) -> impl Iterator<Item = &Pattern> {
        static USUAL: LazyLock<Vec<Pattern>> =
            LazyLock::new(|| settings::patterns(defaults::SENSITIVE));
        let first = self.sensitive.as_ref().unwrap_or(&USUAL);
        first.iter().chain(&self.also_sensitive)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimMode {
    /// Whoever wants to write says so before.
    Explicit,
    /// The first write to a free path claims it.
    FirstWrite,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    pub mode: ClaimMode,
    pub ttl_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransientRule {
    /// Names derived from a claimed file's name, and a short list of others.
    Derived,
    /// Any new file beside a claimed one.
    Broad,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transient {
    pub rule: TransientRule,
    /// More names, each a pattern of one component.
    pub names: Vec<Pattern>,
}

impl Transient {
    /// Says whether the charter adds this name to the transient ones.
    pub fn adds(&self, name: &[u8]) -> bool {
        RepoPath::parse(name).is_ok_and(|name| self.names.iter().any(|one| one.covers(&name)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// A claim of the role must lie inside these.
    pub paths: Vec<Pattern>,
    /// The engine of an agent of this role, where it was added without one.
    pub engine: Option<String>,
    /// Whose changes this role reviews; the other side of `reviewed_by`.
    pub reviews: Vec<RoleName>,
    /// Each of these roles must have approved a change of this role.
    pub reviewed_by: Vec<RoleName>,
    /// What an agent of the role is told when it starts, and what it reads first.
    pub brief: Option<String>,
    pub read_first: Vec<Pattern>,
}

/// A path outside the repository: absolute, or beneath the home directory with `~/`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostPath(String);

impl HostPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// The least that `--allow-tier` may put up with; without the switch it is always A.
    pub least_tier: Option<Tier>,
    pub network: bool,
    /// Whether a program may make Unix sockets.
    pub af_unix: bool,
    /// Where known agents keep their state and logins: written through for the agent that is started.
    pub states: Vec<HostPath>,
    /// Written through to the operator's own, for every program.
    pub writable: Vec<HostPath>,
    /// Each session gets its own copy, dropped at the end.
    pub copied: Vec<HostPath>,
    /// Absent.
    pub hidden: Vec<HostPath>,
    /// Variables that are passed on besides those that every program needs; a trailing `*`
    /// stands for any end.
    pub environment: Vec<String>,
}

impl Sandbox {
    /// Returns all names and starts of names that are passed on.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        (defaults::ALWAYS.iter().copied()).chain(self.environment.iter().map(String::as_str))
    }

    /// Says whether a variable is passed on.
    pub fn passes(&self, name: &str) -> bool {
        (self.variables()).any(|allowed| match allowed.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == allowed,
        })
    }
}

/// From the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Diversity {
    Off,
    /// A reviewer with another engine is asked first.
    Prefer,
    /// An approval counts only from another engine.
    Require,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviews {
    /// How many approvals every merge needs. Nobody approves their own.
    pub required: u32,
    pub engine_diversity: Diversity,
    pub rules: Vec<ReviewRule>,
}

/// What a change of certain paths needs besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewRule {
    pub paths: Vec<Pattern>,
    /// An approval from each of these; its own role's changes are left to the others.
    pub roles: Vec<RoleName>,
    pub person: bool,
}

/// A program to run, as the charter or a plan names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CharterCommand {
    Shell(String),
    Argv(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub command: CharterCommand,
    pub timeout_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plans {
    /// Whether a session without a plan is refused at merge.
    pub required: bool,
    /// Validators by plan type; a type that is missing is refused.
    pub validators: BTreeMap<String, Vec<String>>,
    /// Validators that are programs, by name.
    pub external: BTreeMap<String, Check>,
}

/// The built-in validators.
pub const VALIDATORS: [&str; 4] = [
    "no-overlap",
    "claims-exist",
    "tests-present",
    "migration-order",
];

/// Where the facts come from that plans speak of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub schema_version: Option<CharterCommand>,
    pub feature_flags: Option<CharterCommand>,
    pub coverage: Option<CharterCommand>,
    pub tests: Option<CharterCommand>,
    test_files: Option<Vec<Pattern>>,
    pub timeout_ms: u64,
}

impl Facts {
    /// Which files are tests, for noticing that some were dropped.
    pub fn test_files(&self) -> &[Pattern] {
        // Many alternatives to compile, and few who ask.
        static USUAL: LazyLock<Vec<Pattern>> =
            LazyLock::new(|| settings::patterns(defaults::TEST_FILES));
        self.test_files.as_ref().unwrap_or(&USUAL)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// The branch that sessions are merged to.
    pub target: String,
    /// The checks that a merge needs; all, unless the charter lists some.
    pub checks: Vec<String>,
    /// Who may move a protected branch around govfs.
    pub people: Vec<AgentName>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    pub keep_contents_ms: u64,
    pub seal_entries: u32,
    pub seal_interval_ms: u64,
    /// Gets each checkpoint on its standard input.
    pub anchor: Option<CharterCommand>,
    /// How many bytes one session may keep; `None` is no limit.
    pub session_quota: Option<u64>,
}

impl Charter {
    /// Reads a whole `governor.md`.
    pub fn parse(text: &str) -> Result<Self, Vec<CharterError>> {
        let block = block::find(text)?;
        let reader = read::Reader::new(block);
        let charter = settings::charter(&reader, Digest::of(text.as_bytes()));
        reader.finish(charter)
    }

    /// Returns the digest of the text that was parsed.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    pub fn is_protected(&self, path: &RepoPath) -> bool {
        path.as_bytes() == CHARTER_FILE.as_bytes()
            || self.paths.protected.iter().any(|one| one.covers(path))
    }

    pub fn is_sensitive(&self, path: &RepoPath) -> bool {
        self.paths.sensitive().any(|one| one.covers(path))
    }

    /// Returns the roles that must approve a change of `role`, from both sides' lists.
    pub fn reviewers_of(&self, role: &RoleName) -> Vec<&RoleName> {
        let named = |one: &RoleName| {
            (self.roles.get(role)).is_some_and(|role| role.reviewed_by.contains(one))
        };
        (self.roles.iter())
            .filter(|(name, other)| named(name) || other.reviews.contains(role))
            .map(|(name, _)| name)
            .collect()
    }

    /// Returns this charter with what `pinned` asked for besides: the paths it kept
    /// from writers, its reviews and its checks. A merge is judged by both.
    #[must_use]
    pub fn with_demands_of(&self, pinned: &Self) -> Self {
        let mut both = self.clone();
        add(&mut both.paths.protected, &pinned.paths.protected);
        let own = |one: &&Pattern| self.paths.sensitive().any(|own| own == *one);
        let more = pinned.paths.sensitive().filter(|one| !own(one));
        both.paths.also_sensitive.extend(more.cloned());
        let reviews = &pinned.reviews;
        both.reviews.required = both.reviews.required.max(reviews.required);
        both.reviews.engine_diversity = both.reviews.engine_diversity.max(reviews.engine_diversity);
        add(&mut both.reviews.rules, &reviews.rules);
        for (name, role) in &pinned.roles {
            let own = (both.roles.entry(name.clone())).or_insert_with(|| role.clone());
            let reviewers = pinned.reviewers_of(name).into_iter().cloned();
            add(&mut own.reviewed_by, &reviewers.collect::<Vec<_>>());
        }
        for check in &pinned.checks {
            if !both.checks.iter().any(|own| own.name == check.name) {
                both.checks.push(check.clone());
            }
        }
        add(&mut both.merge.checks, &pinned.merge.checks);
        both.plans.required |= pinned.plans.required;
        both
    }

    /// Returns the charter in plain words: headings, each with its lines.
    pub fn explain(&self) -> Vec<(String, Vec<String>)> {
        explain::explain(self)
    }
}

/// Appends what is not there yet.
fn add<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
}
