//! Plans through the program: what is accepted, what is refused and where it points, imports.

use std::fs;

use crate::common::House;

fn simple(house: &House, id: &str, needs: &str, file: &str) -> String {
    let body = format!(
        "[plan]\nid = \"{id}\"\ntype = \"fix\"\ndependencies = [{needs}]\n[claims]\nfiles = [\"{file}\"]\n"
    );
    house.plan(id, &body)
}

const WHOLE: &str = include_str!("../../src/domain/plan/whole.toml");

#[test]
fn a_whole_plan_is_accepted_as_it_stands() {
    let house = House::new();
    let first = house.plan("first",
        "[plan]\nid = \"migration-add-oauth-table\"\ntype = \"migration\"\n[claims]\nfiles = [\"migrations/1_oauth.sql\"]\n",
    );
    let whole = house.plan("whole", WHOLE);
    let alone = house.fails(3, &["plan", "check", &whole]);
    assert!(
        alone
            .stdout
            .contains("whole.toml:5: plan.dependencies[0]: unknown-dependency"),
        "{alone:?}"
    );
    house.ok(&["plan", "check", &house.path("plans").to_string_lossy()]);
    assert_eq!(house.ok(&["plan", "list"]), "", "checking stores nothing");
    house.ok(&["plan", "add", &whole, &first]);
    let order = house.ok(&["plan", "order"]);
    assert_eq!(order, "migration-add-oauth-table\nrefactor-auth-module\n");
    let shown = house.json(&["plan", "show", "refactor-auth-module"]);
    assert_eq!(shown["schema"], "govfs/plan-show/v1");
    assert_eq!(shown["claims"]["tests"][0], "tests/test_auth.py");
    assert_eq!(shown["state"], "todo");
    assert!(
        house
            .ok(&["plan", "add", &whole])
            .contains("is there already")
    );
    house.ok(&["verify", "--deep"]);
    house.ok(&["replay"]);
}

#[test]
fn all_faults_of_all_files_are_shown_at_once_with_file_line_and_key() {
    let house = House::new();
    let one = house.plan("one", "[plan]\nid = \"a b\"\ntype = 3\ncolour = \"red\"\n");
    let two = house.plan(
        "two",
        "[plan]\nid = \"two\"\ntype = \"fix\"\n[claims]\nfiles = [\"../up\"]\n",
    );
    let ran = house.fails(2, &["plan", "check", &one, &two]);
    for place in [
        "one.toml:2: plan.id",
        "one.toml:3: plan.type",
        "one.toml:4: plan.colour",
        "two.toml:5: claims.files[0]",
    ] {
        assert!(ran.stderr.contains(place), "{place}: {}", ran.stderr);
    }
    let document = house.json(&["plan", "check", &one]);
    assert_eq!(document["errors"][0]["line"], 2);
    // A file that cannot be read hides nothing of those that can.
    let three = house.fix(
        "three",
        "dependencies=[\"three\"]\n[claims]\nfiles=[\"x\"]\n",
    );
    let four = house.fix("four", "dependencies=[\"two\"]\n");
    let ran = house.fails(2, &["plan", "check", &one, &two, &three, &four]);
    assert!(ran.stdout.contains("three -> three"), "{ran:?}");
    assert!(ran.stderr.contains("one.toml:2: plan.id"), "{ran:?}");
    assert!(!ran.stdout.contains("no plan two"), "{ran:?}");
    let document = house.json(&["plan", "check", &one, &three]);
    assert_eq!(document["findings"][0]["rule"], "cycle", "{document}");
    house.fails(2, &["plan", "add", &two]);
    assert_eq!(house.ok(&["plan", "list"]), "");
}

#[test]
fn what_a_set_of_plans_must_not_be() {
    let house = House::new();
    house.charter("[paths]\nprotected = [\"governor.md\", \"secret\"]\n[agents]\ndefault-role = \"core\"\n[roles.core]\npaths = [\"src\"]\n[roles.docs]\npaths = [\"docs\"]",
    );
    let cycle = [
        simple(&house, "a", "\"b\"", "src/a"),
        simple(&house, "b", "\"a\"", "src/b"),
    ];
    let ran = house.fails(3, &["plan", "check", &cycle[0], &cycle[1]]);
    assert!(
        ran.stdout.contains("cycle") && ran.stdout.contains("a -> b"),
        "{}",
        ran.stdout
    );
    let over = [
        simple(&house, "c", "", "src/**"),
        simple(&house, "d", "", "src/x.rs"),
    ];
    let ran = house.fails(3, &["plan", "check", &over[0], &over[1]]);
    for word in ["overlap", "src/**", "src/x.rs"] {
        assert!(ran.stdout.contains(word), "{word}: {}", ran.stdout);
    }
    let document = house.json(&["plan", "check", &over[0], &over[1]]);
    assert_eq!(document["findings"][0]["overlap"]["witness"], "src/x.rs");
    // Ordered by a dependency, the same overlap is allowed.
    let behind = simple(&house, "d", "\"c\"", "src/x.rs");
    house.ok(&["plan", "check", &over[0], &behind]);
    let cases = [
        (
            "plan.role",
            "[plan]\nid=\"e\"\ntype=\"fix\"\nrole=\"docs\"\n[claims]\nfiles=[\"src/y\"]\n",
            "role-paths",
        ),
        (
            "protected",
            "[plan]\nid=\"e\"\ntype=\"fix\"\n[claims]\nfiles=[\"secret/key\"]\n",
            "protected",
        ),
        (
            "type",
            "[plan]\nid=\"e\"\ntype=\"spike\"\n[claims]\nfiles=[\"src/y\"]\n",
            "no-validator",
        ),
        (
            "role",
            "[plan]\nid=\"e\"\ntype=\"fix\"\nrole=\"nobody\"\n",
            "unknown-role",
        ),
    ];
    for (case, body, rule) in cases {
        let file = house.plan("case", body);
        let ran = house.fails(3, &["plan", "check", &file]);
        assert!(ran.stdout.contains(rule), "{case}: {}", ran.stdout);
        house.fails(3, &["plan", "add", &file]);
    }
    // What is stored counts too.
    house.ok(&["plan", "add", &over[0]]);
    let late = simple(&house, "e", "", "src/x.rs");
    let ran = house.fails(3, &["plan", "check", &late]);
    assert!(ran.stdout.contains("overlap"), "{ran:?}");
}

#[test]
fn an_id_is_one_plans_and_its_own_file_replaces_it() {
    let house = House::new();
    let one = simple(&house, "one", "", "src/a");
    house.ok(&["plan", "add", &one]);
    let other = house.plan(
        "other",
        "[plan]\nid=\"one\"\ntype=\"fix\"\n[claims]\nfiles=[\"src/z\"]\n",
    );
    let ran = house.fails(3, &["plan", "add", &other]);
    assert!(ran.stdout.contains("duplicate-id"), "{ran:?}");
    simple(&house, "one", "", "src/b");
    house.ok(&["plan", "add", &one]);
    assert_eq!(
        house.json(&["plan", "show", "one"])["claims"]["files"][0],
        "src/b"
    );
    let twice = house.fails(3, &["plan", "check", &one, &other]);
    assert!(twice.stdout.contains("duplicate-id"), "{twice:?}");
}

#[test]
fn removing_a_plan_says_what_depended_on_it() {
    let house = House::new();
    let files = [
        simple(&house, "a", "", "a"),
        simple(&house, "b", "\"a\"", "b"),
        simple(&house, "c", "\"b\"", "c"),
    ];
    house.ok(&["plan", "add", &files[0], &files[1], &files[2]]);
    let document = house.json(&["plan", "remove", "a"]);
    assert_eq!(document["dependents"], serde_json::json!(["b", "c"]));
    let next = house.json(&["queue", "list", "--eligible"]);
    assert_eq!(next["plans"], serde_json::json!([]));
    house.fails(5, &["plan", "remove", "a"]);
    house.ok(&["verify", "--deep"]);
    house.ok(&["replay"]);
}

#[test]
fn a_plan_whose_files_moved_is_stale_until_it_is_added_again() {
    let house = House::new();
    let file = simple(&house, "a", "", "src");
    house.ok(&["plan", "add", &file]);
    house.ok(&["plan", "check"]);
    fs::create_dir(house.root().join("src")).expect("a directory");
    fs::write(house.root().join("src/new"), "x").expect("a file");
    house.git(&["add", "."]);
    house.git(&["commit", "-qm", "around"]);
    let ran = house.fails(3, &["plan", "check"]);
    assert!(
        ran.stdout.contains("stale") && ran.stdout.contains("src/new"),
        "{ran:?}"
    );
    let ran = house.fails(3, &["queue", "claim", "a", "--owner", "al"]);
    assert!(
        ran.stderr.contains("changed since the plan was written"),
        "{ran:?}"
    );
    house.ok(&["plan", "add", &file]);
    house.ok(&["queue", "claim", "a", "--owner", "al"]);
    house.ok(&["replay"]);
}

#[test]
fn facts_and_validators_come_from_sealed_programs() {
    let house = House::new();
    fs::write(house.root().join("VERSION"), "2.3.0\n").expect("a file");
    house.git(&["add", "."]);
    let budget = r#"grep -q cheap && echo '{\"verdict\":\"allow\"}' || echo '{\"verdict\":\"deny\",\"reasons\":[\"too dear\"]}'"#;
    house.charter(&format!(
            "[facts]\nschema-version = \"cat VERSION\"\nfeature-flags = \"echo one two\"\n[plans.types]\nbudget = [\"budget\"]\ncrash = [\"crash\"]\nwords = [\"words\"]\nslow = [\"slow\"]\n[validators.budget]\ncommand = \"{budget}\"\n[validators.crash]\ncommand = \"kill -9 $$\"\n[validators.words]\ncommand = \"echo yes\"\n[validators.slow]\ncommand = \"sleep 60\"\ntimeout = \"1s\""
        ),
    );
    let check = |kind: &str, text: &str, more: &str| {
        let body = format!("[plan]\nid=\"p\"\ntype=\"{kind}\"\ndescription=\"{text}\"\n{more}");
        house.run(&["plan", "check", &house.plan("p", &body)])
    };
    let cases = [
        ("budget", "cheap", "", 0, "verifies"),
        ("budget", "dear", "", 3, "too dear"),
        ("crash", "", "", 3, "signal 9"),
        ("words", "", "", 3, "not a verdict"),
        ("slow", "", "", 3, "no answer within 1000 ms"),
        (
            "fix",
            "",
            "[preconditions]\nschema_version=\"2.3.0\"\nfeature_flags=[\"two\"]",
            0,
            "verifies",
        ),
        (
            "fix",
            "",
            "[preconditions]\nschema_version=\"2.4.0\"",
            3,
            "found 2.3.0",
        ),
        (
            "fix",
            "",
            "[preconditions]\nfeature_flags=[\"three\"]",
            3,
            "three, which is not set",
        ),
        (
            "fix",
            "",
            "[preconditions]\ncommands=[\"test -f VERSION\", \"echo x > VERSION\"]",
            3,
            "echo x > VERSION",
        ),
    ];
    for (kind, text, more, status, expected) in cases {
        let ran = check(kind, text, more);
        assert_eq!(ran.status, status, "{kind} {more}: {ran:?}");
        assert!(ran.stdout.contains(expected), "{kind} {more}: {ran:?}");
    }
    assert_eq!(
        fs::read_to_string(house.root().join("VERSION")).expect("a file"),
        "2.3.0\n"
    );
    let left = fs::read_dir(house.root().join(".git/govfs/trials"))
        .expect("a directory")
        .count();
    assert_eq!(left, 0, "trials leave nothing");
}

#[test]
fn each_format_comes_in_as_plans() {
    let house = House::new();
    let root = house.git(&["rev-parse", "HEAD"]);
    let write = |name: &str, text: &str| {
        let path = house.path(name);
        fs::write(&path, text).expect("a file");
        path.to_string_lossy().into_owned()
    };
    let yaml = write(
        "queue.yaml",
        &format!(
            "tasks:\n  - id: base\n    status: done\n    commit: {root}\n  - id: next\n    status: todo\n    depends_on: [base]\n    acceptance_checks: [\"make test\"]\n  - id: mine\n    status: in_progress\n    owner: al\n    depends_on: [base]\n"
        ),
    );
    house.ok(&["plan", "import", &yaml]);
    let states: Vec<String> = house.json(&["queue", "list"])["plans"]
        .as_array()
        .expect("plans")
        .iter()
        .map(|p| {
            format!(
                "{}:{}",
                p["id"].as_str().expect("an id"),
                p["state"].as_str().expect("a state")
            )
        })
        .collect();
    for state in ["base:done", "next:todo", "mine:in_progress"] {
        assert!(states.iter().any(|s| s == state), "{state}: {states:?}");
    }
    let dgov = write(
        "dgov.toml",
        "[plan]\nname = \"x\"\n[tasks.one]\nsummary = \"one\"\nfiles.create = [\"n.py\"]\nfiles.edit = [\"m.py\"]\n[tasks.two]\nsummary = \"two\"\ndepends_on = [\"one\"]\nfiles.edit = [\"o.py\"]\nfiles.read = [\"m.py\"]\n",
    );
    house.ok(&["plan", "import", &dgov]);
    let dag = write(
        "dag.toml",
        "[meta]\ntemplate_kind = \"implementation-dag\"\n[units.u1]\nfiles_modify = [\"u1.rs\"]\nblocks = [\"u2\"]\n[units.u2]\nfiles_modify = [\"u2.rs\"]\ndepends_on = [\"u1\"]\n",
    );
    house.ok(&["plan", "import", &dag]);
    let wrong = write(
        "wrong.toml",
        "[meta]\ntemplate_kind = \"implementation-dag\"\n[units.v1]\nfiles_modify = [\"v1.rs\"]\nblocks = [\"v3\"]\n[units.v2]\nfiles_modify = [\"v2.rs\"]\ndepends_on = [\"v1\"]\n[units.v3]\nfiles_modify = [\"v3.rs\"]\n",
    );
    house.fails(2, &["plan", "import", &wrong]);
    house.ok(&["queue", "validate"]);
    house.ok(&["queue", "git-check"]);
    house.ok(&["verify", "--deep"]);
    house.ok(&["replay"]);
}
