//! `merge`: promote a session to its branch, or say why not.
//!
//! Owns: the order of things. The session is held still; the candidate is made
//! and judged without the repository's lock; under it everything that could have
//! moved is looked at once more; then the intent is recorded, the branch moves by
//! compare-and-swap, the checkouts follow, and the merge is recorded. A refusal
//! is an entry too, and leaves everything else as it was.
//!
//! Never moves a branch that no intent announces, and never trusts a byte that no
//! entry of the ledger accounts for.

mod account;
pub mod again;
pub mod candidate;
pub mod judge;
pub mod landing;
pub mod message;
pub mod recover;
mod standing;
pub mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::app::checks;
use crate::app::failure::Failure;
use crate::app::gates;
use crate::app::live::still::{self, Hold, Still};
use crate::app::session::{self, Session};
use crate::app::site::Site;
use crate::domain::base::{Base, Oid};
use crate::domain::charter::Charter;
use crate::domain::command::Need;
use crate::domain::event::{Check, Decision, Draft, Event, Finding, Merged, MergedPath, Tier};
use crate::domain::merge::MergeRefusal;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::state::State;
use crate::git::promote::{CommitSpec, Promote, PromoteError, Stage, Target};
use crate::store::versions::Versions;

pub use standing::{Standing, reviewable};

use candidate::{Candidate, git_failure};
use judge::{Case, Judged};

/// How often a merge starts again because the branch or the claims moved meanwhile.
const TRIES: usize = 8;
/// From this try on the repository's lock is held from the start, so that it ends.
const PATIENT_TRIES: usize = 3;

/// What is to be merged, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    pub agent: AgentName,
    /// The charter's merge target, where none is named.
    pub into: Option<String>,
    pub message: Option<String>,
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    pub branch: String,
    pub merged: bool,
    pub commit: Option<Oid>,
    pub entry: Option<u64>,
    /// The lowest that ever held around the session's programs.
    pub tier: Tier,
    pub changes: Vec<MergedPath>,
    pub refusals: Vec<Finding>,
    pub advice: Vec<Finding>,
    pub checks: Vec<Check>,
    /// What atomic saves left over; never merged.
    pub leftovers: Vec<RepoPath>,
    /// How long the operator's checkouts took to follow: it grows with their index.
    pub checkout: Duration,
    /// What went wrong after the branch had moved.
    pub remarks: Vec<String>,
}

/// Merges, or refuses, or (dry) says which it would be.
pub fn merge(site: &mut Site, wish: &Wish) -> Result<Report, Failure> {
    recover::all(site)?;
    let session = Session::find(site, &wish.agent)?;
    let how = if wish.dry_run {
        Hold::Settle
    } else {
        Hold::Freeze
    };
    let still = still::hold(site, &session, how)?;
    let session = reopened(site, &session)?;
    let done = Attempt::begin(site, &session, &still, wish).and_then(|attempt| attempt.run(site));
    let told = match &done {
        Ok(report) if report.merged || closed(site, &session) => still.changed(),
        _ => still.thaw(),
    };
    let mut report = done?;
    let versions = Versions::of(&site.store);
    checks::add_last_words(&versions, &report.checks, &mut report.refusals);
    if let Err(failure) = told {
        report.remarks.push(failure.message);
    }
    Ok(report)
}

/// Reads the session's row again: while it was waited for, somebody else may have ended it.
fn reopened(site: &mut Site, session: &Session) -> Result<Session, Failure> {
    let found = Session::find(site, &session.agent)?;
    if found.id == session.id {
        Ok(found)
    } else {
        Err(Failure::refused(format!("session {} is over", session.id)))
    }
}

fn closed(site: &mut Site, session: &Session) -> bool {
    session::load(site, &session.id).is_ok_and(|row| row.end.is_some())
}

/// Opens the operator's repository for promotion.
pub fn open(site: &Site) -> Result<Promote, Failure> {
    let promote = Promote::open(site.repo.common_dir()).map_err(git_failure)?;
    Ok(promote.seen_from(site.repo.workdir()))
}

/// One merge under way.
pub struct Attempt<'a> {
    wish: &'a Wish,
    standing: Standing,
    promote: Promote,
    branch: String,
    /// What the checks said, by the tree that they were run on.
    checked: parking_lot::Mutex<BTreeMap<Oid, Vec<Check>>>,
}

impl<'a> Attempt<'a> {
    fn begin(
        site: &mut Site,
        session: &Session,
        still: &Still,
        wish: &'a Wish,
    ) -> Result<Self, Failure> {
        site.act(|_| Ok(()))?; // what is due ends, and a new charter comes into force, before it is judged
        let branch = match &wish.into {
            Some(branch) => branch.clone(),
            None => Site::target(&site.ledger.state(&[])?)?,
        };
        let standing = Standing::read(site, session, still.count)?;
        standing.account(site)?;
        Ok(Self {
            wish,
            standing,
            promote: open(site)?,
            branch,
            checked: parking_lot::Mutex::default(),
        })
    }

    fn run(&self, site: &mut Site) -> Result<Report, Failure> {
        for attempt in 0..TRIES {
            let held = match attempt {
                PATIENT_TRIES.. if !self.wish.dry_run => Some(landing::lock(site)?),
                _ => None,
            };
            let round = Round::make(self, site)?;
            if self.wish.dry_run {
                return round.told(false, None);
            }
            if round.is_empty() {
                return round.close_empty(site);
            }
            if !round.judged.verdict.refusals.is_empty() {
                match round.refuse(site, &[])? {
                    Some(report) => return Ok(report),
                    None => continue,
                }
            }
            let lock = match held {
                Some(lock) => lock,
                None => landing::lock(site)?,
            };
            if !round.stands(site)? {
                continue;
            }
            match landing::land(&round, site, &lock)? {
                landing::Landed::Done(report) => return Ok(*report),
                landing::Landed::Again => {}
            }
        }
        Err(
            Failure::failed(format!("{} moves all the time", self.branch))
                .hint("try again when others have merged"),
        )
    }

    /// Returns the branch as it is now.
    fn target(&self) -> Result<Target, Failure> {
        let target = self.promote.target(&self.branch).map_err(git_failure)?;
        if target.tip.is_none() {
            return Err(Failure::missing(format!(
                "there is no branch {} to merge into",
                self.branch
            ))
            .hint("git branch --list"));
        }
        Ok(target)
    }
}

/// One candidate with its verdict.
pub struct Round<'a> {
    attempt: &'a Attempt<'a>,
    target: Target,
    onto: Oid,
    stage: parking_lot::Mutex<Stage>,
    candidate: Candidate,
    charter: Charter,
    judged: Judged,
    /// What was found to keep the checkouts from following.
    found: Vec<MergeRefusal>,
    checks: Vec<Check>,
    paths: Vec<MergedPath>,
    state: State,
}

impl<'a> Round<'a> {
    fn make(attempt: &'a Attempt<'a>, site: &mut Site) -> Result<Self, Failure> {
        let target = attempt.target()?;
        let onto = target.tip.unwrap_or(attempt.standing.session.row.base);
        let mut stage = attempt.promote.stage().map_err(git_failure)?;
        let candidate = attempt.standing.candidate(site, &mut stage, onto)?;
        let state = site
            .ledger
            .state(&judge::needs(&attempt.standing.session))?;
        let charter = judge::both_charters(&state, &attempt.standing.session)?;
        let paths = candidate.records(&stage, attempt.standing.base.root())?;
        let mut round = Self {
            attempt,
            target,
            onto,
            stage: parking_lot::Mutex::new(stage),
            candidate,
            charter,
            judged: Judged {
                verdict: crate::domain::merge::Verdict::default(),
                claims: BTreeMap::new(),
                reviews: Vec::new(),
            },
            found: Vec::new(),
            checks: Vec::new(),
            paths,
            state,
        };
        if !round.is_empty() {
            round.judge(site)?;
        }
        Ok(round)
    }

    fn session(&self) -> &Session {
        &self.attempt.standing.session
    }

    fn is_empty(&self) -> bool {
        self.candidate.is_empty()
    }

    fn judge(&mut self, site: &mut Site) -> Result<(), Failure> {
        if self.candidate.merged.conflicts.is_empty() {
            self.checks = self.check(site)?;
        }
        self.judged = self.asked(&self.state, &[])?;
        self.found = self.obstacles(site)?;
        if !self.found.is_empty() {
            self.judged = self.asked(&self.state, &self.found)?;
        }
        Ok(())
    }

    /// Runs the acceptance checks on the candidate. Its objects must be on disk
    /// for that; no ref names them.
    fn check(&self, site: &Site) -> Result<Vec<Check>, Failure> {
        let wanted = checks::needed(&self.charter);
        let plan = gates::read_plan(&self.state, self.session()).filter(checks::asks);
        if wanted.is_empty() && plan.is_none() {
            return Ok(Vec::new());
        }
        let tree = self.candidate.merged.tree;
        if let Some(before) = self.attempt.checked.lock().get(&tree) {
            return Ok(before.clone()); // the very same tree, some tries ago
        }
        self.stage.lock().settle(&[tree]).map_err(git_failure)?;
        // Checks see contents, not pointers.
        let versions = Versions::of(&site.store);
        candidate::store_lfs(site.repo.common_dir(), &versions, &self.candidate.lfs)?;
        let mut done = checks::run(site, tree, &wanted)?;
        if let Some(plan) = plan {
            let before = self.stage.lock().view().tree_of(self.onto);
            let trees = [before.map_err(git_failure)?, tree];
            let more = checks::of_plan(site, &self.charter, &plan, trees, &done)?;
            done.extend(more);
        }
        self.attempt.checked.lock().insert(tree, done.clone());
        Ok(done)
    }

    fn asked(&self, state: &State, others: &[MergeRefusal]) -> Result<Judged, Failure> {
        Case {
            state,
            session: self.session(),
            charter: &self.charter,
            stage: &self.stage.lock(),
            base: self.attempt.standing.base.root(),
            seen: &self.attempt.standing.seen,
            candidate: &self.candidate,
            others: &[&checks::findings(&self.checks), others].concat(),
        }
        .judge()
    }

    /// What keeps the operator's checkouts from following. Asked early where the
    /// answer is only to be told; under the lock it is asked again.
    fn obstacles(&self, site: &Site) -> Result<Vec<MergeRefusal>, Failure> {
        if !self.attempt.wish.dry_run && self.judged.verdict.refusals.is_empty() {
            return Ok(Vec::new());
        }
        let shown = landing::Shown::new(site, Some(self.onto), None);
        let tree = self.candidate.merged.tree;
        match self
            .stage
            .lock()
            .view()
            .prepare_follow(&self.target, tree, &shown, false)
        {
            Ok(_) => Ok(Vec::new()),
            Err(PromoteError::Blocked(obstacles)) => Ok(landing::blocked(&obstacles)),
            Err(error) => Err(git_failure(error)),
        }
    }

    /// Says whether the branch and everything the verdict rests on are as they were.
    fn stands(&self, site: &mut Site) -> Result<bool, Failure> {
        site.act(|_| Ok(()))?; // what is due ends now
        if self.attempt.target()? != self.target {
            return Ok(false);
        }
        let state = site.ledger.state(&judge::needs(self.session()))?;
        self.is_judged_so(&state)
    }

    /// Says whether the verdict of this moment is the one that was reached.
    fn is_judged_so(&self, state: &State) -> Result<bool, Failure> {
        let same = judge::both_charters(state, self.session())? == self.charter;
        Ok(same && self.asked(state, &[])? == self.judged)
    }

    /// Returns the body of the entry that says what came of it.
    fn body(&self, decision: Decision, commit: Option<Oid>) -> Merged {
        Merged {
            decision,
            branch: self.target.branch.clone(),
            base: self.session().row.base,
            onto: self.onto,
            tree: self.candidate.merged.tree,
            commit,
            paths: self.paths.clone(),
            refusals: findings(&self.judged.verdict.refusals),
            checks: self.checks.clone(),
            reviews: self.judged.reviews.clone(),
            tier: self.session().row.tier.unwrap_or(Tier::C),
            claims: Vec::new(),
            plan: crate::app::gates::plan_of_session(&self.state, self.session()),
            count: self.attempt.standing.count,
        }
    }

    fn told(&self, merged: bool, entry: Option<u64>) -> Result<Report, Failure> {
        Ok(Report {
            branch: self.target.branch.clone(),
            merged,
            commit: None,
            entry,
            tier: self.session().row.tier.unwrap_or(Tier::C),
            changes: self.paths.clone(),
            refusals: findings(&self.judged.verdict.refusals),
            advice: findings(&self.judged.verdict.advice),
            checks: self.checks.clone(),
            leftovers: self.attempt.standing.leftovers.clone(),
            checkout: Duration::ZERO,
            remarks: Vec::new(),
        })
    }

    /// Records the refusal; nothing else changes. It is judged once more as of that
    /// entry; `None` where nothing would be refused any more, or other rules hold.
    fn refuse(&self, site: &mut Site, others: &[MergeRefusal]) -> Result<Option<Report>, Failure> {
        let needs = judge::needs(self.session());
        let body = self.body(Decision::Deny, None);
        let (done, _, _) = site.act(|turn| {
            turn.load(&needs)?;
            if judge::both_charters(turn.state(), self.session())? != self.charter {
                return Ok(None);
            }
            let mut shown = self.found.clone();
            shown.extend_from_slice(others);
            let refused = self.asked(turn.state(), &shown)?.verdict.refusals;
            if refused.is_empty() {
                return Ok(None);
            }
            let mut body = body.clone();
            body.refusals = findings(&refused);
            let draft = Draft::new(Event::Merge(Box::new(body.clone())))
                .by(&self.session().agent)
                .within(Some(&self.session().id));
            Ok(Some((turn.append(&draft)?.seq, body.refusals)))
        })?;
        let Some((entry, refusals)) = done else {
            return Ok(None);
        };
        let mut report = self.told(false, Some(entry))?;
        report.refusals = refusals;
        Ok(Some(report))
    }

    /// Makes a commit durable.
    fn commit(&self, spec: &CommitSpec) -> Result<Oid, Failure> {
        let mut stage = self.stage.lock();
        let commit = stage.commit(spec).map_err(git_failure)?;
        stage.settle(&[commit]).map_err(git_failure)?;
        Ok(commit)
    }

    /// Nothing to promote: the claims are free, and the session is over.
    fn close_empty(&self, site: &mut Site) -> Result<Report, Failure> {
        let body = self.body(Decision::Allow, None);
        let entry = landing::record(site, self.session(), body)?;
        self.told(false, Some(entry))
    }
}

/// Appends an entry about the session and returns its number.
pub fn append(site: &mut Site, session: &Session, event: Event) -> Result<u64, Failure> {
    let draft = Draft::new(event)
        .by(&session.agent)
        .within(Some(&session.id));
    let (seq, _, _) = site.act(|turn| Ok(turn.append(&draft)?.seq))?;
    Ok(seq)
}

/// Returns refusals as entries and screens carry them.
pub fn findings(lines: &[MergeRefusal]) -> Vec<Finding> {
    let finding = |line: &MergeRefusal| Finding {
        rule: line.rule.to_owned(),
        path: line.path.clone(),
        reason: line.reason.clone(),
        hint: line.hint.clone(),
    };
    lines.iter().map(finding).collect()
}

/// Says which rows a command about an agent's session reads.
pub fn needs_of(agent: &AgentName) -> Vec<Need> {
    vec![Need::Agent(agent.clone()), Need::ClaimsOf(agent.clone())]
}
