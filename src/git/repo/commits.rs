//! The commits of a branch as facts: who made them, and whether they claim to be merges of ours.

use git2::{ErrorCode, Sort};

use super::{Repo, RepoError, fault, from_oid, to_oid};
use crate::domain::base::Oid;

/// The trailers that every merge carries.
const TRAILERS: [&str; 3] = ["Govfs-Session", "Govfs-Agent", "Govfs-Checkpoint"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFact {
    pub commit: Oid,
    /// `Name <mail>`.
    pub committer: String,
    pub subject: String,
    /// It carries a merge's trailers.
    pub trailers: bool,
}

impl Repo {
    /// Returns the commits that `tip` reaches and `known` does not, newest first.
    pub fn commits_after(
        &self,
        tip: Oid,
        known: Option<Oid>,
    ) -> Result<Vec<CommitFact>, RepoError> {
        let doing = fault("read the branch");
        let mut walk = self.inner.revwalk().map_err(&doing)?;
        walk.set_sorting(Sort::TOPOLOGICAL).map_err(&doing)?;
        walk.push(from_oid(tip)).map_err(&doing)?;
        if let Some(known) = known.filter(|known| self.has_commit(*known)) {
            walk.hide(from_oid(known)).map_err(&doing)?;
        }
        let mut out = Vec::new();
        for oid in walk {
            let commit = oid
                .and_then(|oid| self.inner.find_commit(oid))
                .map_err(&doing)?;
            let who = commit.committer();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let message = text(commit.message_bytes());
            out.push(CommitFact {
                commit: to_oid(commit.id()),
                committer: format!("{} <{}>", text(who.name_bytes()), text(who.email_bytes())),
                subject: message.lines().next().unwrap_or_default().to_owned(),
                trailers: has_trailers(&message),
            });
        }
        Ok(out)
    }

    /// Says whether `old` is `new` or one of its ancestors.
    pub fn reaches(&self, new: Oid, old: Oid) -> Result<bool, RepoError> {
        if new == old {
            return Ok(true);
        }
        match self.inner.graph_descendant_of(from_oid(new), from_oid(old)) {
            Ok(is) => Ok(is),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
            Err(error) => Err(fault("compare commits")(error)),
        }
    }

    fn has_commit(&self, oid: Oid) -> bool {
        self.inner.find_commit(from_oid(oid)).is_ok()
    }
}

fn has_trailers(message: &str) -> bool {
    let Ok(trailers) = git2::message_trailers_strs(message) else {
        return false;
    };
    let mut keys = trailers.iter().map(|(key, _)| key);
    keys.any(|key| TRAILERS.iter().any(|own| own.eq_ignore_ascii_case(key)))
}
