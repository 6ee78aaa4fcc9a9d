//! The control entries of the ledger, as values.
//!
//! Owns: which operations there are, what each one carries, and how one becomes
//! the body of a ledger line and back. One command is one entry; a refused
//! command that changes who may do what is an entry too (`decision: "deny"`).
//! A body's fields are never called `v seq prev ts op agent session`: those
//! stand in the line's head, and name who it is about. Integers only; paths and
//! patterns percent-encoded. An entry names every row that it changes, so that
//! folding it needs no search. Never decides anything.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::domain::base::Oid;
use crate::domain::checkpoint::{Origin, PublicKey};
use crate::domain::digest::Digest;
use crate::domain::entry::Line;
use crate::domain::logop::Bytes;
use crate::domain::names::{AgentName, PlanId, RoleName, SessionId};
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::time::{Lease, Now, Timestamp};

/// Declares a body: strict, comparable, and each `Option` or `Vec` left out when empty.
macro_rules! body {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    )* };
}

mod body;
mod ends;

pub use body::*;
pub use ends::*;

/// What happened. The tag stands in the line's head as `op`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Event {
    Charter(CharterSet),
    Key(KeySet),
    Agent(AgentSet),
    Claim(Claimed),
    Release(Released),
    Expire(Expired),
    Session(SessionOpened),
    Launch(Launched),
    Mount(Mounted),
    Unmount(Unmounted),
    Seal(Sealed),
    Request(Requested),
    Grant(Answered),
    Deny(Answered),
    Plan(PlanSet),
    Queue(QueueMoved),
    Review(Reviewed),
    MergeIntent(MergeIntended),
    Merge(Box<Merged>),
    Abandon(Abandoned),
    Revert(Reverted),
    Sync(Synced),
    Checkpoint(Checkpointed),
    Fork(Forked),
    Gc(Collected),
    Protect(Protected),
    Fleet(FleetMoved),
}

/// The names of all operations, in the order of the command line's contract.
pub const OPS: [&str; 27] = [
    "charter",
    "key",
    "agent",
    "claim",
    "release",
    "expire",
    "session",
    "launch",
    "mount",
    "unmount",
    "seal",
    "request",
    "grant",
    "deny",
    "plan",
    "queue",
    "review",
    "merge-intent",
    "merge",
    "abandon",
    "revert",
    "sync",
    "checkpoint",
    "fork",
    "gc",
    "protect",
    "fleet",
];

/// An event that has no place in the chain yet, and who it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    pub agent: Option<AgentName>,
    pub session: Option<SessionId>,
    pub event: Event,
}

/// An event at its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub seq: u64,
    pub ts: Timestamp,
    /// The leaf of this entry: later entries (a session's log) bind to it.
    pub leaf: Digest,
    pub agent: Option<AgentName>,
    pub session: Option<SessionId>,
    pub event: Event,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq}: {what}")]
pub struct EventError {
    pub seq: u64,
    pub what: String,
}

impl Draft {
    pub fn new(event: Event) -> Self {
        Self {
            agent: None,
            session: None,
            event,
        }
    }

    #[must_use]
    pub fn by(mut self, agent: &AgentName) -> Self {
        self.agent = Some(agent.clone());
        self
    }

    #[must_use]
    pub fn within(mut self, session: Option<&SessionId>) -> Self {
        self.session = session.cloned();
        self
    }
}

impl Event {
    /// Returns the operation's name and the body of its line.
    pub fn to_body(&self) -> Result<(String, Map<String, Value>), serde_json::Error> {
        match serde_json::to_value(self)? {
            Value::Object(mut map) => match map.remove("op") {
                Some(Value::String(op)) => Ok((op, map)),
                _ => Err(serde::ser::Error::custom("an event without a name")),
            },
            _ => Err(serde::ser::Error::custom("an event that is no object")),
        }
    }

    /// Reads what [`Event::to_body`] gave; an unknown operation or field is an error.
    pub fn from_body(op: &str, mut body: Map<String, Value>) -> Result<Self, serde_json::Error> {
        body.insert("op".to_owned(), Value::String(op.to_owned()));
        serde_json::from_value(Value::Object(body))
    }
}

impl Entry {
    /// Reads the event of a line that the chain has accepted.
    pub fn from_line(line: &Line<'_>, leaf: Digest) -> Result<Self, EventError> {
        let fault = |what: String| EventError {
            seq: line.seq,
            what,
        };
        let body = line.body().map_err(|error| fault(error.to_string()))?;
        let event = Event::from_body(line.op, body).map_err(|error| fault(error.to_string()))?;
        let agent = line
            .agent
            .map(str::parse)
            .transpose()
            .map_err(|error: crate::domain::names::NameError| fault(error.to_string()))?;
        let session = line
            .session
            .map(str::parse)
            .transpose()
            .map_err(|error: crate::domain::names::NameError| fault(error.to_string()))?;
        Ok(Self {
            seq: line.seq,
            ts: line.ts,
            leaf,
            agent,
            session,
            event,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_of_the_contract_has_a_name_and_only_those() {
        let unknown = Event::from_body("write", Map::new()).expect_err("no control entry");
        for op in OPS {
            assert!(unknown.to_string().contains(&format!("`{op}`")), "{op}");
        }
        assert_eq!(
            unknown.to_string().matches('`').count(),
            2 * (OPS.len() + 1)
        );
    }

    #[test]
    fn a_body_round_trips_and_an_unknown_field_is_refused() {
        let event = Event::Agent(AgentSet {
            role: "worker".parse().expect("role"),
            engine: Some("codex".to_owned()),
            person: false,
        });
        let (op, mut body) = event.to_body().expect("body");
        assert_eq!(op, "agent");
        assert_eq!(Event::from_body(&op, body.clone()).expect("event"), event);
        body.insert("more".to_owned(), Value::Bool(true));
        assert!(Event::from_body(&op, body).is_err());
    }
}
