//! Commands, and the one door through which they become events.
//!
//! Owns: `decide`, the refusals it gives, and how a command is rebuilt from its
//! entry for replay. Pure: the same state, command and time give the same
//! verdict, which is what makes `replay` a proof. A refusal that must be
//! remembered comes with the entry that remembers it. Never applies an event.

use crate::domain::claim::Ask;
use crate::domain::claim::decide_claim;
use crate::domain::claim::decide_expiry;
use crate::domain::claim::decide_release;
use crate::domain::claim::decide_renewal;
use crate::domain::event::{
    AgentSet, Conflict, Cut, Decision, Draft, Entry, Event, Mode, PlanAction, PlanSet, QueueMoved,
};
use crate::domain::names::{AgentName, RoleName};
use crate::domain::pattern::Pattern;
use crate::domain::queue;
use crate::domain::queue::decide::{PlanAsk, QueueAsk};
use crate::domain::queue::stored;
use crate::domain::review;
use crate::domain::review::decide::ReviewAsk;
use crate::domain::state::{Kind, RowKey, SessionState, State};
use crate::domain::time::Now;

/// What somebody wants to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Describe an agent; what is `None` stays, or takes the charter's default.
    Agent {
        name: AgentName,
        role: Option<RoleName>,
        engine: Option<String>,
        person: bool,
    },
    Claim(Ask),
    /// Start the leases of all claims of an agent anew: it was active.
    Renew {
        agent: AgentName,
    },
    Release {
        agent: AgentName,
        /// Empty: all.
        patterns: Vec<Pattern>,
        cut: Option<Cut>,
    },
    /// End what is due. Every other command is preceded by this one.
    Expire,
    Plan(PlanAsk),
    Queue(QueueAsk),
    Review(ReviewAsk),
    /// Something that happened and needs no permission, only sense.
    Fact(Box<Draft>),
}

/// Which rows a decision needs; the meta row, the charter in force and what is due are always there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    All(Kind),
    Row(RowKey),
    /// The agent and its open session.
    Agent(AgentName),
    ClaimsOf(AgentName),
    /// The claims that stand in the way of this request, and the agent's own with the same patterns.
    Claims {
        agent: AgentName,
        mode: Mode,
        patterns: Vec<Pattern>,
    },
}

impl Command {
    /// Says what must be loaded before [`decide`].
    pub fn needs(&self) -> Vec<Need> {
        match self {
            Self::Agent { name, .. } => vec![Need::Agent(name.clone())],
            Self::Claim(ask) => {
                let mut needs = ask.needs();
                needs.extend(
                    ask.plan
                        .iter()
                        .map(|plan| Need::Row(RowKey::new(Kind::Plan, plan))),
                );
                needs
            }
            Self::Renew { agent } | Self::Release { agent, .. } => {
                vec![Need::Agent(agent.clone()), Need::ClaimsOf(agent.clone())]
            }
            Self::Expire => Vec::new(),
            Self::Plan(_) => stored::needs(),
            Self::Queue(ask) => {
                let mut needs = stored::needs();
                needs.extend(ask.claims.iter().cloned().map(Need::Agent));
                needs
            }
            Self::Review(ask) => ask.needs(),
            Self::Fact(draft) => draft.needs(),
        }
    }
}

/// What came out: entries to append (also for a refusal that is remembered), and whether it was refused.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Verdict {
    pub drafts: Vec<Draft>,
    pub refusal: Option<Refusal>,
}

/// Which kind of no: it decides the exit status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum No {
    /// A rule refuses.
    Rule,
    /// What was named is not there.
    Missing,
    /// The charter does not parse, or the command makes no sense.
    Usage,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub no: No,
    pub rule: &'static str,
    pub message: String,
    pub hint: String,
    pub conflicts: Vec<Conflict>,
}

impl Refusal {
    pub fn new(no: No, rule: &'static str, message: String, hint: impl Into<String>) -> Self {
        Self {
            no,
            rule,
            message,
            hint: hint.into(),
            conflicts: Vec::new(),
        }
    }
}

impl Verdict {
    pub fn allow(drafts: Vec<Draft>) -> Self {
        Self {
            drafts,
            refusal: None,
        }
    }

    /// Refuses without an entry.
    pub fn refuse(refusal: Refusal) -> Self {
        Self {
            drafts: Vec::new(),
            refusal: Some(refusal),
        }
    }
}

/// Decides one command.
pub fn decide(state: &State, command: &Command, now: &Now) -> Verdict {
    match command {
        Command::Agent {
            name,
            role,
            engine,
            person,
        } => decide_agent(state, name, role.as_ref(), engine.as_ref(), *person),
        Command::Claim(ask) => decide_claim(state, ask, now),
        Command::Renew { agent } => decide_renewal(state, agent, now),
        Command::Release {
            agent,
            patterns,
            cut,
        } => decide_release(state, agent, patterns, cut.as_ref()),
        Command::Expire => Verdict::allow(decide_expiry(state, now)),
        Command::Plan(ask) => queue::decide::plans(state, ask),
        Command::Queue(ask) => queue::decide::queue(state, ask),
        Command::Review(ask) => review::decide::decide(state, ask),
        Command::Fact(draft) => decide_fact(state, draft),
    }
}

/// The entry that makes an agent which nobody described.
pub fn new_agent(state: &State, name: &AgentName) -> Result<Draft, Refusal> {
    let verdict = decide_agent(state, name, None, None, false);
    match (verdict.refusal, verdict.drafts.into_iter().next()) {
        (Some(refusal), _) => Err(refusal),
        (None, Some(draft)) => Ok(draft),
        (None, None) => Err(no_charter()),
    }
}

pub fn no_charter() -> Refusal {
    Refusal::new(
        No::Usage,
        "charter",
        "the charter in force cannot be read, so nothing may run".to_owned(),
        "see `govfs charter check`",
    )
}

fn decide_agent(
    state: &State,
    name: &AgentName,
    role: Option<&RoleName>,
    engine: Option<&String>,
    person: bool,
) -> Verdict {
    let Some(law) = &state.law else {
        return Verdict::refuse(no_charter());
    };
    let before = state.agents.get(name);
    let role = role
        .cloned()
        .or_else(|| before.map(|row| row.role.clone()))
        .unwrap_or_else(|| law.default_role.clone());
    let Some(lane) = law.roles.get(&role) else {
        let known: Vec<_> = law.roles.keys().map(RoleName::as_str).collect();
        return Verdict::refuse(Refusal::new(
            No::Missing,
            "role",
            format!("the charter defines no role {role}"),
            format!("it defines {}", known.join(", ")),
        ));
    };
    let engine = engine
        .cloned()
        .or_else(|| before.and_then(|row| row.engine.clone()))
        .or_else(|| lane.engine.clone());
    let set = AgentSet {
        role,
        engine,
        person: person || before.is_some_and(|row| row.person),
    };
    let same = before.is_some_and(|row| {
        row.role == set.role && row.engine == set.engine && row.person == set.person
    });
    if same {
        return Verdict::default();
    }
    Verdict::allow(vec![Draft::new(Event::Agent(set)).by(name)])
}

/// A fact about a session needs that session; a second open one is refused.
fn decide_fact(state: &State, draft: &Draft) -> Verdict {
    let refusal = match (&draft.event, &draft.agent, &draft.session) {
        (Event::Session(_), Some(agent), Some(_)) => state.open_session_id(agent).map(|open| {
            Refusal::new(
                No::Rule,
                "session-open",
                format!("{agent} has an open session, {open}"),
                format!("merge or abandon it first: govfs merge {agent}"),
            )
        }),
        (event, Some(_), Some(session)) if needs_open(event) => match state.sessions.get(session) {
            Some(row) if row.state == SessionState::Open => None,
            Some(_) => Some(Refusal::new(
                No::Rule,
                "session-closed",
                format!("session {session} is over"),
                "the next run or mount of the agent starts a new one",
            )),
            None => Some(missing_session(session.as_str())),
        },
        (Event::Seal(_) | Event::Unmount(_), Some(_), Some(session)) => {
            let known = state.sessions.contains_key(session);
            (!known).then(|| missing_session(session.as_str()))
        }
        _ => None,
    };
    match refusal {
        Some(refusal) => Verdict::refuse(refusal),
        None => Verdict::allow(vec![draft.clone()]),
    }
}

/// Says whether an event is about a session that is not over yet.
fn needs_open(event: &Event) -> bool {
    match event {
        Event::Launch(_) | Event::Mount(_) | Event::Sync(_) | Event::Abandon(_) => true,
        Event::MergeIntent(body) => body.revert.is_none(),
        Event::Merge(body) => body.decision == Decision::Allow,
        _ => false,
    }
}

fn missing_session(session: &str) -> Refusal {
    Refusal::new(
        No::Missing,
        "no-session",
        format!("there is no session {session}"),
        "see `govfs status`",
    )
}

impl Draft {
    /// Returns the rows that the fold of this event changes, and those that its decision reads.
    pub fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = self.agent.iter().cloned().map(Need::Agent).collect();
        if let Some(session) = &self.session {
            needs.push(Need::Row(RowKey::new(Kind::Session, session)));
            needs.push(Need::Row(RowKey::new(Kind::Intent, session)));
        }
        let mut row = |kind, id: &dyn std::fmt::Display| {
            needs.push(Need::Row(RowKey::new(kind, &id.to_string())));
        };
        match &self.event {
            Event::Grant(body) | Event::Deny(body) => row(Kind::Request, &body.request),
            Event::Plan(PlanSet { plan, .. }) | Event::Queue(QueueMoved { plan, .. }) => {
                row(Kind::Plan, plan);
                row(Kind::Job, plan);
            }
            Event::Fleet(body) => body.plan.iter().for_each(|plan| row(Kind::Job, plan)),
            Event::Revert(body) => {
                row(Kind::Merge, &body.merge);
                if let Some(plan) = &body.plan {
                    row(Kind::Plan, plan);
                    row(Kind::Job, plan);
                }
            }
            Event::Protect(body) => row(Kind::Protect, &body.branch),
            Event::Merge(body) => {
                body.claims
                    .iter()
                    .for_each(|freed| row(Kind::Claim, &freed.id));
                body.plan.iter().for_each(|plan| row(Kind::Plan, plan));
            }
            Event::Abandon(body) => {
                body.claims
                    .iter()
                    .for_each(|freed| row(Kind::Claim, &freed.id));
            }
            _ => {}
        }
        needs
    }
}

/// Rebuilds the command behind an entry and the time it was decided at.
pub fn rebuild(entry: &Entry) -> (Command, Now) {
    let mut now = Now {
        ts: entry.ts,
        boot: String::new(),
        boot_ms: 0,
    };
    let draft = || {
        Box::new(Draft {
            agent: entry.agent.clone(),
            session: entry.session.clone(),
            event: entry.event.clone(),
        })
    };
    let command = match (&entry.event, &entry.agent) {
        (Event::Agent(body), Some(name)) => Command::Agent {
            name: name.clone(),
            role: Some(body.role.clone()),
            engine: body.engine.clone(),
            person: body.person,
        },
        (Event::Claim(body), Some(agent)) => {
            now = Now {
                ts: body.lease.from,
                boot: body.lease.boot.clone(),
                boot_ms: body.lease.boot_ms,
            };
            Command::Claim(Ask::rebuild(agent, body))
        }
        (Event::Release(body), Some(agent)) => Command::Release {
            agent: agent.clone(),
            patterns: body
                .claims
                .iter()
                .map(|freed| freed.pattern.clone())
                .collect(),
            cut: body.cut.clone(),
        },
        (Event::Expire(body), _) => {
            now.boot.clone_from(&body.boot);
            now.boot_ms = body.boot_ms;
            Command::Expire
        }
        (Event::Plan(body), _) => Command::Plan(match body.action {
            PlanAction::Add => PlanAsk::Add(vec![body.clone()]),
            PlanAction::Remove => PlanAsk::Remove {
                plan: body.plan.clone(),
                reverts: body.reverts,
            },
        }),
        (Event::Queue(body), agent) => Command::Queue(QueueAsk::rebuild(agent.as_ref(), body)),
        (Event::Review(body), Some(agent)) => {
            Command::Review(ReviewAsk::rebuild(agent, entry.session.as_ref(), body))
        }
        _ => Command::Fact(draft()),
    };
    (command, now)
}

/// Says whether `next` came of the same command as `last`: plans that are added together are
/// judged together, and only entries of one command follow each other by a nanosecond.
pub fn goes_on(last: &Entry, next: &Entry) -> bool {
    let adds = |entry: &Entry| match &entry.event {
        Event::Plan(body) => body.action == PlanAction::Add,
        _ => false,
    };
    adds(last) && adds(next) && next.ts.0 == last.ts.0 + 1
}

/// Decides the command behind these entries of one command again: the first that differs, and how.
pub fn differ(state: &State, entries: &[Entry]) -> Option<(u64, String)> {
    let [one] = entries else {
        let sets = entries.iter().filter_map(|entry| match &entry.event {
            Event::Plan(body) => Some(body.clone()),
            _ => None,
        });
        let (first, now) = (entries.first()?, rebuild(entries.first()?).1);
        let verdict = decide(state, &Command::Plan(PlanAsk::Add(sets.collect())), &now);
        if let Some(refusal) = verdict.refusal {
            return Some((first.seq, format!("decided again it is refused: {refusal}")));
        }
        let mut again = verdict.drafts.iter();
        let other = entries
            .iter()
            .find(|entry| again.next().is_none_or(|draft| draft.event != entry.event))?;
        return Some((other.seq, "decided again it gives another entry".to_owned()));
    };
    differs(state, one).map(|what| (one.seq, what))
}

/// Decides an entry's command again and says how the verdict differs, if it does.
pub fn differs(state: &State, entry: &Entry) -> Option<String> {
    let (command, now) = rebuild(entry);
    let verdict = decide(state, &command, &now);
    if let (Command::Claim(ask), Event::Claim(_)) = (&command, &entry.event) {
        // A renewal by activity is not judged again, so neither is it here.
        let renewed = decide(
            state,
            &Command::Renew {
                agent: ask.agent.clone(),
            },
            &now,
        );
        if renewed
            .drafts
            .iter()
            .any(|draft| draft.event == entry.event)
        {
            return None;
        }
    }
    let recorded_refusal = match &entry.event {
        Event::Claim(body) => body.decision == Decision::Deny,
        Event::Queue(body) => body.decision == Decision::Deny,
        Event::Review(body) => body.decision == Decision::Deny,
        _ => false,
    };
    if verdict.refusal.is_some() != recorded_refusal {
        let again = match &verdict.refusal {
            Some(refusal) => format!("refused: {refusal}"),
            None => "allowed".to_owned(),
        };
        return Some(format!("decided again it is {again}"));
    }
    let same = |draft: &Draft| {
        draft.event == entry.event && draft.agent == entry.agent && draft.session == entry.session
    };
    // Several holders' expiries are due at once, one entry each; a description
    // that changes nothing gives none.
    let unchanged = matches!(command, Command::Agent { .. }) && verdict.drafts.is_empty();
    if unchanged || verdict.drafts.iter().any(same) {
        return None;
    }
    Some("decided again it gives another entry".to_owned())
}
