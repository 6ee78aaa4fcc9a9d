//! `run`: one program, sealed in its session's governed mount.
//!
//! Owns: the order of a run: enter the session, have its mount (join the live one
//! or raise a new one), record the `launch` entry, seal and start the program, stay
//! with it, leave the mount settled and sealed, and say what came of it. Invariants:
//! the entry is in the ledger before the program starts; no layer is left out
//! silently; when the last run of a session ends, its server and its mount end
//! before this returns. Runs in a process of one thread, because it forks.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::app::failure::{Failure, Kind};
use crate::app::mount;
use crate::app::serve::ground::pinned;
use crate::app::serve::record;
use crate::app::session::{self, Session, Wish};
use crate::app::site::Site;
use crate::domain::charter::Sandbox;
use crate::domain::event::{Event, Launched, Tier};
use crate::domain::logop::Bytes;
use crate::sandbox::{self, Layer, SealError};

pub mod door;
pub mod places;
pub mod report;
mod room;
pub mod seal;
mod steering;

use door::Door;
use report::Report;

/// What somebody wants to run.
#[derive(Clone, Debug)]
pub struct Job {
    pub wish: Wish,
    /// Where the caller stands.
    pub cwd: PathBuf,
    pub argv: Vec<OsString>,
    /// `None`: as the charter says.
    pub network: Option<bool>,
    pub writable: Vec<PathBuf>,
    pub hidden: Vec<PathBuf>,
    /// Passed on besides: as they are here, or with a value.
    pub env: Vec<(OsString, Option<OsString>)>,
    /// The lowest tier that the caller puts up with.
    pub lowest: Tier,
}

/// What came of it.
#[derive(Debug)]
pub struct Ended {
    /// 128 + n after signal n.
    pub status: i32,
    /// Or why nobody can say more than the status.
    pub report: Result<Report, Failure>,
}

/// What is said to whoever runs something, before it starts.
pub trait Tell {
    /// Opens the ledger and says how things stand, as at the beginning of every command.
    fn begin(&mut self, site: &mut Site) -> Result<(), Failure>;
    /// Says that the charter's file has edits that are no commit yet.
    fn edited(&mut self);
    fn note(&mut self, text: String);
}

/// Where a run takes place.
struct Place {
    session: Session,
    rules: Sandbox,
    tier: Tier,
    door: Door,
    /// Where other sessions stand, where that is known already.
    others: Option<Vec<PathBuf>>,
}

/// Runs the program of `job` until it ends.
pub fn run(site: &mut Site, job: &Job, tell: &mut dyn Tell) -> Result<Ended, Failure> {
    if site.repo.workdir().is_none() {
        return Err(Failure::refused(
            "a bare repository has no directory where the mount could stand",
        )
        .hint(format!("govfs mount {} DIR", job.wish.agent)));
    }
    let place = match join(site, job, tell)? {
        Some(place) => place,
        None => enter(site, job, tell)?,
    };
    let Place {
        session,
        rules,
        tier,
        mut door,
        others,
    } = place;
    let begin = report::mark(&session);
    let outcome = launch(site, &session, &rules, job, &mut door, others);
    let left = door.leave(site, &session);
    let over = outcome?; // its namespaces go while the report is made
    let report = left
        .and_then(|()| room::sweep(site))
        .and_then(|()| report::of(site, &session, begin, tier));
    Ok(Ended {
        status: over.status,
        report: report.map(|mut report| {
            report.beside(&over);
            report
        }),
    })
}

/// Joins the mount that the agent's session has, where that is all there is to do: its server knows the rest.
fn join(site: &Site, job: &Job, tell: &mut dyn Tell) -> Result<Option<Place>, Failure> {
    let wish = &job.wish;
    let plain = wish.claims.is_empty() && wish.base.is_none() && wish.plan.is_none();
    if !plain || job.lowest != Tier::A {
        return Ok(None);
    }
    let mut others = None;
    let meanwhile = || others = Some(seal::other_mounts(site));
    let Some((door, entered)) = Door::joined(site, &wish.agent, meanwhile)? else {
        return Ok(None);
    };
    if entered.edited {
        tell.edited();
    }
    Ok(Some(Place {
        session: Session::of(site, &entered.session, &entered.row),
        rules: entered.sandbox,
        tier: Tier::A,
        door,
        others,
    }))
}

/// Enters the agent's session, or begins one, and has its mount.
fn enter(site: &mut Site, job: &Job, tell: &mut dyn Tell) -> Result<Place, Failure> {
    if job.lowest == Tier::A {
        sandbox::look_ahead()?; // what cannot be launched claims nothing
    }
    tell.begin(site)?;
    let session = session::enter(site, &job.wish)?;
    let rules = pinned(site, &session)?.sandbox;
    let tier = tier(job, &rules)?;
    let door = Door::open(site, &session, tier)?;
    if door.is_new
        && let Some(missing) = mount::missing_programs(site)
    {
        tell.note(missing);
    }
    Ok(Place {
        session,
        rules,
        tier,
        door,
        others: None,
    })
}

fn launch(
    site: &mut Site,
    session: &Session,
    rules: &Sandbox,
    job: &Job,
    door: &mut Door,
    others: Option<Vec<PathBuf>>,
) -> Result<sandbox::Over, Failure> {
    let mut sealed = seal::spec(site, session, rules, job, door)?;
    let argv = job.argv.iter().map(|arg| Bytes(arg.as_bytes().to_vec()));
    let launched = Launched {
        tier: door.tier(),
        argv: argv.collect(),
        uid: door.uid(),
        widenings: std::mem::take(&mut sealed.widenings),
        plan: job.wish.plan.clone(),
    };
    // The server writes the entry while the seal is prepared; the program does not start before both are done.
    // A lower tier stays with the session for good: that is recorded only once nothing else can fail.
    let asked = launched.tier == Tier::A && door.begin_launch(&launched);
    sealed.spec.hidden_mounts = others.unwrap_or_else(|| seal::other_mounts(site));
    let (source, is_recorded) = door.launching();
    let mut refused = None;
    let recorded = || {
        if asked && is_recorded() {
            return true;
        }
        // Whatever the server could not do is done, or refused with its reason, here.
        match record(site, session, Event::Launch(launched.clone())) {
            Ok(()) => true,
            Err(failure) => {
                refused = Some(failure);
                false
            }
        }
    };
    let status = sandbox::launch_when(&sealed.spec, &source, recorded);
    match refused {
        Some(failure) => Err(failure),
        None => status.map_err(Failure::from),
    }
}

/// Returns the tier that holds: A, or what this machine has where the caller allows less.
fn tier(job: &Job, rules: &Sandbox) -> Result<Tier, Failure> {
    let least = rules.least_tier.unwrap_or(Tier::C);
    if job.lowest < least {
        return Err(Failure::refused(format!(
            "the charter wants tier {least:?} at least, not {:?}",
            job.lowest
        ))
        .hint("govfs doctor says what this machine lacks for it"));
    }
    if job.lowest == Tier::A {
        return Ok(Tier::A); // tried by doing it: whatever is missing is named
    }
    let findings = sandbox::probe::probe()?;
    let lacking = findings.layers.iter().find(|layer| !layer.ok);
    let best = match findings.tier {
        Some(sandbox::Tier::A) => return Ok(Tier::A),
        Some(sandbox::Tier::B) => Tier::B,
        Some(sandbox::Tier::C) => Tier::C,
        None => {
            let failure = Failure::machine("this machine cannot even mount: no tier holds");
            return Err(match lacking.and_then(|layer| layer.fix.as_ref()) {
                Some(fix) => failure.hint(fix),
                None => failure.hint("govfs doctor"),
            });
        }
    };
    if best >= job.lowest {
        return Ok(best);
    }
    let missing = lacking.map_or("a layer", |layer| layer.layer.name());
    Err(Failure::machine(format!(
        "only tier {best:?} holds on this machine: it lacks {missing}"
    ))
    .hint(format!(
        "govfs doctor; or, with less enforcement: --allow-tier {best:?}"
    )))
}

/// Says which switch turns off the sandbox that the program brings, if it brings one.
pub fn own_sandbox(argv: &[OsString]) -> Option<&'static str> {
    sandbox::brings_own_sandbox(argv)
}

impl From<SealError> for Failure {
    fn from(error: SealError) -> Self {
        let kind = match error.layer {
            Layer::Program | Layer::Launcher | Layer::Terminal | Layer::View => Kind::Launch,
            _ => Kind::Machine,
        };
        let failure = Self::new(kind, &error);
        match error.fix {
            Some(fix) => failure.hint(fix),
            None if kind == Kind::Machine => failure.hint("govfs doctor"),
            None => failure,
        }
    }
}
