//! Judging a plan by its type and by facts about the repository.
//!
//! Owns: which validators a type has, the built-in ones, when a plan is stale;
//! `external` is the protocol of executables, `conditions` the pre- and
//! postconditions. A validator asks for facts with [`questions`] and judges what
//! came back, so that the facts can stand in an entry and the judgement be made
//! again from it. Invariants: a type without a validator is refused; a fact that
//! is missing refuses. Never looks at the repository itself.
//!
//! | validator | refuses |
//! |---|---|
//! | `no-overlap` | claims that overlap those of a plan that may run at the same time |
//! | `claims-exist` | a claimed file that is neither in the base nor claimed by a plan this one depends on |
//! | `tests-present` | a plan that claims no tests |
//! | `migration-order` | a new migration that does not come after all others of its directory, or that another plan's may overtake |

pub mod conditions;
pub mod external;

mod migration;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::str::FromStr;

use crate::domain::base::Oid;
use crate::domain::dag::{Fact, Finding, Graph, Member};
use crate::domain::names::PlanId;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::plan::{Command, Plan};
use crate::domain::validate::external::Outcome;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validator {
    NoOverlap,
    ClaimsExist,
    TestsPresent,
    MigrationOrder,
    External { name: String, command: Command },
}

impl Validator {
    pub fn name(&self) -> &str {
        match self {
            Self::NoOverlap => "no-overlap",
            Self::ClaimsExist => "claims-exist",
            Self::TestsPresent => "tests-present",
            Self::MigrationOrder => "migration-order",
            Self::External { name, .. } => name,
        }
    }
}

impl FromStr for Validator {
    type Err = String;

    /// Reads the name of a built-in validator.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "no-overlap" => Ok(Self::NoOverlap),
            "claims-exist" => Ok(Self::ClaimsExist),
            "tests-present" => Ok(Self::TestsPresent),
            "migration-order" => Ok(Self::MigrationOrder),
            other => Err(format!(
                "{other} is no built-in validator; there are no-overlap, claims-exist, \
                 tests-present and migration-order"
            )),
        }
    }
}

/// Which validators judge plans of which type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidatorTable(pub BTreeMap<String, Vec<Validator>>);

impl ValidatorTable {
    /// Returns the validators of `kind`; none at all is a refusal.
    pub fn of(&self, kind: &str) -> Option<&[Validator]> {
        let found = self.0.get(kind).map(Vec::as_slice);
        found.filter(|validators| !validators.is_empty())
    }
}

/// What must be known about the base before plans can be judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// Does anything in the base lie under these?
    pub present: BTreeSet<Pattern>,
    /// Which names do these directories of the base hold?
    pub listings: BTreeSet<RepoPath>,
    /// Which executables must be run for which plan, by the validator's name.
    pub external: Vec<(PlanId, String, Command)>,
}

/// The answers.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Those of the asked patterns that cover something in the base.
    pub present: BTreeSet<Pattern>,
    /// The names in the asked directories; empty for one that does not exist.
    pub listings: BTreeMap<RepoPath, BTreeSet<Vec<u8>>>,
    pub external: BTreeMap<(PlanId, String), Outcome>,
}

/// Returns what to find out for `members`. Done plans are not judged again.
pub fn questions(members: &[Member<'_>], table: &ValidatorTable) -> Questions {
    let mut out = Questions::default();
    for plan in open(members) {
        for validator in table.of(&plan.kind).unwrap_or_default() {
            match validator {
                Validator::NoOverlap | Validator::TestsPresent => {}
                Validator::ClaimsExist => out.present.extend(plan.claims.files.iter().cloned()),
                Validator::MigrationOrder => out.listings.extend(migration::directories(plan)),
                Validator::External { name, command } => {
                    let run = (plan.id.clone(), name.clone(), command.clone());
                    out.external.push(run);
                }
            }
        }
    }
    out
}

fn open<'a>(members: &[Member<'a>]) -> impl Iterator<Item = &'a Plan> {
    members
        .iter()
        .filter(|member| !member.done)
        .map(|member| member.plan)
}

/// Judges every open plan by the validators of its type. What `no-overlap` says
/// is `dag::verify`'s answer, which is given for every type.
pub fn judge(
    members: &[Member<'_>],
    graph: &Graph<'_>,
    table: &ValidatorTable,
    facts: &Facts,
) -> Vec<Finding> {
    let mut out = Vec::new();
    let rivals = migration::Rivals::new(members, table);
    for plan in open(members) {
        let Some(validators) = table.of(&plan.kind) else {
            out.push(without_validator(plan, table));
            continue;
        };
        for validator in validators {
            match validator {
                Validator::NoOverlap => {}
                Validator::ClaimsExist => claims_exist(plan, graph, facts, &mut out),
                Validator::TestsPresent => tests_present(plan, &mut out),
                Validator::MigrationOrder => {
                    migration::judge(plan, graph, &rivals, facts, &mut out);
                }
                Validator::External { name, .. } => {
                    let outcome = facts.external.get(&(plan.id.clone(), name.clone()));
                    out.extend(external::judge(plan, name, outcome));
                }
            }
        }
    }
    out
}

fn without_validator(plan: &Plan, table: &ValidatorTable) -> Finding {
    let known: Vec<&str> = table.0.keys().map(String::as_str).collect();
    let known = known.join(", ");
    let kind = &plan.kind;
    let message = format!("the charter has no validator for type {kind}; it has some for: {known}");
    Finding::new(plan, "no-validator", "plan.type", message)
}

fn claims_exist(plan: &Plan, graph: &Graph<'_>, facts: &Facts, out: &mut Vec<Finding>) {
    let mut before: Option<Vec<&Plan>> = None;
    for (at, pattern) in plan.claims.files.iter().enumerate() {
        if facts.present.contains(pattern) {
            continue;
        }
        let before = before.get_or_insert_with(|| {
            let ids = graph.ancestors(&plan.id);
            ids.into_iter().filter_map(|id| graph.plan(id)).collect()
        });
        let writes = |plan: &&Plan| {
            let mut writes = plan.claims.writes();
            writes.any(|(_, _, theirs)| theirs.overlaps(pattern))
        };
        if before.iter().any(writes) {
            continue;
        }
        let what = if pattern.is_literal() {
            "is not there"
        } else {
            "matches nothing"
        };
        let message =
            format!("{pattern} {what}, and no plan that this one depends on claims it either");
        let key = format!("claims.files[{at}]");
        out.push(Finding::new(plan, "claims-exist", &key, message));
    }
}

fn tests_present(plan: &Plan, out: &mut Vec<Finding>) {
    if plan.claims.tests.is_empty() {
        let kind = &plan.kind;
        let message = format!("a plan of type {kind} names the tests that cover it, and this none");
        out.push(Finding::new(plan, "tests-present", "claims.tests", message));
    }
}

/// A path that the branch changed after a plan was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    pub path: RepoPath,
    /// The plan whose merge changed it.
    pub by: Option<PlanId>,
}

/// What the branch changed since a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    Moved(Vec<Moved>),
    /// The repository no longer has that commit.
    Unknown(Oid),
}

impl Default for Since {
    fn default() -> Self {
        Self::Moved(Vec::new())
    }
}

/// Says whether the plan's files changed since it was written. What its own
/// dependencies merged, and what it merged itself, it was written to follow.
/// Where nobody can tell any more, it counts as stale.
pub fn stale(plan: &Plan, graph: &Graph<'_>, since: &Since) -> Option<Finding> {
    let moved = match since {
        Since::Moved(moved) => moved,
        Since::Unknown(base) => {
            let message = format!(
                "the commit that it was written for, {base}, is no longer in the repository, so nobody can tell what changed since; look at its files, then add the plan again"
            );
            return Some(Finding::new(plan, "stale", "plan.id", message));
        }
    };
    let before = graph.ancestors(&plan.id);
    let foreign = |moved: &&Moved| {
        let by = moved.by.as_ref();
        !by.is_some_and(|by| *by == plan.id || before.contains(by))
    };
    let lists = [
        ("claims.files", &plan.claims.files),
        ("claims.tests", &plan.claims.tests),
        ("claims.read", &plan.claims.read),
    ];
    for moved in moved.iter().filter(foreign) {
        for (list, patterns) in lists {
            let Some(at) = patterns.iter().position(|p| p.covers(&moved.path)) else {
                continue;
            };
            let path = &moved.path;
            let message = format!(
                "{path} changed since the plan was written; look at the change, then add the plan again"
            );
            let finding = Finding::new(plan, "stale", &format!("{list}[{at}]"), message);
            return Some(finding.with(Fact::Path(path.clone())));
        }
    }
    None
}
