//! Claude Code's worktree hooks: a worktree that it asks for is a governed mount.
//!
//! Owns: what the two events say (JSON in) and what they get (a path out). The
//! name that is asked for becomes an agent's; the session stays when the worktree
//! is removed. Never trusts a path from an event further than to look it up among
//! this repository's own mounts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::app::failure::Failure;
use crate::app::mount;
use crate::app::session::Wish;
use crate::app::site::Site;
use crate::app::unmount;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::names::AgentName;
use crate::domain::pattern::Pattern;
use crate::domain::state::Kind;

/// What an event says, as far as it matters here; it may say more.
#[derive(Clone, Debug, Deserialize)]
pub struct Event {
    /// The worktree's name; an older name for the field is understood, too.
    #[serde(alias = "worktree_name")]
    name: Option<String>,
    worktree_path: Option<PathBuf>,
    cwd: Option<PathBuf>,
}

impl Event {
    /// Reads an event.
    pub fn parse(text: &[u8]) -> Result<Self, Failure> {
        serde_json::from_slice(text)
            .map_err(|error| Failure::usage(format!("standard input is no hook event: {error}")))
    }

    fn site(&self, dir: &Path) -> Result<Site, Failure> {
        Site::around(self.cwd.as_deref().unwrap_or(dir))
    }
}

/// Mounts a session for the worktree and returns where it stands.
pub fn create(event: &Event, dir: &Path, claims: Vec<Pattern>) -> Result<PathBuf, Failure> {
    let Some(name) = event.name.as_deref().filter(|name| !name.is_empty()) else {
        return Err(Failure::usage("the event has no name"));
    };
    let wish = Wish {
        agent: agent(name)?,
        claims,
        base: None,
        plan: None,
    };
    let standing = mount::mount(&mut event.site(dir)?, &wish, None)?;
    Ok(standing.dir)
}

/// Takes the worktree's mount down; its session stays, to be merged or abandoned.
pub fn remove(event: &Event, dir: &Path) -> Result<(), Failure> {
    let Some(path) = &event.worktree_path else {
        return Err(Failure::usage("the event has no worktree_path"));
    };
    // The caller may stand in the very mount that goes away.
    let mut site = Site::around(path).or_else(|_| event.site(dir))?;
    let state = site.ledger.state(&[Need::All(Kind::Session)])?;
    let here = state.sessions.values().find(|row| {
        let mount = row.mount.as_ref();
        mount.is_some_and(|mount| Path::new(OsStr::from_bytes(&mount.dir.0)) == path)
    });
    let Some(row) = here else {
        return Err(Failure::missing(format!(
            "{} is no mount of this repository",
            path.display()
        )));
    };
    let agent = row.agent.clone();
    unmount::unmount(&mut site, &agent, true).map(drop)
}

/// Makes an agent's name of a worktree's; names that had to be changed stay apart by a hash.
fn agent(name: &str) -> Result<AgentName, Failure> {
    if let Ok(agent) = name.parse() {
        return Ok(agent);
    }
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() {
            c.to_ascii_lowercase()
        } else {
            '-'
        }
    };
    let mut plain: String = name.chars().map(keep).take(32).collect();
    plain = plain.trim_matches('-').to_owned();
    let hash = Digest::of(name.as_bytes()).hex();
    format!("wt-{plain}-{}", &hash[..8])
        .parse()
        .map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::{Event, agent};

    #[test]
    fn a_worktrees_name_becomes_an_agents() {
        assert_eq!(agent("bold-oak-a3f2").unwrap().as_str(), "bold-oak-a3f2");
        let odd = agent("feature/Größe 2").unwrap();
        assert!(odd.as_str().starts_with("wt-feature-gr"), "{odd}");
        assert_ne!(odd, agent("feature/Größe-2").unwrap());
    }

    #[test]
    fn events_may_say_more_than_is_needed() {
        let event = br#"{"session_id":"s","transcript_path":"/t","cwd":"/r","hook_event_name":"WorktreeCreate","name":"n"}"#;
        assert_eq!(Event::parse(event).unwrap().name.as_deref(), Some("n"));
        assert!(Event::parse(b"no").is_err());
    }
}
