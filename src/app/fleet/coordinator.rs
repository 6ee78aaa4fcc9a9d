//! The coordinator: a loop around the decision of `domain::fleet`.
//!
//! Owns: looking, acting, and stopping. Every action leaves an entry, most of them
//! written by the process that does the thing; what is only in memory here (which
//! children run) is found again from locks and entries. Stopping ends the programs
//! and leaves their sessions settled and sealed. Never decides what comes next.

use std::collections::BTreeMap;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::app::agent;
use crate::app::failure::{Failure, Kind};
use crate::app::fleet::job::{self, Orders, moved};
use crate::app::fleet::telling::Told;
use crate::app::fleet::{Picture, Places};
use crate::app::plan::find;
use crate::app::queue;
use crate::app::review;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::command::Need;
use crate::domain::digest::Digest;
use crate::domain::event::{Draft, Event, FleetAction, FleetMoved, QueueState, Tier};
use crate::domain::fleet::{Action, Limits, Rehearsal, Waiting, rehearse};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::plan::Command;
use crate::domain::queue::decide::QueueAsk;
use crate::domain::queue::stored;
use crate::domain::state::{Kind as Row, RowKey};

/// How often children and the ledger are looked at.
pub(super) const TICK_MS: u16 = 20;
/// Many entries and ends are looked at together: looking costs more than waiting.
const PACE: Duration = Duration::from_millis(120);
/// Leases end and coordinators' children are lost without a change of the ledger.
const LOOK: Duration = Duration::from_secs(1);
/// When a refused claim is asked again though nothing that is known has changed.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How many merges are computed at once.
const MERGES_MAX: usize = 2;
/// How the fleet is to go.
#[derive(Clone, Debug)]
pub struct Plan {
    pub limits: Limits,
    pub once: bool,
    /// The lowest tier that the operator puts up with.
    pub lowest: Tier,
}

/// How it went.
#[derive(Debug, Default)]
pub struct Ended {
    pub done: usize,
    pub blocked: Vec<(PlanId, String)>,
    /// What is left and why.
    pub waiting: Vec<(PlanId, Waiting, String)>,
    pub stopped: bool,
}

/// Plays the schedule through without acting.
pub fn rehearsal(site: &mut Site, limits: &Limits) -> Result<(Rehearsal, Vec<Action>), Failure> {
    let mut picture = Picture::take(site)?;
    let board = queue::Board::read(site, true)?;
    picture.refused = board.world.refused;
    let actions = picture.fleet().next(limits);
    Ok((rehearse(picture.fleet(), limits), actions))
}

/// What a claim is judged by besides the queue: the tip, the charter, the plan's text.
type Stamp = (Option<Oid>, Option<Digest>, u64);

/// A refused claim: it holds until what it was judged by has changed, and not for
/// ever, since a precondition may look at what stands outside of git.
struct Declined {
    stamp: Stamp,
    at: Instant,
    reason: String,
}

pub(super) struct Coordinator<'a> {
    pub(super) site: &'a mut Site,
    plan: &'a Plan,
    pub(super) places: Places,
    pub(super) jobs: BTreeMap<PlanId, Child>,
    pub(super) merges: BTreeMap<PlanId, Child>,
    declined: BTreeMap<PlanId, Declined>,
    /// How each plan stood when it was told last: its state, and the entry of its job.
    pub(super) seen: BTreeMap<PlanId, (QueueState, u64)>,
    pub(super) tell: &'a mut dyn FnMut(Told),
    pub(super) counts: [usize; 4],
}

/// Runs the fleet until it is stopped, or (once) until nothing can go on.
pub fn run(site: &mut Site, plan: &Plan, tell: &mut dyn FnMut(Told)) -> Result<Ended, Failure> {
    let places = Places::of(&site.store);
    let Some(_lead) = places.lead()? else {
        let pid = places.leader().unwrap_or_default();
        return Err(
            Failure::refused(format!("a fleet runs already, as process {pid}"))
                .hint("govfs fleet status, or govfs fleet stop"),
        );
    };
    let signals = signals()?;
    let mut body = moved(FleetAction::Start, None);
    body.jobs = Some(plan.limits.jobs as u64);
    body.pid = Some(std::process::id());
    append(site, body)?;
    let mut coordinator = Coordinator {
        site,
        plan,
        places,
        jobs: BTreeMap::new(),
        merges: BTreeMap::new(),
        declined: BTreeMap::new(),
        seen: BTreeMap::new(),
        tell,
        counts: [0; 4],
    };
    let ended = coordinator.work(&signals);
    if matches!(&ended, Ok(ended) if ended.stopped) {
        coordinator.tell_stopping();
    }
    let stopped = coordinator.stop(&signals);
    let mut ended = ended?;
    stopped?;
    if ended.stopped {
        let picture = Picture::take(coordinator.site)?;
        ended = coordinator.summary(&picture, true);
    }
    let mut body = moved(FleetAction::Stop, None);
    body.reason = Some(
        if ended.stopped {
            "asked to"
        } else {
            "nothing is left to do"
        }
        .to_owned(),
    );
    append(coordinator.site, body)?;
    Ok(ended)
}

fn append(site: &mut Site, body: FleetMoved) -> Result<(), Failure> {
    let draft = Draft::new(Event::Fleet(body));
    site.act(|turn| turn.append(&draft).map(|_| ()).map_err(Failure::from))?;
    Ok(())
}

/// Takes the signals that end the fleet; children start with their own.
fn signals() -> Result<SignalFd, Failure> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGINT);
    set.add(Signal::SIGTERM);
    set.add(Signal::SIGHUP);
    set.thread_block().map_err(Failure::failed)?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
        .map_err(Failure::failed)
}

/// Sleeps for one tick, or until a signal comes; says whether one did.
pub(super) fn nap(signals: &SignalFd) -> Result<bool, Failure> {
    use std::os::fd::AsFd;
    let mut wanted = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut wanted, PollTimeout::from(TICK_MS)) {
        Ok(0) | Err(nix::errno::Errno::EINTR) => Ok(false),
        Ok(_) => Ok(signals.read_signal().map_err(Failure::failed)?.is_some()),
        Err(errno) => Err(Failure::failed(errno)),
    }
}

impl Coordinator<'_> {
    fn work(&mut self, signals: &SignalFd) -> Result<Ended, Failure> {
        let mut pulse = None;
        let mut looked = Instant::now();
        let mut first = true;
        loop {
            if self.reap()? {
                pulse = None;
            }
            let beat = Some(self.site.ledger.pulse()?);
            let due = beat != pulse && (first || looked.elapsed() > PACE);
            if due || looked.elapsed() > LOOK {
                first = false;
                pulse = beat;
                looked = Instant::now();
                let (acted, picture) = self.round()?;
                let busy = !self.jobs.is_empty() || !self.merges.is_empty();
                if acted {
                    pulse = None; // our own entries do not move the pulse
                } else if self.plan.once && !busy && !lives(&picture) {
                    return Ok(self.summary(&picture, false));
                }
            }
            if nap(signals)? {
                return Ok(Ended {
                    stopped: true,
                    ..Ended::default()
                });
            }
        }
    }

    /// Looks at everything, and does what is to be done.
    fn round(&mut self) -> Result<(bool, Picture), Failure> {
        let mut picture = Picture::take(self.site)?;
        // Our own may have yet to take their locks.
        picture.alive.extend(self.jobs.keys().cloned());
        picture.alive.extend(self.merges.keys().cloned());
        let stamps = self.stamps(&picture)?;
        self.declined.retain(|id, declined| {
            stamps.get(id) == Some(&declined.stamp) && declined.at.elapsed() < ASK_AGAIN
        });
        for (id, declined) in &self.declined {
            picture.refused.insert(id.clone(), declined.reason.clone());
        }
        self.tell_changes(&picture);
        let mut acted = false;
        for action in picture.fleet().next(&self.plan.limits) {
            acted |= self.act(&action, &stamps)?;
        }
        Ok((acted, picture))
    }

    fn stamps(&self, picture: &Picture) -> Result<BTreeMap<PlanId, Stamp>, Failure> {
        let target = Site::target(&picture.state)?;
        let tip = self.site.repo.tip(&target)?;
        let charter = picture.state.meta.charter;
        let rows = picture.state.plans.iter();
        Ok(rows
            .map(|(id, row)| (id.clone(), (tip, charter, row.entry)))
            .collect())
    }

    fn act(&mut self, action: &Action, stamps: &BTreeMap<PlanId, Stamp>) -> Result<bool, Failure> {
        match action {
            Action::Claim { plan, agent } => self.claim(plan, agent, stamps),
            Action::Mount { .. } | Action::Wait { .. } => Ok(false),
            Action::Launch { plan, attempt, .. } => self.launch(plan, *attempt),
            Action::Check { plan, .. } | Action::Merge { plan, .. } => self.merge(plan),
            Action::RequestReview { plan, agent, .. } => {
                let reason = review::request(self.site, agent, None).err();
                match reason {
                    None => Ok(true),
                    Some(failure) => self.refused(plan, agent, failure.message),
                }
            }
            Action::Retry {
                plan,
                attempt,
                reason,
                agent,
            } => {
                let mut body = moved(FleetAction::Retry, Some(plan));
                body.attempt = Some(u64::from(*attempt));
                body.reason = Some(reason.clone());
                self.record(agent, body)?;
                self.say(
                    "retry",
                    plan,
                    Some(agent),
                    Some(*attempt),
                    Some(reason.clone()),
                );
                self.launch(plan, *attempt)
            }
            Action::Block { plan, reason } => {
                let mut ask = QueueAsk::set(plan.clone(), QueueState::Blocked);
                ask.reason = Some(reason.clone());
                match queue::set_status(self.site, &ask) {
                    Ok(_) => self.say("block", plan, None, None, Some(reason.clone())),
                    // Somebody moved the plan meanwhile; the next look tells.
                    Err(failure) if failure.kind == Kind::Refused => {}
                    Err(failure) => return Err(failure),
                }
                Ok(true)
            }
        }
    }

    fn claim(
        &mut self,
        plan: &PlanId,
        agent: &AgentName,
        stamps: &BTreeMap<PlanId, Stamp>,
    ) -> Result<bool, Failure> {
        let taken = self
            .describe(plan, agent)
            .and_then(|()| queue::claim(self.site, plan, agent, true));
        match taken {
            Ok(_) => {
                self.say("claim", plan, Some(agent), None, None);
                Ok(true)
            }
            Err(failure) if failure.kind != Kind::Refused => Err(failure),
            Err(failure) => {
                let reason = failure.message;
                self.say("declined", plan, Some(agent), None, Some(reason.clone()));
                if let Some(stamp) = stamps.get(plan) {
                    let declined = Declined {
                        stamp: *stamp,
                        at: Instant::now(),
                        reason,
                    };
                    self.declined.insert(plan.clone(), declined);
                }
                Ok(false)
            }
        }
    }

    /// An agent that nobody described gets the plan's role.
    fn describe(&mut self, plan: &PlanId, agent: &AgentName) -> Result<(), Failure> {
        let state = self.site.ledger.state(&[
            Need::Agent(agent.clone()),
            Need::Row(RowKey::new(Row::Plan, plan)),
        ])?;
        let role = stored::plan(find(&state, plan)?)?.role;
        if state.agents.contains_key(agent) || role.is_none() {
            return Ok(());
        }
        agent::add(self.site, agent, role, None, false).map(|_| ())
    }

    fn launch(&mut self, plan: &PlanId, attempt: u32) -> Result<bool, Failure> {
        let fallback = match &self.plan.limits.command {
            Some(Command::Shell(line)) => Some(line.clone()),
            Some(other) => Some(other.shown()),
            None => None,
        };
        let orders = Orders {
            plan: plan.clone(),
            attempt: u64::from(attempt),
            fallback,
            lowest: self.plan.lowest,
        };
        let child = job::start(self.site, &orders)?;
        self.jobs.insert(plan.clone(), child);
        self.say("launch", plan, None, Some(attempt), None);
        Ok(true)
    }

    /// Starts a merge, whose process records what came of it.
    fn merge(&mut self, plan: &PlanId) -> Result<bool, Failure> {
        if self.merges.len() >= MERGES_MAX {
            return Ok(false);
        }
        let child = job::start_merge(self.site, plan)?;
        self.merges.insert(plan.clone(), child);
        self.say("merging", plan, None, None, None);
        Ok(true)
    }

    /// Looks after children that have ended.
    pub(super) fn reap(&mut self) -> Result<bool, Failure> {
        let jobs = gone(&mut self.jobs)?;
        let merges = gone(&mut self.merges)?;
        let is_any = !jobs.is_empty() || !merges.is_empty();
        for (plan, status) in merges {
            self.count_failed(&plan, status)?;
        }
        Ok(is_any)
    }

    /// A merge that recorded nothing would be begun again for ever: it is an attempt that failed. One that was
    /// refused met another process of its plan; one that was killed was stopped.
    fn count_failed(&mut self, plan: &PlanId, status: ExitStatus) -> Result<(), Failure> {
        let Some(code) = status.code().filter(|code| ![0, 3].contains(code)) else {
            return Ok(());
        };
        let need = Need::Row(RowKey::new(Row::Plan, plan));
        let state = self.site.ledger.state(&[need])?;
        if let Some(owner) = find(&state, plan)?.owner.clone() {
            let reason =
                format!("its merge ended with status {code}: govfs merge {owner} says why");
            self.refused(plan, &owner, reason)?;
        }
        Ok(())
    }

    /// Records that a check or the merge refused.
    fn refused(
        &mut self,
        plan: &PlanId,
        agent: &AgentName,
        reason: String,
    ) -> Result<bool, Failure> {
        let mut body = moved(FleetAction::Check, Some(plan));
        body.reason = Some(reason);
        self.record(agent, body)?;
        Ok(true)
    }

    pub(super) fn record(&mut self, agent: &AgentName, body: FleetMoved) -> Result<(), Failure> {
        let draft = Draft::new(Event::Fleet(body)).by(agent);
        self.site
            .act(|turn| turn.append(&draft).map(|_| ()).map_err(Failure::from))?;
        Ok(())
    }

    fn summary(&self, picture: &Picture, stopped: bool) -> Ended {
        let mut ended = Ended {
            stopped,
            done: self.counts[0],
            ..Ended::default()
        };
        let mut fleet = picture.fleet();
        for (id, declined) in &self.declined {
            if let Some(job) = fleet.jobs.get_mut(id) {
                job.refused = Some(declined.reason.clone());
            }
        }
        for action in fleet.next(&self.plan.limits) {
            match action {
                Action::Wait {
                    plan,
                    on: Waiting::Blocked,
                    reason,
                } => ended.blocked.push((plan, reason)),
                Action::Wait { plan, on, reason } => ended.waiting.push((plan, on, reason)),
                other if stopped && other.is_under_way() => {
                    let reason = "it was stopped, and goes on with the next run".to_owned();
                    let plan = other.plan().clone();
                    ended.waiting.push((plan, Waiting::Running, reason));
                }
                _ => {}
            }
        }
        ended
    }
}

/// Takes out the children that have ended, and how.
fn gone(children: &mut BTreeMap<PlanId, Child>) -> Result<Vec<(PlanId, ExitStatus)>, Failure> {
    let mut gone = Vec::new();
    for (plan, child) in children.iter_mut() {
        let status = child.try_wait().map_err(Failure::failed)?;
        gone.extend(status.map(|status| (plan.clone(), status)));
    }
    for (plan, _) in &gone {
        children.remove(plan);
    }
    Ok(gone)
}

fn lives(picture: &Picture) -> bool {
    !picture.alive.is_empty()
}
