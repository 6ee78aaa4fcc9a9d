//! `diff`: what a session's layer changes, against its base.
//!
//! Owns: settling a live session first, and the comparison, deletions first. A
//! path whose bytes and mode are those of the base again is no change. The cost
//! is that of the changes.

use std::rc::Rc;
use std::time::Duration;

use crate::app::content::{Contents, Shift};
use crate::app::control::{Answer, Ask};
use crate::app::failure::Failure;
use crate::app::layer::{self, Reading};
use crate::app::live;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::layer::Content;
use crate::domain::names::AgentName;
use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;

/// How long a live server may take to settle everything.
const SETTLE: Duration = Duration::from_secs(60);

/// What a session changes.
#[derive(Debug)]
pub struct Diff {
    pub session: Session,
    pub shifts: Vec<Shift>,
    /// Files whose last bytes have not settled.
    pub unsettled: Vec<RepoPath>,
    /// Left over from atomic saves that were never finished.
    pub leftovers: Vec<RepoPath>,
    /// Why the live server could not settle first.
    pub behind: Option<String>,
}

pub fn diff(site: &mut Site, agent: &AgentName, only: &[Pattern]) -> Result<Diff, Failure> {
    let session = Session::find(site, agent)?;
    let behind = settle(site, &session);
    let session = Session::find(site, agent)?;
    let reading = layer::read(&session, None)?;
    let contents = Contents::of(site, &session)?;
    let shifts = shifts(&contents, &reading, only)?;
    let unsettled = shifts.iter().filter(|shift| {
        shift.new.as_ref().and_then(|side| side.content()) == Some(&Content::Unsettled)
    });
    Ok(Diff {
        unsettled: unsettled.map(|shift| shift.path.clone()).collect(),
        leftovers: reading.layer.leftovers(),
        session,
        shifts,
        behind,
    })
}

/// Asks a live server to settle; says why it did not.
pub fn settle(site: &Site, session: &Session) -> Option<String> {
    match live::connect(site, &session.id) {
        Ok(None) => None,
        Ok(Some(mut server)) => match server.ask(&Ask::Settle, SETTLE) {
            Ok(Answer::Failed { why }) => Some(why),
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        },
        Err(failure) => Some(failure.message),
    }
}

/// Returns the real changes of a layer, of the paths that `only` covers.
pub fn shifts(
    contents: &Rc<Contents>,
    reading: &Reading,
    only: &[Pattern],
) -> Result<Vec<Shift>, Failure> {
    let changes = reading
        .layer
        .changes(&contents.base)
        .map_err(|error| Failure::failed(format!("the base cannot be read: {error}")))?;
    let wanted = |path: &RepoPath| only.is_empty() || only.iter().any(|one| one.covers(path));
    let mut found = Vec::with_capacity(changes.len());
    for change in changes.iter().filter(|change| wanted(&change.path)) {
        let shift = Shift::of_change(contents, change)?;
        if shift.differs()? {
            found.push(shift);
        }
    }
    Ok(found)
}
