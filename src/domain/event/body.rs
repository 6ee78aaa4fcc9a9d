//! What each control entry carries.
//!
//! Owns: the fields of the bodies, one struct an operation. An optional field
//! that is absent is not written. Every struct refuses a field it does not know.

use super::ends::Check;
use super::{
    AgentName, Bytes, Deserialize, Digest, Lease, Now, Oid, Origin, Pattern, PlanId, PublicKey,
    RepoPath, RoleName, Serialize,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Read,
    Write,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Allow,
    Deny,
}

/// How much of the enforcement holds around a process; `A` is the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Tier {
    C,
    B,
    A,
}

/// Where a charter's text came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CharterSource {
    /// The file that `init` wrote or found, before any commit of it.
    Init,
    /// The tip of the merge target.
    Commit(Oid),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Status {
    A,
    M,
    D,
    R,
    T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlanAction {
    Add,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueState {
    Todo,
    InProgress,
    Blocked,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReviewAction {
    Request,
    Approve,
    Reject,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FleetAction {
    Start,
    Stop,
    Launch,
    Check,
    Retry,
    Block,
    Finish,
}

body! {
    /// A charter comes into force; `text` is the whole file.
    CharterSet {
        sha256: Digest,
        source: CharterSource,
        text: String,
    }

    /// A key that signs checkpoints from here on: the first, a rotation (signed by
    /// `previous`), or one that appears without its predecessor's signature.
    KeySet {
        origin: Origin,
        public: PublicKey,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        previous: Option<PublicKey>,
        /// By `previous` over the rotation message, in base64.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
        /// Only in a ledger's first entry: where it lives.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        place: Option<Place>,
        /// Only in a ledger's first entry: the merge target's tip at `init`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tip: Option<Oid>,
    }

    /// The git directory a ledger belongs to.
    Place {
        device: u64,
        inode: u64,
        path: Bytes,
    }

    /// The head names the agent.
    AgentSet {
        role: RoleName,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        engine: Option<String>,
        person: bool,
    }

    /// `patterns` is what was asked, `claims` what was given: all or nothing.
    /// A renewed claim keeps its id and generation.
    Claimed {
        decision: Decision,
        mode: Mode,
        patterns: Vec<Pattern>,
        lease: Lease,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        claims: Vec<Granted>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        conflicts: Vec<Conflict>,
        /// Agents that would wait for each other for ever.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        cycle: Vec<AgentName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanId>,
        /// The request whose approval gives leave to go beyond the role's paths.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leave: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }

    Granted {
        id: u64,
        pattern: Pattern,
        mode: Mode,
        /// Grows with every grant in the ledger: whoever holds an older one is fenced.
        generation: u64,
    }

    /// Why a claim was refused: somebody's claim, or (`ahead`) somebody's earlier place in the queue.
    Conflict {
        pattern: Pattern,
        holder: AgentName,
        theirs: Pattern,
        witness: RepoPath,
        #[serde(default, skip_serializing_if = "is_false")]
        ahead: bool,
    }

    Released {
        claims: Vec<Freed>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<Cut>,
    }

    /// One entry per holder; `boot` and `boot_ms` are what the lease was held against.
    Expired {
        boot: String,
        boot_ms: u64,
        claims: Vec<Freed>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut: Option<Cut>,
    }

    Freed {
        id: u64,
        generation: u64,
        pattern: Pattern,
    }

    /// The first `count` entries of a session's write log stand; of later ones, none that these claims allowed.
    Cut {
        count: u64,
    }

    /// The head names agent and session.
    SessionOpened {
        base: Oid,
        branch: String,
        charter: Digest,
        config: Pinned,
        root: Bytes,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanId>,
    }

    /// The operator's git settings that decide what a checkout contains, pinned for the session.
    Pinned {
        autocrlf: String,
        eol: String,
        #[serde(default, skip_serializing_if = "is_false")]
        ignore_case: bool,
    }

    Launched {
        tier: Tier,
        argv: Vec<Bytes>,
        uid: u32,
        widenings: Vec<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan: Option<PlanId>,
    }

    Mounted {
        dir: Bytes,
        uid: u32,
        pid: u32,
        /// How many bytes of a torn end were cut off the write log.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lost: Option<u64>,
        /// What holds around whoever uses a mount of the host; a sealed one's is its launches'.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tier: Option<Tier>,
    }

    Unmounted {
        dir: Bytes,
        forced: bool,
    }

    /// `head` is the leaf of the last entry covered, `root` the tree hash of the
    /// session's first `count` entries.
    Sealed {
        count: u64,
        head: Digest,
        root: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scratch: Option<Scratch>,
    }

    Scratch {
        files: u64,
        bytes: u64,
    }

    /// Something an agent asked for that a person must answer. Its number is its entry's.
    Requested {
        mode: Mode,
        patterns: Vec<Pattern>,
        ttl_ms: u64,
        reason: String,
    }

    /// The operator's answer to the request in entry `request`.
    Answered {
        request: u64,
        reason: String,
    }

    PlanSet {
        action: PlanAction,
        plan: PlanId,
        sha256: Digest,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        file: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// The merge entry that a removal undid.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reverts: Option<u64>,
        /// The merge target's tip when it was added: what the plan was written for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<Oid>,
        /// What its validators asked about that base, and what they said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<PlanFacts>,
        /// Imported as done, by a commit from before the ledger was made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done: Option<Oid>,
    }

    /// The facts by which a plan was judged.
    PlanFacts {
        /// Those of its patterns that cover something in the base.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        present: Vec<Pattern>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        listings: Vec<Listing>,
        /// The verdicts of validators that are programs.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        validators: Vec<Check>,
    }

    /// The names in one directory of the base.
    Listing {
        dir: RepoPath,
        names: Vec<Bytes>,
    }

    QueueMoved {
        plan: PlanId,
        state: QueueState,
        decision: Decision,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<AgentName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        commit: Option<Oid>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        /// What was wrong with the plan at that moment: it is stale, a precondition does not hold.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        faults: Vec<String>,
        /// The preconditions' commands.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        checks: Vec<Check>,
        /// The fleet took it, and goes on with it.
        #[serde(default, skip_serializing_if = "is_false")]
        fleet: bool,
    }

    /// The head names the author's agent and session; `reviewer` judges `tree` over `base`.
    Reviewed {
        action: ReviewAction,
        base: Oid,
        tree: Oid,
        decision: Decision,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reviewer: Option<AgentName>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !*value
}

impl Expired {
    pub fn new(now: &Now, claims: Vec<Freed>) -> Self {
        Self {
            boot: now.boot.clone(),
            boot_ms: now.boot_ms,
            claims,
            cut: None,
        }
    }
}
