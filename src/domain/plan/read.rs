//! The schema of a plan file, table by table.
//!
//! Owns: which keys there are and what each may hold; every fault is noted with its
//! line, and the reading goes on. Never asks what the repository or the charter has.

use toml::de::DeValue;

use crate::domain::names::PlanId;
use crate::domain::plan::fields::{At, Fields, Problems, whole};
use crate::domain::plan::{
    Check, Command, Origin, PLAN_CLAIMS_MAX, Plan, PlanClaims, Postconditions, Preconditions, Run,
};

pub(super) fn plan(file: &str, root: &mut Fields<'_>, problems: &mut Problems<'_>) -> Option<Plan> {
    let mut origin = Origin::new(file);
    let head = match root.table("plan", problems) {
        Some(fields) => read_head(fields, &mut origin, problems),
        None if root.has("plan") => None,
        None => {
            problems.add(1, "plan", "the table [plan] is missing");
            None
        }
    };
    let claims = section(root, "claims", &mut origin, problems, read_claims);
    let preconditions = section(root, "preconditions", &mut origin, problems, read_before);
    let postconditions = section(root, "postconditions", &mut origin, problems, read_after);
    let acceptance = section(root, "acceptance", &mut origin, problems, read_acceptance);
    let has_run = root.has("run");
    let run = section(root, "run", &mut origin, problems, read_run);
    let run = has_run.then_some(run);
    head.map(|head| Plan {
        claims,
        preconditions,
        postconditions,
        acceptance,
        run,
        origin,
        ..head
    })
}

/// Reads the optional table `key`.
fn section<T: Default>(
    root: &mut Fields<'_>,
    key: &'static str,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
    read: impl Fn(&mut Fields<'_>, &mut Origin, &mut Problems<'_>) -> T,
) -> T {
    let Some(mut fields) = root.table(key, problems) else {
        return T::default();
    };
    origin.note(key, fields.line());
    let value = read(&mut fields, origin, problems);
    fields.finish(problems);
    value
}

fn read_head(
    mut fields: Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Option<Plan> {
    origin.note("plan", fields.line());
    let id = required(&mut fields, "id", problems);
    let id = id.and_then(|id| kept(id.parse::<PlanId>(problems), origin));
    let kind = required(&mut fields, "type", problems);
    let kind = kind.and_then(|kind| kept(checked_kind(kind, problems), origin));
    let agent = kept(fields.parsed("agent", problems), origin);
    let role = kept(fields.parsed("role", problems), origin);
    let dependencies = kept_all(fields.parsed_list("dependencies", problems), origin);
    let priority = fields.integer("priority", problems);
    let priority = kept(priority.and_then(|at| small(at, problems)), origin);
    let description = kept(fields.string("description", problems), origin);
    fields.finish(problems);
    Some(Plan {
        agent,
        role,
        dependencies,
        priority,
        description: description.unwrap_or_default(),
        ..Plan::bare(id?, &kind?)
    })
}

fn required(
    fields: &mut Fields<'_>,
    key: &'static str,
    problems: &mut Problems<'_>,
) -> Option<At<String>> {
    if !fields.has(key) {
        problems.add(fields.line(), fields.name(key), "is missing");
    }
    fields.string(key, problems)
}

/// Returns the value alone, and remembers where it stood.
fn kept<T>(at: Option<At<T>>, origin: &mut Origin) -> Option<T> {
    at.map(|at| {
        origin.note(&at.key, at.line);
        at.value
    })
}

fn kept_all<T>(items: Vec<At<T>>, origin: &mut Origin) -> Vec<T> {
    items
        .into_iter()
        .filter_map(|at| kept(Some(at), origin))
        .collect()
}

fn checked_kind(at: At<String>, problems: &mut Problems<'_>) -> Option<At<String>> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&at.value.len()) && at.value.bytes().all(plain) {
        return Some(at);
    }
    let message = "a type is 1 to 64 of A-Z a-z 0-9 - _ .";
    problems.add(at.line, at.key, message);
    None
}

fn small(at: At<i64>, problems: &mut Problems<'_>) -> Option<At<u32>> {
    match u32::try_from(at.value) {
        Ok(value) if (1..=1_000_000).contains(&value) => Some(At {
            line: at.line,
            key: at.key,
            value,
        }),
        _ => {
            let message = "a priority is a whole number from 1 (most urgent) to 1000000";
            problems.add(at.line, at.key, message);
            None
        }
    }
}

fn read_claims(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> PlanClaims {
    let claims = PlanClaims {
        files: kept_all(fields.parsed_list("files", problems), origin),
        tests: kept_all(fields.parsed_list("tests", problems), origin),
        read: kept_all(fields.parsed_list("read", problems), origin),
    };
    if claims.files.len() + claims.tests.len() + claims.read.len() > PLAN_CLAIMS_MAX {
        let message = format!("more than {PLAN_CLAIMS_MAX} claims; claim directories or globs");
        problems.add(fields.line(), "claims", message);
    }
    claims
}

fn read_before(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Preconditions {
    let version = fields.string("schema_version", problems);
    let version = version.and_then(|at| filled(at, problems));
    let flags = fields.parsed_list::<String>("feature_flags", problems);
    let flags = flags.into_iter().filter_map(|at| filled(at, problems));
    let flags = flags.collect();
    Preconditions {
        schema_version: kept(version, origin),
        feature_flags: kept_all(flags, origin),
        commands: commands(fields, "commands", origin, problems),
    }
}

fn filled(at: At<String>, problems: &mut Problems<'_>) -> Option<At<String>> {
    if !at.value.trim().is_empty() && !at.value.contains('\0') {
        return Some(at);
    }
    problems.add(at.line, at.key, "must not be empty");
    None
}

fn read_after(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Postconditions {
    let mut after = Postconditions::default();
    if let Some(at) = fields.raw("tests_pass", problems) {
        origin.note(&at.key, at.line);
        if let DeValue::Boolean(wanted) = at.value {
            after.tests_pass = *wanted;
        } else if let Some(at) = command(at, "true, false or the tests' command", problems) {
            after.tests_pass = true;
            after.tests_command = Some(at.value);
        }
    }
    let own = fields.raw("tests_command", problems);
    if let Some(at) = own.and_then(|at| command(at, COMMAND, problems)) {
        after.tests_command = kept(Some(at), origin);
    }
    let delta = fields.raw("coverage_delta", problems);
    let delta = delta.and_then(|at| at.expect("a number", problems, number));
    after.coverage_delta = kept(delta.and_then(|at| at.parse(problems)), origin);
    let dropped = kept(fields.boolean("tests_not_dropped", problems), origin);
    after.tests_not_dropped = dropped.unwrap_or(false);
    after.commands = commands(fields, "commands", origin, problems);
    after
}

fn number(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(_) => whole(value).map(|number| number.to_string()),
        DeValue::Float(float) => Some(float.as_str().to_owned()),
        _ => None,
    }
}

fn read_acceptance(
    fields: &mut Fields<'_>,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Vec<Check> {
    let items = fields.array("checks", problems);
    let checks = items.into_iter().filter_map(|at| check(at, problems));
    let checks = checks.collect();
    kept_all(checks, origin)
}

fn check(at: At<&DeValue<'_>>, problems: &mut Problems<'_>) -> Option<At<Check>> {
    let (line, key) = (at.line, at.key.clone());
    if !matches!(at.value, DeValue::Table(_)) {
        let what = "a check's name, a command, or a table with name and command";
        let command = command(at, what, problems)?.value;
        let value = Check {
            name: None,
            command,
        };
        return Some(At { line, key, value });
    }
    let mut fields = at.fields(problems)?;
    let name = required(&mut fields, "name", problems);
    let name = name.and_then(|name| filled(name, problems));
    let own = fields.raw("command", problems);
    if own.is_none() {
        problems.add(line, fields.name("command"), "is missing");
    }
    let own = own.and_then(|at| command(at, COMMAND, problems));
    fields.finish(problems);
    let value = Check {
        name: Some(name?.value),
        command: own?.value,
    };
    Some(At { line, key, value })
}

fn read_run(fields: &mut Fields<'_>, origin: &mut Origin, problems: &mut Problems<'_>) -> Run {
    let own = fields.raw("command", problems);
    let own = own.and_then(|at| command(at, COMMAND, problems));
    let prompt = fields.string("prompt", problems);
    let prompt = prompt.and_then(|at| filled(at, problems));
    Run {
        command: kept(own, origin),
        prompt: kept(prompt, origin),
    }
}

const COMMAND: &str = "a command: an array of strings, or one string for the shell";

fn commands(
    fields: &mut Fields<'_>,
    key: &'static str,
    origin: &mut Origin,
    problems: &mut Problems<'_>,
) -> Vec<Command> {
    let items = fields.array(key, problems);
    let commands = items
        .into_iter()
        .filter_map(|at| command(at, COMMAND, problems));
    let commands = commands.collect();
    kept_all(commands, origin)
}

/// Reads a command; `what` is what could have stood here.
fn command(at: At<&DeValue<'_>>, what: &str, problems: &mut Problems<'_>) -> Option<At<Command>> {
    let at = at.expect(what, problems, |value| match value {
        DeValue::String(line) => Some(Command::Shell(line.to_string())),
        DeValue::Array(items) => {
            let words = items.iter().map(|item| item.get_ref().as_str());
            let words = words.map(|word| word.map(str::to_owned));
            words.collect::<Option<Vec<_>>>().map(Command::Argv)
        }
        _ => None,
    })?;
    let usable = match &at.value {
        Command::Shell(line) => !line.trim().is_empty() && !line.contains('\0'),
        Command::Argv(words) => {
            words.first().is_some_and(|word| !word.is_empty())
                && !words.iter().any(|word| word.contains('\0'))
        }
    };
    if usable {
        return Some(at);
    }
    problems.add(at.line, at.key, "the command is empty or contains NUL");
    None
}
