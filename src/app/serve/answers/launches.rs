//! What a server does for launches into its mount.
//!
//! Owns: the way to the ledger over which they are recorded, which stays open, and the
//! answer to one that only continues the session: it need open neither git nor ledger.

use super::Desk;
use crate::app::control::{Answer, Entered};
use crate::app::failure::Failure;
use crate::app::merge::landing;
use crate::app::serve::ground::pinned;
use crate::app::serve::record;
use crate::app::session::Session;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::event::{Event, Launched};
use crate::domain::names::AgentName;
use crate::domain::state::Kind;

impl Desk {
    /// Works over a way to the ledger that stays open: the next launch finds it warm.
    fn over_launches<T>(
        &self,
        work: impl FnOnce(&mut Site) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut kept = self.launches.lock();
        let mut site = match kept.take() {
            Some(site) => site,
            None => Site::open(&self.dir)?,
        };
        let done = work(&mut site)?;
        *kept = Some(site);
        Ok(done)
    }

    pub(super) fn record_launch(&self, launched: Launched) -> Answer {
        match self.over_launches(|site| record(site, &self.session, Event::Launch(launched))) {
            Ok(()) => Answer::Done,
            Err(failure) => Answer::Failed {
                why: failure.message,
            },
        }
    }

    /// Takes a hold for a launch that only continues this session, and says what the launch has to know of it.
    pub(super) fn enter(&self, agent: &AgentName) -> Result<Answer, Failure> {
        let no = Failure::refused;
        if self.anchor.is_none() {
            return Err(no("the mount stands on the host"));
        }
        let (row, sandbox, edited) = self.over_launches(|site| {
            let needs = [Need::All(Kind::Intent), Need::Agent(agent.clone())];
            let state = site.ledger.state(&needs)?;
            if landing::is_held(site) || !state.intents.is_empty() {
                return Err(no("a merge is under way, or was cut short"));
            }
            let Some((id, row)) = state.open_session(agent) else {
                return Err(no("the agent has no session any more"));
            };
            if *id != self.session.id {
                return Err(no("the agent has another session by now"));
            }
            let sandbox = match state
                .law
                .as_ref()
                .filter(|law| *law.digest() == row.charter)
            {
                Some(law) => law.sandbox.clone(),
                None => pinned(site, &Session::of(site, id, row))?.sandbox,
            };
            Ok((row.clone(), sandbox, site.is_edited(&state)))
        })?;
        match self.hold() {
            Answer::Done => Ok(Answer::Entered(Box::new(Entered {
                hello: self.hello(),
                session: self.session.id.clone(),
                row,
                sandbox,
                edited,
            }))),
            failed => Ok(failed),
        }
    }
}
