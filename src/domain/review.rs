//! Reviews: whose approval of what counts.
//!
//! Owns: who may review whom, what an approval is for, what is still missing.
//! A vote is for one exact candidate, its tree and the base it stands on: any
//! change of either makes it void. Invariants: nobody's vote counts for their own
//! change; a lane that reviews others has its own changes reviewed by another
//! reviewing lane; what is not known (an engine, a role) does not count. The
//! verdict says in words what is missing. Never records a vote.

pub mod decide;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::domain::base::Oid;
use crate::domain::names::{AgentName, RoleName};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;

/// Somebody who writes or reviews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    pub agent: AgentName,
    pub role: RoleName,
    pub engine: Option<String>,
    pub person: bool,
}

/// Exactly what is reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub tree: Oid,
    pub base: Oid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    Approve,
    Reject,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    pub by: Party,
    pub stance: Stance,
    pub candidate: Candidate,
    pub message: String,
}

/// What changes of some paths need beyond what all changes need.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathRule {
    pub paths: Vec<Pattern>,
    /// Each of these lanes must approve.
    pub roles: Vec<RoleName>,
    /// A person must approve.
    pub person: bool,
    /// So many approvals at least.
    pub required: u32,
}

/// Whether an approval by another engine than the author's is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Diversity {
    #[default]
    Off,
    Prefer,
    Require,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewRules {
    /// So many approvals at least, for every change.
    pub required: u32,
    /// For a lane, the lanes that review it; a lane without: any other agent may.
    pub reviewers: BTreeMap<RoleName, BTreeSet<RoleName>>,
    pub paths: Vec<PathRule>,
    pub diversity: Diversity,
    /// Every change needs a person.
    pub person: bool,
}

/// One thing that is still needed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// A name for the rule, e.g. `review-lane`.
    pub rule: &'static str,
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReviewVerdict {
    pub missing: Vec<Missing>,
    /// What is preferred but not required.
    pub advice: Vec<String>,
    /// Whose approval counts.
    pub approved: Vec<AgentName>,
    /// Votes that do not count, and why.
    pub void: Vec<(AgentName, String)>,
}

impl ReviewVerdict {
    pub fn is_approved(&self) -> bool {
        self.missing.is_empty()
    }

    fn lack(&mut self, rule: &'static str, message: String) {
        self.missing.push(Missing { rule, message });
    }
}

impl ReviewRules {
    /// Returns the lanes that review anything.
    fn reviewing(&self) -> BTreeSet<&RoleName> {
        let lanes = self.reviewers.values().flatten();
        lanes
            .chain(self.paths.iter().flat_map(|rule| &rule.roles))
            .collect()
    }

    /// Returns the lanes whose agents may review `author`; `None` is any.
    fn lanes(&self, author: &Party) -> Option<BTreeSet<&RoleName>> {
        let reviewing = self.reviewing();
        if reviewing.contains(&author.role) {
            let others = reviewing.into_iter().filter(|lane| **lane != author.role);
            return Some(others.collect());
        }
        let named = self.reviewers.get(&author.role)?;
        let by_path = self.paths.iter().flat_map(|rule| &rule.roles);
        Some(named.iter().chain(by_path).collect())
    }

    /// Refuses a review that could never count.
    pub fn may_review(&self, author: &Party, by: &Party) -> Result<(), Missing> {
        if by.agent == author.agent {
            let message = format!("{} may not review its own change", by.agent);
            return Err(Missing {
                rule: "self-review",
                message,
            });
        }
        let lanes = match self.lanes(author) {
            None => return Ok(()),
            Some(_) if by.person => return Ok(()),
            Some(lanes) if lanes.contains(&by.role) => return Ok(()),
            Some(lanes) => listed(&lanes),
        };
        let (role, theirs) = (&by.role, &author.role);
        let message = match lanes.as_str() {
            "" => format!("no other lane reviews lane {theirs}; only a person may"),
            lanes => format!(
                "{} is of lane {role}, and changes of lane {theirs} are reviewed by {lanes}",
                by.agent
            ),
        };
        Err(Missing {
            rule: "review-lane",
            message,
        })
    }

    /// Returns what the charter asks for a change of `paths` by `author`.
    fn needs<'a>(&'a self, author: &Party, paths: &'a [RepoPath]) -> Needs<'a> {
        let mut needs = Needs {
            required: self.required,
            person: if self.person {
                NeedPerson::Always
            } else {
                NeedPerson::No
            },
            ..Needs::default()
        };
        for rule in &self.paths {
            let covered = |path: &&RepoPath| rule.paths.iter().any(|p| p.covers(path));
            let Some(path) = paths.iter().find(covered) else {
                continue;
            };
            needs.required = needs.required.max(rule.required);
            if rule.person && needs.person == NeedPerson::No {
                needs.person = NeedPerson::For(path);
            }
            for lane in &rule.roles {
                needs.lanes.entry(lane).or_insert(path);
            }
        }
        // A lane does not review itself: the other lanes do, and one of them must.
        needs.own_lane = needs.lanes.remove(&author.role);
        needs
    }
}

/// Each need with a path that brings it.
#[derive(Default)]
struct Needs<'a> {
    required: u32,
    lanes: BTreeMap<&'a RoleName, &'a RepoPath>,
    own_lane: Option<&'a RepoPath>,
    person: NeedPerson<'a>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum NeedPerson<'a> {
    #[default]
    No,
    Always,
    For(&'a RepoPath),
}

impl Needs<'_> {
    fn any(&self) -> bool {
        self.required > 0
            || !self.lanes.is_empty()
            || self.own_lane.is_some()
            || self.person != NeedPerson::No
    }
}

/// Judges the votes for a candidate that changes `paths`. `votes` are in the
/// order of their entries: of two by one reviewer the later counts.
pub fn judge(
    rules: &ReviewRules,
    author: &Party,
    candidate: Candidate,
    paths: &[RepoPath],
    votes: &[Vote],
) -> ReviewVerdict {
    let mut verdict = ReviewVerdict::default();
    let approvals = count(rules, author, candidate, votes, &mut verdict);
    let needs = rules.needs(author, paths);
    number(&needs, &approvals, &mut verdict);
    lanes(rules, author, &needs, &approvals, &mut verdict);
    if !approvals.iter().any(|by| by.person) {
        match needs.person {
            NeedPerson::No => {}
            NeedPerson::Always => verdict.lack("review-person", "a person must approve".to_owned()),
            NeedPerson::For(path) => {
                let message = format!("a person must approve for {path}");
                verdict.lack("review-person", message);
            }
        }
    }
    if needs.any() {
        diversity(rules.diversity, author, &approvals, &mut verdict);
    }
    verdict.approved = approvals.iter().map(|by| by.agent.clone()).collect();
    verdict
}

/// Returns who approves with a vote that counts; the rest goes to the verdict.
fn count<'a>(
    rules: &ReviewRules,
    author: &Party,
    candidate: Candidate,
    votes: &'a [Vote],
    verdict: &mut ReviewVerdict,
) -> Vec<&'a Party> {
    let mut latest: BTreeMap<&AgentName, &Vote> = BTreeMap::new();
    for vote in votes {
        let by = &vote.by.agent;
        if vote.candidate == candidate {
            latest.insert(by, vote);
        } else {
            let what = if vote.candidate.tree == candidate.tree {
                format!(
                    "base {}; it stands on {} now",
                    vote.candidate.base, candidate.base
                )
            } else {
                format!("tree {}; it is {} now", vote.candidate.tree, candidate.tree)
            };
            let void = (by.clone(), format!("the review was of {what}"));
            verdict.void.retain(|(agent, _)| agent != by);
            verdict.void.push(void);
        }
    }
    verdict
        .void
        .retain(|(agent, _)| !latest.contains_key(agent));
    let mut approvals = Vec::new();
    for (by, vote) in latest {
        match (rules.may_review(author, &vote.by), vote.stance) {
            (Err(why), _) => verdict.void.push((by.clone(), why.message)),
            (Ok(()), Stance::Approve) => approvals.push(&vote.by),
            (Ok(()), Stance::Reject) => {
                let why = match vote.message.trim() {
                    "" => "without a reason",
                    message => message,
                };
                verdict.lack("rejected", format!("{by} rejects it: {why}"));
            }
        }
    }
    approvals
}

fn number(needs: &Needs<'_>, approvals: &[&Party], verdict: &mut ReviewVerdict) {
    let have = u32::try_from(approvals.len()).unwrap_or(u32::MAX);
    if have < needs.required {
        let required = needs.required;
        let message = match required {
            1 => "an approval is needed".to_owned(),
            n => format!("{n} approvals are needed, {have} are there"),
        };
        verdict.lack("review-count", message);
    }
}

fn lanes(
    rules: &ReviewRules,
    author: &Party,
    needs: &Needs<'_>,
    approvals: &[&Party],
    verdict: &mut ReviewVerdict,
) {
    for (lane, path) in &needs.lanes {
        if !approvals.iter().any(|by| by.role == **lane) {
            verdict.lack(
                "review-lane",
                format!("lane {lane} must approve, for {path}"),
            );
        }
    }
    let Some(path) = needs.own_lane.filter(|_| needs.lanes.is_empty()) else {
        return;
    };
    let others = rules.lanes(author).unwrap_or_default();
    let stands = |by: &&Party| by.person || others.contains(&by.role);
    if !approvals.iter().copied().any(|by| stands(&by)) {
        let who = match listed(&others).as_str() {
            "" => "a person".to_owned(),
            lanes => format!("another reviewing lane ({lanes})"),
        };
        let role = &author.role;
        let message = format!("{role} may not approve its own change of {path}: {who} must");
        verdict.lack("review-lane", message);
    }
}

fn diversity(wanted: Diversity, author: &Party, approvals: &[&Party], verdict: &mut ReviewVerdict) {
    let other = |by: &&Party| by.person || differs(author, by);
    if wanted == Diversity::Off || approvals.iter().copied().any(|by| other(&by)) {
        return;
    }
    let own = author.engine.as_deref().unwrap_or("an unknown engine");
    let message = format!("an approval by another engine than the author's ({own})");
    match wanted {
        Diversity::Require => verdict.lack("review-engine", format!("{message} is needed")),
        _ => verdict.advice.push(format!("{message} is preferred")),
    }
}

/// Says whether the two are known to run on different engines.
fn differs(one: &Party, two: &Party) -> bool {
    match (&one.engine, &two.engine) {
        (Some(one), Some(two)) => one != two,
        _ => false,
    }
}

/// Returns who should be asked, best first: lanes that must approve, then
/// persons where one must, then other engines, then by name.
pub fn reviewers<'a>(
    rules: &ReviewRules,
    author: &Party,
    paths: &[RepoPath],
    agents: &'a [Party],
) -> Vec<&'a Party> {
    let needs = rules.needs(author, paths);
    let may = |by: &&Party| rules.may_review(author, by).is_ok();
    let mut out: Vec<&Party> = agents.iter().filter(may).collect();
    out.sort_by_key(|by| {
        let lane = needs.lanes.contains_key(&by.role);
        let person = needs.person != NeedPerson::No && by.person;
        (!lane, !person, !differs(author, by), &by.agent)
    });
    out
}

fn listed(lanes: &BTreeSet<&RoleName>) -> String {
    let lanes: Vec<&str> = lanes.iter().map(|lane| lane.as_str()).collect();
    lanes.join(", ")
}
