//! Plan files: what is accepted, each fault with its line, and the canonical text.

use proptest::prelude::*;

use super::*;

/// A plan with every section, as people write them.
const AUTH: &str = include_str!("whole.toml");

/// A plan of that type with dependencies and file claims, for the tests of whoever takes plans.
pub(in crate::domain) fn sample(id: &str, kind: &str, needs: &[&str], files: &[&str]) -> Plan {
    let mut plan = Plan::bare(id.parse().expect(id), kind);
    plan.dependencies = needs.iter().map(|id| id.parse().expect("id")).collect();
    plan.claims.files = files
        .iter()
        .map(|text| text.parse().expect("pattern"))
        .collect();
    plan
}

fn parsed(text: &str) -> Plan {
    Plan::parse("p.toml", text).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"))
}

fn errors(text: &str) -> String {
    let errors = Plan::parse("p.toml", text).expect_err(text);
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

#[test]
fn the_plan_of_the_requirement_is_accepted_as_it_stands() {
    let plan = parsed(AUTH);
    assert_eq!(plan.id.as_str(), "refactor-auth-module");
    assert_eq!(plan.agent.as_ref().map(AgentName::as_str), Some("agent-7"));
    assert_eq!(plan.kind, "refactor");
    assert_eq!(plan.claims.files.len(), 2);
    assert_eq!(plan.claims.tests.len(), 1);
    assert_eq!(plan.preconditions.schema_version.as_deref(), Some("2.3.0"));
    assert_eq!(plan.postconditions.coverage_delta, Some(Decimal::ZERO));
    assert!(plan.postconditions.tests_pass);
    assert_eq!(plan.origin.line("claims.files[1]"), 7);
    assert_eq!(
        plan.origin.line("claims.read"),
        6,
        "the nearest key around it"
    );
    assert_eq!(plan.origin.line("run.command"), 1);
}

#[test]
fn everything_a_plan_can_say_is_read() {
    let plan = parsed(
        r#"
[plan]
id = "x"
type = "feature"
role = "B-ui"
priority = 2
description = "two\nlines and a \"quote\""
[claims]
files = ["src/**/*.rs"]
read = ["docs"]
[preconditions]
commands = ["test -e a", ["test", "-e", "b"]]
[postconditions]
tests_pass = ["cargo", "test"]
coverage_delta = -0.5
tests_not_dropped = true
commands = ["make lint"]
[acceptance]
checks = ["unit", ["make", "e2e"], { name = "style", command = "make fmt" }]
[run]
command = ["claude", "-p", "{prompt}"]
prompt = "do it"
"#,
    );
    assert_eq!(plan.priority, Some(2));
    assert_eq!(plan.preconditions.commands.len(), 2);
    let after = &plan.postconditions;
    assert_eq!(
        after.tests_command,
        Some(Command::Argv(vec!["cargo".into(), "test".into()]))
    );
    assert_eq!(
        after.coverage_delta.map(|d| d.to_string()),
        Some("-0.5".into())
    );
    let names: Vec<_> = plan.acceptance.iter().map(Check::charter_name).collect();
    assert_eq!(names, [Some("unit"), None, None]);
    assert_eq!(plan.acceptance[2].shown(), "style");
    assert_eq!(
        plan.acceptance[0].command.argv(),
        ["/bin/sh", "-c", "unit"].map(String::from)
    );
    assert_eq!(parsed(&plan.canonical()), plan);
}

#[test]
fn every_fault_is_named_at_once_with_file_line_and_key() {
    let text = r#"[plan]
id = "-bad"
type = 7
agent = "a b"
dependencies = ["x", "x", 3]
priority = 0
colour = "red"
[claims]
files = ["/etc/passwd", "a/../b", "ok.rs", "ok.rs"]
tests = "tests"
[preconditions]
feature_flags = [""]
[postconditions]
tests_pass = "  "
coverage_delta = "much"
[acceptance]
checks = [{ command = "x" }, 5]
[run]
command = []
[surprise]
"#;
    let found = errors(text);
    for expected in [
        "p.toml:2: plan.id: ",
        "p.toml:3: plan.type: must be a string, not a whole number",
        "p.toml:4: plan.agent: ",
        "p.toml:5: plan.dependencies[1]: stands here twice",
        "p.toml:5: plan.dependencies[2]: must be a string, not a whole number",
        "p.toml:6: plan.priority: ",
        "p.toml:7: plan.colour: unknown key; known here: agent, dependencies",
        "p.toml:9: claims.files[0]: ",
        "p.toml:9: claims.files[1]: ",
        "p.toml:9: claims.files[3]: stands here twice",
        "p.toml:10: claims.tests: must be an array of strings, not a string",
        "p.toml:12: preconditions.feature_flags[0]: must not be empty",
        "p.toml:14: postconditions.tests_pass: the command is empty",
        "p.toml:15: postconditions.coverage_delta: must be a number, not a string",
        "p.toml:17: acceptance.checks[0].name: is missing",
        "p.toml:17: acceptance.checks[1]: must be",
        "p.toml:19: run.command: the command is empty",
        "p.toml:20: surprise: unknown key",
    ] {
        assert!(found.contains(expected), "{expected}\n---\n{found}");
    }
    assert_eq!(found.lines().count(), 18, "{found}");
}

#[test]
fn what_is_no_plan_at_all_says_so() {
    for (text, expected) in [
        ("", "p.toml:1: plan: the table [plan] is missing"),
        (
            "plan = 3",
            "p.toml:1: plan: must be a table, not a whole number",
        ),
        ("[plan]\n", "p.toml:1: plan.id: is missing"),
        ("[plan]\nid = \"a\"\n", "p.toml:1: plan.type: is missing"),
        ("[plan]\nid = \"a\"\nid = \"b\"\n", "p.toml:3: not TOML"),
        ("[plan\nid = \"a\n\n[x", "p.toml:1: not TOML"),
    ] {
        let found = errors(text);
        assert!(found.contains(expected), "{text:?}: {found}");
    }
    let long = format!("# {}", "x".repeat(PLAN_BYTES_MAX));
    assert!(errors(&long).contains("longer than"));
}

#[test]
fn a_plan_is_the_same_however_it_is_laid_out() {
    let loose = AUTH
        .replace("= [", "=   [ # why\n ")
        .replace("[claims]", "\n[claims]");
    assert_eq!(parsed(&loose), parsed(AUTH));
    assert_eq!(parsed(&loose).digest(), parsed(AUTH).digest());
    let other = AUTH.replace("oauth.py", "oauth2.py");
    assert_ne!(parsed(&other).digest(), parsed(AUTH).digest());
}

#[test]
fn as_json_a_plan_shows_its_keys() {
    let json = parsed(AUTH).json();
    assert_eq!(json["claims"]["files"][1], "src/oauth.py");
    assert_eq!(json["postconditions"]["coverage_delta"], "0");
    assert_eq!(json["sha256"], parsed(AUTH).digest().hex());
}

fn texts() -> impl Strategy<Value = String> {
    "[ -~éλ\t\n\"\\\\]{0,12}"
}

fn filled_texts() -> impl Strategy<Value = String> {
    texts().prop_map(|text| format!("x{text}"))
}

fn any_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        filled_texts().prop_map(Command::Shell),
        (filled_texts(), prop::collection::vec(texts(), 0..3)).prop_map(|(first, rest)| {
            Command::Argv(std::iter::once(first).chain(rest).collect())
        }),
    ]
}

fn any_check() -> impl Strategy<Value = Check> {
    (prop::option::of(filled_texts()), any_command())
        .prop_map(|(name, command)| Check { name, command })
}

prop_compose! {
    fn any_plan()(
        id in "[a-z][a-z0-9-]{0,8}",
        agent in prop::option::of("[a-z][a-z0-9]{0,5}"),
        dependencies in prop::collection::btree_set("[a-z][a-z0-9]{0,5}", 0..4),
        priority in prop::option::of(1_u32..10),
        description in texts(),
        files in prop::collection::btree_set("[a-z]{1,3}(/[a-z\\*\\?]{1,3}){0,2}", 0..4),
        flags in prop::collection::btree_set(filled_texts(), 0..3),
        commands in prop::collection::vec(any_command(), 0..3),
        acceptance in prop::collection::vec(any_check(), 0..3),
        delta in prop::option::of(-2_000_000_i32..2_000_000),
        prompt in prop::option::of(filled_texts()),
    ) -> Plan {
        let mut plan = Plan::bare(id.parse().expect("id"), "feature");
        plan.agent = agent.and_then(|agent| agent.parse().ok());
        plan.dependencies = dependencies.iter().filter_map(|id| id.parse().ok()).collect();
        plan.priority = priority;
        plan.description = description;
        plan.claims.files = files.iter().filter_map(|text| text.parse().ok()).collect();
        plan.preconditions.feature_flags = flags.into_iter().collect();
        plan.preconditions.commands.clone_from(&commands);
        plan.postconditions.coverage_delta =
            delta.map(|d| format!("{}.{:03}", d / 1000, (d % 1000).abs()).parse().expect("number"));
        plan.postconditions.commands = commands;
        plan.acceptance = acceptance;
        plan.run = prompt.map(|prompt| Run { command: None, prompt: Some(prompt) });
        plan
    }
}

proptest! {
    #[test]
    fn the_canonical_text_says_what_the_plan_says(plan in any_plan()) {
        let text = plan.canonical();
        let again = Plan::parse("p.toml", &text);
        prop_assert_eq!(again.as_ref(), Ok(&plan), "{}", text);
        prop_assert_eq!(plan.canonical(), again.expect("parsed").canonical());
    }

    #[test]
    fn no_text_makes_the_reader_fall_over(text in "[\\[\\]{}=\"'#., \n a-zé0-9]{0,80}") {
        let _ = Plan::parse("p.toml", &text);
        let _ = Plan::parse("p.toml", &format!("{AUTH}{text}"));
    }
}
