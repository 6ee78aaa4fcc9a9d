//! The fleet: how every plan stands, as the ledger and the living processes tell it.
//!
//! Owns: the picture that the coordinator decides from, the places of the fleet's
//! files, and who the coordinator is. A job's process holds its lock as long as it
//! lives, and writes its own `launch` and `finish` entries: a coordinator that was
//! killed reads them and goes on, and nothing is run twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::app::checks;
use crate::app::failure::Failure;
use crate::app::plan::current;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::event::{FleetAction, QueueState, ReviewAction};
use crate::domain::fleet::{Fleet, Job, Stage};
use crate::domain::names::PlanId;
use crate::domain::plan::Plan;
use crate::domain::queue::{Queue, stored};
use crate::domain::state::{FleetRow, JobRow, Kind, PlanRow, State};
use crate::store::make_dir;

pub mod coordinator;
pub mod job;
pub mod stopping;
pub mod telling;

/// Where the fleet keeps its locks and its jobs' output, inside the store.
const FLEET: &str = "fleet";
const LOCK: &str = "lock";
/// The ending of a plan's lock.
const JOB: &str = ".job";

/// What the fleet decides from.
#[derive(Debug)]
pub struct Picture {
    pub state: State,
    pub queue: Queue,
    pub refused: BTreeMap<PlanId, String>,
    /// The plans whose process lives.
    pub alive: BTreeSet<PlanId>,
}

impl Picture {
    /// Looks at the ledger and at the processes.
    pub fn take(site: &mut Site) -> Result<Self, Failure> {
        let places = Places::of(&site.store);
        // A process takes its lock before it writes and lets go of it after, so a
        // lock that is free when asked after its launch was read belongs to one
        // that has ended, and its end is in what is read then.
        let mut launched = BTreeSet::new();
        loop {
            let alive = places.held()?;
            let picture = Self::read(site, alive)?;
            let before = std::mem::replace(&mut launched, picture.launched());
            if launched.is_subset(&before) {
                return Ok(picture);
            }
        }
    }

    fn read(site: &mut Site, alive: BTreeSet<PlanId>) -> Result<Self, Failure> {
        let mut needs = stored::needs();
        needs.extend([Need::All(Kind::Review), Need::All(Kind::Session)]);
        let state = current(site, &needs)?;
        let queue = stored::queue(&state)?;
        let refused = stored::refused(&state, &queue);
        Ok(Self {
            state,
            queue,
            refused,
            alive,
        })
    }

    /// The launches without an end whose process did not live when it was looked for.
    fn launched(&self) -> BTreeSet<(PlanId, u64)> {
        let jobs = self.state.jobs.iter();
        jobs.filter(|(id, job)| job.action == FleetAction::Launch && !self.alive.contains(*id))
            .map(|(id, job)| (id.clone(), job.entry))
            .collect()
    }

    pub fn jobs(&self) -> Vec<Job<'_>> {
        let items = self.queue.0.values();
        items
            .filter_map(|item| {
                let row = self.state.plans.get(&item.plan.id)?;
                Some(self.job(&item.plan, row))
            })
            .collect()
    }

    pub fn fleet(&self) -> Fleet<'_> {
        Fleet::new(self.jobs(), stored::held(&self.state))
    }

    fn job<'a>(&'a self, plan: &'a Plan, row: &PlanRow) -> Job<'a> {
        let job = self.state.jobs.get(&plan.id);
        Job {
            plan,
            state: row.state,
            stage: match job {
                Some(job) => self.stage(&plan.id, row, job),
                None if row.state == QueueState::InProgress => Stage::Foreign,
                None => Stage::default(),
            },
            owner: row.owner.clone(),
            attempts: job.map_or(0, |job| u32::try_from(job.attempts).unwrap_or(u32::MAX)),
            reason: row.reason.clone(),
            refused: self.refused.get(&plan.id).cloned(),
        }
    }

    /// A living process counts before what is written, for it has yet to write.
    fn stage(&self, id: &PlanId, row: &PlanRow, job: &JobRow) -> Stage {
        if self.alive.contains(id) {
            return Stage::Running;
        }
        match job.action {
            // The mount comes up with the launch.
            FleetAction::Start | FleetAction::Retry | FleetAction::Stop => Stage::Mounted,
            FleetAction::Launch => Stage::Lost,
            FleetAction::Finish => Stage::Ended {
                status: i32::try_from(job.status.unwrap_or(i64::MAX)).unwrap_or(i32::MAX),
                said: job.reason.clone(),
            },
            FleetAction::Block => Stage::Refused {
                reason: job.reason.clone().unwrap_or_default(),
            },
            FleetAction::Check => match &job.reason {
                Some(reason) => Stage::Refused {
                    reason: reason.clone(),
                },
                None if self.voted_since(row, job) => Stage::Ended {
                    status: 0,
                    said: None,
                },
                None => Stage::Checked {
                    missing: job.missing.clone(),
                    asked: self.asked_since(row, job),
                },
            },
        }
    }

    fn reviews_since(
        &self,
        row: &PlanRow,
        job: &JobRow,
        wanted: impl Fn(ReviewAction) -> bool,
    ) -> bool {
        let later = self.state.reviews.range(job.entry..);
        later
            .filter(|(_, review)| Some(&review.agent) == row.owner.as_ref())
            .any(|(_, review)| wanted(review.action))
    }

    fn voted_since(&self, row: &PlanRow, job: &JobRow) -> bool {
        self.reviews_since(row, job, |action| action != ReviewAction::Request)
    }

    fn asked_since(&self, row: &PlanRow, job: &JobRow) -> bool {
        self.reviews_since(row, job, |action| action == ReviewAction::Request)
    }
}

/// The fleet's files.
#[derive(Clone, Debug)]
pub struct Places(PathBuf);

impl Places {
    pub fn of(store: &Path) -> Self {
        Self(store.join(FLEET))
    }

    fn make(&self) -> Result<(), Failure> {
        make_dir(&self.0).map_err(|error| Failure::failed(format!("{}: {error}", self.0.display())))
    }

    fn job_lock(&self, plan: &PlanId) -> PathBuf {
        self.0.join(format!("{plan}{JOB}"))
    }

    /// Where a job's output goes; each attempt adds to it.
    pub fn output(&self, plan: &PlanId) -> PathBuf {
        self.0.join(format!("{plan}.log"))
    }

    /// Takes a lock and signs it with this process; `None` where another lives.
    fn take(&self, path: &Path) -> Result<Option<File>, Failure> {
        let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        self.make()?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(fault)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        file.set_len(0)
            .and_then(|()| write!(file, "{}", std::process::id()))
            .map_err(fault)?;
        Ok(Some(file))
    }

    /// Becomes the one coordinator.
    fn lead(&self) -> Result<Option<File>, Failure> {
        self.take(&self.0.join(LOCK))
    }

    /// Becomes the one process of a plan.
    fn work(&self, plan: &PlanId) -> Result<Option<File>, Failure> {
        self.take(&self.job_lock(plan))
    }

    /// Returns the plans whose process lives.
    fn held(&self) -> Result<BTreeSet<PlanId>, Failure> {
        let fault =
            |error: std::io::Error| Failure::failed(format!("{}: {error}", self.0.display()));
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(BTreeSet::new());
            }
            Err(error) => return Err(fault(error)),
        };
        let mut out = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(fault)?.file_name();
            let plan = name.to_str().and_then(|name| name.strip_suffix(JOB));
            let plan = plan.and_then(|plan| plan.parse::<PlanId>().ok());
            out.extend(plan.filter(|plan| self.is_held(plan)));
        }
        Ok(out)
    }

    fn is_held(&self, plan: &PlanId) -> bool {
        holder(&self.job_lock(plan)).is_some()
    }

    /// Returns the process that coordinates.
    pub fn leader(&self) -> Option<i32> {
        holder(&self.0.join(LOCK))
    }

    pub fn worker(&self, plan: &PlanId) -> Option<i32> {
        holder(&self.job_lock(plan))
    }
}

/// Returns the process that holds a lock; a negative number where it has not signed yet.
fn holder(path: &Path) -> Option<i32> {
    let mut file = File::open(path).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {}
        // Dropping the file lets go of it again.
        Ok(()) | Err(TryLockError::Error(_)) => return None,
    }
    let mut text = String::new();
    let _ = file.read_to_string(&mut text); // an unreadable name is no name
    Some(text.trim().parse().unwrap_or(-1))
}

/// How the fleet stands, for people.
#[derive(Debug)]
pub struct Standing {
    pub leader: Option<i32>,
    pub last: Option<FleetRow>,
    pub picture: Picture,
}

pub fn status(site: &mut Site) -> Result<Standing, Failure> {
    let picture = Picture::take(site)?;
    Ok(Standing {
        leader: Places::of(&site.store).leader(),
        last: picture.state.meta.fleet.clone(),
        picture,
    })
}

/// Returns the end of a job's output, for a reason that says more than a number.
fn last_words(path: &Path) -> Option<String> {
    checks::last_words(&fs::read(path).ok()?)
}
