//! Plans of dgov, with tasks and, before that, with units.

use super::*;

#[test]
fn a_dgov_plan_becomes_plans() {
    let import = read(
        "dgov.toml",
        r#"
[plan]
name = "scope"
summary = "x"

[tasks.status]
summary = "Add status"
commit_message = "Add status"
depends_on = ["core/verify.contract"]
files.create = ["src/status.py"]
files.edit = ["src/settle.py", "src/status.py"]
files.delete = ["src/old.py"]
files.read = ["src/events.py", "src/settle.py"]
test_cmd = "pytest -q"
prompt = '''
Orient first.
'''

[tasks."core/verify.contract"]
summary = "Contract"
files = ["src/contract.py"]
agent = "qwen-9b"
timeout_s = 900
"#,
    );
    assert_eq!(import.format, Format::Dgov);
    let ids: Vec<&str> = import
        .tasks
        .iter()
        .map(|task| task.plan.id.as_str())
        .collect();
    assert_eq!(ids, ["core-verify.contract", "status"]);
    let status = &import.tasks[1].plan;
    assert_eq!(texts(&status.dependencies), ["core-verify.contract"]);
    assert_eq!(
        texts(&status.claims.files),
        ["src/status.py", "src/settle.py", "src/old.py"]
    );
    assert_eq!(
        texts(&status.claims.read),
        ["src/events.py"],
        "what it writes it may read anyway"
    );
    assert!(status.postconditions.tests_pass);
    assert_eq!(
        status.run.as_ref().and_then(|r| r.prompt.as_deref()),
        Some("Orient first.\n")
    );
    assert_eq!(import.tasks[0].plan.agent, None, "dgov's agents are models");
    assert_eq!(
        import.notes,
        [
            "`agent` has no place in a plan and was left out",
            "`commit_message` has no place in a plan and was left out",
            "`timeout_s` has no place in a plan and was left out",
        ]
    );
}

#[test]
fn an_older_dgov_plan_with_units_becomes_plans_too() {
    let import = read(
        "dgov.toml",
        r#"
[plan]
version = 1
name = "x"
goal = "y"
[[evals]]
id = "E1"
kind = "edge"
statement = "s"
evidence = "pytest"
[units.impl]
summary = "s"
prompt = "p"
commit_message = "m"
satisfies = ["E1"]
[units.impl.files]
edit = ["src/a.py"]
[units.impl.acceptance]
tests_pass = true
lint_clean = true
custom_check = "ruff check"
"#,
    );
    let plan = &import.tasks[0].plan;
    assert_eq!(texts(&plan.claims.files), ["src/a.py"]);
    assert_eq!(plan.acceptance[0].shown(), "ruff check");
    assert!(import.notes.iter().any(|note| note.contains("`evals`")));
}

#[test]
fn dgov_faults_are_named() {
    for (text, expected) in [
        ("[tasks.a]\nsummary = \"s\"", "at least one file"),
        ("[tasks.a]\nfiles.edit = [\"src/*.py\"]", "paths, not globs"),
        (
            "[tasks.a]\nfiles.edit = [\"/etc\"]",
            "tasks.a.files.edit[0]",
        ),
        (
            "[tasks.a]\nfiles.move = [\"x\"]\nfiles.edit = [\"y\"]",
            "tasks.a.files.move: unknown key",
        ),
        (
            "[tasks.a]\nfiles.edit = [\"y\"]\nmood = 1",
            "tasks.a.mood: unknown key",
        ),
        ("[tasks]\na = 1", "tasks.a: must be a table"),
        ("[tasks]", "there is no task"),
        (
            "[tasks.\"a/b\"]\nfiles.edit = [\"y\"]\n[tasks.a-b]\nfiles.edit = [\"z\"]",
            "would both become a-b",
        ),
    ] {
        let found = faults("d.toml", text);
        assert!(
            found.iter().any(|f| f.contains(expected)),
            "{text}: {found:?}"
        );
    }
}
