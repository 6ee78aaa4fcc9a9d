//! The queue as an export, edited by hand, and back.

use super::*;

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
    fn any_text_survives_the_export(text in "[ -~é\u{85}\u{2028}\t\n]{0,30}") {
        let mut queue = queue();
        if let Some(item) = queue.0.get_mut(&id("d")) {
            item.plan.description.clone_from(&text);
        }
        let yaml = export(&queue, &[]);
        prop_assert_eq!(commands(&queue, "q.yaml", &yaml), Ok(Vec::new()), "{}", yaml);
    }
}
