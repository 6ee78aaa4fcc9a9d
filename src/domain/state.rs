//! The state that the ledger's entries add up to.
//!
//! Owns: the rows (agents, claims, sessions, plans …), and `apply`, the one fold.
//! `apply` is total and pure: an entry that names a row which is not there
//! changes nothing. A [`State`] may be partial (only the rows that one decision
//! needs), because every event names the rows that it changes; `apply` returns
//! their keys, so that the store writes exactly those. Never decides anything.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::charter::Charter;
use crate::domain::checkpoint::{Origin, PublicKey};
use crate::domain::digest::Digest;
use crate::domain::names::{AgentName, PlanId, SessionId};

mod fold;
mod rows;

pub use rows::*;

/// A charter as it was stored and what it parses to, so that one who looks many times reads it once.
#[derive(Clone, Debug, Default)]
pub struct Known {
    row: Option<Arc<(Vec<u8>, CharterRow)>>,
    law: Option<Arc<(String, Option<Arc<Charter>>)>>,
}

/// Declares the state as one map a kind, and how a row leaves and enters it as bytes.
macro_rules! state {
    ($($(#[$doc:meta])* $kind:ident $text:literal $field:ident: $key:ty => $row:ty,)*) => {
        /// The kinds of rows.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { Meta, $($kind,)* }

        impl Kind {
            pub const ALL: &'static [Kind] = &[Kind::Meta, $(Kind::$kind,)*];

            /// Returns the name under which the store keeps rows of this kind.
            pub fn text(self) -> &'static str {
                match self { Kind::Meta => "meta", $(Kind::$kind => $text,)* }
            }
        }

        #[derive(Clone, Debug, Default)]
        pub struct State {
            pub meta: Meta,
            /// The charter in force, parsed; `None` (nothing may be decided) where it does not parse.
            pub law: Option<Arc<Charter>>,
            known: Known,
            $($(#[$doc])* pub $field: BTreeMap<$key, $row>,)*
        }

        impl State {
            /// Returns the bytes of one row, if it is there.
            pub fn row(&self, key: &RowKey) -> Result<Option<Vec<u8>>, RowError> {
                let encoded = match key.kind {
                    Kind::Meta => Some(serde_json::to_vec(&self.meta)),
                    $(Kind::$kind => key.id.parse::<$key>().ok()
                        .and_then(|id| self.$field.get(&id))
                        .map(serde_json::to_vec),)*
                };
                encoded.transpose().map_err(|error| RowError::new(key, &error))
            }

            /// Puts in a row as it was encoded.
            fn decode(&mut self, key: &RowKey, bytes: &[u8]) -> Result<(), RowError> {
                let fault = |error: &dyn std::fmt::Display| RowError::new(key, error);
                match key.kind {
                    Kind::Meta => {
                        self.meta = serde_json::from_slice(bytes).map_err(|e| fault(&e))?;
                    }
                    $(Kind::$kind => {
                        let id = key.id.parse::<$key>().map_err(|e| fault(&e))?;
                        let row = serde_json::from_slice(bytes).map_err(|e| fault(&e))?;
                        self.$field.insert(id, row);
                    })*
                }
                Ok(())
            }

            /// Returns the keys of all rows, the one of the meta row included.
            pub fn keys_of_all(&self) -> Vec<RowKey> {
                let mut keys = vec![RowKey::meta()];
                $(keys.extend(self.$field.keys().map(|id| RowKey::new(Kind::$kind, id)));)*
                keys
            }
        }
    };
}

state! {
    Charter "charter" charters: Digest => CharterRow,
    /// By their public key.
    Key "key" keys: PublicKey => KeyRow,
    Agent "agent" agents: AgentName => AgentRow,
    /// Those in force.
    Claim "claim" claims: u64 => ClaimRow,
    /// Those that are over: merge asks who held a path since.
    Ended "ended" ended: u64 => EndedRow,
    Session "session" sessions: SessionId => SessionRow,
    /// By the entry that asked.
    Request "request" requests: u64 => RequestRow,
    Plan "plan" plans: PlanId => PlanRow,
    /// The plans that the fleet took.
    Job "job" jobs: PlanId => JobRow,
    /// By their entry.
    Review "review" reviews: u64 => ReviewRow,
    /// By their entry.
    Merge "merge" merges: u64 => MergeRow,
    /// Merges begun and neither done nor undone.
    Intent "intent" intents: SessionId => IntentRow,
    /// By branch.
    Protect "protect" protects: String => ProtectRow,
    /// The contents that `gc` dropped, by the entry that did it.
    Gc "gc" collections: u64 => GcRow,
}

/// Names one row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    pub kind: Kind,
    pub id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("projection row {kind} {id:?} cannot be read: {what}")]
pub struct RowError {
    pub kind: &'static str,
    pub id: String,
    pub what: String,
}

impl RowError {
    fn new(key: &RowKey, error: &(impl std::fmt::Display + ?Sized)) -> Self {
        Self {
            kind: key.kind.text(),
            id: key.id.clone(),
            what: error.to_string(),
        }
    }
}

impl RowKey {
    pub fn new(kind: Kind, id: &impl ToString) -> Self {
        Self {
            kind,
            id: id.to_string(),
        }
    }

    pub fn meta() -> Self {
        Self {
            kind: Kind::Meta,
            id: String::new(),
        }
    }
}

impl State {
    /// Returns the open session of `agent`; there is at most one.
    pub fn open_session(&self, agent: &AgentName) -> Option<(&SessionId, &SessionRow)> {
        let row = self.agents.get(agent)?;
        let id = row.session.as_ref()?;
        self.sessions.get_key_value(id)
    }

    /// Returns the id of `agent`'s open session, also where the session's row is not loaded.
    pub fn open_session_id(&self, agent: &AgentName) -> Option<&SessionId> {
        self.agents.get(agent)?.session.as_ref()
    }

    /// Returns the charter in force as it was recorded.
    pub fn charter(&self) -> Option<(&Digest, &CharterRow)> {
        self.charters.get_key_value(&self.meta.charter?)
    }

    pub fn claims_of<'a>(&'a self, agent: &'a AgentName) -> impl Iterator<Item = &'a ClaimRow> {
        self.claims
            .values()
            .filter(move |claim| claim.agent == *agent)
    }

    /// An empty state that need not parse the charter of an earlier one again.
    pub fn knowing(known: &Known) -> Self {
        Self {
            known: known.clone(),
            ..Self::default()
        }
    }

    /// Returns what a later state need not parse again.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// Puts in a row that [`State::row`] gave.
    pub fn load(&mut self, key: &RowKey, bytes: &[u8]) -> Result<(), RowError> {
        match (key.kind, &self.known.row, key.id.parse::<Digest>()) {
            (Kind::Charter, Some(known), Ok(digest)) if known.0 == bytes => {
                self.charters.insert(digest, known.1.clone());
            }
            (Kind::Charter, _, Ok(digest)) => {
                self.decode(key, bytes)?;
                let row = self.charters.get(&digest).cloned();
                self.known.row = row.map(|row| Arc::new((bytes.to_vec(), row)));
            }
            _ => self.decode(key, bytes)?,
        }
        if key.kind == Kind::Charter || key.kind == Kind::Meta {
            self.settle_law();
        }
        Ok(())
    }

    /// Parses the charter in force once it is known and loaded.
    fn settle_law(&mut self) {
        let Some(row) = self.meta.charter.and_then(|is| self.charters.get(&is)) else {
            return;
        };
        match &self.known.law {
            Some(known) if known.0 == row.text => self.law.clone_from(&known.1),
            _ => {
                self.law = Charter::parse(&row.text).ok().map(Arc::new);
                self.known.law = Some(Arc::new((row.text.clone(), self.law.clone())));
            }
        }
    }
}

/// Counters, the ledger's identity and single facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    pub origin: Option<Origin>,
    pub place: Option<crate::domain::event::Place>,
    /// The merge target's tip when the ledger was made.
    pub tip: Option<crate::domain::base::Oid>,
    /// The charter in force.
    pub charter: Option<Digest>,
    /// The public key that signs now.
    pub key: Option<PublicKey>,
    /// The highest claim id and generation given so far.
    pub claim: u64,
    pub generation: u64,
    pub checkpoint: Option<CheckpointRow>,
    pub fleet: Option<FleetRow>,
}
