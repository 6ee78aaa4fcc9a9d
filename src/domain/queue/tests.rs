//! The life of a plan by table, and everything that keeps one from being claimed.

use super::advice::{Held, dispatch, next};
use super::check::{BranchCommit, BranchFacts, Row, git_check, rows, validate};
use super::*;

fn id(text: &str) -> PlanId {
    text.parse().expect(text)
}

fn agent(text: &str) -> AgentName {
    text.parse().expect(text)
}

fn role(text: &str) -> RoleName {
    text.parse().expect(text)
}

fn oid(byte: u8) -> Oid {
    Oid([byte; 20])
}

fn by(name: &str, lane: &str) -> Claimant {
    Claimant {
        agent: agent(name),
        role: role(lane),
    }
}

fn item(name: &str, needs: &[&str], file: &str) -> Item {
    let mut plan = Plan::bare(id(name), "fix");
    plan.dependencies = needs.iter().map(|need| id(need)).collect();
    if !file.is_empty() {
        plan.claims.files = vec![file.parse().expect(file)];
    }
    Item::new(plan)
}

fn queue(items: Vec<Item>) -> Queue {
    Queue(
        items
            .into_iter()
            .map(|item| (item.plan.id.clone(), item))
            .collect(),
    )
}

fn merge(plan: &str, byte: u8) -> MergeFact {
    MergeFact {
        commit: oid(byte),
        plan: Some(id(plan)),
        checks: BTreeSet::new(),
        reverted: false,
    }
}

/// A queue where `a` is in progress by alice and `b` waits for it.
fn started() -> Queue {
    let mut queue = queue(vec![item("a", &[], "src/a"), item("b", &["a"], "src/b")]);
    let change = queue
        .claim(&id("a"), &by("alice", "dev"), &World::default())
        .expect("free");
    queue.apply(&change);
    queue
}

fn done(queue: &mut Queue, name: &str, byte: u8) {
    let change = queue.set_status(
        &id(name),
        QueueState::Done,
        &Given::default(),
        &[merge(name, byte)],
    );
    queue.apply(&change.expect("merged"));
}

#[test]
fn the_life_of_a_plan_is_one_table() {
    use QueueState::{Blocked, Done, InProgress, Todo};
    use Step::{Block, Claim, Finish, GiveBack, Reopen, Resume};
    let allowed = [
        (Todo, Claim, InProgress),
        (Todo, Block, Blocked),
        (InProgress, GiveBack, Todo),
        (InProgress, Block, Blocked),
        (InProgress, Finish, Done),
        (Blocked, GiveBack, Todo),
        (Blocked, Resume, InProgress),
        (Blocked, Block, Blocked),
        (Done, Reopen, Todo),
    ];
    for from in QueueState::ALL {
        for step in [Claim, GiveBack, Block, Resume, Finish, Reopen] {
            let row = allowed.iter().find(|(f, s, _)| (*f, *s) == (from, step));
            let expected = row.map(|(_, _, to)| *to);
            let expected = match (from, step) {
                (InProgress, Block) => Some(Blocked),
                _ => expected,
            };
            assert_eq!(from.after(step), expected, "{from} {step:?}");
        }
        assert_eq!(from.as_str().parse(), Ok(from));
    }
    assert!("finished".parse::<QueueState>().is_err());
}

#[test]
fn a_plan_is_claimed_by_one() {
    let queue = started();
    let refusal = queue
        .claim(&id("a"), &by("bob", "dev"), &World::default())
        .expect_err("owned");
    assert_eq!(
        (refusal.rule, refusal.message.as_str()),
        ("owned", "a is not eligible: alice owns it")
    );
    let twice = queue.claim(&id("a"), &by("alice", "dev"), &World::default());
    assert_eq!(twice.expect_err("owned").rule, "owned");
}

#[test]
fn what_keeps_a_plan_from_being_claimed_is_all_named() {
    let mut queue = started();
    let held = vec![Held {
        agent: agent("carol"),
        pattern: "src".parse().expect("pattern"),
        write: false,
    }];
    let refused = BTreeMap::from([(id("b"), "cycle".to_owned())]);
    let world = World { held, refused };
    if let Some(item) = queue.0.get_mut(&id("b")) {
        item.plan.agent = Some(agent("dave"));
        item.plan.role = Some(role("ui"));
    }
    let refusal = queue
        .claim(&id("b"), &by("bob", "dev"), &world)
        .expect_err("many reasons");
    assert_eq!(
        refusal.message,
        "b is not eligible: it does not verify: cycle; it waits for a; it is meant for dave; \
         it is for role ui; src/b is held by carol as src: both cover src/b"
    );
    assert_eq!(refusal.rule, "not-verified");
    assert_eq!(
        queue
            .claim(&id("zz"), &by("bob", "dev"), &world)
            .expect_err("none")
            .rule,
        "no-such-plan"
    );
}

#[test]
fn ones_own_claims_are_not_in_the_way() {
    let queue = queue(vec![item("a", &[], "src/a")]);
    let held = vec![Held {
        agent: agent("alice"),
        pattern: "src".parse().expect("pattern"),
        write: true,
    }];
    let world = World {
        held,
        ..World::default()
    };
    assert!(queue.claim(&id("a"), &by("alice", "dev"), &world).is_ok());
    assert!(queue.claim(&id("a"), &by("bob", "dev"), &world).is_err());
}

#[test]
fn done_needs_the_merge_that_did_it() {
    let queue = started();
    let set = |given: Option<Oid>, merges: &[MergeFact]| {
        let given = Given {
            commit: given,
            reason: None,
        };
        queue.set_status(&id("a"), QueueState::Done, &given, merges)
    };
    let rule = |result: Result<Change, QueueRefusal>| result.expect_err("refused").rule;
    assert_eq!(rule(set(None, &[])), "not-merged");
    assert_eq!(rule(set(None, &[merge("b", 1)])), "not-merged");
    assert_eq!(rule(set(Some(oid(9)), &[merge("a", 1)])), "not-merged");
    let reverted = MergeFact {
        reverted: true,
        ..merge("a", 1)
    };
    assert_eq!(rule(set(None, &[reverted])), "not-merged");
    assert_eq!(
        set(None, &[merge("a", 1), merge("a", 2)])
            .expect("merged")
            .commit,
        Some(oid(2))
    );
    assert_eq!(
        set(Some(oid(1)), &[merge("a", 1), merge("a", 2)])
            .expect("merged")
            .commit,
        Some(oid(1))
    );
}

#[test]
fn a_merge_without_the_acceptance_checks_makes_nothing_done() {
    let mut queue = started();
    if let Some(item) = queue.0.get_mut(&id("a")) {
        item.plan.acceptance = vec![crate::domain::plan::Check {
            name: None,
            command: crate::domain::plan::Command::Shell("make e2e".into()),
        }];
    }
    let unchecked = merge("a", 1);
    let refusal = queue
        .set_status(
            &id("a"),
            QueueState::Done,
            &Given::default(),
            std::slice::from_ref(&unchecked),
        )
        .expect_err("unchecked");
    assert_eq!(refusal.rule, "unchecked");
    let checked = MergeFact {
        checks: BTreeSet::from(["make e2e".to_owned()]),
        ..unchecked
    };
    assert!(
        queue
            .set_status(&id("a"), QueueState::Done, &Given::default(), &[checked])
            .is_ok()
    );
}

#[test]
fn states_are_set_only_along_the_table() {
    use QueueState::{Blocked, Done, InProgress, Todo};
    let mut fresh = started();
    let merges = [merge("a", 1)];
    let given = Given {
        commit: None,
        reason: Some("waits for a decision".into()),
    };
    let rule = |queue: &Queue, name: &str, to| {
        queue
            .set_status(&id(name), to, &given, &merges)
            .map(|c| c.to)
            .map_err(|r| r.rule)
    };
    assert_eq!(rule(&fresh, "b", Todo), Ok(Todo), "what is so already");
    assert_eq!(rule(&fresh, "b", InProgress), Err("no-owner"));
    assert_eq!(rule(&fresh, "b", Done), Err("transition"));
    assert_eq!(rule(&fresh, "b", Blocked), Ok(Blocked));
    assert_eq!(rule(&fresh, "a", Todo), Ok(Todo));
    let change = fresh
        .set_status(&id("a"), Blocked, &given, &merges)
        .expect("may be blocked");
    assert_eq!(change.owner, Some(agent("alice")), "it keeps its owner");
    assert_eq!(change.reason.as_deref(), Some("waits for a decision"));
    fresh.apply(&change);
    assert_eq!(rule(&fresh, "a", Done), Err("transition"));
    assert_eq!(rule(&fresh, "a", InProgress), Ok(InProgress));
    let mut finished = started();
    done(&mut finished, "a", 1);
    assert_eq!(rule(&finished, "a", Done), Ok(Done));
    let other = Given {
        commit: Some(oid(9)),
        reason: None,
    };
    let other = finished.set_status(&id("a"), Done, &other, &merges);
    assert_eq!(other.expect_err("another merge").rule, "not-merged");
    assert_eq!(rule(&finished, "a", Blocked), Err("transition"));
    assert_eq!(rule(&finished, "a", InProgress), Err("transition"));
    assert_eq!(rule(&finished, "a", Todo), Err("merged"));
    let reverted = [MergeFact {
        reverted: true,
        ..merge("a", 1)
    }];
    assert!(
        finished
            .set_status(&id("a"), Todo, &given, &reverted)
            .is_ok()
    );
}

#[test]
fn a_plan_that_done_plans_rest_on_is_not_reopened() {
    let mut queue = started();
    done(&mut queue, "a", 1);
    let change = queue
        .claim(&id("b"), &by("bob", "dev"), &World::default())
        .expect("eligible now");
    queue.apply(&change);
    done(&mut queue, "b", 2);
    let reverted = [MergeFact {
        reverted: true,
        ..merge("a", 1)
    }];
    let refusal = queue.set_status(&id("a"), QueueState::Todo, &Given::default(), &reverted);
    assert_eq!(refusal.expect_err("needed").rule, "needed");
}

#[test]
fn next_recommends_with_its_reasons_and_says_who_handed_over() {
    let mut items = vec![
        item("api", &[], "src/api"),
        item("page", &["api"], "web"),
        item("docs", &[], "docs"),
    ];
    items[0].plan.role = Some(role("A-backend"));
    items[1].plan.role = Some(role("B-ui"));
    items[1].plan.priority = Some(1);
    items[2].plan.role = Some(role("C-ops"));
    let mut queue = queue(items);
    let world = World::default();
    assert_eq!(dispatch(&queue), [id("api"), id("page"), id("docs")]);
    let advice = next(&queue, &role("B-ui"), &world);
    assert_eq!(advice.plan, None);
    assert_eq!(
        advice.reasons,
        ["none of the 1 open plans for role B-ui can be taken now"]
    );
    assert_eq!(advice.passed[0].1[0].to_string(), "it waits for api");
    let change = queue
        .claim(&id("api"), &by("ann", "A-backend"), &world)
        .expect("free");
    queue.apply(&change);
    done(&mut queue, "api", 1);
    let advice = next(&queue, &role("B-ui"), &world);
    assert_eq!(advice.plan, Some(id("page")));
    assert_eq!(
        advice.reasons,
        [
            "the first in dispatch order for role B-ui",
            "priority 1",
            "handed over by role A-backend: api is done",
            "its claims are free"
        ]
    );
    let none = next(&queue, &role("D-arch"), &world);
    assert_eq!(
        none.reasons,
        ["no open plan is for role D-arch; 2 are for other roles"]
    );
    assert_eq!(
        next(&Queue::default(), &role("x"), &world).reasons,
        ["no plan is open"]
    );
}

fn row(
    name: &str,
    state: QueueState,
    owner: Option<&str>,
    commit: Option<&str>,
    needs: &[&str],
) -> Row {
    Row {
        id: id(name),
        role: None,
        state,
        owner: owner.map(agent),
        commit: commit.map(str::to_owned),
        depends_on: needs.iter().map(|need| id(need)).collect(),
    }
}

#[test]
fn the_invariants_of_the_queue_are_checked() {
    use QueueState::{Done, InProgress, Todo};
    let a = |state| row("a", state, Some("al"), Some("0123abc"), &[]);
    let cases: [(&str, Vec<Row>, &[&str]); 9] = [
        (
            "fine",
            vec![a(Done), row("b", InProgress, Some("bo"), None, &["a"])],
            &[],
        ),
        (
            "no owner",
            vec![row("b", InProgress, None, None, &[])],
            &["no-owner"],
        ),
        (
            "no commit",
            vec![row("b", Done, Some("bo"), None, &[])],
            &["no-commit"],
        ),
        (
            "no commit at all",
            vec![row("b", Done, Some("bo"), Some("soon"), &[])],
            &["no-commit"],
        ),
        (
            "done early",
            vec![a(Todo), row("b", Done, Some("bo"), Some("0123abc"), &["a"])],
            &["before-dependency"],
        ),
        (
            "begun early",
            vec![a(Todo), row("b", InProgress, Some("bo"), None, &["a"])],
            &["before-dependency"],
        ),
        (
            "unknown",
            vec![row("b", Todo, None, None, &["zz"])],
            &["unknown-dependency"],
        ),
        (
            "two owners",
            vec![
                row("b", InProgress, Some("bo"), None, &[]),
                row("b", InProgress, Some("al"), None, &[]),
            ],
            &["two-owners"],
        ),
        (
            "twice",
            vec![
                row("b", Todo, None, None, &[]),
                row("b", Todo, None, None, &[]),
            ],
            &["duplicate-id"],
        ),
    ];
    for (name, rows, expected) in cases {
        let found: Vec<_> = validate(&rows, &BTreeMap::new())
            .into_iter()
            .map(|p| p.rule)
            .collect();
        assert_eq!(found, expected, "{name}");
    }
    let working = BTreeMap::from([(id("a"), BTreeSet::from([agent("alice"), agent("mallory")]))]);
    let found = validate(&rows(&started()), &working);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].message, "mallory works on it, but alice owns it");
}

#[test]
fn git_and_the_ledger_must_tell_the_same() {
    let mut queue = started();
    done(&mut queue, "a", 1);
    let commit = |byte, trailers| BranchCommit {
        commit: oid(byte),
        committer: "Ann <ann@example.org>".into(),
        subject: "s".into(),
        trailers,
    };
    let facts = |commits: Vec<BranchCommit>, merges: Vec<MergeFact>| BranchFacts {
        branch: "main".into(),
        commits,
        merges,
        recorded: BTreeSet::from([oid(7)]),
    };
    let rules = |facts: &BranchFacts, leave: bool| -> Vec<&'static str> {
        let found = git_check(&queue, facts, |_| leave);
        found.into_iter().map(|f| f.rule).collect()
    };
    let own = || vec![merge("a", 1)];
    assert!(
        rules(
            &facts(vec![commit(1, true), commit(7, false)], own()),
            false
        )
        .is_empty()
    );
    assert_eq!(
        rules(&facts(vec![], own()), false),
        ["done-not-on-branch", "merge-lost"]
    );
    assert_eq!(
        rules(&facts(vec![commit(1, true), commit(2, true)], own()), true),
        ["merge-without-entry"]
    );
    let around = facts(vec![commit(1, true), commit(3, false)], own());
    assert_eq!(rules(&around, false), ["around-govfs"]);
    assert!(
        rules(&around, true).is_empty(),
        "a person with the charter's leave"
    );
    let told = git_check(&queue, &around, |_| false);
    assert!(
        told[0]
            .message
            .ends_with("came around govfs: \"s\" by Ann <ann@example.org>")
    );
}
