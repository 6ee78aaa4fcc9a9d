//! One job of the fleet: a process that runs a plan's command and records how it ended.
//!
//! Owns: the one process a plan has at a time. It takes the plan's lock, then
//! records the launch in the transaction that sees it is still due, and records
//! the end itself, whether or not anybody coordinates by then.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command as Program, Stdio};

use crate::app::brief::{self, For};
use crate::app::failure::Failure;
use crate::app::fleet::{Places, last_words};
use crate::app::merge;
use crate::app::mount::own_program;
use crate::app::plan::{find, no_law};
use crate::app::run::{self, Job};
use crate::app::session::Wish;
use crate::app::site::Site;
use crate::domain::command::Need;
use crate::domain::event::{Draft, Event, Finding, FleetAction, FleetMoved, QueueState, Tier};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::plan::{Command, Plan};
use crate::domain::queue::stored;
use crate::domain::state::{Kind, RowKey};
use crate::store::ledger::Turn;

/// Stands for the prompt in a command's arguments.
const PROMPT: &str = "{prompt}";
/// The rules of a merge that only a review can satisfy.
const REVIEWS: [&str; 4] = [
    "review-count",
    "review-lane",
    "review-person",
    "review-engine",
];
/// What a program that could not be started ends with.
const NOT_STARTED: i64 = 125;

/// What a job's process is told.
#[derive(Clone, Debug)]
pub struct Orders {
    pub plan: PlanId,
    pub attempt: u64,
    /// Runs plans that name no command.
    pub fallback: Option<String>,
    pub lowest: Tier,
}

/// Starts a job's process; it outlives whoever starts it.
pub fn start(site: &Site, orders: &Orders) -> Result<Child, Failure> {
    let places = Places::of(&site.store);
    places.make()?;
    let path = places.output(&orders.plan);
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let output = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(fault)?;
    let errors = output.try_clone().map_err(fault)?;
    let mut program = Program::new(own_program()?);
    program
        .arg("-C")
        .arg(site.repo.root())
        .args(["fleet-job", orders.plan.as_str()])
        .args(["--attempt", &orders.attempt.to_string()]);
    if let Some(command) = &orders.fallback {
        program.args(["--command", command]);
    }
    match orders.lowest {
        Tier::A => {}
        Tier::B => _ = program.args(["--allow-tier", "B"]),
        Tier::C => _ = program.args(["--allow-tier", "C"]),
    }
    program
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(Failure::failed)
}

/// Starts the process that merges a plan's session; it outlives whoever starts it.
pub fn start_merge(site: &Site, plan: &PlanId) -> Result<Child, Failure> {
    // A worktree may be gone by then; what is merged lies in the repository.
    let root = Some(site.repo.root()).filter(|root| root.exists());
    Program::new(own_program()?)
        .arg("-C")
        .arg(root.unwrap_or(site.repo.common_dir()))
        .args(["fleet-merge", plan.as_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(Failure::failed)
}

/// Merges a plan's session, and records what it lacks where it is not merged.
pub fn merge(site: &mut Site, plan: &PlanId) -> Result<(), Failure> {
    let places = Places::of(&site.store);
    let Some(_lock) = places.work(plan)? else {
        return Err(Failure::refused(format!(
            "plan {plan} has a process already"
        )));
    };
    let needs = [
        Need::Row(RowKey::new(Kind::Plan, plan)),
        Need::Row(RowKey::new(Kind::Job, plan)),
    ];
    let state = site.ledger.state(&needs)?;
    let row = find(&state, plan)?;
    let ended = state.jobs.get(plan).is_some_and(|job| {
        let fine = job.action == FleetAction::Finish && job.status == Some(0);
        fine || (job.action == FleetAction::Check && job.reason.is_none())
    });
    let (QueueState::InProgress, Some(owner), true) = (row.state, row.owner.clone(), ended) else {
        return Ok(()); // somebody was faster
    };
    let wish = merge::Wish {
        agent: owner.clone(),
        into: None,
        message: None,
        dry_run: false,
    };
    let mut body = moved(FleetAction::Check, Some(plan));
    match merge::merge(site, &wish) {
        Ok(report) if report.merged => return Ok(()), // its own entry says so
        Ok(report) if report.refusals.is_empty() => {
            body.reason = Some("its session changed nothing".to_owned());
        }
        Ok(report) => lacks(&mut body, &report.refusals),
        Err(failure) => body.reason = Some(failure.message),
    }
    let draft = Draft::new(Event::Fleet(body)).by(&owner);
    site.act(|turn| turn.append(&draft).map(|_| ()).map_err(Failure::from))?;
    Ok(())
}

/// Reviews can still come; anything else is for the agent to mend.
fn lacks(body: &mut FleetMoved, refusals: &[Finding]) {
    let words = |finding: &Finding| match &finding.path {
        Some(path) => format!("{path}: {}", finding.reason),
        None => finding.reason.clone(),
    };
    let reasons: Vec<String> = refusals.iter().map(words).collect();
    if refusals
        .iter()
        .all(|finding| REVIEWS.contains(&finding.rule.as_str()))
    {
        body.missing = reasons;
    } else {
        body.reason = Some(reasons.join("; "));
    }
}

/// What a run has to say goes nowhere: the fleet's command said it already.
struct Silent;

impl run::Tell for Silent {
    fn begin(&mut self, site: &mut Site) -> Result<(), Failure> {
        site.read_ledger()
    }

    fn edited(&mut self) {}

    fn note(&mut self, _: String) {}
}

/// Runs the plan's command once, unless that was done or is being done.
pub fn work(site: &mut Site, orders: &Orders) -> Result<(), Failure> {
    let places = Places::of(&site.store);
    let Some(_lock) = places.work(&orders.plan)? else {
        return Err(Failure::refused(format!(
            "plan {} has a process already",
            orders.plan
        )));
    };
    let (owner, plan) = launch(site, orders)?;
    let (status, reason) =
        match job(site, orders, &owner, &plan).and_then(|job| run::run(site, &job, &mut Silent)) {
            Ok(ended) if ended.status == 0 => (0, None),
            Ok(ended) => (
                i64::from(ended.status),
                last_words(&places.output(&orders.plan)),
            ),
            Err(failure) => (NOT_STARTED, Some(failure.message)),
        };
    let mut body = moved(FleetAction::Finish, Some(&orders.plan));
    body.status = Some(status);
    body.attempt = Some(orders.attempt);
    body.reason = reason;
    let draft = Draft::new(Event::Fleet(body)).by(&owner);
    site.act(|turn| turn.append(&draft).map(|_| ()).map_err(Failure::from))?;
    Ok(())
}

/// An event about one plan, or about the fleet itself.
pub fn moved(action: FleetAction, plan: Option<&PlanId>) -> FleetMoved {
    FleetMoved {
        action,
        plan: plan.cloned(),
        jobs: None,
        attempt: None,
        pid: None,
        reason: None,
        status: None,
        missing: Vec::new(),
    }
}

/// Records the launch, in the very transaction that sees that it is due.
fn launch(site: &mut Site, orders: &Orders) -> Result<(AgentName, Plan), Failure> {
    let (found, _, _) = site.act(|turn| {
        let id = &orders.plan;
        turn.load(&[
            Need::Row(RowKey::new(Kind::Plan, id)),
            Need::Row(RowKey::new(Kind::Job, id)),
        ])?;
        let owner = due(turn, orders)?;
        let plan = stored::plan(find(turn.state(), id)?)?;
        let mut body = moved(FleetAction::Launch, Some(id));
        body.attempt = Some(orders.attempt);
        body.pid = Some(std::process::id());
        turn.append(&Draft::new(Event::Fleet(body)).by(&owner))?;
        Ok((owner, plan))
    })?;
    Ok(found)
}

/// Refuses an attempt that was made already, or that nobody waits for any more.
fn due(turn: &Turn<'_>, orders: &Orders) -> Result<AgentName, Failure> {
    let id = &orders.plan;
    let row = find(turn.state(), id)?;
    let job = turn.state().jobs.get(id);
    let next = job.is_some_and(|job| {
        let ready = matches!(
            job.action,
            FleetAction::Start | FleetAction::Retry | FleetAction::Stop
        );
        ready && job.attempts + 1 == orders.attempt
    });
    match &row.owner {
        Some(owner) if next && row.state == QueueState::InProgress => Ok(owner.clone()),
        _ => Err(Failure::refused(format!(
            "attempt {} of plan {id} is not due",
            orders.attempt
        ))),
    }
}

fn job(site: &mut Site, orders: &Orders, owner: &AgentName, plan: &Plan) -> Result<Job, Failure> {
    let fallback = orders.fallback.clone().map(Command::Shell);
    let own = plan.run.as_ref().and_then(|run| run.command.clone());
    let command = own
        .or(fallback)
        .ok_or_else(|| Failure::refused(format!("plan {} names no command to run", plan.id)))?;
    let prompt = plan.run.as_ref().and_then(|run| run.prompt.clone());
    let prompt = prompt.unwrap_or_default();
    let role = {
        let state = site.ledger.state(&[Need::Agent(owner.clone())])?;
        let law = state.law.clone().ok_or_else(no_law)?;
        let known = state.agents.get(owner).map(|row| row.role.clone());
        known.unwrap_or_else(|| law.default_role.clone())
    };
    let brief = brief::brief(
        site,
        &For {
            role,
            agent: Some(owner.clone()),
            plan: Some(plan.id.clone()),
        },
    )?;
    let variable = |name: &str, value: &str| (OsString::from(name), Some(OsString::from(value)));
    Ok(Job {
        wish: Wish {
            agent: owner.clone(),
            claims: Vec::new(),
            base: None,
            plan: Some(plan.id.clone()),
        },
        cwd: site.repo.root().to_owned(),
        argv: argv(&command, &prompt),
        network: None,
        writable: Vec::new(),
        hidden: Vec::new(),
        env: vec![
            variable("GOVFS_PLAN", plan.id.as_str()),
            variable("GOVFS_PROMPT", &prompt),
            variable("GOVFS_BRIEF", &brief),
        ],
        lowest: orders.lowest,
    })
}

/// Puts the prompt where `{prompt}` stands. A line for the shell gets it through
/// the environment, for no prompt may become shell.
fn argv(command: &Command, prompt: &str) -> Vec<OsString> {
    match command {
        Command::Argv(words) => {
            let put = |word: &String| OsString::from(word.replace(PROMPT, prompt));
            words.iter().map(put).collect()
        }
        Command::Shell(line) => {
            let line = line.replace(PROMPT, "\"$GOVFS_PROMPT\"");
            ["/bin/sh", "-c", &line].map(OsString::from).to_vec()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_an_argument_or_a_variable_and_never_shell() {
        let prompt = "do; rm -rf \"$HOME\"";
        let words = Command::Argv(vec!["agent".into(), "-p".into(), "{prompt}!".into()]);
        assert_eq!(argv(&words, prompt)[2], format!("{prompt}!").as_str());
        let line = Command::Shell("agent -p {prompt}".to_owned());
        assert_eq!(argv(&line, prompt)[2], "agent -p \"$GOVFS_PROMPT\"");
    }
}
