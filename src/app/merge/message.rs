//! What a merge commit says.
//!
//! The operator's words first, else the plan's, else those of the commits that the
//! agent made in its private git directory: read as data, never by git.

use crate::app::gates;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::plan::Plan;
use crate::domain::state::State;
use crate::git::private::own_messages;

/// Of more commits than this only the newest are told of.
const COMMITS_MAX: usize = 200;

/// Returns the message of the session's merge, without trailers.
pub fn of(site: &Site, session: &Session, given: Option<&str>, state: &State) -> String {
    if let Some(given) = given.filter(|text| !text.trim().is_empty()) {
        return given.to_owned();
    }
    planned(session, state)
        .or_else(|| told(site, session))
        .unwrap_or_else(|| format!("Merge session {}\n", session.id))
}

fn planned(session: &Session, state: &State) -> Option<String> {
    let id = gates::plan_of_session(state, session)?;
    let row = state.plans.get(&id)?;
    let plan = Plan::parse(row.file.as_deref().unwrap_or("plan"), &row.text).ok()?;
    let text = plan.description.trim();
    let title = text.lines().next().unwrap_or_default();
    let rest = text.strip_prefix(title).unwrap_or_default().trim();
    Some(match (title, rest) {
        ("", _) => format!("Plan {id}\n"),
        (title, "") => format!("{id}: {title}\n"),
        (title, rest) => format!("{id}: {title}\n\n{rest}\n"),
    })
}

/// One commit's whole message, or the subjects of several, oldest first.
fn told(site: &Site, session: &Session) -> Option<String> {
    let dir = session.dir.join("git");
    let common = site.repo.common_dir();
    let messages = own_messages(&dir, common, session.row.base, COMMITS_MAX);
    match messages.as_slice() {
        [] => None,
        [only] => Some(only.clone()).filter(|text| !text.trim().is_empty()),
        several => {
            let mut text = format!("Merge session {}\n\n", session.id);
            for message in several.iter().rev() {
                let subject = message.lines().find(|line| !line.trim().is_empty());
                text.push_str(&format!("* {}\n", subject.unwrap_or("(no message)").trim()));
            }
            Some(text)
        }
    }
}
