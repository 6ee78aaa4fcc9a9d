//! The gates of a merge, asked: facts from the ledger, the charters and the trees.
//!
//! Owns: gathering what `domain::merge::judge` wants to know. Everything is asked
//! again under the repository's lock, so that a verdict is never about a state
//! that has passed.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::failure::Failure;
use crate::app::gates::{self, Asked};
use crate::app::merge::candidate::{Candidate, git_failure};
use crate::app::serve::ground::pinned_charter;
use crate::app::session::Session;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::command::Need;
use crate::domain::event::Mode;
use crate::domain::merge::{
    ClaimFact, Facts, MergeRefusal, Node, Proposed, Status, Verdict, View, claim_fact, judge,
};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::review;
use crate::domain::state::{Kind, RowKey, State};
use crate::git::promote::{Delta, Found, MODE_LINK, Promote, Stage};

/// A larger file is never taken for an emptied one.
const BLANK_MAX: u64 = 64 << 10;

/// What the gates say, and what it rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub verdict: Verdict,
    /// How the session stood to each path then.
    pub claims: BTreeMap<RepoPath, ClaimFact>,
    /// The review entries that count.
    pub reviews: Vec<u64>,
}

/// Says which rows the gates read.
pub fn needs(session: &Session) -> Vec<Need> {
    let mut needs = vec![
        Need::Agent(session.agent.clone()),
        Need::All(Kind::Claim),
        Need::All(Kind::Ended),
        Need::Row(RowKey::new(Kind::Charter, &session.row.charter)),
        Need::Row(RowKey::new(Kind::Session, &session.id)),
        Need::Row(RowKey::new(Kind::Intent, &session.id)),
    ];
    needs.extend(gates::needs());
    needs
}

/// Returns the charter in force with all that the session's own asks besides.
pub fn both_charters(state: &State, session: &Session) -> Result<Charter, Failure> {
    let pinned = pinned_charter(state, session)?;
    let law = state.law.as_ref().ok_or_else(|| {
        Failure::usage("the charter in force cannot be read, so nothing may be merged")
            .hint("govfs charter check")
    })?;
    Ok(law.with_demands_of(&pinned))
}

/// Returns how the session stands to each path of the candidate.
pub fn claims_of(
    state: &State,
    session: &Session,
    candidate: &Candidate,
) -> BTreeMap<RepoPath, ClaimFact> {
    let fact = |path: &RepoPath| claim_fact(state, &session.agent, session.row.entry, path);
    candidate
        .deltas
        .iter()
        .map(|delta| (delta.path.clone(), fact(&delta.path)))
        .collect()
}

/// What the session read, and the branch has changed since.
#[derive(Default)]
struct Reads {
    /// Under a read claim, with its pattern.
    stale: Vec<(RepoPath, String)>,
    seen: Vec<RepoPath>,
}

/// What a verdict is about.
pub struct Case<'a> {
    pub state: &'a State,
    pub session: &'a Session,
    pub charter: &'a Charter,
    pub stage: &'a Stage,
    /// The tree of the session's base.
    pub base: Oid,
    /// What the session was seen to read.
    pub seen: &'a BTreeSet<RepoPath>,
    pub candidate: &'a Candidate,
    /// Verdicts decided elsewhere: checks, checkouts.
    pub others: &'a [MergeRefusal],
}

impl Case<'_> {
    /// Asks every gate.
    pub fn judge(&self) -> Result<Judged, Failure> {
        let before = self.tree_before()?;
        let proposed = self.proposed()?;
        let claims = claims_of(self.state, self.session, self.candidate);
        let paths: Vec<RepoPath> = claims.keys().cloned().collect();
        let asked = Asked {
            state: self.state,
            session: self.session,
            charter: self.charter,
            candidate: review::Candidate {
                tree: self.candidate.own,
                base: self.session.row.base,
            },
            paths: &paths,
        };
        let reviews = gates::review_findings(&asked);
        let dependencies = gates::dependencies(&asked);
        let mut others = self.candidate.refusals.clone();
        others.extend_from_slice(self.others);
        others.extend(gates::plan_findings(&asked));
        others.extend(reviews.refusals);
        let reads = self.reads(before)?;
        let view = self.stage.view();
        let (after_node, after_names) = questions(view, self.candidate.merged.tree);
        let (before_node, before_names) = questions(view, before);
        let facts = Facts {
            agent: &self.session.agent,
            after: View {
                node: &after_node,
                names: &after_names,
            },
            before: View {
                node: &before_node,
                names: &before_names,
            },
            claim: &|path| match claims.get(path) {
                Some(fact) => fact.clone(),
                None => ClaimFact::Never,
            },
            protected: &|path| self.protected(path),
            sensitive: &|path| first(self.charter.paths.sensitive(), path),
            test: &|path| self.is_test(path),
            conflicts: &self.candidate.merged.conflicts,
            stale: &reads.stale,
            seen: &reads.seen,
            dependencies: &dependencies,
            others: &others,
        };
        let mut verdict = judge(&proposed, &facts);
        gates::keep_tests(&asked, &mut verdict);
        verdict.advice.extend(reviews.advice);
        Ok(Judged {
            verdict,
            claims,
            reviews: reviews.entries,
        })
    }

    fn tree_before(&self) -> Result<Oid, Failure> {
        self.stage
            .view()
            .tree_of(self.candidate.onto)
            .map_err(git_failure)
    }

    fn protected(&self, path: &RepoPath) -> Option<String> {
        let named = first(&self.charter.paths.protected, path);
        named.or_else(|| self.charter.is_protected(path).then(|| path.to_string()))
    }

    fn is_test(&self, path: &RepoPath) -> bool {
        let tests = self.charter.facts.test_files();
        tests.iter().any(|pattern| pattern.covers(path))
    }

    /// Files that changed on the branch under a read claim of the session, and those
    /// that it was only seen to read.
    fn reads(&self, now: Oid) -> Result<Reads, Failure> {
        let patterns: Vec<&Pattern> = self
            .state
            .claims_of(&self.session.agent)
            .filter(|claim| claim.mode == Mode::Read)
            .map(|claim| &claim.pattern)
            .collect();
        let mut reads = Reads::default();
        if patterns.is_empty() && self.seen.is_empty() || now == self.base {
            return Ok(reads);
        }
        let moved = self
            .stage
            .view()
            .diff(Some(self.base), Some(now))
            .map_err(git_failure)?;
        for delta in moved {
            let declared = patterns.iter().find(|one| one.covers(&delta.path));
            match declared {
                Some(pattern) => reads.stale.push((delta.path, pattern.to_string())),
                // What it changed as well is merged line by line, or conflicts.
                None if self.candidate.made.contains_key(&delta.path) => {}
                None if self.seen.contains(&delta.path) => reads.seen.push(delta.path),
                None => {}
            }
        }
        Ok(reads)
    }

    fn proposed(&self) -> Result<Vec<Proposed>, Failure> {
        let deltas = &self.candidate.deltas;
        deltas.iter().map(|delta| self.propose(delta)).collect()
    }

    fn propose(&self, delta: &Delta) -> Result<Proposed, Failure> {
        let view = self.stage.view();
        let blob = delta
            .new
            .filter(|leaf| leaf.is_file() || leaf.mode == MODE_LINK);
        let size = match blob {
            Some(leaf) => view.blob_size(leaf.oid).map_err(git_failure)?,
            None => 0,
        };
        let link = blob.filter(|leaf| leaf.mode == MODE_LINK);
        let target = match link {
            Some(leaf) => Some(view.blob(leaf.oid).map_err(git_failure)?),
            None => None,
        };
        let may_be_blank = delta.status == Status::Modified && size <= BLANK_MAX;
        let blank = match blob.filter(|_| may_be_blank && self.is_test(&delta.path)) {
            Some(leaf) => view
                .blob(leaf.oid)
                .map_err(git_failure)?
                .iter()
                .all(u8::is_ascii_whitespace),
            None => false,
        };
        Ok(Proposed {
            path: delta.path.clone(),
            status: delta.status,
            mode: delta.new.map(|leaf| leaf.mode),
            size,
            target,
            blank,
            moved_to: self.moved_to(delta),
        })
    }

    /// Where a removed file went: to a path that was renamed from it, or that has its content now.
    fn moved_to(&self, delta: &Delta) -> Option<RepoPath> {
        if delta.status != Status::Deleted {
            return None;
        }
        let came = |path: &&RepoPath| {
            let made = self.candidate.made.get(*path);
            made.is_some_and(|made| made.from.as_ref() == Some(&delta.path))
        };
        let added = || {
            let deltas = self.candidate.deltas.iter();
            deltas.filter(|one| one.status == Status::Added)
        };
        let renamed = added().map(|one| &one.path).find(came);
        let same = || {
            let old = delta.old.map(|leaf| leaf.oid);
            let found = added().find(|one| one.new.map(|leaf| leaf.oid) == old);
            found.map(|one| &one.path)
        };
        renamed.or_else(same).cloned()
    }
}

fn first<'a>(patterns: impl IntoIterator<Item = &'a Pattern>, path: &RepoPath) -> Option<String> {
    let found = patterns.into_iter().find(|pattern| pattern.covers(path));
    found.map(ToString::to_string)
}

type NodeAnswer = Result<Option<Node>, String>;
type NamesAnswer = Result<Vec<Vec<u8>>, String>;

/// Returns what the gates ask a tree.
fn questions(
    view: &Promote,
    tree: Oid,
) -> (
    impl Fn(&RepoPath) -> NodeAnswer + '_,
    impl Fn(&RepoPath) -> NamesAnswer + '_,
) {
    let node = move |path: &RepoPath| {
        let leaf = view.leaf(tree, path).map_err(|error| error.to_string())?;
        let Some(leaf) = leaf else { return Ok(None) };
        Ok(Some(match Found::from(leaf) {
            Found::Directory => Node::Directory,
            Found::Symlink(oid) => {
                Node::Symlink(view.blob(oid).map_err(|error| error.to_string())?)
            }
            Found::Submodule => Node::Submodule,
            Found::File | Found::Unknown(_) => Node::File,
        }))
    };
    let names = move |dir: &RepoPath| {
        let found = view
            .siblings(tree, dir)
            .map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    };
    (node, names)
}
