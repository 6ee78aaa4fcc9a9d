//! The command line: one verb a file. Arguments in, screens and JSON out; no decisions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::app::failure::Failure;
use crate::app::site::Site;
use output::Output;

mod agent;
mod claim;
mod claims;
mod init;
mod log;
mod mount;
mod output;
mod plan;
mod protect;
mod queue;
mod release;
mod role;
mod serve;
mod show;
mod text;
mod unmount;
mod verify;

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
    /// Work as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    dir: Option<PathBuf>,
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
    #[command(subcommand)]
    verb: Verb,
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
    Claim(claim::Args),
    Release(release::Args),
    Claims(claims::Args),
    Mount(mount::Args),
    Unmount(unmount::Args),
    Serve(serve::Args),
    Log(log::Args),
    Show(show::Args),
    Plan(plan::Args),
    Queue(queue::Args),
    Protect(protect::Args),
    ProtectCheck(protect::CheckArgs),
    Role(role::Args),
    Verify(verify::Args),
}

/// What every verb gets.
struct Context {
    dir: PathBuf,
    out: Output,
}

impl Context {
    /// Opens the repository that the caller stands in, and its ledger.
    fn site(&self) -> Result<Site, Failure> {
        Site::open(&self.dir)
    }
}

/// Runs the program with `arguments` and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let mut context = Context {
        dir: cli.dir.unwrap_or_else(|| PathBuf::from(".")),
        out: Output::new(cli.json, cli.quiet, cli.verbose, cli.color),
    };
    let done = dispatch(cli.verb, &mut context);
    context.out.finish(done)
}

fn dispatch(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Init(args) => init::run(args, context),
        Verb::Agent(args) => agent::run(args, context),
        Verb::Claim(args) => claim::run(args, context),
        Verb::Release(args) => release::run(args, context),
        Verb::Claims(args) => claims::run(args, context),
        Verb::Mount(args) => mount::run(args, context),
        Verb::Unmount(args) => unmount::run(args, context),
        Verb::Serve(args) => serve::run(args, context),
        Verb::Log(args) => log::run(args, context),
        Verb::Show(args) => show::run(args, context),
        Verb::Plan(args) => plan::run(args, context),
        Verb::Queue(args) => queue::run(args, context),
        Verb::Protect(args) => protect::run(args, context),
        Verb::ProtectCheck(args) => protect::check(&args, context),
        Verb::Role(args) => role::run(args, context),
        Verb::Verify(args) => verify::run(args, context),
    }
}

/// Returns the whole command line as clap sees it: completions and manual pages are made from it.
fn command() -> clap::Command {
    Cli::command()
}
