//! The charter in plain words.
//!
//! Owns: the sentences of `charter check`. Every setting is told, with what it
//! means for somebody who works under it.

use std::fmt::Display;
use std::fmt::Write as _;

use crate::domain::charter::Charter;
use crate::domain::charter::CharterCommand;
use crate::domain::charter::ClaimMode;
use crate::domain::charter::Diversity;
use crate::domain::charter::HostPath;
use crate::domain::charter::TransientRule;
use crate::domain::event::Tier;

pub(super) fn explain(charter: &Charter) -> Vec<(String, Vec<String>)> {
    [
        ("Paths", paths(charter)),
        ("Claims", claims(charter)),
        ("Roles", roles(charter)),
        ("Sandbox", sandbox(charter)),
        ("Plans", plans(charter)),
        ("Reviews", reviews(charter)),
        ("Merge", merge(charter)),
        ("Ledger", ledger(charter)),
    ]
    .map(|(heading, lines)| (heading.to_owned(), lines))
    .into()
}

fn joined<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

/// Writes milliseconds as people do.
fn duration(ms: u64) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = ms;
    let mut out = String::new();
    for (unit, length) in units {
        if rest >= length {
            let _ = write!(out, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    out
}

fn command(command: &CharterCommand) -> String {
    match command {
        CharterCommand::Shell(text) => format!("`{text}`"),
        CharterCommand::Argv(argv) => format!("`{}`", argv.join(" ")),
    }
}

fn paths(charter: &Charter) -> Vec<String> {
    let mut lines = vec![
        format!(
            "protected, nobody may write: {}",
            joined(&charter.paths.protected)
        ),
        format!(
            "sensitive, only under a claim that names them: {}",
            joined(charter.paths.sensitive())
        ),
        format!(
            "scratch, besides what git ignores; never merged: {}",
            joined(&charter.scratch)
        ),
    ];
    if !charter.share.is_empty() {
        let shared = joined(&charter.share);
        lines.push(format!(
            "shared, a mount starts with the operator's copy: {shared}"
        ));
    }
    lines.push(match charter.transient.rule {
        TransientRule::Derived => {
            "transient, for saving atomically: names made from a claimed file's name".to_owned()
        }
        TransientRule::Broad => {
            "transient: any new file beside a claimed one; it is not merged unless it is claimed"
                .to_owned()
        }
    });
    if !charter.transient.names.is_empty() {
        lines.push(format!(
            "transient as well: {}",
            joined(&charter.transient.names)
        ));
    }
    lines
}

fn claims(charter: &Charter) -> Vec<String> {
    let mode = match charter.claims.mode {
        ClaimMode::Explicit => "a path is claimed before it is written",
        ClaimMode::FirstWrite => "the first write to a free path claims it",
    };
    vec![
        mode.to_owned(),
        format!(
            "a claim that is not used ends after {}",
            duration(charter.claims.ttl_ms)
        ),
    ]
}

fn roles(charter: &Charter) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, role) in &charter.roles {
        let mut line = format!("{name} may claim inside {}", joined(&role.paths));
        if let Some(engine) = &role.engine {
            let _ = write!(line, "; runs {engine}");
        }
        let reviewers = charter.reviewers_of(name);
        if !reviewers.is_empty() {
            let _ = write!(line, "; is reviewed by {}", joined(reviewers));
        }
        lines.push(line);
    }
    lines.push(format!(
        "an agent that was added without a role is: {}",
        charter.default_role
    ));
    lines
}

fn sandbox(charter: &Charter) -> Vec<String> {
    let sandbox = &charter.sandbox;
    let hosts = |list: &[HostPath]| joined(list.iter().map(HostPath::as_str));
    let on = |yes: bool| if yes { "allowed" } else { "refused" };
    vec![
        format!(
            "tier A is required: every layer of enforcement, or nothing starts; {}",
            match sandbox.least_tier {
                None => "--allow-tier may put up with less",
                Some(Tier::A) => "--allow-tier is refused",
                Some(Tier::B) => "--allow-tier may put up with B, not with C",
                Some(Tier::C) => "--allow-tier may put up with B and C",
            }
        ),
        format!("the network is {}", on(sandbox.network)),
        format!("Unix sockets are {}", on(sandbox.af_unix)),
        format!(
            "written through for the agent that keeps its state there: {}",
            hosts(&sandbox.states)
        ),
        format!(
            "written through for every program: {}",
            hosts(&sandbox.writable)
        ),
        format!("each session has its own copy: {}", hosts(&sandbox.copied)),
        format!("absent: {}", hosts(&sandbox.hidden)),
        format!("variables passed on: {}", joined(sandbox.variables())),
    ]
}

fn plans(charter: &Charter) -> Vec<String> {
    let mut lines = vec![if charter.plans.required {
        "every merge needs a plan".to_owned()
    } else {
        "work without a plan may be merged".to_owned()
    }];
    for (kind, validators) in &charter.plans.validators {
        lines.push(format!(
            "a plan of type {kind} is validated by {}",
            joined(validators)
        ));
    }
    for (name, check) in &charter.plans.external {
        let limit = duration(check.timeout_ms);
        lines.push(format!(
            "validator {name} runs {}, at most {limit}",
            command(&check.command)
        ));
    }
    let facts = &charter.facts;
    for (what, source) in [
        ("the schema's version", &facts.schema_version),
        ("feature flags", &facts.feature_flags),
        ("coverage", &facts.coverage),
        ("the tests' verdict", &facts.tests),
    ] {
        if let Some(source) = source {
            lines.push(format!("{what} comes from {}", command(source)));
        }
    }
    lines.push(format!("tests are: {}", joined(facts.test_files())));
    lines
}

fn reviews(charter: &Charter) -> Vec<String> {
    let reviews = &charter.reviews;
    let mut lines = vec![match reviews.required {
        0 => "a merge needs no approval by default".to_owned(),
        1 => "every merge needs an approval".to_owned(),
        count => format!("every merge needs {count} approvals"),
    }];
    lines.push("nobody approves their own change, and any change voids an approval".to_owned());
    lines.push(match reviews.engine_diversity {
        Diversity::Off => "the reviewer's engine does not matter".to_owned(),
        Diversity::Prefer => "a reviewer with another engine is asked first".to_owned(),
        Diversity::Require => "only a reviewer with another engine counts".to_owned(),
    });
    for rule in &reviews.rules {
        let mut who: Vec<String> = rule.roles.iter().map(ToString::to_string).collect();
        if rule.person {
            who.push("a person".to_owned());
        }
        let paths = joined(&rule.paths);
        lines.push(format!("changes under {paths} need: {}", joined(who)));
    }
    lines
}

fn merge(charter: &Charter) -> Vec<String> {
    let mut lines = vec![format!("sessions are merged to {}", charter.merge.target)];
    for check in &charter.checks {
        let limit = duration(check.timeout_ms);
        let needed = if charter.merge.checks.contains(&check.name) {
            "must pass"
        } else {
            "runs only where a plan asks for it"
        };
        lines.push(format!(
            "check {}: {}, at most {limit}; {needed}",
            check.name,
            command(&check.command)
        ));
    }
    if charter.checks.is_empty() {
        lines.push("no acceptance checks".to_owned());
    }
    let people = joined(&charter.merge.people);
    lines.push(format!(
        "people who may move a protected branch themselves: {people}"
    ));
    lines
}

fn ledger(charter: &Charter) -> Vec<String> {
    let ledger = &charter.ledger;
    let mut lines = vec![
        format!(
            "contents are kept for {}, hashes for ever",
            duration(ledger.keep_contents_ms)
        ),
        format!(
            "a session's entries are sealed every {} entries and every {}",
            ledger.seal_entries,
            duration(ledger.seal_interval_ms)
        ),
    ];
    if let Some(anchor) = &ledger.anchor {
        lines.push(format!("each checkpoint is handed to {}", command(anchor)));
    }
    lines.push(match ledger.session_quota {
        Some(bytes) => format!("a session may keep at most {bytes} bytes"),
        None => "a session may keep any number of bytes".to_owned(),
    });
    lines
}
