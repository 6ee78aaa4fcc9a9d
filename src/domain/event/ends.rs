//! What the entries carry that end a session's work, or keep the ledger itself:
//! merges, reverts, syncs, checkpoints, forks, what was collected.
//!
//! The same rules hold as in `body`: strict, and nothing empty is written.

use super::body::{Decision, FleetAction, Freed, Place, Status, Tier};
use super::{
    Deserialize, Digest, Oid, Origin, PlanId, PublicKey, RepoPath, Serialize, SessionId, Timestamp,
};

body! {
    /// Written before the branch moves. It carries the entry that is to follow, so
    /// that whoever finds it after a crash can finish what was promised.
    MergeIntended {
        branch: String,
        commit: Oid,
        onto: Oid,
        tree: Oid,
        count: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        merge: Option<Box<Merged>>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revert: Option<Box<Reverted>>,
    }

    /// A merge, or its refusal (`decision`): all findings together, deletions first.
    Merged {
        decision: Decision,
        branch: String,
        base: Oid,
        onto: Oid,
        tree: Oid,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<Oid>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        paths: Vec<MergedPath>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refusals: Vec<Finding>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        checks: Vec<Check>,
        /// The review entries that count.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reviews: Vec<u64>,
        tier: Tier,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        claims: Vec<Freed>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanId>,
        /// How many entries of the session's log it was computed from.
        count: u64,
        /// How many entries of the ledger the verdict rests on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        judged: Option<u64>,
    }

    /// What P2 means for one path: which blobs, and the SHA-256 that the ledger accounts for.
    MergedPath {
        path: RepoPath,
        status: Status,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<RepoPath>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<Oid>,
        /// The session's own content as a blob (after conversion, before the three-way merge).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<Oid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<Oid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    }

    Finding {
        rule: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<RepoPath>,
        reason: String,
        hint: String,
    }

    /// The outcome of a check or validator: a fact that replay does not run again.
    Check {
        name: String,
        passed: bool,
        status: i64,
        ms: u64,
        /// Of its output, which is kept as a version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Digest>,
    }

    Abandoned {
        claims: Vec<Freed>,
        count: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    Reverted {
        /// The merge entry that is undone.
        merge: u64,
        branch: String,
        commit: Oid,
        onto: Oid,
        tree: Oid,
        paths: Vec<MergedPath>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanId>,
    }

    Synced {
        decision: Decision,
        /// The base before, and the one asked for.
        from: Oid,
        base: Oid,
        count: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        conflicts: Vec<RepoPath>,
    }

    Checkpointed {
        origin: Origin,
        size: u64,
        root: Digest,
        /// What the charter's anchor command said: `answered: …`, or `failed: …`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor: Option<String>,
    }

    /// The ledger was found in another place and goes on as a new one.
    Forked {
        origin: Origin,
        old: Ancestor,
        place: Place,
        public: PublicKey,
    }

    Ancestor {
        origin: Origin,
        size: u64,
        root: Digest,
    }

    Collected {
        versions: Vec<Digest>,
        bytes: u64,
        logs: Vec<SessionId>,
        /// Contents older than this were past retention.
        before: Timestamp,
    }

    Protected {
        branch: String,
        on: bool,
        /// Whose move of the branch this records: the charter gives them leave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        person: Option<String>,
        /// Where that move came from and went to; absent where there was no branch, or is none any more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Oid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<Oid>,
    }

    FleetMoved {
        action: FleetAction,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanId>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jobs: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pid: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// How the program ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<i64>,
        /// The reviews that a checked candidate still needs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
    }
}
