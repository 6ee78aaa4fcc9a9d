//! The seal, tried for real: every attack beside the legal operation next to it.
//!
//! A launch needs a process of one thread, so this test has a small runner of its own (it speaks the runner's
//! `--list` and `--exact`), and runs each launch in a helper process: itself, with `--helper`.

#[path = "seal/attack.rs"]
mod attack;
#[path = "seal/bench.rs"]
mod bench;
#[path = "seal/cases.rs"]
mod cases;
#[path = "seal/helper.rs"]
mod helper;
#[path = "seal/lives.rs"]
mod lives;
#[path = "seal/rows.rs"]
mod rows;
#[path = "seal/screens.rs"]
mod screens;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.first().map(String::as_str) {
        Some("--helper") => helper::main(&args[1..]),
        Some("--attack") => attack::main(&args[1..]),
        Some("--join") => helper::join(&args[1..]),
        Some("--serve") => helper::serve(),
        _ => run(&args),
    }
}

/// Runs, or lists, the cases that the arguments choose.
fn run(args: &[String]) -> ExitCode {
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let filters: Vec<&String> = args
        .iter()
        .filter(|arg| !arg.starts_with('-') && *arg != "terse")
        .collect();
    let chosen = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|filter| {
                if flag("--exact") {
                    name == *filter
                } else {
                    name.contains(*filter)
                }
            })
    };
    let mut failed = 0;
    for (name, case) in cases::all() {
        if flag("--ignored") || !chosen(name) {
            continue;
        }
        if flag("--list") {
            say(&format!("{name}: test"));
            continue;
        }
        let result = std::panic::catch_unwind(case);
        say(&format!(
            "test {name} ... {}",
            if result.is_ok() { "ok" } else { "FAILED" }
        ));
        failed += usize::from(result.is_err());
    }
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "a test runner speaks on stdout")]
fn say(line: &str) {
    println!("{line}");
}
