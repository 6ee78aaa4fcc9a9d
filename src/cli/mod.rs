//! The command line: one verb a file. Arguments in, screens and JSON out; no decisions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::app::failure::Failure;
use crate::app::merge::recover::{self, Recovered};
use crate::app::site::Site;
use crate::app::trace;
use output::Output;

mod abandon;
mod agent;
mod blame;
mod charter;
mod checkpoint;
mod claim;
mod claims;
mod diff;
mod doctor;
mod export;
mod fleet;
mod gc;
mod hook;
mod init;
mod inside;
mod key;
mod log;
mod merge;
mod mount;
mod output;
mod patch;
mod plan;
mod protect;
mod prove;
mod queue;
mod release;
mod replay;
mod requests;
mod restore;
mod revert;
mod review;
mod role;
mod run;
mod serve;
mod shell;
mod show;
mod snapshot;
mod status;
mod sync;
mod text;
mod told;
mod trial;
mod unmount;
mod verify;
mod why;

/// Several coding agents on one git repository, each in its own governed mount.
///
/// An agent can write only what it has claimed; every change is an entry of a hash-chained ledger; one governed
/// merge promotes its work. Exit status: 0 done, 1 failed, 2 usage, 3 refused by a rule, 4 integrity, 5 not there,
/// 6 this machine cannot enforce it.
#[derive(Debug, Parser)]
#[command(
    name = "govfs",
    version,
    max_term_width = 100,
    arg_required_else_help = true
)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

// What every verb understands.
#[derive(Debug, clap::Args)]
struct Common {
    /// Work as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    start: Option<PathBuf>,
    /// Print one JSON document (streams: one object a line)
    #[arg(long, global = true)]
    json: bool,
    /// Print results only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Say more (twice: still more)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,
    /// Colour the output
    #[arg(
        long,
        value_enum,
        default_value = "auto",
        global = true,
        value_name = "WHEN"
    )]
    color: Color,
}

/// The command line of one verb alone: a launch does not wait until all the others are described.
#[derive(Debug, Parser)]
#[command(name = "govfs")]
struct Quick {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: QuickVerb,
}

#[derive(Debug, Subcommand)]
enum QuickVerb {
    Run(run::Args),
    Serve(serve::Args),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Init(init::Args),
    Agent(agent::Args),
    Charter(charter::Args),
    Claim(claim::Args),
    Release(release::Args),
    Claims(claims::Args),
    Mount(mount::Args),
    Unmount(unmount::Args),
    Run(run::Args),
    Doctor(doctor::Args),
    Hook(hook::Args),
    Merge(merge::Args),
    Abandon(abandon::Args),
    Revert(revert::Args),
    Sync(sync::Args),
    Serve(serve::Args),
    Status(status::Args),
    Diff(diff::Args),
    Snapshot(snapshot::Args),
    Restore(restore::Args),
    Why(why::Args),
    Requests(requests::Args),
    /// Grant a request
    #[command(after_help = "Examples:\n  govfs approve 41\n  govfs approve 41 -m 'for this once'")]
    Approve(requests::AnswerArgs),
    /// Refuse a request
    #[command(after_help = "Examples:\n  govfs deny 41\n  govfs deny 41 -m 'not this week'")]
    Deny(requests::AnswerArgs),
    Log(log::Args),
    Show(show::Args),
    Plan(plan::Args),
    Queue(queue::Args),
    Blame(blame::Args),
    Protect(protect::Args),
    ProtectCheck(protect::CheckArgs),
    Review(review::Args),
    Role(role::Args),
    Fleet(fleet::Args),
    FleetJob(fleet::JobArgs),
    FleetMerge(fleet::MergeArgs),
    Trial(trial::Args),
    TrialServe(trial::ServeArgs),
    Verify(verify::Args),
    Replay(replay::Args),
    Checkpoint(checkpoint::Args),
    Prove(prove::Args),
    Export(export::Args),
    Gc(gc::Args),
    Key(key::Args),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// What is said of an edit of the charter that is no commit yet.
const UNCOMMITTED: &str =
    "note: governor.md has edits that are not committed, so they are not in force";

/// What every verb gets.
struct Context {
    dir: PathBuf,
    out: Output,
}

impl Context {
    /// Opens the repository that the caller stands in, and its ledger.
    fn site(&self) -> Result<Site, Failure> {
        let mut site = Site::found_around(&self.dir)?;
        self.begin(&mut site)?;
        Ok(site)
    }

    /// Opens the ledger, settles what was cut short, and says what is not in force.
    fn begin(&self, site: &mut Site) -> Result<(), Failure> {
        site.read_ledger()?;
        match recover::if_idle(site) {
            Ok(done) => done.iter().for_each(|one| self.tell(one)),
            Err(failure) => self.out.note(format!(
                "warning: a merge that was cut short cannot be settled yet: {failure}"
            )),
        }
        if site.has_uncommitted_edit() {
            self.out.note(UNCOMMITTED);
        }
        Ok(())
    }

    fn tell(&self, one: &Recovered) {
        let what = if one.finished { "finished" } else { "undone" };
        self.out.note(format!(
            "the merge of {} that was cut short is {what}: entry {}",
            one.session, one.entry
        ));
        for remark in &one.remarks {
            self.out.note(format!("warning: {remark}"));
        }
    }
}

/// Runs the program with `arguments` and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(status) = inside::run(&arguments) {
        return status;
    }
    let (common, verb) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(error) => return output::usage(&error, &arguments),
    };
    if !matches!(verb, Verb::Serve(_)) {
        trace::begin(trace::level(common.quiet, common.verbose)); // a server logs in its own way
    }
    let mut out = Output::new(common.json, common.quiet, common.verbose, common.color);
    if common.json {
        out = out.of_verb(&verb_of(&arguments).unwrap_or_default());
    }
    let mut context = Context {
        dir: common.start.unwrap_or_else(|| PathBuf::from(".")),
        out,
    };
    let done = dispatch(verb, &mut context);
    context.out.finish(done)
}

/// Parses a command line; what the verbs in a hurry do not understand is told by the whole parser.
fn parse(arguments: &[OsString]) -> Result<(Common, Verb), clap::Error> {
    let in_hurry = arguments
        .iter()
        .any(|word| word == "run" || word == "serve");
    if in_hurry && let Ok(quick) = Quick::try_parse_from(arguments) {
        let verb = match quick.verb {
            QuickVerb::Run(args) => Verb::Run(args),
            QuickVerb::Serve(args) => Verb::Serve(args),
        };
        return Ok((quick.common, verb));
    }
    let cli = Cli::try_parse_from(arguments)?;
    Ok((cli.common, cli.verb))
}

fn dispatch(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => init::run(args, context),
        Verb::Agent(args) => agent::run(args, context),
        Verb::Charter(args) => charter::run(args, context),
        Verb::Claim(args) => claim::run(args, context),
        Verb::Why(args) => why::run(args, context),
        Verb::Requests(args) => requests::run(args, context),
        Verb::Approve(args) => requests::approve(args, context),
        Verb::Deny(args) => requests::deny(args, context),
        Verb::Replay(args) => replay::run(args, context),
        Verb::Checkpoint(args) => checkpoint::run(args, context),
        Verb::Prove(args) => prove::run(args, context),
        Verb::Export(args) => export::run(args, context),
        Verb::Gc(args) => gc::run(args, context),
        Verb::Key(args) => key::run(args, context),
        Verb::Completions(args) => {
            shell::completions(args, context);
            Ok(())
        }
        Verb::Man(args) => shell::man(args, context),
        Verb::Release(args) => release::run(args, context),
        Verb::Claims(args) => claims::run(args, context),
        Verb::Mount(args) => mount::run(args, context),
        Verb::Unmount(args) => unmount::run(args, context),
        Verb::Hook(args) => hook::run(args, context),
        Verb::Doctor(args) => doctor::run(args, context),
        Verb::Run(args) => run::run(args, context),
        Verb::Merge(args) => merge::run(args, context),
        Verb::Abandon(args) => abandon::run(args, context),
        Verb::Revert(args) => revert::run(args, context),
        Verb::Sync(args) => sync::run(args, context),
        Verb::Serve(args) => serve::run(args, context),
        Verb::Status(args) => status::run(args, context),
        Verb::Diff(args) => diff::run(args, context),
        Verb::Snapshot(args) => snapshot::run(args, context),
        Verb::Restore(args) => restore::run(args, context),
        Verb::Log(args) => log::run(args, context),
        Verb::Show(args) => show::run(args, context),
        Verb::Plan(args) => plan::run(args, context),
        Verb::Queue(args) => queue::run(args, context),
        Verb::Blame(args) => blame::run(args, context),
        Verb::Protect(args) => protect::run(args, context),
        Verb::ProtectCheck(args) => protect::check(&args, context),
        Verb::Review(args) => review::run(args, context),
        Verb::Role(args) => role::run(args, context),
        Verb::Fleet(args) => fleet::run(args, context),
        Verb::FleetJob(args) => fleet::job(args, context),
        Verb::FleetMerge(args) => fleet::merge(&args, context),
        Verb::Trial(args) => trial::run(args, context),
        Verb::TrialServe(args) => trial::serve(&args, context),
        Verb::Verify(args) => verify::run(args, context),
    }
}

/// Finds the verb as documents name it, also where the rest cannot be understood.
fn verb_of(arguments: &[OsString]) -> Option<String> {
    let (_, name) = inside::scan(arguments)?;
    let name = name.to_str()?;
    let command = command();
    let verb = command.find_subcommand(name)?;
    let rest = arguments.iter().skip_while(|argument| *argument != name);
    let second = rest
        .skip(1)
        .find_map(|argument| verb.find_subcommand(argument));
    Some(match second {
        Some(second) if !["agent", "charter", "key"].contains(&name) => {
            format!("{name}-{}", second.get_name())
        }
        _ => name.to_owned(),
    })
}

/// Returns the whole command line as clap sees it: completions and manual pages are made from it.
fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a line of a shell apart as far as examples need it: what govfs itself is given.
    fn words(line: &str) -> Vec<String> {
        let line = match line.rsplit_once("| govfs ") {
            Some((_, rest)) => format!("govfs {rest}"),
            None => line.trim().to_owned(),
        };
        // What is said of an example stands apart from it.
        let line = line.trim().split("   ").next().unwrap_or_default();
        let line = line.split(['|', '>', '&']).next().unwrap_or_default();
        let mut words = Vec::new();
        for (at, part) in line.split('\'').enumerate() {
            if at % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        words
    }

    /// The verbs that are for people, but for clap's own `help`.
    fn shown(all: &mut clap::Command) -> impl Iterator<Item = &mut clap::Command> {
        let verbs = all.get_subcommands_mut();
        verbs.filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
    }

    fn walk(verb: &mut clap::Command, name: &str) {
        let help = verb.get_after_help().map(ToString::to_string);
        let help = help.unwrap_or_default();
        let examples = help
            .strip_prefix("Examples:\n")
            .unwrap_or_else(|| panic!("govfs {name} --help has no examples"));
        for line in examples.lines().filter(|line| line.contains("govfs ")) {
            match Cli::try_parse_from(words(line)) {
                Ok(_) => {}
                Err(error) if !error.use_stderr() => {} // it asks for help
                Err(error) => panic!("govfs {name} --help: {line}: {error}"),
            }
        }
        for inner in shown(verb) {
            let name = format!("{name} {}", inner.get_name());
            walk(inner, &name);
        }
    }

    #[test]
    fn the_help_of_every_verb_has_examples_that_it_understands() {
        let mut all = command();
        for verb in shown(&mut all) {
            let name = verb.get_name().to_owned();
            walk(verb, &name);
        }
    }
}
