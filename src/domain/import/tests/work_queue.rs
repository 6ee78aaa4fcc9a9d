//! Work queues in YAML.

use super::*;

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
