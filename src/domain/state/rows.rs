//! The rows of the state, one struct a kind.
//!
//! Owns: what is kept of the entries between two commands. Every row is what some
//! entries add up to, so none can be edited; the store keeps each as it is written here.

use serde::{Deserialize, Serialize};

use crate::domain::base::Oid;
use crate::domain::checkpoint::{Origin, PublicKey};
use crate::domain::digest::Digest;
use crate::domain::event::{
    CharterSource, Cut, FleetAction, Mode, Pinned, PlanFacts, QueueState, ReviewAction, Tier,
};
use crate::domain::logop::Bytes;
use crate::domain::names::{AgentName, PlanId, RoleName, SessionId};
use crate::domain::pattern::Pattern;
use crate::domain::time::{Lease, Timestamp};

macro_rules! rows {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name { $($(#[$field_doc])* pub $field: $type,)* }
    )* };
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionState {
    Open,
    Merged,
    Abandoned,
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    Waiting,
    Granted,
    Denied,
}

/// How a claim ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndedBy {
    Release,
    Expiry,
    Merge,
    Abandon,
}

rows! {
    CharterRow {
        entry: u64,
        since: Timestamp,
        source: CharterSource,
        text: String,
    }

    KeyRow {
        entry: u64,
        since: Timestamp,
        origin: Origin,
        previous: Option<PublicKey>,
        signature: Option<String>,
    }

    AgentRow {
        role: RoleName,
        engine: Option<String>,
        person: bool,
        since: Timestamp,
        /// How many sessions it has had.
        sessions: u64,
        /// The open one.
        session: Option<SessionId>,
    }

    ClaimRow {
        id: u64,
        agent: AgentName,
        pattern: Pattern,
        mode: Mode,
        generation: u64,
        /// The entry that first granted it.
        entry: u64,
        since: Timestamp,
        lease: Lease,
        plan: Option<PlanId>,
        /// The request by which the operator gave it beyond the role's paths.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leave: Option<u64>,
    }

    EndedRow {
        agent: AgentName,
        pattern: Pattern,
        mode: Mode,
        generation: u64,
        /// The entry that granted it, and the one that ended it.
        entry: u64,
        end: u64,
        until: Timestamp,
        how: EndedBy,
        cut: Option<Cut>,
    }

    SessionRow {
        agent: AgentName,
        entry: u64,
        /// The leaf of its entry: the first `prev` of its write log.
        leaf: Digest,
        since: Timestamp,
        state: SessionState,
        base: Oid,
        branch: String,
        charter: Digest,
        config: Pinned,
        root: Bytes,
        plan: Option<PlanId>,
        /// The lowest it ever had; `None` before the first launch.
        tier: Option<Tier>,
        launches: u64,
        widenings: Vec<String>,
        sealed: Option<SealRow>,
        mount: Option<MountRow>,
        /// The entry that merged or abandoned it.
        end: Option<u64>,
        until: Option<Timestamp>,
    }

    SealRow {
        entry: u64,
        count: u64,
        head: Digest,
        root: Digest,
    }

    MountRow {
        entry: u64,
        dir: Bytes,
        uid: u32,
        pid: u32,
    }

    RequestRow {
        agent: AgentName,
        session: Option<SessionId>,
        since: Timestamp,
        mode: Mode,
        patterns: Vec<Pattern>,
        ttl_ms: u64,
        reason: String,
        state: RequestState,
        answer: Option<String>,
    }

    PlanRow {
        entry: u64,
        since: Timestamp,
        sha256: Digest,
        file: Option<String>,
        text: String,
        state: QueueState,
        owner: Option<AgentName>,
        commit: Option<Oid>,
        reason: Option<String>,
        /// The session that works or worked on it.
        session: Option<SessionId>,
        /// The merge entry that did it.
        merge: Option<u64>,
        /// The merge target's tip when it was added.
        base: Option<Oid>,
        facts: Option<PlanFacts>,
    }

    /// How the fleet stands with a plan that it took.
    JobRow {
        entry: u64,
        since: Timestamp,
        action: FleetAction,
        /// Launches that count: one that was stopped on purpose does not.
        attempts: u64,
        pid: Option<u32>,
        status: Option<i64>,
        reason: Option<String>,
        missing: Vec<String>,
    }

    ReviewRow {
        agent: AgentName,
        session: SessionId,
        since: Timestamp,
        action: ReviewAction,
        reviewer: Option<AgentName>,
        tree: Oid,
        base: Oid,
        message: Option<String>,
    }

    MergeRow {
        agent: AgentName,
        session: SessionId,
        since: Timestamp,
        branch: String,
        commit: Oid,
        onto: Oid,
        tree: Oid,
        tier: Tier,
        plan: Option<PlanId>,
        /// The entry that reverted it, and its commit.
        reverted: Option<u64>,
        undone: Option<Oid>,
        /// The checks that passed on its candidate.
        checks: Vec<String>,
    }

    IntentRow {
        entry: u64,
        agent: AgentName,
        branch: String,
        commit: Oid,
        onto: Oid,
        tree: Oid,
        count: u64,
    }

    ProtectRow {
        entry: u64,
        since: Timestamp,
        on: bool,
        /// Moves by people whom the charter gives leave.
        moves: Vec<MoveRow>,
    }

    MoveRow {
        entry: u64,
        person: String,
        from: Option<Oid>,
        to: Option<Oid>,
    }

    CheckpointRow {
        entry: u64,
        size: u64,
        root: Digest,
    }

    FleetRow {
        entry: u64,
        since: Timestamp,
        action: FleetAction,
        plan: Option<PlanId>,
        jobs: Option<u64>,
        attempt: Option<u64>,
        pid: Option<u32>,
        reason: Option<String>,
    }

    GcRow {
        since: Timestamp,
        versions: u64,
        bytes: u64,
        logs: Vec<SessionId>,
        before: Timestamp,
    }
}
