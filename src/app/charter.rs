//! `charter check`: is a charter whole, and what does it mean?
//!
//! Owns: finding the text that is meant (a file, the worktree's) and holding it beside
//! the one in force. Never brings one into force: a commit does.

use std::fs;
use std::path::Path;

use crate::app::failure::Failure;
use crate::app::site::{CHARTER, Site, bad_charter, charter_text};
use crate::domain::charter::Charter;
use crate::domain::digest::Digest;
use crate::domain::state::State;
use crate::git::repo::Repo;

/// A charter that parses, and how it stands.
#[derive(Debug)]
pub struct Checked {
    pub file: String,
    pub charter: Charter,
    pub sha256: Digest,
    /// The charter in force differs; `None` where nothing is in force yet.
    pub in_force: Option<bool>,
}

/// Checks `file`, or the repository's own charter as it stands in the worktree.
pub fn check(dir: &Path, file: Option<&Path>) -> Result<Checked, Failure> {
    if let Some(path) = file {
        let bytes = fs::read(path)
            .map_err(|error| Failure::missing(format!("{}: {error}", path.display())))?;
        return parse(&path.display().to_string(), &bytes, None);
    }
    let repo = Repo::discover(dir)?;
    let state = Site::open(dir)
        .and_then(|mut site| Ok(site.ledger.state(&[])?))
        .ok();
    let path = repo.workdir().map(|dir| dir.join(CHARTER));
    let bytes = match path.map(fs::read) {
        Some(Ok(bytes)) => bytes,
        _ => in_force_text(state.as_ref())?,
    };
    parse(CHARTER, &bytes, state.as_ref())
}

fn in_force_text(state: Option<&State>) -> Result<Vec<u8>, Failure> {
    let row = state.and_then(|state| state.charter().map(|(_, row)| row));
    match row {
        Some(row) => Ok(row.text.clone().into_bytes()),
        None => Err(Failure::missing(format!("there is no {CHARTER}")).hint("govfs init")),
    }
}

fn parse(file: &str, bytes: &[u8], state: Option<&State>) -> Result<Checked, Failure> {
    let text = charter_text(file, bytes)?;
    let charter = Charter::parse(text).map_err(|errors| bad_charter(file, &errors))?;
    let sha256 = Digest::of(bytes);
    Ok(Checked {
        file: file.to_owned(),
        charter,
        sha256,
        in_force: state
            .and_then(|state| state.meta.charter)
            .map(|digest| digest == sha256),
    })
}
