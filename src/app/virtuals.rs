//! What stands in `.govfs/` inside a mount: who one is, what one may write, what
//! was refused, and the door through which `govfs` asks from inside.
//!
//! Owns: the files' texts and how a request is read and answered. Who asks is the
//! mount that a request came through, never what it says. What the charter lets
//! the agent have it gets at once; the rest becomes a request for a person.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::app::inside;
use crate::app::keeper::Keeper;
use crate::app::requests;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::event::Mode;
use crate::domain::state::{ClaimRow, Kind, RowKey, State};
use crate::vfs::overlay::{Caller, Control};

const README: &str = "\
This is a governed mount of the repository (govfs).

You may write only what is claimed for you: see .govfs/claims. Reading is free.
A refused write fails with \"Permission denied\"; do not retry it. Look at
.govfs/denials for the rule and for what to do instead, or ask:

    govfs why PATH              may I write it, and if not, who holds it
    govfs claim PATH…           get a claim (at once, or as a request to the operator)
    govfs release PATH…         give one back
    govfs status                your session
    govfs submit [-m MESSAGE]   say that the work is done and may be merged

Commit as usual: git works on a private copy of the repository's refs. Nothing
reaches the main branch but what the operator merges. Files that .gitignore
names (build output, node_modules …) are yours to write and are never merged.
";

pub struct Virtuals {
    keeper: Arc<Keeper>,
    session: Session,
    dir: PathBuf,
}

impl std::fmt::Debug for Virtuals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Virtuals").finish_non_exhaustive()
    }
}

impl Virtuals {
    pub fn new(keeper: &Arc<Keeper>, session: &Session, dir: PathBuf) -> Self {
        Self {
            keeper: Arc::clone(keeper),
            session: session.clone(),
            dir,
        }
    }

    fn claims(&self) -> Option<String> {
        let state = self.state(&[
            Need::ClaimsOf(self.session.agent.clone()),
            Need::All(Kind::Request),
        ])?;
        let mut text = String::new();
        for claim in state.claims_of(&self.session.agent) {
            line(&mut text, claim);
        }
        if text.is_empty() {
            text.push_str("nothing is claimed; ask with: govfs claim PATH\n");
        }
        self.add_denied(&mut text, &state);
        Some(text)
    }

    /// What the rules refused, and then what the operator did.
    fn denials(&self) -> String {
        let mut text = String::new();
        for denial in self.keeper.denials() {
            text.push_str(&denial);
            text.push('\n');
        }
        if let Some(state) = self.state(&[Need::All(Kind::Request)]) {
            self.add_denied(&mut text, &state);
        }
        text
    }

    fn add_denied(&self, text: &mut String, state: &State) {
        for denied in requests::denied(state, &self.session.id) {
            text.push_str(&denied);
            text.push('\n');
        }
    }

    fn state(&self, needs: &[Need]) -> Option<State> {
        Site::open(&self.dir).ok()?.ledger.state(needs).ok()
    }

    fn plan(&self) -> Option<String> {
        let id = self.session.row.plan.as_ref()?;
        let state = self.state(&[Need::Row(RowKey::new(Kind::Plan, id))])?;
        state.plans.get(id).map(|plan| plan.text.clone())
    }
}

fn line(text: &mut String, claim: &ClaimRow) {
    let mode = match claim.mode {
        Mode::Read => "read",
        Mode::Write => "write",
    };
    // A string takes everything.
    let _ = writeln!(
        text,
        "{mode:<5} {}  until {}",
        claim.pattern,
        claim.lease.expires()
    );
}

impl Control for Virtuals {
    fn names(&self) -> Vec<String> {
        let mut names = vec![
            "README".to_owned(),
            "claims".to_owned(),
            "denials".to_owned(),
        ];
        if self.session.row.plan.is_some() {
            names.push("plan".to_owned());
        }
        names
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "README" => Some(README.as_bytes().to_vec()),
            "claims" => self.claims().map(String::into_bytes),
            "denials" => Some(self.denials().into_bytes()),
            "plan" => self.plan().map(String::into_bytes),
            // For the operator, who stands in a mount of the host and asks about the repository.
            "repository" => Some(self.dir.as_os_str().as_bytes().to_vec()),
            _ => None,
        }
    }

    fn submit(&self, request: &[u8], _caller: Caller) -> Vec<u8> {
        inside::answer(&self.dir, &self.session, request)
    }
}
