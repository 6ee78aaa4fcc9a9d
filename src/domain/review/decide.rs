//! Reviews as commands: asking for one, giving one, and what a candidate lacks.
//!
//! Invariant: a vote that could never count is refused, and the refusal is an
//! entry. A vote names the one candidate it is for; whether it still counts is
//! judged at the merge.

use std::collections::BTreeMap;

use crate::domain::base::Oid;
use crate::domain::charter::{self, Charter};
use crate::domain::command::{Need, No, Refusal, Verdict, no_charter};
use crate::domain::event::{Decision, Draft, Event, ReviewAction, Reviewed};
use crate::domain::names::{AgentName, RoleName, SessionId};
use crate::domain::pattern::Pattern;
use crate::domain::review::{Candidate, Diversity, Party, PathRule, ReviewRules, Stance, Vote};
use crate::domain::state::{Kind, RowKey, State};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReviewAsk {
    pub action: ReviewAction,
    /// The author.
    pub agent: AgentName,
    pub session: Option<SessionId>,
    pub base: Oid,
    pub tree: Oid,
    pub reviewer: Option<AgentName>,
    pub message: Option<String>,
}

impl ReviewAsk {
    pub fn needs(&self) -> Vec<Need> {
        let mut needs = vec![Need::Agent(self.agent.clone())];
        let row = |kind, id: &dyn std::fmt::Display| Need::Row(RowKey::new(kind, &id.to_string()));
        needs.extend(self.session.iter().map(|id| row(Kind::Session, id)));
        needs.extend(self.reviewer.iter().map(|name| row(Kind::Agent, name)));
        needs
    }

    pub fn rebuild(agent: &AgentName, session: Option<&SessionId>, body: &Reviewed) -> Self {
        let recorded = body.decision == Decision::Allow;
        Self {
            action: body.action,
            agent: agent.clone(),
            session: session.cloned(),
            base: body.base,
            tree: body.tree,
            reviewer: body.reviewer.clone(),
            message: body.message.clone().filter(|_| recorded),
        }
    }

    fn draft(&self, refusal: Option<&Refusal>) -> Draft {
        let body = Reviewed {
            action: self.action,
            base: self.base,
            tree: self.tree,
            decision: match refusal {
                None => Decision::Allow,
                Some(_) => Decision::Deny,
            },
            reviewer: self.reviewer.clone(),
            message: self.message.clone().filter(|_| refusal.is_none()),
            rule: refusal.map(|refusal| refusal.rule.to_owned()),
            reason: refusal.map(|refusal| refusal.message.clone()),
        };
        Draft::new(Event::Review(body))
            .by(&self.agent)
            .within(self.session.as_ref())
    }
}

pub fn decide(state: &State, ask: &ReviewAsk) -> Verdict {
    match refusal(state, ask) {
        None => Verdict::allow(vec![ask.draft(None)]),
        Some(refusal) if refusal.no == No::Rule => Verdict {
            drafts: vec![ask.draft(Some(&refusal))],
            refusal: Some(refusal),
        },
        Some(refusal) => Verdict::refuse(refusal),
    }
}

fn refusal(state: &State, ask: &ReviewAsk) -> Option<Refusal> {
    let Some(law) = &state.law else {
        return Some(no_charter());
    };
    let Some(author) = party(state, &ask.agent) else {
        return Some(unknown(&ask.agent));
    };
    if ask.session.is_none() || state.open_session_id(&ask.agent) != ask.session.as_ref() {
        return Some(Refusal::new(
            No::Missing,
            "no-session",
            format!(
                "{} has no open session, so there is nothing to review",
                ask.agent
            ),
            "see `govfs status`",
        ));
    }
    let reviewer = match (ask.action, &ask.reviewer) {
        (ReviewAction::Request, _) => return None,
        (_, Some(reviewer)) => reviewer,
        (_, None) => {
            let message = "a review names its reviewer".to_owned();
            return Some(Refusal::new(
                No::Usage,
                "reviewer",
                message,
                "--as REVIEWER",
            ));
        }
    };
    let Some(by) = party(state, reviewer) else {
        return Some(unknown(reviewer));
    };
    let missing = rules(law).may_review(&author, &by).err()?;
    Some(Refusal::new(
        No::Rule,
        missing.rule,
        missing.message,
        format!("ask another: govfs review request {}", ask.agent),
    ))
}

fn unknown(name: &AgentName) -> Refusal {
    Refusal::new(
        No::Missing,
        "no-agent",
        format!("there is no agent {name}"),
        format!("describe it: govfs agent add {name} --role ROLE"),
    )
}

/// Returns an agent as reviews see it.
pub fn party(state: &State, name: &AgentName) -> Option<Party> {
    let row = state.agents.get(name)?;
    Some(Party {
        agent: name.clone(),
        role: row.role.clone(),
        engine: row.engine.clone(),
        person: row.person,
    })
}

/// Returns the charter's rules.
pub fn rules(law: &Charter) -> ReviewRules {
    let mut reviewers = BTreeMap::new();
    for role in law.roles.keys() {
        let named = law.reviewers_of(role);
        if !named.is_empty() {
            reviewers.insert(role.clone(), named.into_iter().cloned().collect());
        }
    }
    let paths = law.reviews.rules.iter().map(|rule| PathRule {
        paths: rule.paths.clone(),
        roles: rule.roles.clone(),
        person: rule.person,
        required: 0,
    });
    ReviewRules {
        required: law.reviews.required,
        reviewers,
        paths: paths.collect(),
        diversity: match law.reviews.engine_diversity {
            charter::Diversity::Off => Diversity::Off,
            charter::Diversity::Prefer => Diversity::Prefer,
            charter::Diversity::Require => Diversity::Require,
        },
        person: false,
    }
}

/// Returns the charter's rules for a change by `author`: besides the paths' rules,
/// each lane that reviews the author's must approve.
pub fn rules_for(law: &Charter, author: &RoleName) -> ReviewRules {
    let mut rules = rules(law);
    let lanes: Vec<RoleName> = law.reviewers_of(author).into_iter().cloned().collect();
    if let (false, Ok(all)) = (lanes.is_empty(), Pattern::parse(b"**")) {
        rules.paths.push(PathRule {
            paths: vec![all],
            roles: lanes,
            ..PathRule::default()
        });
    }
    rules
}

/// Returns the votes on a session's candidates, with their entries.
pub fn votes(state: &State, session: &SessionId) -> Vec<(u64, Vote)> {
    let of_session = state
        .reviews
        .iter()
        .filter(|(_, row)| row.session == *session);
    let vote = |(entry, row): (&u64, &crate::domain::state::ReviewRow)| {
        let stance = match row.action {
            ReviewAction::Request => return None,
            ReviewAction::Approve => Stance::Approve,
            ReviewAction::Reject => Stance::Reject,
        };
        let vote = Vote {
            by: party(state, row.reviewer.as_ref()?)?,
            stance,
            candidate: Candidate {
                tree: row.tree,
                base: row.base,
            },
            message: row.message.clone().unwrap_or_default(),
        };
        Some((*entry, vote))
    };
    of_session.filter_map(vote).collect()
}
