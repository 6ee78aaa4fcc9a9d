//! What stands between a candidate and `main`: the verdict of a merge.
//!
//! Owns: the gates over a list of proposed changes, each a named rule with path,
//! reason and hint; the names of conflicts. Everything is judged together, so that
//! an agent repairs all of it at once: removals first, then by path, then what has
//! no path.
//!
//! Invariants: a question that cannot be answered is a refusal (`unreadable`);
//! names are judged where they are introduced, so that a repository which had
//! an odd name before can still be worked in; what a removal leaves behind is
//! judged by claims and protection alone.
//!
//! Never reads a tree or a ledger: both come in as [`Facts`].

mod collisions;
mod held;
mod links;
mod names;

use std::fmt;

use serde::Serialize;

use crate::domain::names::{AgentName, PlanId};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;

pub use held::claim_fact;
pub use names::is_git_control;

/// The largest file that a merge takes.
pub const FILE_MAX: u64 = 4 << 30;

/// How a path differs between two trees; removals order first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Deleted,
    Added,
    Modified,
    /// A file became a symlink, a symlink a submodule, …
    Type,
}

impl Status {
    /// Returns git's letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Deleted => 'D',
            Self::Added => 'A',
            Self::Modified => 'M',
            Self::Type => 'T',
        }
    }
}

/// Whose doing something is: the branch's since the base, or the session's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Theirs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    /// The same lines, differently.
    Content,
    /// Both changed it, and it cannot be merged line by line.
    Binary,
    BothAdded,
    /// One side removed what the other changed.
    Removed {
        by: Side,
    },
    /// Both added it, with different modes.
    Mode,
    /// Both changed a link or a submodule, or one made it a file.
    Type,
    FileDirectory,
    /// Renamed to two names, or renamed on one side and removed on the other.
    Rename,
}

/// A path that both sides changed in ways that exclude each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub path: RepoPath,
    pub kind: ConflictKind,
    pub note: Option<String>,
}

impl Conflict {
    fn refusal(&self, facts: &Facts<'_>) -> MergeRefusal {
        let what = match self.kind {
            ConflictKind::Content => "the same lines changed on the branch and here",
            ConflictKind::Binary => "changed on the branch and here, and it is no mergeable text",
            ConflictKind::BothAdded => "added on the branch and here, with different contents",
            ConflictKind::Removed { by: Side::Ours } => "removed on the branch and changed here",
            ConflictKind::Removed { by: Side::Theirs } => "changed on the branch and removed here",
            ConflictKind::Mode => "added on the branch and here, with different modes",
            ConflictKind::Type => "a link or submodule that the branch and this session changed",
            ConflictKind::FileDirectory => "a file on one side and a directory on the other",
            ConflictKind::Rename => "renamed differently on the branch and here",
        };
        let reason = match &self.note {
            Some(note) => format!("{what} ({note})"),
            None => what.to_owned(),
        };
        let hint = format!(
            "take the branch's change over in {}'s session, then merge again",
            facts.agent
        );
        MergeRefusal::at("conflict", &self.path, reason, hint)
    }
}

/// One rule that says no, or one thing worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MergeRefusal {
    pub rule: &'static str,
    pub path: Option<RepoPath>,
    pub reason: String,
    pub hint: String,
}

impl MergeRefusal {
    pub fn at(
        rule: &'static str,
        path: &RepoPath,
        reason: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            path: Some(path.clone()),
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    pub fn general(rule: &'static str, reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            rule,
            path: None,
            reason: reason.into(),
            hint: hint.into(),
        }
    }
}

/// One path of the candidate that differs from the target's tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    pub path: RepoPath,
    pub status: Status,
    /// The raw mode in the resulting tree; none for a removal.
    pub mode: Option<u32>,
    pub size: u64,
    /// What a symlink points to.
    pub target: Option<Vec<u8>>,
    /// Nothing but white space is left in it.
    pub blank: bool,
    /// Where a removed file went, as far as its content says.
    pub moved_to: Option<RepoPath>,
}

impl Proposed {
    fn introduced(&self) -> bool {
        self.status == Status::Added
    }

    fn removed(&self) -> bool {
        self.status == Status::Deleted
    }
}

/// What stands at a path of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    Directory,
    File,
    Symlink(Vec<u8>),
    Submodule,
}

/// A question about a path. An error's text becomes the refusal's reason.
type Ask<'a, T> = &'a dyn Fn(&RepoPath) -> Result<T, String>;

/// A tree, as the gates ask it.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// What stands at a path, links not followed.
    pub node: Ask<'a, Option<Node>>,
    /// The names in a directory; none where it is no directory.
    pub names: Ask<'a, Vec<Vec<u8>>>,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

/// How a session stands to a path it changed under a valid claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimFact {
    /// A write claim of the session covers it now.
    Held { explicit: bool },
    /// The claim ended, but nobody else has held or merged the path since.
    Lapsed { explicit: bool },
    /// The claim ended, and `by` has held or merged the path since.
    Lost { by: String },
    /// No claim of the session ever covered it.
    Never,
}

impl ClaimFact {
    fn explicit(&self) -> bool {
        matches!(
            self,
            Self::Held { explicit: true } | Self::Lapsed { explicit: true }
        )
    }
}

/// Everything that the gates need to know.
pub struct Facts<'a> {
    pub agent: &'a AgentName,
    /// The tree that the merge would make.
    pub after: View<'a>,
    /// The target's tip.
    pub before: View<'a>,
    pub claim: &'a dyn Fn(&RepoPath) -> ClaimFact,
    /// The pattern that protects a path: by the pinned or the current charter.
    pub protected: &'a dyn Fn(&RepoPath) -> Option<String>,
    /// The pattern by which a path needs an explicit claim.
    pub sensitive: &'a dyn Fn(&RepoPath) -> Option<String>,
    /// Says whether a path is a test.
    pub test: &'a dyn Fn(&RepoPath) -> bool,
    pub conflicts: &'a [Conflict],
    /// Files changed since the base under a declared read claim, and its pattern.
    pub stale: &'a [(RepoPath, String)],
    /// Files changed since the base that the session was only seen to read.
    pub seen: &'a [RepoPath],
    /// Plans that must be merged first, and the state each is in instead.
    pub dependencies: &'a [(PlanId, String)],
    /// Verdicts decided elsewhere: plan conditions, reviews, checks.
    pub others: &'a [MergeRefusal],
}

impl fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Facts({})", self.agent)
    }
}

/// What the gates say, all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub refusals: Vec<MergeRefusal>,
    /// Worth knowing; nothing is refused for it.
    pub advice: Vec<MergeRefusal>,
}

/// Judges a candidate.
pub fn judge(proposed: &[Proposed], facts: &Facts<'_>) -> Verdict {
    let mut out = Verdict::default();
    for change in proposed {
        rights(change, facts, &mut out.refusals);
        tests(change, facts, &mut out);
        submodule(change, facts, &mut out.refusals);
        if !change.removed() {
            names::judge(change, facts, &mut out.refusals);
            content(change, &mut out.refusals);
        }
        if change.target.is_some() {
            links::judge(change, facts, &mut out.refusals);
        }
    }
    collisions::judge(proposed, facts, &mut out.refusals);
    let conflicts = facts.conflicts.iter();
    out.refusals
        .extend(conflicts.map(|conflict| conflict.refusal(facts)));
    reads(facts, &mut out);
    for (plan, state) in facts.dependencies {
        out.refusals.push(MergeRefusal::general(
            "dependency",
            format!("plan {plan}, on which this one depends, is {state}, not merged"),
            format!("merge plan {plan} first"),
        ));
    }
    out.refusals.extend_from_slice(facts.others);
    let removed: std::collections::BTreeSet<&RepoPath> = proposed
        .iter()
        .filter(|change| change.removed())
        .map(|change| &change.path)
        .collect();
    for list in [&mut out.refusals, &mut out.advice] {
        list.sort_by_key(|line| {
            let path = line.path.clone();
            let rank = match &path {
                Some(path) if removed.contains(path) => 0,
                Some(_) => 1,
                None => 2,
            };
            (rank, path)
        });
    }
    out
}

/// Claims, protection, and what needs an explicit claim.
fn rights(change: &Proposed, facts: &Facts<'_>, out: &mut Vec<MergeRefusal>) {
    let path = &change.path;
    let claim = (facts.claim)(path);
    let word = Pattern::argument(path);
    let again = format!("run `govfs claim {} {word}`, then merge again", facts.agent);
    match &claim {
        ClaimFact::Held { .. } | ClaimFact::Lapsed { .. } => {}
        ClaimFact::Lost { by } => {
            let reason = format!("the claim on it ended, and {by} has had it since");
            out.push(MergeRefusal::at("claim-lost", path, reason, again));
        }
        ClaimFact::Never => {
            let reason = "no claim of this session covers it";
            out.push(MergeRefusal::at("not-claimed", path, reason, again));
        }
    }
    if let Some(pattern) = (facts.protected)(path) {
        let reason = format!("the charter protects {pattern}");
        let hint = "take the change back; a person changes it on the branch";
        out.push(MergeRefusal::at("protected", path, reason, hint));
    }
    if claim.explicit() {
        return;
    }
    let hint = format!("claim it by name: `govfs claim {} {word}`", facts.agent);
    if is_git_control(path.name()) {
        let reason = "git obeys this file, so a wide claim is not enough";
        out.push(MergeRefusal::at("git-control", path, reason, hint));
    } else if let Some(pattern) = (facts.sensitive)(path) {
        let reason =
            format!("the charter calls {pattern} sensitive, so a wide claim is not enough");
        out.push(MergeRefusal::at("sensitive", path, reason, hint));
    } else if change.introduced() && path.components().any(|name| name.starts_with(b"-")) {
        let reason = "a name that begins with `-` passes for an option";
        out.push(MergeRefusal::at("option-like", path, reason, hint));
    }
}

/// A submodule that is removed, or that becomes something else.
fn submodule(change: &Proposed, facts: &Facts<'_>, out: &mut Vec<MergeRefusal>) {
    if change.introduced() || change.mode == Some(0o160_000) {
        return; // the rule about modes sees to those
    }
    let path = &change.path;
    match (facts.before.node)(path) {
        Ok(Some(Node::Submodule)) => {
            let reason = "a submodule is not something a session can take away";
            let hint = "put its empty directory back; a person removes submodules";
            out.push(MergeRefusal::at("submodule", path, reason, hint));
        }
        Ok(_) => {}
        Err(why) => {
            let hint = "repair the repository and merge again";
            out.push(MergeRefusal::at("unreadable", path, why, hint));
        }
    }
}

/// Modes and sizes.
fn content(change: &Proposed, out: &mut Vec<MergeRefusal>) {
    let path = &change.path;
    match change.mode {
        Some(0o100_644 | 0o100_755 | 0o120_000) => {}
        Some(0o160_000) => {
            let reason = "a submodule's commit is not something a session can write";
            let hint = "take the change back; a person moves submodules";
            out.push(MergeRefusal::at("submodule", path, reason, hint));
        }
        mode => {
            let reason = format!("git has no mode {:06o}", mode.unwrap_or(0));
            let hint = "only regular files (644 or 755) and symlinks can be merged";
            out.push(MergeRefusal::at("unknown-mode", path, reason, hint));
        }
    }
    if change.size > FILE_MAX {
        let reason = format!("{} bytes are more than a merge takes", change.size);
        let hint = "keep it out of the repository, or under git-lfs";
        out.push(MergeRefusal::at("too-large", path, reason, hint));
    }
}

/// Tests that vanish or are emptied: refused unless that was claimed by name.
fn tests(change: &Proposed, facts: &Facts<'_>, out: &mut Verdict) {
    let path = &change.path;
    if !(facts.test)(path) {
        return;
    }
    let kept = change.moved_to.as_ref().is_some_and(|to| (facts.test)(to));
    let (rule, reason) = if change.removed() && !kept {
        ("dropped-test", "a test was removed")
    } else if change.status == Status::Modified && change.blank {
        ("emptied-test", "a test was emptied")
    } else {
        return;
    };
    let hint = format!(
        "put it back, or claim it by name: `govfs claim {} {}`",
        facts.agent,
        Pattern::argument(path)
    );
    let line = MergeRefusal::at(rule, path, reason, hint);
    if (facts.claim)(path).explicit() {
        out.advice.push(line);
    } else {
        out.refusals.push(line);
    }
}

/// What the session read, and the branch has changed since.
fn reads(facts: &Facts<'_>, out: &mut Verdict) {
    for (path, pattern) in facts.stale {
        let reason = format!("changed on the branch since this session read it ({pattern})");
        let hint = format!("run `govfs sync {}` and look at it again", facts.agent);
        out.refusals
            .push(MergeRefusal::at("stale-read", path, reason, hint));
    }
    for path in facts.seen {
        let reason = "changed on the branch since this session was seen to read it";
        let hint = "look whether the work still fits";
        out.advice
            .push(MergeRefusal::at("seen-read", path, reason, hint));
    }
}

#[cfg(test)]
mod tests;
