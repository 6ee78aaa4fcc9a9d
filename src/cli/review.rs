//! `govfs review`

use serde_json::{Value, json};

use super::Context;
use super::output::Ink;
use super::text;
use crate::app::failure::Failure;
use crate::app::review::{self, Given, Listed};
use crate::domain::event::ReviewAction;
use crate::domain::names::AgentName;
use crate::domain::review::Stance;

/// Reviews: approve or reject exactly what an agent's session would merge
///
/// A vote is for one candidate, its tree and its base; any change makes it void. Nobody approves their own work.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs review request alice\n  govfs review approve alice --as bob -m 'reads well'\n  govfs review reject alice --as carol -m 'the old tests are gone'\n  govfs review list"
)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Ask for reviews of what the agent has now
    #[command(
        after_help = "Examples:\n  govfs review request alice\n  govfs review request alice -m 'the parser first'"
    )]
    Request {
        agent: AgentName,
        #[arg(short, long, value_name = "MSG")]
        message: Option<String>,
    },
    /// Approve what the agent has now
    #[command(after_help = "Examples:\n  govfs review approve alice --as bob -m 'reads well'")]
    Approve(VoteArgs),
    /// Reject what the agent has now
    #[command(
        after_help = "Examples:\n  govfs review reject alice --as carol -m 'the old tests are gone'"
    )]
    Reject(VoteArgs),
    /// Show the reviews of open sessions
    #[command(after_help = "Examples:\n  govfs review list\n  govfs review list --json")]
    List,
}

#[derive(Debug, clap::Args)]
struct VoteArgs {
    agent: AgentName,
    /// Who reviews
    #[arg(long = "as", value_name = "REVIEWER")]
    by: AgentName,
    #[arg(short, long, value_name = "MSG")]
    message: Option<String>,
}

pub(super) fn run(args: Args, context: &mut Context) -> Result<(), Failure> {
    match args.verb {
        Verb::Request { agent, message } => request(&agent, message, context),
        Verb::Approve(args) => vote(args, Stance::Approve, context),
        Verb::Reject(args) => vote(args, Stance::Reject, context),
        Verb::List => list(context),
    }
}

fn request(
    agent: &AgentName,
    message: Option<String>,
    context: &mut Context,
) -> Result<(), Failure> {
    let given = review::request(&mut context.site()?, agent, message)?;
    if context.out.json {
        let mut fields = fields(agent, "request", &given);
        fields["reviewers"] = json!(given.reviewers);
        context.out.document("review-request", fields);
        return Ok(());
    }
    context.out.line(words(agent, "waits for review", &given));
    if given.reviewers.is_empty() {
        context
            .out
            .note("no agent that is known may review it: govfs agent add NAME --role ROLE");
    } else {
        let names: Vec<&str> = given.reviewers.iter().map(AgentName::as_str).collect();
        let line = format!("these may review it: {}", names.join(", "));
        context.out.line(line);
    }
    Ok(())
}

fn vote(args: VoteArgs, stance: Stance, context: &mut Context) -> Result<(), Failure> {
    let VoteArgs { agent, by, message } = args;
    let given = review::vote(&mut context.site()?, &agent, &by, stance, message)?;
    let (verb, told) = match stance {
        Stance::Approve => ("approve", "approved"),
        Stance::Reject => ("reject", "rejected"),
    };
    if context.out.json {
        let mut fields = fields(&agent, verb, &given);
        fields["reviewer"] = json!(by);
        context.out.document(&format!("review-{verb}"), fields);
        return Ok(());
    }
    let line = words(&agent, &format!("is {told} by {by}"), &given);
    context.out.line(line);
    Ok(())
}

fn fields(agent: &AgentName, action: &str, given: &Given) -> Value {
    json!({
        "agent": agent,
        "session": given.session,
        "action": action,
        "tree": given.candidate.tree,
        "base": given.candidate.base,
        "entry": given.entry,
    })
}

fn words(agent: &AgentName, what: &str, given: &Given) -> String {
    let (tree, base) = (
        given.candidate.tree.to_string(),
        given.candidate.base.to_string(),
    );
    format!("{agent} {what}: tree {} over {}", &tree[..12], &base[..12])
}

fn list(context: &mut Context) -> Result<(), Failure> {
    let reviews = review::list(&mut context.site()?)?;
    if context.out.json {
        let rows: Vec<Value> = reviews.iter().map(row).collect();
        context
            .out
            .document("review-list", json!({ "reviews": rows }));
        return Ok(());
    }
    if reviews.is_empty() {
        context
            .out
            .note("no reviews of open sessions: govfs review request AGENT");
    }
    for review in &reviews {
        let line = line(review, context);
        context.out.line(line.trim_end());
    }
    Ok(())
}

fn action(action: ReviewAction) -> &'static str {
    match action {
        ReviewAction::Request => "request",
        ReviewAction::Approve => "approve",
        ReviewAction::Reject => "reject",
    }
}

fn row(review: &Listed) -> Value {
    let row = &review.row;
    json!({
        "entry": review.entry,
        "agent": row.agent,
        "session": row.session,
        "action": action(row.action),
        "reviewer": row.reviewer,
        "tree": row.tree,
        "base": row.base,
        "since": row.since,
        "message": row.message,
        "void": review.old,
    })
}

fn line(review: &Listed, context: &Context) -> String {
    let row = &review.row;
    let tree = row.tree.to_string();
    let void = if review.old {
        context.out.paint(Ink::Dim, "void: of an older candidate  ")
    } else {
        String::new()
    };
    format!(
        "{:>6}  {}  {:<16} {:<8} {:<16} tree {}  {void}{}",
        review.entry,
        text::time(row.since),
        row.agent,
        action(row.action),
        row.reviewer.as_ref().map_or("-", AgentName::as_str),
        &tree[..12],
        row.message.as_deref().unwrap_or_default()
    )
}
