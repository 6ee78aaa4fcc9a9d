//! `why`: may an agent write a path, by which rule, who holds it, and how to get it.
//!
//! Asked outside a mount: the base is the agent's open session's, or the merge
//! target's tip. Answers with the gate's own rules, so that it never says another
//! thing than the gate does.

use std::io;

use serde::{Deserialize, Serialize};

use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::log::{self, Filter, Row};
use crate::app::remedy;
use crate::app::rules::{law, rules_for};
use crate::app::serve::ground::pinned;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::base::{Base, Oid};
use crate::domain::charter::Charter;
use crate::domain::command::Need;
use crate::domain::gate::{Refusal, Rules, Tried};
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::state::{Kind, State};
use crate::domain::zone::{self, Facts, GitdirRule, Zone};
use crate::git::base::{GitBase, Options};

/// How many refusals are shown.
const DENIALS: usize = 5;

#[derive(Debug)]
pub struct Why {
    pub path: RepoPath,
    pub zone: Zone,
    /// The rule that refuses, or `None`.
    pub refusal: Option<Refusal>,
    /// What the operator can do, where claiming the path is not enough.
    pub remedy: Option<String>,
    /// The claim that allows it.
    pub claim: Option<u64>,
    pub holder: Option<AgentName>,
    pub denials: Vec<Row>,
}

pub fn why(site: &mut Site, path: &RepoPath, agent: Option<&AgentName>) -> Result<Why, Failure> {
    let now = clock::now();
    let mut state = site.ledger.state(&[
        Need::All(Kind::Claim),
        Need::All(Kind::Agent),
        Need::All(Kind::Session),
        Need::All(Kind::Request),
    ])?;
    state.claims.retain(|_, claim| !claim.lease.is_over(&now));
    if let Some(agent) = agent
        && !state.agents.contains_key(agent)
    {
        return Err(crate::domain::claim::missing_agent(agent).into());
    }
    let law = &binding(site, &state, agent)?;
    // Nobody in particular asks: a name that holds nothing.
    let nobody: AgentName = "anyone".parse().map_err(Failure::failed)?;
    let rules = rules_for(&state, law, agent.unwrap_or(&nobody), &now);
    let base = base_of(site, &state, agent)?;
    let world = World {
        base: base.as_ref(),
        rules: &rules,
        scratch: &law.scratch,
        now_ms: now.boot_ms,
    };
    let (zone, _) = zone::classify(path, false, &world).map_err(Failure::failed)?;
    let holders = state
        .claims
        .values()
        .filter(|claim| claim.pattern.covers(path));
    let holder = holders.map(|claim| claim.agent.clone()).next();
    let answer = judge(zone, path, &rules, now.boot_ms);
    let filter = Filter {
        agent: agent.map(ToString::to_string),
        path: Some(path.clone()),
        denied: true,
        newest: Some(DENIALS),
        ..Filter::default()
    };
    let mut denials = Vec::new();
    log::read(site, &filter, &mut |row| {
        denials.push(row.clone());
        Ok(true)
    })?;
    let (claim, mut refusal) = match answer {
        Ok(claim) => (claim, None),
        Err(refusal) => (None, Some(refusal)),
    };
    let who = agent.unwrap_or(&nobody);
    let remedy = refusal
        .as_mut()
        .and_then(|refusal| remedy_of(refusal, &state, who, path));
    Ok(Why {
        path: path.clone(),
        zone,
        refusal,
        remedy,
        claim,
        holder,
        denials,
    })
}

/// Where a claim would be refused as well, says so, and what would help; to the agent in the refusal itself.
fn remedy_of(
    refusal: &mut Refusal,
    state: &State,
    agent: &AgentName,
    path: &RepoPath,
) -> Option<String> {
    if !remedy::CLAIMABLE.contains(&refusal.rule) {
        return None;
    }
    let barred = remedy::barred(state, agent, path)?;
    refusal.hint = barred.inside;
    Some(match remedy::waiting(state, agent, path) {
        Some(number) => format!("{agent} has asked for it: govfs approve {number}"),
        None => barred.help,
    })
}

/// The charter that binds the agent: the one that its open session started under.
fn binding(site: &mut Site, state: &State, agent: Option<&AgentName>) -> Result<Charter, Failure> {
    let Some((id, row)) = agent.and_then(|agent| state.open_session(agent)) else {
        return law(state).cloned();
    };
    let session = Session::of(site, id, row);
    pinned(site, &session)
}

/// The answer as both ends of a mount know it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Explained {
    pub path: RepoPath,
    pub agent: Option<AgentName>,
    pub zone: String,
    pub refusal: Option<Reason>,
    pub claim: Option<u64>,
    pub holder: Option<AgentName>,
    /// The entries, as they are stored.
    pub denials: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reason {
    pub rule: String,
    pub reason: String,
    pub hint: String,
    /// The hint for someone outside, where it is another.
    #[serde(skip)]
    outside: Option<String>,
}

impl Why {
    pub fn explained(self, agent: Option<AgentName>) -> Explained {
        let lines = self.denials.into_iter();
        let outside = self.remedy;
        Explained {
            path: self.path,
            agent,
            zone: self.zone.word().to_owned(),
            refusal: self.refusal.map(|refusal| Reason {
                rule: refusal.rule.to_owned(),
                reason: refusal.reason,
                hint: refusal.hint,
                outside,
            }),
            claim: self.claim,
            holder: self.holder,
            // Entries are ASCII.
            denials: lines
                .map(|row| String::from_utf8_lossy(&row.line).into_owned())
                .collect(),
        }
    }
}

impl Explained {
    /// Rewrites the hint for someone outside the mount, where `claim` must name its agent and nobody is asked.
    #[must_use]
    pub fn outside(mut self) -> Self {
        let agent = self.agent.as_ref().map_or("AGENT", AgentName::as_str);
        if let Some(refusal) = &mut self.refusal {
            let named = format!("govfs claim {agent} ");
            refusal.hint = (refusal.outside.take())
                .unwrap_or_else(|| refusal.hint.replace("govfs claim ", &named));
        }
        self
    }
}

/// Answers by the zone, and for governed paths by the gate's rules.
fn judge(zone: Zone, path: &RepoPath, rules: &Rules, now_ms: u64) -> Result<Option<u64>, Refusal> {
    match zone {
        Zone::Governed => rules
            .decide(Tried::Write, path, now_ms)
            .map(|permit| Some(permit.claim())),
        Zone::Scratch | Zone::Transient => Ok(None),
        Zone::Gitdir => {
            let inside = path.as_bytes().strip_prefix(b".git/").unwrap_or_default();
            match zone::gitdir_rule(inside) {
                GitdirRule::Writable => Ok(None),
                _ => Err(Refusal::by_rule(
                    "gitdir",
                    "only what git itself writes may be made there",
                )),
            }
        }
        Zone::Control => Err(Refusal::by_rule(
            "control",
            "it is govfs's own window; nothing can be changed in it",
        )),
        Zone::Reserved => Err(Refusal::by_rule(
            "reserved",
            "some system takes this name for git's own directory: choose another",
        )),
    }
}

/// Opens the agent's base, or what a new session would start from; an empty repository has none.
fn base_of(
    site: &Site,
    state: &State,
    agent: Option<&AgentName>,
) -> Result<Option<GitBase>, Failure> {
    let open = agent.and_then(|agent| state.open_session(agent));
    let commit: Option<Oid> = match open {
        Some((_, row)) => Some(row.base),
        None => site.repo.tip(&Site::target(state)?)?,
    };
    let Some(commit) = commit else {
        return Ok(None);
    };
    GitBase::open(site.repo.common_dir(), commit, Options::default())
        .map(Some)
        .map_err(Failure::failed)
}

/// What the classification of zones asks.
struct World<'a> {
    base: Option<&'a GitBase>,
    rules: &'a Rules,
    scratch: &'a [Pattern],
    now_ms: u64,
}

impl Facts for World<'_> {
    type Error = io::Error;

    fn tracked(&self, path: &RepoPath) -> io::Result<bool> {
        match self.base {
            Some(base) => Ok(base.find(path)?.is_some()),
            None => Ok(false),
        }
    }

    fn ignored(&self, path: &RepoPath, is_dir: bool) -> io::Result<bool> {
        if self.scratch.iter().any(|pattern| pattern.covers(path)) {
            return Ok(true);
        }
        match self.base {
            Some(base) => base.ignored(path, is_dir),
            None => Ok(false),
        }
    }

    fn claimed(&self, path: &RepoPath) -> bool {
        self.rules.decide(Tried::Write, path, self.now_ms).is_ok()
    }

    fn present(&self, path: &RepoPath) -> bool {
        self.tracked(path).unwrap_or(true)
            || self
                .rules
                .claims
                .iter()
                .any(|grant| grant.pattern.literal() == Some(path))
    }

    fn guarded(&self, path: &RepoPath) -> bool {
        self.rules.guards(path)
    }

    fn claimed_in(&self, dir: &RepoPath) -> Option<RepoPath> {
        self.rules
            .names_in(dir)
            .into_iter()
            .find_map(|name| dir.join(&name).ok())
    }
}
