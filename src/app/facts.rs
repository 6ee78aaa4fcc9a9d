//! Facts: what the base and the charter's commands say, before plans are judged.
//!
//! Owns: reading the merge target's tip for validators, which paths moved since a
//! plan was written, and asking the commands that the charter or a plan names.
//! What cannot be found out is a fact that refuses. Invariant: nothing of the
//! base is written to disk, and every program runs sealed ([`command`]).

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::app::failure::Failure;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::dag::{Finding, Member};
use crate::domain::event::{Check, Listing, PlanFacts};
use crate::domain::logop::Bytes;
use crate::domain::names::PlanId;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::plan::{Command, Plan};
use crate::domain::queue::stored;
use crate::domain::state::State;
use crate::domain::validate::conditions::{self, Before};
use crate::domain::validate::external::{self, Outcome};
use crate::domain::validate::{self, Facts, Moved, Since};
use crate::git::promote::{Found, Promote, PromoteError};

pub mod command;

/// How many commits are looked at for what moved since a plan was written.
const COMMITS_MAX: usize = 10_000;

/// The tree that plans are judged against.
pub struct Ground {
    pub promote: Promote,
    pub branch: String,
    pub tip: Oid,
    pub tree: Oid,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ground({} at {})", self.branch, self.tip)
    }
}

pub fn git_failure(error: PromoteError) -> Failure {
    Failure::failed(error)
}

impl Ground {
    /// Opens the merge target's tip.
    pub fn open(site: &Site, state: &State) -> Result<Self, Failure> {
        let branch = Site::target(state)?;
        let promote = Promote::open(site.repo.common_dir()).map_err(git_failure)?;
        let tip = site.repo.tip(&branch)?.ok_or_else(|| {
            Failure::missing(format!("{branch} has no commit to plan for"))
                .hint("commit something first")
        })?;
        let tree = promote.tree_of(tip).map_err(git_failure)?;
        Ok(Self {
            promote,
            branch,
            tip,
            tree,
        })
    }

    /// Says whether anything in the tree lies under `pattern`.
    fn has(&self, pattern: &Pattern) -> Result<bool, PromoteError> {
        let start = pattern.literal_prefix();
        match self.promote.leaf(self.tree, start)? {
            None => Ok(false),
            Some(_) if pattern.is_literal() || pattern.covers(start) => Ok(true),
            Some(leaf) if leaf.is_tree() => self.has_beneath(pattern, start),
            Some(_) => Ok(false),
        }
    }

    fn has_beneath(&self, pattern: &Pattern, dir: &RepoPath) -> Result<bool, PromoteError> {
        let mut todo = vec![dir.clone()];
        while let Some(dir) = todo.pop() {
            for (name, found) in self.promote.siblings(self.tree, &dir)? {
                // A name that no path of ours can have lies under no pattern.
                let Ok(path) = dir.join(&name) else { continue };
                if pattern.covers(&path) {
                    return Ok(true);
                }
                if found == Found::Directory {
                    todo.push(path);
                }
            }
        }
        Ok(false)
    }

    fn names(&self, dir: &RepoPath) -> Result<BTreeSet<Vec<u8>>, PromoteError> {
        let names = self.promote.siblings(self.tree, dir)?;
        Ok(names.into_iter().map(|(name, _)| name).collect())
    }

    /// Answers what the validators of `new` ask, and keeps the answers by plan.
    pub fn gather(
        &self,
        site: &Site,
        law: &Charter,
        members: &[Member<'_>],
        new: &BTreeSet<&PlanId>,
    ) -> Result<Gathered, Failure> {
        let table = stored::table(law);
        let mut out = Gathered::default();
        let mut present: BTreeMap<Pattern, bool> = BTreeMap::new();
        let asked = members
            .iter()
            .filter(|member| new.contains(&member.plan.id));
        for member in asked {
            let questions = validate::questions(&[*member], &table);
            let mut facts = PlanFacts {
                present: Vec::new(),
                listings: Vec::new(),
                validators: Vec::new(),
            };
            for pattern in questions.present {
                let known = present.get(&pattern).copied();
                let is = match known {
                    Some(is) => is,
                    None => self.has(&pattern).map_err(git_failure)?,
                };
                present.insert(pattern.clone(), is);
                if is {
                    facts.present.push(pattern);
                }
            }
            for dir in questions.listings {
                let names = self.names(&dir).map_err(git_failure)?;
                let names = names.into_iter().map(Bytes).collect();
                facts.listings.push(Listing { dir, names });
            }
            for (_, name, command) in questions.external {
                let ran = self.ask_validator(site, law, member.plan, members, &name, &command);
                let refusal = external::judge(member.plan, &name, Some(&ran.outcome));
                facts.validators.push(Check {
                    name: name.clone(),
                    passed: refusal.is_none(),
                    status: i64::from(refusal.is_some()),
                    ms: ran.ms,
                    output: None,
                });
                let key = (member.plan.id.clone(), name);
                out.outcomes.insert(key, ran.outcome);
            }
            out.plans.insert(member.plan.id.clone(), facts);
        }
        Ok(out)
    }

    /// Asks a validator that is a program.
    fn ask_validator(
        &self,
        site: &Site,
        law: &Charter,
        plan: &Plan,
        members: &[Member<'_>],
        name: &str,
        program: &Command,
    ) -> command::Ran {
        let limit = law.plans.external.get(name);
        let limit = limit.map_or(law.facts.timeout_ms, |check| check.timeout_ms);
        let input = external::request(name, &self.tip.to_string(), plan, members);
        command::run(site, self.tree, program, Some(input.as_bytes()), limit)
    }
}

/// What was found out about plans that come in.
#[derive(Debug, Default)]
pub struct Gathered {
    pub plans: BTreeMap<PlanId, PlanFacts>,
    /// What validators answered in full. Entries keep the verdict only, and a
    /// refusal never gets there, for its plan is not stored.
    outcomes: BTreeMap<(PlanId, String), Outcome>,
}

impl Gathered {
    /// Returns these facts beside those of the stored plans.
    pub fn with(&self, state: &State) -> Facts {
        let mut facts = stored::facts(state);
        for (id, own) in &self.plans {
            stored::add_facts(&mut facts, id, own);
        }
        facts.external.extend(self.outcomes.clone());
        facts
    }
}

/// What moved on the branch since some commit, newest first.
#[derive(Debug, Default)]
struct Step {
    before: Option<Oid>,
    by: Option<PlanId>,
    paths: Vec<RepoPath>,
}

/// Which paths moved since which commit, each commit looked at once.
#[derive(Debug)]
pub struct History<'a> {
    ground: &'a Ground,
    merges: BTreeMap<Oid, Option<PlanId>>,
    steps: Vec<Step>,
    /// Where the next step begins; `None` behind the first commit.
    next: Option<Oid>,
}

impl<'a> History<'a> {
    pub fn new(ground: &'a Ground, state: &State) -> Self {
        let merges = state.merges.values();
        Self {
            ground,
            merges: merges.map(|row| (row.commit, row.plan.clone())).collect(),
            steps: Vec::new(),
            next: Some(ground.tip),
        }
    }

    pub fn ground(&self) -> &'a Ground {
        self.ground
    }

    /// Returns what moved after `base`. Where the branch no longer holds `base`,
    /// everything that differs from it has moved; where the repository no longer
    /// does, nobody can tell.
    pub fn since(&mut self, base: Oid) -> Result<Since, Failure> {
        if base == self.ground.tip {
            return Ok(Since::default());
        }
        let mut moved = Vec::new();
        for at in 0..COMMITS_MAX {
            if at == self.steps.len() && !self.step()? {
                break;
            }
            let step = &self.steps[at];
            let one = |path: &RepoPath| Moved {
                path: path.clone(),
                by: step.by.clone(),
            };
            moved.extend(step.paths.iter().map(one));
            if step.before == Some(base) {
                return Ok(Since::Moved(moved));
            }
        }
        let promote = &self.ground.promote;
        let Some(old) = there(promote.tree_of(base))? else {
            return Ok(Since::Unknown(base));
        };
        let Some(deltas) = there(promote.diff(Some(old), Some(self.ground.tree)))? else {
            return Ok(Since::Unknown(base));
        };
        let one = |delta: crate::git::promote::Delta| Moved {
            path: delta.path,
            by: None,
        };
        Ok(Since::Moved(deltas.into_iter().map(one).collect()))
    }

    /// Looks at one more commit of the first-parent line. It ends behind the first
    /// commit, and where the history was cut off, as in a shallow clone.
    fn step(&mut self) -> Result<bool, Failure> {
        let Some(commit) = self.next.take() else {
            return Ok(false);
        };
        let promote = &self.ground.promote;
        let before = promote.first_parent(commit).map_err(git_failure)?;
        let tree = promote.tree_of(commit).map_err(git_failure)?;
        let old = match before {
            None => None,
            Some(before) => match there(promote.tree_of(before))? {
                Some(old) => Some(old),
                None => return Ok(false),
            },
        };
        let Some(deltas) = there(promote.diff(old, Some(tree)))? else {
            return Ok(false);
        };
        self.steps.push(Step {
            before,
            by: self.merges.get(&commit).cloned().flatten(),
            paths: deltas.into_iter().map(|delta| delta.path).collect(),
        });
        self.next = before;
        Ok(true)
    }
}

/// Tells an object that the repository does not have from one that cannot be read.
fn there<T>(found: Result<T, PromoteError>) -> Result<Option<T>, Failure> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(PromoteError::Missing(_)) => Ok(None),
        Err(error) => Err(git_failure(error)),
    }
}

/// What is wrong with a plan at this moment, and the commands that were asked.
#[derive(Debug, Default)]
pub struct Moment {
    pub findings: Vec<Finding>,
    pub checks: Vec<Check>,
}

/// Holds a plan's preconditions against the tip.
pub fn preconditions(site: &Site, law: &Charter, ground: &Ground, plan: &Plan) -> Moment {
    let wanted = &plan.preconditions;
    if wanted.is_empty() {
        return Moment::default();
    }
    let mut checks = Vec::new();
    let limit = law.facts.timeout_ms;
    let mut ask = |name: String, program: &Command| -> Outcome {
        let ran = command::run(site, ground.tree, program, None, limit);
        checks.push(ran.check(name));
        ran.outcome
    };
    let mut source = |name: &str, given: &Option<_>, wanted: bool| {
        let given = given.as_ref().filter(|_| wanted)?;
        Some(ask(name.to_owned(), &stored::command(given)))
    };
    let schema_version = source(
        "schema-version",
        &law.facts.schema_version,
        wanted.schema_version.is_some(),
    );
    let flags = !wanted.feature_flags.is_empty();
    let feature_flags = source("feature-flags", &law.facts.feature_flags, flags);
    let commands = wanted.commands.iter();
    let before = Before {
        schema_version,
        feature_flags,
        commands: commands
            .map(|program| ask(program.shown(), program))
            .collect(),
    };
    Moment {
        findings: conditions::before(plan, &before),
        checks,
    }
}
