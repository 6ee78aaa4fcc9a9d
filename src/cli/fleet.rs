//! `govfs fleet`, and the hidden verb that its jobs are

use std::io::{self, IsTerminal};

use serde_json::{Value, json};

use super::Context;
use super::output::{Ink, Output};
use super::run::tier;
use crate::app::clock;
use crate::app::failure::Failure;
use crate::app::fleet::coordinator::{self, Ended, Plan};
use crate::app::fleet::job::{self, Orders};
use crate::app::fleet::telling::Told;
use crate::app::fleet::{Standing, status, stopping};
use crate::app::queue;
use crate::domain::event::{QueueState, Tier};
use crate::domain::fleet::{Action, Limits, Stage};
use crate::domain::names::{AgentName, PlanId};
use crate::domain::plan::Command;
use table::Table;

mod table;

/// How many plans run at once where nothing else is said.
const JOBS: usize = 4;
/// How often a plan that failed is run again where nothing else is said.
const RETRIES: u32 = 1;

/// The fleet: run eligible plans, each sealed in its mount, and merge them in the order of their dependencies
///
/// A coordinator takes plans that verify and that nothing stands in the way of, runs their commands, asks for the
/// reviews they need and merges them. Every action is an entry of the ledger; a coordinator that was killed goes on
/// from there and runs nothing twice.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs fleet run --dry-run\n  govfs fleet run --jobs 8 --once\n  govfs fleet status\n  govfs fleet stop"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Run plans until stopped (with --once: until nothing is eligible)
    #[command(
        after_help = "Examples:\n  govfs fleet run --dry-run\n  govfs fleet run --jobs 8 --once\n  govfs fleet run --once --command 'claude -p {prompt}'"
    )]
    Run(RunArgs),
    /// Show what the fleet does
    #[command(after_help = "Examples:\n  govfs fleet status\n  govfs fleet status --json")]
    Status,
    /// End the fleet; the programs end too, their sessions stay as they are
    #[command(after_help = "Examples:\n  govfs fleet stop")]
    Stop,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// How many plans are under way at once
    #[arg(long, value_name = "N", default_value_t = JOBS, value_parser = jobs)]
    jobs: usize,
    /// End when nothing is eligible; 0 only if nothing was blocked
    #[arg(long)]
    once: bool,
    /// Print the schedule and what would be done first, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How often a plan that failed is run again before it is blocked
    #[arg(long, value_name = "N", default_value_t = RETRIES)]
    retries: u32,
    /// Run plans that name no command with this line for the shell; {prompt} is the plan's prompt
    #[arg(long, value_name = "LINE")]
    command: Option<String>,
    /// Go on with less than a whole seal where this machine has no more
    #[arg(long, value_name = "B|C", value_parser = tier)]
    allow_tier: Option<Tier>,
}

fn jobs(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n @ 1..=1000) => Ok(n),
        _ => Err("expected a number from 1 to 1000".to_owned()),
    }
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Run(args) if args.dry_run => rehearse(&args, context),
        Verb::Run(args) => go(args, context),
        Verb::Status => show(context),
        Verb::Stop => stop(context),
    }
}

fn limits(args: &RunArgs) -> Limits {
    Limits {
        jobs: args.jobs,
        retries: args.retries,
        command: args.command.clone().map(Command::Shell),
    }
}

/// Observes, validates and recommends: all but the acting.
fn rehearse(args: &RunArgs, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let (schedule, actions) = coordinator::rehearsal(&mut site, &limits(args))?;
    let problems = queue::problems(&mut site)?;
    let strangers = queue::check_git(&mut site)?;
    let out = &mut context.out;
    if out.json {
        let problems: Vec<Value> = problems
            .iter()
            .map(|p| json!({"plan": p.plan, "rule": p.rule, "message": p.message}))
            .collect();
        let strangers: Vec<Value> = strangers
            .iter()
            .map(|f| json!({"rule": f.rule, "commit": f.commit, "message": f.message}))
            .collect();
        let fields = json!({
            "rounds": schedule.rounds,
            "left": schedule.left,
            "next": actions,
            "problems": problems,
            "git": strangers,
        });
        out.document("fleet-run", fields);
        return Ok(());
    }
    for (at, round) in schedule.rounds.iter().enumerate() {
        let ids: Vec<&str> = round.iter().map(PlanId::as_str).collect();
        out.line(format!("round {}: {}", at + 1, ids.join(", ")));
    }
    if schedule.rounds.is_empty() {
        out.line("nothing can be run");
    }
    for action in &schedule.left {
        if let Action::Wait { plan, reason, .. } | Action::Block { plan, reason } = action {
            out.line(format!("not {plan}: {reason}"));
        }
    }
    for problem in &problems {
        out.line(format!("{}: {}", problem.plan, problem.message));
    }
    for finding in &strangers {
        out.line(&finding.message);
    }
    Ok(())
}

fn go(args: RunArgs, context: &mut Context) -> Result<(), Failure> {
    let plan = Plan {
        limits: limits(&args),
        once: args.once,
        lowest: args.allow_tier.unwrap_or(Tier::A),
    };
    let mut site = context.site()?;
    let live = io::stdout().is_terminal() && !context.out.json;
    let mut table = live.then(Table::new);
    let out = &mut context.out;
    let ended = coordinator::run(&mut site, &plan, &mut |told| match &mut table {
        Some(table) => table.tell(&told),
        None => line(out, &told),
    });
    if let Some(table) = table {
        table.close();
    }
    let ended = ended?;
    summary(&ended, live, context);
    match ended.blocked.len() {
        0 => Ok(()),
        _ if !args.once => Ok(()),
        n => {
            let are = if n == 1 { "plan is" } else { "plans are" };
            Err(Failure::refused(format!("{n} {are} blocked"))
                .hint("see why: govfs fleet status; then govfs queue set-status ID todo"))
        }
    }
}

/// One event as a line of JSON, as it happens.
fn line(out: &mut Output, told: &Told) {
    let mut fields = serde_json::to_value(told).unwrap_or_default();
    fields["ts"] = json!(clock::wall());
    let [done, busy, blocked, all] = told.counts;
    fields["counts"] = json!({"done": done, "in_progress": busy, "blocked": blocked, "all": all});
    out.document("fleet-run", fields);
    out.flush();
}

fn summary(ended: &Ended, live: bool, context: &mut Context) {
    let out = &mut context.out;
    if !live {
        let blocked: Vec<Value> = ended
            .blocked
            .iter()
            .map(|(plan, reason)| json!({"plan": plan, "reason": reason}))
            .collect();
        let waiting: Vec<Value> = ended
            .waiting
            .iter()
            .map(|(plan, on, reason)| json!({"plan": plan, "on": on, "reason": reason}))
            .collect();
        let fields = json!({
            "event": "end",
            "stopped": ended.stopped,
            "done": ended.done,
            "blocked": blocked,
            "waiting": waiting,
        });
        out.document("fleet-run", fields);
        return;
    }
    out.line(format!(
        "{} done, {} blocked, {} waiting",
        ended.done,
        ended.blocked.len(),
        ended.waiting.len()
    ));
    for (plan, reason) in &ended.blocked {
        let plan = out.paint(Ink::Red, plan);
        out.line(format!("{plan}: {reason}"));
    }
    for (plan, _, reason) in &ended.waiting {
        out.line(format!("{plan}: {reason}"));
    }
}

fn show(context: &mut Context) -> Result<(), Failure> {
    let standing = status(&mut context.site()?)?;
    let out = &mut context.out;
    if out.json {
        out.document("fleet-status", status_fields(&standing));
        return Ok(());
    }
    match standing.leader {
        Some(pid) => out.line(format!("the fleet runs, as process {pid}")),
        None => out.line("no fleet runs"),
    }
    for job in standing.picture.jobs() {
        if job.state == QueueState::Todo {
            continue;
        }
        let owner = job.owner.as_ref().map_or("-", AgentName::as_str);
        let line = format!(
            "{:<28} {:<11} {:<16} {:<10} {}",
            job.plan.id,
            job.state,
            owner,
            if job.state == QueueState::InProgress {
                stage(&job.stage)
            } else {
                ""
            },
            job.reason.as_deref().unwrap_or_default()
        );
        out.line(line.trim_end());
    }
    Ok(())
}

fn stage(stage: &Stage) -> &'static str {
    match stage {
        Stage::Foreign => "foreign",
        Stage::Claimed => "claimed",
        Stage::Mounted => "ready",
        Stage::Running => "running",
        Stage::Lost => "lost",
        Stage::Ended { .. } => "ended",
        Stage::Refused { .. } => "refused",
        Stage::Checked { .. } => "reviewed",
    }
}

fn status_fields(standing: &Standing) -> Value {
    let jobs: Vec<Value> = standing
        .picture
        .jobs()
        .iter()
        .map(|job| {
            json!({
                "plan": job.plan.id,
                "state": job.state.as_str(),
                "stage": (job.state == QueueState::InProgress).then(|| stage(&job.stage)),
                "agent": job.owner,
                "attempts": job.attempts,
                "reason": job.reason,
                "refused": job.refused,
            })
        })
        .collect();
    json!({
        "running": standing.leader.is_some(),
        "pid": standing.leader,
        "since": standing.last.as_ref().map(|row| row.since),
        "plans": jobs,
    })
}

fn stop(context: &mut Context) -> Result<(), Failure> {
    let pids = stopping::stop(&mut context.site()?)?;
    if context.out.json {
        context
            .out
            .document("fleet-stop", json!({ "stopped": pids }));
    } else {
        context.out.line("the fleet has ended");
    }
    Ok(())
}

/// Run one plan's command and record how it ended (started by the fleet)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct JobArgs {
    plan: PlanId,
    #[arg(long)]
    attempt: u64,
    #[arg(long)]
    command: Option<String>,
    #[arg(long, value_parser = tier)]
    allow_tier: Option<Tier>,
}

pub(super) fn job(args: JobArgs, context: &mut Context) -> Result<(), Failure> {
    let orders = Orders {
        plan: args.plan,
        attempt: args.attempt,
        fallback: args.command,
        lowest: args.allow_tier.unwrap_or(Tier::A),
    };
    job::work(&mut context.site()?, &orders)
}

/// Merge one plan's session and record what came of it (started by the fleet)
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct MergeArgs {
    plan: PlanId,
}

pub(super) fn merge(args: &MergeArgs, context: &mut Context) -> Result<(), Failure> {
    job::merge(&mut context.site()?, &args.plan)
}
