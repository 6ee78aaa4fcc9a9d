//! `sync`: a session's base moves to today's branch.
//!
//! Owns: deciding that the session's entries mean the same over the new base, and
//! renewing what hangs on the base: the kept ref, the private git directory. An
//! entry speaks of paths, so it is sound to read the same entries over another
//! base as long as no path that the branch changed is one that an entry names, or
//! lies beneath or above one that was moved or removed; then the fold over both
//! bases must give the same changes, and that is checked. Anything else is a
//! conflict, named by its paths, and nothing moves.
//!
//! The mount is taken down for it and stands again at its place afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::app::failure::Failure;
use crate::app::live::still::{self, Hold};
use crate::app::merge::again::Again;
use crate::app::merge::candidate::git_failure;
use crate::app::merge::{self, append, recover, work};
use crate::app::mount;
use crate::app::serve::ground;
use crate::app::session::{self, Session, Wish};
use crate::app::site::Site;
use crate::app::unmount;
use crate::domain::base::Oid;
use crate::domain::event::{Decision, Event, Synced};
use crate::domain::layer::Change;
use crate::domain::logop::LogOp;
use crate::domain::names::{AgentName, SessionId};
use crate::domain::path::RepoPath;
use crate::git::promote::{Promote, PromoteError};

/// What became of the base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub from: Oid,
    pub base: Oid,
    /// The entry; none where the session stood on the branch's tip already.
    pub entry: Option<u64>,
    /// Why it did not move.
    pub conflicts: Vec<RepoPath>,
    /// Where the mount stands again.
    pub mount: Option<PathBuf>,
}

/// Moves the base of the agent's session to the tip of the merge target.
pub fn sync(site: &mut Site, agent: &AgentName) -> Result<Report, Failure> {
    recover::all(site)?;
    let session = Session::find(site, agent)?;
    let promote = merge::open(site)?;
    let branch = Site::target(&site.ledger.state(&[])?)?;
    let tip = promote.target(&branch).map_err(git_failure)?.tip;
    let tip = tip.ok_or_else(|| {
        Failure::missing(format!("{branch} has no commit")).hint("git branch --list")
    })?;
    if tip == session.row.base {
        return Ok(Report {
            from: tip,
            base: tip,
            entry: None,
            conflicts: Vec::new(),
            mount: None,
        });
    }
    if let Some(report) = look(site, &promote, &session, tip)? {
        return Ok(report);
    }
    let place = take_down(site, &session)?;
    let moved = move_base(site, &promote, agent, tip);
    let again = stand_again(site, agent, place);
    let mut report = moved?;
    report.mount = again?;
    Ok(report)
}

/// Looks for conflicts while the mount stands: where there are some, it stays.
fn look(
    site: &mut Site,
    promote: &Promote,
    session: &Session,
    tip: Oid,
) -> Result<Option<Report>, Failure> {
    let still = still::hold(site, session, Hold::Settle)?;
    let row = session::load(site, &session.id)?;
    let session = Session::of(site, &session.id, &row);
    let conflicts = conflicts(site, promote, &session, still.count, tip)?;
    if conflicts.is_empty() {
        return Ok(None);
    }
    refused(site, &session, still.count, tip, conflicts).map(Some)
}

fn refused(
    site: &mut Site,
    session: &Session,
    count: u64,
    tip: Oid,
    conflicts: Vec<RepoPath>,
) -> Result<Report, Failure> {
    let body = Synced {
        decision: Decision::Deny,
        from: session.row.base,
        base: tip,
        count,
        conflicts: conflicts.clone(),
    };
    let entry = append(site, session, Event::Sync(body))?;
    Ok(Report {
        from: session.row.base,
        base: tip,
        entry: Some(entry),
        conflicts,
        mount: None,
    })
}

/// Unmounts; a mount that is in use stays, and so does the base.
fn take_down(site: &mut Site, session: &Session) -> Result<Option<PathBuf>, Failure> {
    let Some(server) = crate::app::live::connect(site, &session.id)? else {
        return Ok(None);
    };
    if server.hello.sealed {
        return Err(Failure::refused(format!(
            "session {} is in use by a run, whose files would change under it",
            session.id
        ))
        .hint("sync it when the run has ended"));
    }
    drop(server);
    unmount::unmount(site, &session.agent, false).map(Some)
}

fn stand_again(
    site: &mut Site,
    agent: &AgentName,
    place: Option<PathBuf>,
) -> Result<Option<PathBuf>, Failure> {
    let Some(place) = place else { return Ok(None) };
    let wish = Wish {
        agent: agent.clone(),
        claims: Vec::new(),
        base: None,
        plan: None,
    };
    mount::mount(site, &wish, Some(&place)).map(|standing| Some(standing.dir))
}

fn move_base(
    site: &mut Site,
    promote: &Promote,
    agent: &AgentName,
    tip: Oid,
) -> Result<Report, Failure> {
    let session = Session::find(site, agent)?;
    let still = still::hold(site, &session, Hold::Freeze)?;
    let session = Session::find(site, agent)?;
    if still.is_served() {
        return Err(Failure::refused(format!(
            "session {} was mounted again meanwhile",
            session.id
        )));
    }
    let found = conflicts(site, promote, &session, still.count, tip)?;
    if !found.is_empty() {
        return refused(site, &session, still.count, tip, found);
    }
    promote.keep(&session.id, tip).map_err(git_failure)?;
    let body = Synced {
        decision: Decision::Allow,
        from: session.row.base,
        base: tip,
        count: still.count,
        conflicts: Vec::new(),
    };
    let entry = append(site, &session, Event::Sync(body))?;
    renew_gitdir(&session, entry)?;
    Ok(Report {
        from: session.row.base,
        base: tip,
        entry: Some(entry),
        conflicts: Vec::new(),
        mount: None,
    })
}

/// The private git directory speaks of the old base: it is put aside, with all the
/// agent's commits in it, and the next mount makes a new one.
fn renew_gitdir(session: &Session, entry: u64) -> Result<(), Failure> {
    let dir = session.dir.join("git");
    let aside = session.dir.join(format!("git-before-{entry}"));
    match fs::rename(&dir, &aside) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::failed(format!("{}: {error}", dir.display()))),
    }?;
    fs::create_dir(&dir).map_err(|error| Failure::failed(format!("{}: {error}", dir.display())))
}

/// Looks for the conflicts of a recorded sync once more, over the same entries and trees.
pub fn again(site: &mut Site, id: &SessionId, body: &Synced) -> Result<Again, Failure> {
    let promote = merge::open(site)?;
    for needed in [body.from, body.base] {
        if let Err(PromoteError::Missing(oid)) = promote.tree_of(needed) {
            return Ok(Again::Gone(format!("git has no {oid} any more")));
        }
    }
    let mut row = session::load(site, id)?;
    row.base = body.from;
    let session = Session::of(site, id, &row);
    let found = conflicts(site, &promote, &session, body.count, body.base)?;
    let one_way = |these: &[RepoPath], those: &[RepoPath]| {
        these.iter().find(|path| !those.contains(path)).cloned()
    };
    let differs = one_way(&found, &body.conflicts).map(|path| (path, "is a conflict"));
    let differs =
        differs.or_else(|| one_way(&body.conflicts, &found).map(|path| (path, "is no conflict")));
    Ok(match differs {
        Some((path, how)) => Again::Differs(format!("looked at again, {path} {how}")),
        None if (body.decision == Decision::Allow) != found.is_empty() => {
            Again::Differs("its verdict does not follow from its conflicts".to_owned())
        }
        None => Again::Same,
    })
}

/// Returns the paths for which the session's entries would not mean the same over `tip`.
fn conflicts(
    site: &Site,
    promote: &Promote,
    session: &Session,
    count: u64,
    tip: Oid,
) -> Result<Vec<RepoPath>, Failure> {
    let tree = |commit| promote.tree_of(commit).map_err(git_failure);
    let deltas = promote
        .diff(Some(tree(session.row.base)?), Some(tree(tip)?))
        .map_err(git_failure)?;
    let moved: BTreeSet<RepoPath> = deltas.into_iter().map(|delta| delta.path).collect();
    let mut found = BTreeSet::new();
    let work = work::read(session, count, &mut |_, op, _| {
        found.extend(crossings(op, &moved));
    })?;
    if found.is_empty() {
        let old = changes_over(site, session, &work)?;
        let mut there = session.clone();
        there.row.base = tip;
        let new = changes_over(site, &there, &work)?;
        found.extend(differing(&old, &new));
    }
    Ok(found.into_iter().collect())
}

fn changes_over(site: &Site, session: &Session, work: &work::Work) -> Result<Vec<Change>, Failure> {
    let base = ground::base(site, session)?;
    work.layer
        .changes(&base)
        .map_err(|error| Failure::failed(format!("the base cannot be read: {error}")))
}

fn differing(old: &[Change], new: &[Change]) -> BTreeSet<RepoPath> {
    let one_way = |these: &[Change], those: &[Change]| {
        let others = those.iter().collect::<Vec<_>>();
        these
            .iter()
            .filter(|change| !others.contains(change))
            .map(|change| change.path.clone())
            .collect::<Vec<_>>()
    };
    let mut found: BTreeSet<RepoPath> = one_way(old, new).into_iter().collect();
    found.extend(one_way(new, old));
    found
}

/// Returns the moved paths that an entry touches: the same path, one beneath what
/// an entry moved, made or removed, or one above what it names.
fn crossings(op: &LogOp, moved: &BTreeSet<RepoPath>) -> BTreeSet<RepoPath> {
    let mut found = BTreeSet::new();
    let structural = matches!(
        op,
        LogOp::Rename { .. }
            | LogOp::Unlink { .. }
            | LogOp::Rmdir { .. }
            | LogOp::Mkdir { .. }
            | LogOp::Create { .. }
            | LogOp::Symlink { .. }
    );
    for path in work::named(op) {
        let above = std::iter::once(path.clone()).chain(path.ancestors());
        found.extend(above.filter(|up| moved.contains(up)));
        if structural {
            let beneath = moved.range(path.clone()..);
            found.extend(
                beneath
                    .take_while(|one| one.as_bytes().starts_with(path.as_bytes()))
                    .filter(|one| one.starts_with(path))
                    .cloned(),
            );
        }
    }
    found
}
