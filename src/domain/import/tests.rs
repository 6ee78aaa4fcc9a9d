use proptest::prelude::*;

use super::exchange::{ExchangeError, QueueCommand, commands, decide, export};
use super::*;
use crate::domain::base::Oid;
use crate::domain::dag::{Graph, Member};
use crate::domain::plan::Check;
use crate::domain::queue::advice::World;
use crate::domain::queue::check::validate;
use crate::domain::queue::{Item, MergeFact, Queue};

fn read(file: &str, text: &str) -> Import {
    import(file, text).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn faults(file: &str, text: &str) -> Vec<String> {
    let errors = import(file, text).expect_err(text);
    errors.into_iter().map(|error| error.to_string()).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

const WORK_QUEUE: &str = "\
version: 1
updated_at: '2026-05-04'
states: [todo, in_progress, blocked, done]
roles: [A-backend, B-ui, C-ops]
tasks:
- id: A-API-001
  title: Contract first
  role: A-backend
  status: done
  priority: 1
  owner: A-backend
  branch: agent/A-backend
  completed_at: '2026-05-04'
  commit: 3993e614
  depends_on: []
  acceptance_checks:
  - cargo test
  - make queue-git-check
- id: B-UI-002
  title: \"Wire: the page\"
  role: B-ui
  status: in_progress
  priority: P2
  owner: bea
  depends_on:
  - A-API-001
  acceptance_checks: [pnpm typecheck]
  notes: |
    Context: why
    Scope: web
- id: C-OPS-003
  role: C-ops
  status: blocked
  owner:
  blocked_reason: no access
  depends_on: [B-UI-002]
  files: [ops/**]
- id: C-OPS-004
  role: C-ops
  status: todo
  owner: carl
  evidence: none
";

#[test]
fn a_work_queue_comes_in_with_owners_states_dependencies_and_checks() {
    let import = read("q.yaml", WORK_QUEUE);
    assert_eq!(import.format, Format::WorkQueue);
    let [api, page, ops, last] = &import.tasks[..] else {
        panic!("{:#?}", import.tasks);
    };
    assert_eq!(api.state, QueueState::Done);
    assert_eq!(api.commit.as_deref(), Some("3993e614"));
    assert_eq!(
        api.plan.role.as_ref().map(ToString::to_string),
        Some("A-backend".into())
    );
    assert_eq!(api.plan.priority, Some(1));
    assert_eq!(api.plan.description, "Contract first");
    let checks: Vec<String> = api.plan.acceptance.iter().map(Check::shown).collect();
    assert_eq!(checks, ["cargo test", "make queue-git-check"]);
    assert_eq!(
        (page.state, page.plan.priority),
        (QueueState::InProgress, Some(2))
    );
    assert_eq!(
        page.owner.as_ref().map(ToString::to_string),
        Some("bea".into())
    );
    assert_eq!(texts(&page.plan.dependencies), ["A-API-001"]);
    let prompt = page.plan.run.as_ref().and_then(|run| run.prompt.as_deref());
    assert_eq!(prompt, Some("Context: why\nScope: web\n"));
    assert_eq!(ops.reason.as_deref(), Some("no access"));
    assert_eq!(texts(&ops.plan.claims.files), ["ops/**"]);
    assert_eq!(
        last.owner, None,
        "a task still to do has no owner, but one it is meant for"
    );
    assert_eq!(
        last.plan.agent.as_ref().map(ToString::to_string),
        Some("carl".into())
    );
    assert_eq!(
        import.notes,
        ["`evidence` has no place in a plan and was left out"]
    );
    let rows: Vec<_> = import.tasks.iter().map(Imported::row).collect();
    assert!(validate(&rows, &BTreeMap::new()).is_empty());
}

#[test]
fn work_queues_come_in_several_shapes() {
    for text in [
        "- {id: a, status: todo}",
        "tasks: [{id: a}]",
        "queue:\n  - id: a\n    depends_on: null\n",
        "items:\n  a:\n    state: todo\n",
    ] {
        let import = read("q.yml", text);
        assert_eq!(import.tasks.len(), 1, "{text}");
        assert_eq!(import.tasks[0].plan.id.as_str(), "a", "{text}");
    }
}

#[test]
fn every_fault_of_a_work_queue_is_named_with_its_line() {
    let text = "\
tasks:
- id: a
  status: finished
  priority: high
  depends_on: [b, b]
- title: nameless
- id: [x]
- text
- id: c
  owner: 'not a name'
  acceptance_checks: ['']
  claims: {files: ['/abs'], other: []}
  type: 'a b'
";
    let found = faults("q.yaml", text);
    for expected in [
        "q.yaml:3: tasks[0].status: \"finished\" is none of todo, in_progress, blocked, done",
        "q.yaml:4: tasks[0].priority: ",
        "q.yaml:5: tasks[0].depends_on[1]: stands here twice",
        "q.yaml:6: tasks[1].id: is missing",
        "q.yaml:7: tasks[2].id: must be a text, not a list",
        "q.yaml:8: tasks[3]: must be a map, not a text",
        "q.yaml:10: tasks[4].owner: ",
        "q.yaml:11: tasks[4].acceptance_checks[0]: the command is empty",
        "q.yaml:12: tasks[4].claims.files[0]: ",
        "q.yaml:12: tasks[4].claims.other: is none of files, tests, read",
        "c: plan.type: a type is",
    ] {
        assert!(
            found.iter().any(|f| f.contains(expected)),
            "{expected}\n{found:#?}"
        );
    }
}

#[test]
fn yaml_that_could_mean_two_things_is_refused() {
    for (text, expected) in [
        ("", "the document is empty"),
        ("a: [", "not YAML"),
        ("tasks: &x [{id: a}]\nmore: *x", "aliases"),
        ("tasks: [{id: !!str a}]", "tags"),
        ("tasks: []\ntasks: []", "stands here twice"),
        ("tasks: []\n---\ntasks: []", "more than one YAML document"),
        ("{[a]: b}", "a key must be a text"),
        ("version: 1", "tasks: is missing"),
        ("tasks: soon", "must be a list of tasks"),
    ] {
        let found = faults("q.yaml", text);
        assert!(found[0].contains(expected), "{text}: {found:?}");
    }
    let deep = |depth| format!("tasks: {}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(faults("q.yaml", &deep(100))[0].contains("nested deeper"));
    assert_eq!(faults("q.yaml", &deep(100_000)).len(), 1);
}

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

const DAG: &str = r#"
closure_root = "sha256:e3b0"
[meta]
template_kind = "implementation-dag"
total_units = 4
[units.U01]
name = "scaffold"
summary = "Lay the ground"
layer = 0
tier = 1
status = "pending"
depends_on = []
blocks = ["U02", "U03"]
estimated_loc = 100
files_create = ["src/new.rs"]
files_modify = ["src/a.rs"]
produces = ["ART:base"]
[units.U02]
name = "left"
layer = 1
tier = 2
status = "blocked"
depends_on = ["U01"]
blocks = ["U04"]
estimated_loc = 50
files_modify = ["src/b.rs"]
consumes = ["ART:base"]
[units.U03]
name = "right"
layer = 1
tier = 1
status = "done"
depends_on = ["U01"]
blocks = ["U04"]
estimated_loc = 200
files_modify = ["db/YYYY-MM-DD_x.sql"]
[units.U04]
name = "join"
layer = 2
tier = 1
status = "deferred"
depends_on = ["U02", "U03"]
blocks = []
estimated_loc = 10
[computed]
entry_points = ["U01"]
leaf_nodes = ["U04"]
critical_path = ["U01", "U03", "U04"]
critical_path_loc = 310
loc_totals = { tier1 = 310, tier2 = 50, all = 360 }
[computed.max_parallel]
layer0 = 1
layer1 = 2
layer2 = 1
"#;

#[test]
fn an_implementation_dag_becomes_plans() {
    let import = read("dag.toml", DAG);
    assert_eq!(import.format, Format::ImplementationDag);
    let states: Vec<_> = import
        .tasks
        .iter()
        .map(|t| (t.plan.id.as_str(), t.state))
        .collect();
    assert_eq!(
        states,
        [
            ("U01", QueueState::Todo),
            ("U02", QueueState::Blocked),
            ("U03", QueueState::Todo),
            ("U04", QueueState::Blocked)
        ]
    );
    let first = &import.tasks[0].plan;
    assert_eq!(texts(&first.claims.files), ["src/a.rs", "src/new.rs"]);
    assert_eq!(
        (first.description.as_str(), first.priority),
        ("Lay the ground", Some(1))
    );
    assert_eq!(texts(&import.tasks[3].plan.dependencies), ["U02", "U03"]);
    assert!(
        import
            .notes
            .iter()
            .any(|n| n.contains("U03 is done there, but no merge here did it"))
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of all faults")]
fn an_implementation_dag_must_agree_with_itself() {
    let cases: [(&str, &str, &str); 21] = [
        (
            "blocks without depends_on",
            "depends_on = [\"U01\"]\nblocks = [\"U04\"]\nestimated_loc = 50",
            "U01 blocks U02, but U02 does not depend on it",
        ),
        (
            "depends_on without blocks",
            "blocks = [\"U02\", \"U03\"]",
            "U03 depends on U01, but U01 does not block it",
        ),
        (
            "unknown in depends_on",
            "depends_on = [\"U02\", \"U03\"]",
            "units.U04.depends_on[1]: there is no unit U9",
        ),
        (
            "unknown in blocks",
            "blocks = []",
            "units.U04.blocks[0]: there is no unit U9",
        ),
        ("itself", "depends_on = []", "a unit cannot refer to itself"),
        (
            "twice",
            "depends_on = [\"U02\", \"U03\"]",
            "stands here twice",
        ),
        (
            "layers",
            "layer = 2",
            "U04 is in layer 1 and depends on U02, which is in layer 1",
        ),
        (
            "a status",
            "status = \"deferred\"",
            "\"finished\" is none of pending",
        ),
        ("a tier", "tier = 2", "a tier is 1, 2 or 3"),
        (
            "a placeholder",
            "files_modify = [\"src/b.rs\"]",
            "is a placeholder, not a path",
        ),
        (
            "the count",
            "total_units = 4",
            "says 5, but there are 4 units",
        ),
        (
            "entry points",
            "entry_points = [\"U01\"]",
            "these are [U01]",
        ),
        ("leaves", "leaf_nodes = [\"U04\"]", "these are [U04]"),
        (
            "a shorter path",
            "critical_path = [\"U01\", \"U03\", \"U04\"]\ncritical_path_loc = 310",
            "there is a way of 310",
        ),
        ("a path's sum", "critical_path_loc = 310", "says 311"),
        (
            "no path",
            "critical_path = [\"U01\", \"U03\", \"U04\"]",
            "is no way from an entry point",
        ),
        ("parallel", "layer1 = 2", "says 3, but there are 2 units"),
        (
            "parallel missing",
            "layer2 = 1",
            "computed.max_parallel.layer2: is missing",
        ),
        ("totals", "all = 360", "says 361"),
        (
            "an artifact's name",
            "\"ART:base\"]\n[units.U02]",
            "an artifact begins with ART: or OUT:",
        ),
        (
            "an artifact nobody makes",
            "consumes = [\"ART:base\"]",
            "no unit produces ART:other",
        ),
    ];
    let broken = [
        "depends_on = []\nblocks = [\"U04\"]\nestimated_loc = 50",
        "blocks = [\"U02\"]",
        "depends_on = [\"U02\", \"U9\"]",
        "blocks = [\"U9\"]",
        "depends_on = [\"U01\"]",
        "depends_on = [\"U02\", \"U03\", \"U02\"]",
        "layer = 1",
        "status = \"finished\"",
        "tier = 4",
        "files_modify = [\"<files>\"]",
        "total_units = 5",
        "entry_points = [\"U01\", \"U02\"]",
        "leaf_nodes = []\nx = 1",
        "critical_path = [\"U01\", \"U02\", \"U04\"]\ncritical_path_loc = 160",
        "critical_path_loc = 311",
        "critical_path = [\"U01\", \"U04\"]",
        "layer1 = 3",
        "",
        "all = 361",
        "\"base\"]\n[units.U02]",
        "consumes = [\"ART:other\"]",
    ];
    for ((name, from, expected), to) in cases.iter().zip(broken) {
        let text = DAG.replacen(from, to, 1);
        assert_ne!(text, DAG, "{name}");
        let found = faults("dag.toml", &text);
        assert!(
            found.iter().any(|f| f.contains(expected)),
            "{name}: {expected}\n{found:#?}"
        );
    }
}

#[test]
fn blocks_may_be_left_out_but_not_half() {
    let text = "[units.a]\nfiles_modify = [\"x\"]\n[units.b]\nfiles_modify = [\"y\"]\ndepends_on = [\"a\"]\n";
    assert_eq!(read("d.toml", text).tasks.len(), 2);
    let half = text.replacen("[\"x\"]", "[\"x\"]\nblocks = []", 1);
    assert!(faults("d.toml", &half)[0].contains("a does not block it"));
}

#[test]
fn a_cycle_survives_the_import_and_is_shown_by_the_graph() {
    let text = "[units.a]\nfiles_modify = [\"x\"]\ndepends_on = [\"b\"]\n[units.b]\nfiles_modify = [\"y\"]\ndepends_on = [\"a\"]\n";
    let import = read("d.toml", text);
    let members: Vec<_> = import
        .tasks
        .iter()
        .map(|task| Member {
            plan: &task.plan,
            done: false,
        })
        .collect();
    let report = crate::domain::dag::verify(&members, &crate::domain::dag::PlanRules::default());
    assert_eq!(report.findings[0].rule, "cycle");
    assert_eq!(report.findings[0].fault.line, 3);
}

#[test]
fn what_is_none_of_these_formats_says_so() {
    assert!(faults("x.toml", "a = 1")[0].contains("neither a plan"));
    assert!(faults("x.toml", "a = ")[0].contains("not TOML"));
    assert_eq!(
        read("x.toml", "[plan]\nid = \"a\"\ntype = \"fix\"").format,
        Format::Plan
    );
}

fn id(text: &str) -> PlanId {
    text.parse().expect(text)
}

/// `a` done, `b` in progress by bea, `c` and `d` to do.
fn queue() -> Queue {
    let plan = |name: &str, needs: &[&str]| {
        let text = format!(
            "[plan]\nid = \"{name}\"\ntype = \"fix\"\ndependencies = {needs:?}\n\
             description = \"say: \\\"{name}\\\" é\"\n[claims]\nfiles = [\"src/{name}\"]\n\
             [postconditions]\ntests_pass = true\n[acceptance]\nchecks = [\"make x\", [\"a\", \"b\"]]\n\
             [run]\ncommand = [\"work\"]\n"
        );
        Plan::parse("", &text).expect("plan")
    };
    let mut items = vec![
        Item::new(plan("a", &[])),
        Item::new(plan("b", &["a"])),
        Item::new(plan("c", &["b"])),
        Item::new(plan("d", &[])),
    ];
    items[0].state = QueueState::Done;
    items[0].owner = Some("ann".parse().expect("agent"));
    items[0].commit = Some(Oid([0xab; 20]));
    items[1].state = QueueState::InProgress;
    items[1].owner = Some("bea".parse().expect("agent"));
    Queue(
        items
            .into_iter()
            .map(|item| (item.plan.id.clone(), item))
            .collect(),
    )
}

fn exported() -> String {
    let queue = queue();
    export(&queue, &Graph::new(&queue.members()).order())
}

fn asked(text: &str) -> Vec<QueueCommand> {
    commands(&queue(), "q.yaml", text).unwrap_or_else(|error| panic!("{error:#?}\n{text}"))
}

/// The rules by which the moves of an edited export are refused.
fn refused(text: &str, merges: &[MergeFact]) -> Vec<&'static str> {
    let role = |_: &AgentName| "dev".parse().expect("role");
    let commands = asked(text);
    let (_, refusals) = decide(&queue(), &commands, &World::default(), merges, role);
    refusals.into_iter().map(|refusal| refusal.rule).collect()
}

#[test]
fn an_export_comes_back_as_nothing_to_do() {
    let text = exported();
    assert!(text.starts_with("# The queue."), "{text}");
    assert_eq!(asked(&text), [], "{text}");
    let empty = export(&Queue::default(), &[]);
    assert_eq!(
        commands(&Queue::default(), "q.yaml", &empty),
        Ok(Vec::new())
    );
}

#[test]
fn an_edited_export_is_a_list_of_commands() {
    let text = exported();
    let (before, d) = text.split_at(text.find("  - id: d").expect("d stands there"));
    let claimed = d.replacen("status: todo", "status: in_progress\n    owner: dan", 1);
    let claimed = format!("{before}{claimed}");
    let owner = "dan".parse().expect("agent");
    let plan = id("d");
    assert_eq!(asked(&claimed), [QueueCommand::Claim { plan, owner }]);
    let added = format!("{text}  - id: e\n    depends_on: [d]\n");
    assert!(matches!(&asked(&added)[..], [QueueCommand::Add(plan)] if plan.id == id("e")));
    let renamed = text.replace("say: \\\"d\\\"", "other");
    let asked = asked(&renamed);
    let [QueueCommand::Amend(plan)] = &asked[..] else {
        panic!("{asked:#?}");
    };
    assert!(
        plan.postconditions.tests_pass,
        "what YAML does not carry stays"
    );
    assert!(plan.run.is_some());
}

#[test]
fn an_export_edited_by_hand_changes_nothing_that_a_command_could_not() {
    let text = exported();
    let no_merge = text.replacen(
        "status: in_progress",
        "status: done\n    commit: abcdef12",
        1,
    );
    assert_eq!(
        refused(&no_merge, &[]),
        ["not-merged"],
        "done without its merge"
    );
    let merge = MergeFact {
        commit: Oid([0xcd; 20]),
        plan: Some(id("b")),
        checks: ["make x", "a b"].map(String::from).into(),
        reverted: false,
    };
    let done = no_merge.replace("abcdef12", "cdcdcdcd");
    assert!(refused(&done, std::slice::from_ref(&merge)).is_empty());
    let unchecked = MergeFact {
        checks: std::iter::empty::<String>().collect(),
        ..merge
    };
    assert_eq!(
        refused(&done, &[unchecked]),
        ["unchecked"],
        "a merge without the checks"
    );
    let stolen = text.replace("owner: bea", "owner: mallory");
    assert_eq!(refused(&stolen, &[]), ["owned"], "a second owner");
    let ahead = text.replacen("depends_on: [b]", "depends_on: []", 1);
    assert!(
        matches!(&asked(&ahead)[..], [QueueCommand::Amend(_)]),
        "judged as a new plan"
    );
    let reworked = text.replace("src/b", "src/other");
    assert_eq!(
        refused(&reworked, &[]),
        ["plan-in-use"],
        "a plan under somebody's hands"
    );
    let undone = text.replacen("status: done", "status: todo", 1);
    let problem = commands(&queue(), "q.yaml", &undone).expect_err("b rests on a");
    assert!(matches!(problem, ExchangeError::Queue(found) if found[0].rule == "before-dependency"));
    let twice = format!("{text}  - id: b\n    status: in_progress\n    owner: mallory\n");
    let problem = commands(&queue(), "q.yaml", &twice).expect_err("two owners");
    assert!(matches!(problem, ExchangeError::Queue(found) if found[0].rule == "two-owners"));
    let moved = text.replace(&"ab".repeat(20), &"ef".repeat(20));
    assert_eq!(refused(&moved, &[]), ["not-merged"], "another commit");
    let shorter = text.find("  - id: b").expect("b");
    let rest = text[shorter..]
        .find("  - id: c")
        .map_or("", |at| &text[shorter + at..]);
    let removed =
        format!("{}{rest}", &text[..shorter]).replace("depends_on: [b]", "depends_on: []");
    assert!(
        refused(&removed, &[]).contains(&"plan-in-use"),
        "a plan struck out"
    );
}

proptest! {
    #[test]
    fn no_text_makes_an_import_fall_over(text in "[-a-c:\\[\\]{}&*!|>'\"# \n0-9.é]{0,60}") {
        let _ = import("q.yaml", &text);
        let _ = import("q.yaml", &format!("tasks:\n- id: a\n  {text}"));
        let _ = import("q.toml", &text);
        let _ = import("q.toml", &format!("[units.a]\nfiles_modify = []\n{text}"));
    }

    #[test]
    fn any_text_survives_the_export(text in "[ -~é\u{85}\u{2028}\t\n]{0,30}") {
        let mut queue = queue();
        if let Some(item) = queue.0.get_mut(&id("d")) {
            item.plan.description.clone_from(&text);
        }
        let yaml = export(&queue, &[]);
        prop_assert_eq!(commands(&queue, "q.yaml", &yaml), Ok(Vec::new()), "{}", yaml);
    }
}
