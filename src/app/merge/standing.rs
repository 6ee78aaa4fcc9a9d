//! A session that stands still, read from its log and ready to be laid over its base.
//!
//! Owns: the reading that merges, reviews, reverts of a base and replay share. Never
//! asks a mount or a working file.

use std::collections::BTreeSet;

use super::candidate::{Candidate, Ground, git_failure};
use super::{account, open, reopened, work};
use crate::app::failure::Failure;
use crate::app::live::still::{self, Hold};
use crate::app::seen;
use crate::app::serve::ground;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::layer::account::Accounts;
use crate::domain::layer::{Change, Content};
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::review;
use crate::git::base::GitBase;
use crate::git::promote::Stage;
use crate::store::versions::Versions;

/// A session that stands still, read and ready to be laid over its base.
pub struct Standing {
    pub session: Session,
    pub base: GitBase,
    pub changes: Vec<Change>,
    pub leftovers: Vec<RepoPath>,
    /// The base's files that it was seen to read.
    pub seen: BTreeSet<RepoPath>,
    pub accounts: Accounts,
    pub count: u64,
}

impl Standing {
    /// Reads the first `count` entries of a session's log and folds them.
    pub fn read(site: &Site, session: &Session, count: u64) -> Result<Self, Failure> {
        let mut accounts = Accounts::default();
        let work = work::read(session, count, &mut |seq, op, before| {
            accounts.apply(seq, op, before);
        })?;
        let base = ground::base(site, session)?;
        let changes = work
            .layer
            .changes(&base)
            .map_err(|error| Failure::failed(format!("the base cannot be read: {error}")))?;
        Ok(Self {
            session: session.clone(),
            base,
            changes,
            leftovers: work.layer.leftovers(),
            seen: seen::load(&session.dir),
            accounts,
            count,
        })
    }

    /// Refuses bytes that no write of the session's accounts for.
    pub fn account(&self, site: &Site) -> Result<(), Failure> {
        let versions = Versions::of(&site.store);
        let ledger = account::Books {
            session: &self.session.id,
            base: &self.base,
            versions: &versions,
        };
        let mut settled = self
            .changes
            .iter()
            .filter(|change| matches!(change.content, Content::Version { .. }));
        settled.try_for_each(|change| match self.accounts.of(&change.path) {
            Some(account) => ledger.check(&change.path, account),
            None => Ok(()),
        })
    }

    /// Makes the candidate over the tip `onto`.
    pub fn candidate(
        &self,
        site: &Site,
        stage: &mut Stage,
        onto: Oid,
    ) -> Result<Candidate, Failure> {
        let versions = Versions::of(&site.store);
        let ground = Ground {
            base: &self.base,
            versions: &versions,
        };
        Candidate::make(stage, &ground, &self.changes, onto)
    }
}

/// Returns what a review of the agent's session would be a review of: the
/// session's own tree and its base. The session is settled for it.
pub fn reviewable(
    site: &mut Site,
    agent: &AgentName,
) -> Result<(Session, review::Candidate), Failure> {
    let session = Session::find(site, agent)?;
    let still = still::hold(site, &session, Hold::Settle)?;
    let session = reopened(site, &session)?;
    let standing = Standing::read(site, &session, still.count)?;
    standing.account(site)?;
    let promote = open(site)?;
    let mut stage = promote.stage().map_err(git_failure)?;
    let made = standing.candidate(site, &mut stage, session.row.base)?;
    let candidate = review::Candidate {
        tree: made.own,
        base: session.row.base,
    };
    Ok((session, candidate))
}
