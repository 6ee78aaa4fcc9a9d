//! `govfs plan`

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Context;
use super::output::Ink;
use super::output::Output;
use crate::app::failure::Failure;
use crate::app::plan::import::{self, Fault};
use crate::app::plan::{self, Source};
use crate::app::site::Site;
use crate::domain::dag::{Drawing, Graph, draw};
use crate::domain::names::PlanId;
use crate::domain::path::percent_encode;
use crate::domain::plan::Plan;
use crate::domain::queue::{Item, Queue};
use findings::{finding_fields, tell_findings, tell_judgement, unreadable};

mod findings;

/// Plans: what is to be done, by whom, where, after what, and how one sees that it is done
///
/// A plan is a TOML file. It is judged together with all stored plans: unknown and repeated ids, cycles, claims that
/// overlap where two could run together, roles, protected paths, the validators of its type, and what must hold first.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs plan check plans/\n  govfs plan add plans/auth.toml plans/docs.toml\n  govfs plan graph --format mermaid\n  govfs plan remove auth --revert\n  govfs plan import queue.yaml"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Judge plan files together with what is stored, and store nothing (no FILE: judge what is stored)
    #[command(
        after_help = "Examples:\n  govfs plan check\n  govfs plan check plans/auth.toml\n  govfs plan check plans/"
    )]
    Check {
        #[arg(value_name = "FILE|DIR")]
        files: Vec<PathBuf>,
    },
    /// Judge plan files and store them, all or none
    #[command(after_help = "Examples:\n  govfs plan add plans/auth.toml plans/docs.toml")]
    Add {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Take a plan out, and say what depended on it
    #[command(
        after_help = "Examples:\n  govfs plan remove auth\n  govfs plan remove auth --revert"
    )]
    Remove {
        id: PlanId,
        /// Undo what it merged, as a commit and an entry of their own
        #[arg(long)]
        revert: bool,
    },
    /// Show all stored plans
    #[command(after_help = "Examples:\n  govfs plan list\n  govfs plan list --json")]
    List,
    /// Show one plan with its state and what is wrong with it
    #[command(after_help = "Examples:\n  govfs plan show auth")]
    Show { id: PlanId },
    /// Draw what depends on what
    #[command(
        after_help = "Examples:\n  govfs plan graph\n  govfs plan graph --format dot | dot -Tsvg > plans.svg"
    )]
    Graph {
        #[arg(long, default_value = "text", value_parser = drawing, value_name = "text|dot|mermaid")]
        format: Drawing,
    },
    /// Print the ids in the order in which they can be done
    #[command(after_help = "Examples:\n  govfs plan order")]
    Order,
    /// Take in plans from a work queue (YAML), a dgov plan or an implementation-dag
    #[command(after_help = "Examples:\n  govfs plan import queue.yaml")]
    Import { file: PathBuf },
}

fn drawing(text: &str) -> Result<Drawing, String> {
    text.parse()
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Check { files } => check(&files, context),
        Verb::Add { files } => add(&files, context),
        Verb::Remove { id, revert } => remove(&id, revert, context),
        Verb::List => list(context),
        Verb::Show { id } => show(&id, context),
        Verb::Graph { format } => graph(format, context),
        Verb::Order => order(context),
        Verb::Import { file } => take_in(&file, context),
    }
}

/// Reads the files; what does not parse is all shown at once, with what is wrong with
/// the rest.
fn sources(
    site: &mut Site,
    files: &[PathBuf],
    verb: &str,
    context: &mut Context,
) -> Result<Vec<Source>, Failure> {
    let read = plan::read(site, files)?;
    if read.errors.is_empty() {
        return Ok(read.sources);
    }
    let mut findings = Vec::new();
    if !read.sources.is_empty()
        && let Ok(judged) = plan::judge(site, &read.sources)
    {
        findings = judged.findings;
        // It may be in a file that cannot be read.
        findings.retain(|finding| finding.rule != "unknown-dependency");
    }
    Err(unreadable(&read.errors, &findings, verb, &mut context.out))
}

fn check(files: &[PathBuf], context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let sources = sources(&mut site, files, "plan-check", context)?;
    let judged = plan::judge(&mut site, &sources)?;
    tell_judgement(&judged, "plan-check", &mut context.out);
    if judged.is_clean() {
        return Ok(());
    }
    Err(judged.failure("these plans do not verify"))
}

fn add(files: &[PathBuf], context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let sources = sources(&mut site, files, "plan-add", context)?;
    let judged = plan::judge(&mut site, &sources)?;
    if !judged.is_clean() {
        tell_judgement(&judged, "plan-add", &mut context.out);
        return Err(judged.failure("nothing was added"));
    }
    let added = plan::store(&mut site, &sources, &judged)?;
    let same: Vec<&PlanId> = judged
        .order
        .iter()
        .filter(|id| !added.contains(id))
        .collect();
    if context.out.json {
        let fields = json!({"ok": true, "base": judged.base, "added": added, "unchanged": same});
        context.out.document("plan-add", fields);
        return Ok(());
    }
    for id in &added {
        context.out.line(format!("added {id}"));
    }
    for id in same {
        context.out.line(format!("{id} is there already"));
    }
    Ok(())
}

fn remove(id: &PlanId, revert: bool, context: &mut Context) -> Result<(), Failure> {
    let removed = plan::remove(&mut context.site()?, id, revert)?;
    if context.out.json {
        let (merge, commit) = removed.reverted.unzip();
        let fields = json!({
            "removed": removed.plan,
            "dependents": removed.dependents,
            "reverted": merge,
            "commit": commit,
        });
        context.out.document("plan-remove", fields);
        return Ok(());
    }
    context.out.line(format!("removed {id}"));
    if let Some((merge, commit)) = &removed.reverted {
        context
            .out
            .line(format!("reverted entry {merge} by commit {commit}"));
    }
    if !removed.dependents.is_empty() {
        let ids: Vec<&str> = removed.dependents.iter().map(PlanId::as_str).collect();
        let line = format!(
            "these depended on it and do not verify now: {}",
            ids.join(", ")
        );
        context.out.line(line);
    }
    Ok(())
}

/// A plan as JSON, with its place in the queue.
fn fields(item: &Item) -> Value {
    let mut fields = item.plan.json();
    fields["state"] = json!(item.state.as_str());
    fields["owner"] = json!(item.owner);
    fields["commit"] = json!(item.commit);
    fields["reason"] = json!(item.reason);
    fields
}

fn list(context: &mut Context) -> Result<(), Failure> {
    let (queue, _) = plan::queue(&mut context.site()?)?;
    if context.out.json {
        let plans: Vec<Value> = queue.0.values().map(fields).collect();
        context.out.document("plan-list", json!({ "plans": plans }));
        return Ok(());
    }
    if queue.0.is_empty() {
        context.out.note("no plans yet: govfs plan add FILE");
    }
    for item in queue.0.values() {
        context.out.line(words(item).trim_end());
    }
    Ok(())
}

fn words(item: &Item) -> String {
    let plan = &item.plan;
    format!(
        "{:<28} {:<11} {:<10} {:<16} {}",
        plan.id,
        item.state,
        plan.kind,
        item.owner.as_ref().map_or("-", |owner| owner.as_str()),
        about(plan)
    )
}

fn about(plan: &Plan) -> String {
    if plan.description.is_empty() {
        let claims: Vec<String> = plan
            .claims
            .writes()
            .map(|(_, _, p)| p.to_string())
            .collect();
        claims.join(" ")
    } else {
        plan.description
            .lines()
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

fn show(id: &PlanId, context: &mut Context) -> Result<(), Failure> {
    let shown = plan::show(&mut context.site()?, id)?;
    if context.out.json {
        let mut fields = fields(&shown.item);
        fields["entry"] = json!(shown.row.entry);
        fields["since"] = json!(shown.row.since);
        fields["file"] = json!(
            shown
                .row
                .file
                .as_ref()
                .map(|f| percent_encode(f.as_bytes()))
        );
        fields["base"] = json!(shown.row.base);
        fields["dependents"] = json!(shown.dependents);
        let findings: Vec<Value> = shown.findings.iter().map(finding_fields).collect();
        fields["findings"] = json!(findings);
        context.out.document("plan-show", fields);
        return Ok(());
    }
    let out = &mut context.out;
    out.line(format!(
        "{} is {}",
        out.paint(Ink::Bold, id),
        shown.item.state
    ));
    let row = &shown.row;
    if let Some(owner) = &row.owner {
        out.line(format!("owner     {owner}"));
    }
    if let Some(commit) = &row.commit {
        out.line(format!("commit    {commit}"));
    }
    if let Some(reason) = &row.reason {
        out.line(format!("reason    {reason}"));
    }
    let file = row.file.as_deref().unwrap_or("no file");
    out.line(format!("added     entry {}, from {file}", row.entry));
    if !shown.dependents.is_empty() {
        let ids: Vec<&str> = shown.dependents.iter().map(PlanId::as_str).collect();
        out.line(format!("needed by {}", ids.join(", ")));
    }
    tell_findings(&shown.findings, out);
    out.line("");
    out.text(&row.text);
    Ok(())
}

fn graph(drawing: Drawing, context: &mut Context) -> Result<(), Failure> {
    let (queue, _) = plan::queue(&mut context.site()?)?;
    let members = queue.members();
    let graph = Graph::new(&members);
    if context.out.json {
        let fields = json!({ "nodes": nodes(&queue), "order": graph.order() });
        context.out.document("plan-graph", fields);
        return Ok(());
    }
    let label = |id: &PlanId| {
        queue
            .get(id)
            .map_or("", |item| item.state.as_str())
            .to_owned()
    };
    let text = draw(&graph, drawing, label);
    context.out.text(&text);
    Ok(())
}

fn nodes(queue: &Queue) -> Vec<Value> {
    let node = |item: &Item| {
        json!({
            "id": item.plan.id,
            "state": item.state.as_str(),
            "depends_on": item.plan.dependencies,
        })
    };
    queue.0.values().map(node).collect()
}

fn order(context: &mut Context) -> Result<(), Failure> {
    let (queue, _) = plan::queue(&mut context.site()?)?;
    let members = queue.members();
    let order = Graph::new(&members).order();
    if context.out.json {
        context
            .out
            .document("plan-order", json!({ "order": order }));
        return Ok(());
    }
    for id in order {
        context.out.line(id);
    }
    Ok(())
}

fn take_in(file: &std::path::Path, context: &mut Context) -> Result<(), Failure> {
    let mut site = context.site()?;
    let done = import::import(&mut site, file).map_err(|fault| refused(fault, context))?;
    let out = &mut context.out;
    if out.json {
        let moves: Vec<Value> = done
            .moves
            .iter()
            .map(|(id, state)| json!({"id": id, "state": state.as_str()}))
            .collect();
        let fields = json!({
            "format": done.format,
            "plans": done.plans,
            "removed": done.removed,
            "moves": moves,
            "notes": done.notes,
        });
        out.document("plan-import", fields);
        return Ok(());
    }
    for id in &done.plans {
        out.line(format!("took in {id}"));
    }
    for id in &done.removed {
        out.line(format!("removed {id}"));
    }
    for (id, state) in &done.moves {
        out.line(format!("{id} is {state}"));
    }
    if done.plans.is_empty() && done.removed.is_empty() && done.moves.is_empty() {
        out.line("nothing in it is new");
    }
    for note in &done.notes {
        out.note(format!("note: {note}"));
    }
    Ok(())
}

fn refused(fault: Fault, context: &mut Context) -> Failure {
    let out = &mut context.out;
    match fault {
        Fault::Text(errors) => unreadable(&errors, &[], "plan-import", out),
        Fault::Failure(failure) => failure,
        Fault::Plans(judged) => {
            tell_judgement(&judged, "plan-import", out);
            judged.failure("nothing was taken in")
        }
        Fault::Queue(problems) => {
            let rows = problems
                .into_iter()
                .map(|problem| (problem.plan, problem.rule, problem.message, String::new()));
            refusals(rows.collect(), out)
        }
        Fault::Moves(moves) => {
            let rows = moves
                .into_iter()
                .map(|refusal| (refusal.plan, refusal.rule, refusal.message, refusal.hint));
            refusals(rows.collect(), out)
        }
    }
}

fn refusals(rows: Vec<(PlanId, &'static str, String, String)>, out: &mut Output) -> Failure {
    if out.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|(plan, rule, message, hint)| {
                json!({"plan": plan, "rule": rule, "message": message, "hint": hint})
            })
            .collect();
        out.document("plan-import", json!({ "refusals": rows }));
    } else {
        for (plan, rule, message, _) in &rows {
            out.line(format!("{plan}: {}: {message}", out.paint(Ink::Red, rule)));
        }
    }
    let failure = Failure::refused(format!("nothing was taken in: {} refused", rows.len()));
    match rows
        .into_iter()
        .map(|row| row.3)
        .find(|hint| !hint.is_empty())
    {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
