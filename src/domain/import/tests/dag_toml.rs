//! Implementation DAGs, which must agree with themselves.

use super::*;

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
