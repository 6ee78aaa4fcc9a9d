//! `govfs queue`

use serde_json::{Value, json};

use super::Context;
use super::output::Ink;
use crate::app::failure::Failure;
use crate::app::queue::{self, Board};
use crate::domain::event::QueueState;
use crate::domain::import::exchange;
use crate::domain::names::{AgentName, PlanId, RoleName};
use crate::domain::queue::Item;
use crate::domain::queue::advice::{self, Obstacle};
use crate::domain::queue::decide::QueueAsk;

/// The queue: which plans are open, who has them, what comes next
///
/// There is no file to edit. A plan is `todo`, `in_progress`, `blocked` or `done`; done needs the merge that did it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs queue next --role core\n  govfs queue claim auth --owner alice\n  govfs queue set-status auth blocked --reason 'waits for a decision'\n  govfs queue git-check\n  govfs queue export > queue.yaml"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show the plans in the order in which they should be taken
    #[command(
        after_help = "Examples:\n  govfs queue list --eligible\n  govfs queue list --state todo --role core"
    )]
    List {
        /// Only plans in this state
        #[arg(long, value_parser = state)]
        state: Option<QueueState>,
        /// Only plans that an agent of this role may take
        #[arg(long)]
        role: Option<RoleName>,
        /// Only plans that can be taken now
        #[arg(long)]
        eligible: bool,
    },
    /// Recommend a plan, and say why this one
    #[command(after_help = "Examples:\n  govfs queue next --role core")]
    Next {
        #[arg(long)]
        role: RoleName,
    },
    /// Hold the queue against its invariants
    #[command(after_help = "Examples:\n  govfs queue validate")]
    Validate,
    /// Take a plan and its paths for an agent
    #[command(after_help = "Examples:\n  govfs queue claim auth --owner alice")]
    Claim {
        id: PlanId,
        #[arg(long, value_name = "AGENT")]
        owner: AgentName,
    },
    /// Change a plan's state
    #[command(
        after_help = "Examples:\n  govfs queue set-status auth blocked --reason 'waits for a decision'\n  govfs queue set-status auth todo"
    )]
    SetStatus {
        id: PlanId,
        #[arg(value_parser = state, value_name = "todo|in_progress|blocked|done")]
        state: QueueState,
        /// The merge that did it
        #[arg(long)]
        commit: Option<String>,
        #[arg(long)]
        reason: Option<String>,
    },
    /// Hold the ledger against the branches
    #[command(after_help = "Examples:\n  govfs queue git-check")]
    GitCheck,
    /// Print the queue as YAML; an edited copy comes back by `govfs plan import`, and is judged
    #[command(after_help = "Examples:\n  govfs queue export > queue.yaml")]
    Export,
}

fn state(text: &str) -> Result<QueueState, String> {
    text.parse()
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        Verb::List {
            state,
            role,
            eligible,
        } => list(state, role.as_ref(), eligible, context),
        Verb::Next { role } => next(&role, context),
        Verb::Validate => validate(context),
        Verb::Claim { id, owner } => claim(&id, &owner, context),
        Verb::SetStatus {
            id,
            state,
            commit,
            reason,
        } => set_status(id, state, commit, reason, context),
        Verb::GitCheck => git_check(context),
        Verb::Export => export(context),
    }
}

fn list(
    state: Option<QueueState>,
    role: Option<&RoleName>,
    eligible: bool,
    context: &mut Context,
) -> Result<(), Failure> {
    let board = Board::read(&mut context.site()?, true)?;
    let mut shown = Vec::new();
    for item in board.in_order() {
        let obstacles = board.obstacles(item);
        let in_state = state.is_none_or(|state| item.state == state);
        let for_role =
            role.is_none_or(|role| item.plan.role.as_ref().is_none_or(|own| own == role));
        if in_state && for_role && (!eligible || obstacles.is_empty()) {
            shown.push((item, obstacles));
        }
    }
    if context.out.json {
        let plans: Vec<Value> = shown.iter().map(|(item, why)| fields(item, why)).collect();
        context
            .out
            .document("queue-list", json!({ "plans": plans }));
        return Ok(());
    }
    if shown.is_empty() {
        context.out.note(if board.queue.0.is_empty() {
            "the queue is empty: govfs plan add FILE"
        } else {
            "no plan is like that: govfs queue list shows all"
        });
    }
    for (item, obstacles) in shown {
        let line = words(item, &obstacles, context);
        context.out.line(line.trim_end());
    }
    Ok(())
}

fn fields(item: &Item, obstacles: &[Obstacle]) -> Value {
    let plan = &item.plan;
    let claims: Vec<_> = plan
        .claims
        .writes()
        .map(|(_, _, pattern)| pattern)
        .collect();
    json!({
        "id": plan.id,
        "state": item.state.as_str(),
        "role": plan.role,
        "owner": item.owner,
        "depends_on": plan.dependencies,
        "claims": claims,
        "reads": plan.claims.read,
        "eligible": obstacles.is_empty(),
        "obstacles": obstacles.iter().map(obstacle).collect::<Vec<_>>(),
        "type": plan.kind,
        "priority": plan.priority,
        "agent": plan.agent,
        "commit": item.commit,
        "reason": item.reason,
    })
}

fn obstacle(obstacle: &Obstacle) -> Value {
    json!({"rule": obstacle.rule(), "message": obstacle.to_string()})
}

fn words(item: &Item, obstacles: &[Obstacle], context: &Context) -> String {
    let note = match (item.state, obstacles.first()) {
        (QueueState::Todo, None) => context.out.paint(Ink::Green, "eligible"),
        (QueueState::Todo, Some(first)) => first.to_string(),
        (QueueState::Blocked, _) => item.reason.clone().unwrap_or_default(),
        (QueueState::InProgress, _) => String::new(),
        (QueueState::Done, _) => item
            .commit
            .map_or(String::new(), |commit| commit.to_string()),
    };
    format!(
        "{:<28} {:<11} {:<12} {:<16} {note}",
        item.plan.id,
        item.state,
        item.plan.role.as_ref().map_or("-", RoleName::as_str),
        item.owner.as_ref().map_or("-", AgentName::as_str),
    )
}

fn next(role: &RoleName, context: &mut Context) -> Result<(), Failure> {
    let board = Board::read(&mut context.site()?, true)?;
    let advice = board.next(role)?;
    if context.out.json {
        let passed: Vec<Value> = advice
            .passed
            .iter()
            .map(|(id, why)| json!({"id": id, "obstacles": why.iter().map(obstacle).collect::<Vec<_>>()}))
            .collect();
        let fields =
            json!({"plan": advice.plan, "role": role, "reasons": advice.reasons, "passed": passed});
        context.out.document("queue-next", fields);
        return Ok(());
    }
    let out = &mut context.out;
    match &advice.plan {
        Some(id) => out.line(out.paint(Ink::Bold, id)),
        None => out.line("nothing to take"),
    }
    for reason in &advice.reasons {
        out.line(format!("  {reason}"));
    }
    for (id, why) in &advice.passed {
        let why: Vec<String> = why.iter().map(ToString::to_string).collect();
        out.line(format!("  not {id}: {}", why.join("; ")));
    }
    if let Some(id) = &advice.plan {
        out.note(format!("take it: govfs queue claim {id} --owner AGENT"));
    }
    Ok(())
}

fn validate(context: &mut Context) -> Result<(), Failure> {
    let problems = queue::problems(&mut context.site()?)?;
    if context.out.json {
        let rows: Vec<Value> = problems
            .iter()
            .map(|p| json!({"plan": p.plan, "rule": p.rule, "message": p.message}))
            .collect();
        let fields = json!({"ok": problems.is_empty(), "problems": rows});
        context.out.document("queue-validate", fields);
    } else {
        for problem in &problems {
            let rule = context.out.paint(Ink::Red, problem.rule);
            context
                .out
                .line(format!("{}: {rule}: {}", problem.plan, problem.message));
        }
    }
    if problems.is_empty() {
        if !context.out.json {
            context.out.line("the queue holds together");
        }
        return Ok(());
    }
    Err(Failure::refused(format!(
        "the queue has {} faults",
        problems.len()
    )))
}

fn claim(id: &PlanId, owner: &AgentName, context: &mut Context) -> Result<(), Failure> {
    let taken = queue::claim(&mut context.site()?, id, owner, false)?;
    if context.out.json {
        let fields = json!({
            "id": taken.plan,
            "owner": taken.owner,
            "state": QueueState::InProgress.as_str(),
            "claims": taken.patterns,
        });
        context.out.document("queue-claim", fields);
        return Ok(());
    }
    let patterns: Vec<String> = taken.patterns.iter().map(ToString::to_string).collect();
    context
        .out
        .line(format!("{owner} has {id}: {}", patterns.join(" ")).trim_end());
    let hint = format!("work on it: govfs run {owner} --plan {id} -- COMMAND");
    context.out.note(hint);
    Ok(())
}

fn set_status(
    id: PlanId,
    to: QueueState,
    commit: Option<String>,
    reason: Option<String>,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut site = context.site()?;
    let mut ask = QueueAsk::set(id.clone(), to);
    ask.commit = commit
        .map(|revision| site.repo.resolve(&revision))
        .transpose()?;
    ask.reason = reason;
    let state = queue::set_status(&mut site, &ask)?;
    let row = crate::app::plan::find(&state, &id)?;
    if context.out.json {
        let fields = json!({
            "id": id,
            "state": row.state.as_str(),
            "owner": row.owner,
            "commit": row.commit,
            "reason": row.reason,
        });
        context.out.document("queue-set-status", fields);
    } else {
        context.out.line(format!("{id} is {}", row.state));
    }
    Ok(())
}

fn git_check(context: &mut Context) -> Result<(), Failure> {
    let findings = queue::check_git(&mut context.site()?)?;
    if context.out.json {
        let rows: Vec<Value> = findings
            .iter()
            .map(|f| json!({"rule": f.rule, "plan": f.plan, "commit": f.commit, "message": f.message}))
            .collect();
        let fields = json!({"ok": findings.is_empty(), "findings": rows});
        context.out.document("queue-git-check", fields);
    } else {
        for finding in &findings {
            let rule = context.out.paint(Ink::Red, finding.rule);
            context.out.line(format!("{rule}: {}", finding.message));
        }
    }
    if findings.is_empty() {
        if !context.out.json {
            context
                .out
                .line("the ledger and the branches tell the same");
        }
        return Ok(());
    }
    let count = findings.len();
    Err(Failure::refused(format!(
        "the ledger and the branches differ: {count} {}",
        if count == 1 { "finding" } else { "findings" }
    ))
    .hint("what came around govfs: see `git log`, and `govfs protect` for the future"))
}

fn export(context: &mut Context) -> Result<(), Failure> {
    let (queue, _) = crate::app::plan::queue(&mut context.site()?)?;
    let text = exchange::export(&queue, &advice::dispatch(&queue));
    if context.out.json {
        context
            .out
            .document("queue-export", json!({ "yaml": text }));
    } else {
        context.out.file(text.as_bytes());
    }
    Ok(())
}
