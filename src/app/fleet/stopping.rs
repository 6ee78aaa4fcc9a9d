//! The end of a fleet: its programs end, their sessions stay settled and sealed.
//!
//! Owns: ending programs gently, then for certain, and recording that they were
//! stopped, which is no failure of theirs. A merge under way is never cut off.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use crate::app::failure::Failure;
use crate::app::fleet::coordinator::{Coordinator, TICK_MS, nap};
use crate::app::fleet::job::moved;
use crate::app::fleet::{Picture, Places};
use crate::app::site::Site;
use crate::domain::event::FleetAction;
use crate::domain::names::{AgentName, PlanId};

/// How long programs may take to end when the fleet stops.
const GRACE: Duration = Duration::from_secs(10);

impl Coordinator<'_> {
    /// Ends all programs; what they were stopped at is no failure of theirs. A
    /// signal while they end makes it short: programs are killed, and merges, which
    /// end by themselves, are no longer waited for.
    pub(super) fn stop(&mut self, signals: &SignalFd) -> Result<(), Failure> {
        let picture = Picture::take(self.site)?;
        let mut left: BTreeMap<PlanId, Option<AgentName>> = BTreeMap::new();
        for id in picture.alive.iter().chain(self.jobs.keys()) {
            let owner = picture
                .state
                .plans
                .get(id)
                .and_then(|row| row.owner.clone());
            // A merge ends by itself, done or not, and is waited for.
            let job = picture.state.jobs.get(id);
            let launched = job.is_none_or(|job| job.action == FleetAction::Launch);
            if launched || self.jobs.contains_key(id) {
                left.insert(id.clone(), owner);
            }
        }
        let began = Instant::now();
        let mut hard = false;
        let mut patient = true;
        self.signal_all(left.keys(), Signal::SIGTERM);
        while !self.are_gone(left.keys())? || (patient && !self.merges.is_empty()) {
            patient &= !nap(signals)?;
            if !hard && (!patient || began.elapsed() > GRACE) {
                hard = true;
                self.signal_all(left.keys(), Signal::SIGKILL);
            }
        }
        let picture = Picture::take(self.site)?;
        for (plan, owner) in &left {
            let job = picture.state.jobs.get(plan);
            let cut_off = job.is_some_and(|job| match job.action {
                FleetAction::Launch => true,
                FleetAction::Finish => job.status != Some(0),
                _ => false,
            });
            if !cut_off {
                continue;
            }
            let mut body = moved(FleetAction::Stop, Some(plan));
            body.reason = Some("the fleet was stopped".to_owned());
            if let Some(owner) = owner {
                self.record(owner, body)?;
            }
        }
        Ok(())
    }

    fn signal_all<'p>(&self, plans: impl Iterator<Item = &'p PlanId>, signal: Signal) {
        for plan in plans {
            let own = self
                .jobs
                .get(plan)
                .and_then(|child| i32::try_from(child.id()).ok());
            let pid = own
                .or_else(|| self.places.worker(plan))
                .filter(|pid| *pid > 0);
            if let Some(pid) = pid {
                let _ = kill(Pid::from_raw(pid), signal); // it may have ended just now
            }
        }
    }

    fn are_gone<'p>(&mut self, plans: impl Iterator<Item = &'p PlanId>) -> Result<bool, Failure> {
        self.reap()?;
        let mut plans = plans;
        Ok(self.jobs.is_empty() && plans.all(|plan| !self.places.is_held(plan)))
    }
}

/// Ends a fleet that runs, or the programs of one that was killed.
pub fn stop(site: &mut Site) -> Result<Vec<i32>, Failure> {
    let places = Places::of(&site.store);
    let picture = Picture::take(site)?;
    let mut pids: Vec<i32> = places.leader().into_iter().collect();
    if pids.is_empty() {
        pids.extend(picture.alive.iter().filter_map(|plan| places.worker(plan)));
    }
    if pids.is_empty() {
        return Err(Failure::missing("no fleet runs here").hint("govfs fleet status"));
    }
    for pid in pids.iter().filter(|pid| **pid > 0) {
        kill(Pid::from_raw(*pid), Signal::SIGTERM).map_err(Failure::failed)?;
    }
    let began = Instant::now();
    while places.leader().is_some() || picture.alive.iter().any(|plan| places.is_held(plan)) {
        if began.elapsed() > GRACE * 3 {
            return Err(Failure::failed("the fleet does not end"));
        }
        std::thread::sleep(Duration::from_millis(u64::from(TICK_MS)));
    }
    Ok(pids)
}
