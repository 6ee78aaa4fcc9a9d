//! The next step of every stage, and the fleet's promises on random graphs.

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::*;
use crate::domain::plan::tests::sample;

fn plan(id: &str, needs: &[&str], files: &[&str]) -> Plan {
    sample(id, "fix", needs, files)
}

fn limits(jobs: usize) -> Limits {
    Limits {
        jobs,
        retries: 1,
        command: Some(Command::Shell("work".into())),
    }
}

fn todo(plans: &[Plan]) -> Vec<Job<'_>> {
    plans
        .iter()
        .map(|plan| Job::new(plan, QueueState::Todo))
        .collect()
}

fn under_way(plan: &Plan, stage: Stage) -> Job<'_> {
    Job {
        stage,
        owner: agent_of(plan),
        attempts: 1,
        ..Job::new(plan, QueueState::InProgress)
    }
}

/// `ACTION plan` of each, or `wait plan on`.
fn shown(actions: &[Action]) -> Vec<String> {
    let one = |action: &Action| {
        let json = serde_json::to_value(action).expect("JSON");
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {}", word("action"), word("plan"), word("on"))
            .trim_end()
            .to_owned()
    };
    actions.iter().map(one).collect()
}

#[test]
fn each_stage_has_its_next_step() {
    let plan = plan("p", &[], &["f"]);
    let missing = vec!["lane D-arch must approve".to_owned()];
    let cases = [
        (Stage::Claimed, "mount p"),
        (Stage::Mounted, "launch p"),
        (Stage::Running, "wait p running"),
        (Stage::Lost, "retry p"),
        (
            Stage::Ended {
                status: 0,
                said: None,
            },
            "check p",
        ),
        (
            Stage::Ended {
                status: 3,
                said: None,
            },
            "retry p",
        ),
        (
            Stage::Refused {
                reason: "a check failed".into(),
            },
            "retry p",
        ),
        (
            Stage::Checked {
                missing: missing.clone(),
                asked: false,
            },
            "request-review p",
        ),
        (
            Stage::Checked {
                missing,
                asked: true,
            },
            "wait p review",
        ),
        (
            Stage::Checked {
                missing: vec![],
                asked: true,
            },
            "merge p",
        ),
        (Stage::Foreign, "wait p other"),
    ];
    for (stage, expected) in cases {
        let job = under_way(&plan, stage.clone());
        let fleet = Fleet::new(vec![job], Vec::new());
        assert_eq!(shown(&fleet.next(&limits(1))), [expected], "{stage:?}");
    }
}

#[test]
fn a_plan_that_fails_too_often_is_blocked_with_the_reason() {
    let plan = plan("p", &[], &["f"]);
    let job = Job {
        attempts: 2,
        ..under_way(
            &plan,
            Stage::Ended {
                status: 7,
                said: None,
            },
        )
    };
    let actions = Fleet::new(vec![job], Vec::new()).next(&limits(1));
    let Action::Block { reason, .. } = &actions[0] else {
        panic!("{actions:?}");
    };
    assert_eq!(reason, "it ended with 7 (attempt 2 of 2)");
}

#[test]
fn plans_begin_in_order_as_far_as_places_claims_and_dependencies_go() {
    let plans = [
        plan("a", &[], &["src/a"]),
        plan("b", &[], &["src"]),
        plan("c", &["a"], &["web"]),
        plan("d", &[], &["docs"]),
        plan("e", &[], &["misc"]),
    ];
    let fleet = Fleet::new(todo(&plans), Vec::new());
    let expected = [
        "claim a",
        "wait b claims",
        "wait c dependency",
        "claim d",
        "wait e place",
    ];
    assert_eq!(shown(&fleet.next(&limits(2))), expected);
}

#[test]
fn what_cannot_begin_says_why() {
    let mut plans = vec![
        plan("blocked", &[], &[]),
        plan("behind", &["blocked"], &[]),
        plan("broken", &[], &[]),
        plan("busy", &[], &[]),
        plan("gone", &["nowhere"], &[]),
        plan("held", &[], &["src/x"]),
        plan("loop", &["loop"], &[]),
        plan("mine", &[], &["own"]),
    ];
    plans[3].agent = Some("mine".parse().expect("agent"));
    let mut jobs = todo(&plans);
    jobs[0].state = QueueState::Blocked;
    jobs[0].reason = Some("needs a decision".into());
    jobs[2].refused = Some("cycle".into());
    jobs[7] = under_way(&plans[7], Stage::Running);
    let held = vec![Held {
        agent: "carol".parse().expect("agent"),
        pattern: "src".parse().expect("pattern"),
        write: true,
    }];
    let fleet = Fleet::new(jobs, held);
    let mut lines = Vec::new();
    for action in fleet.next(&limits(9)) {
        if let Action::Wait { plan, reason, .. } = action {
            lines.push(format!("{plan}: {reason}"));
        }
    }
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"), @r"
    behind: it waits for blocked, which is blocked: needs a decision
    blocked: it is blocked: needs a decision
    broken: it does not verify: cycle
    busy: mine works on another plan
    gone: it waits for nowhere, which does not exist
    held: src/x is held by carol as src: both cover src/x
    loop: it waits for loop
    mine: mine is at it
    ");
    let bare = Limits {
        command: None,
        ..limits(1)
    };
    let plans = [plan("p", &[], &[])];
    let actions = Fleet::new(todo(&plans), Vec::new()).next(&bare);
    assert_eq!(shown(&actions), ["wait p command"]);
}

#[test]
fn a_merge_waits_when_a_dependency_was_reverted() {
    let plans = [plan("a", &[], &[]), plan("b", &["a"], &["f"])];
    let ready = Stage::Checked {
        missing: vec![],
        asked: false,
    };
    let jobs = vec![
        Job::new(&plans[0], QueueState::Todo),
        under_way(&plans[1], ready),
    ];
    let fleet = Fleet::new(jobs, Vec::new());
    assert_eq!(
        shown(&fleet.next(&limits(1))),
        ["wait b dependency", "claim a"]
    );
}

#[test]
fn the_schedule_is_rehearsed_without_acting() {
    let plans = [
        plan("a", &[], &["src"]),
        plan("b", &[], &["src/x"]),
        plan("c", &["b"], &["web"]),
        plan("d", &["zz"], &[]),
    ];
    let schedule = rehearse(Fleet::new(todo(&plans), Vec::new()), &limits(4));
    let rounds: Vec<Vec<&str>> = schedule
        .rounds
        .iter()
        .map(|round| round.iter().map(PlanId::as_str).collect())
        .collect();
    assert_eq!(rounds, [vec!["a"], vec!["b"], vec!["c"]]);
    assert_eq!(shown(&schedule.left), ["wait d dependency"]);
}

/// What the ledger would hold of one plan.
#[derive(Clone, Debug)]
struct Known {
    state: QueueState,
    stage: Stage,
    attempts: u32,
    reason: Option<String>,
    /// How often it ended well, and how often it was merged.
    finished: u32,
    merged: u32,
}

/// A world that does what it is told, slowly, and not always well.
struct World<'a> {
    plans: &'a [Plan],
    known: BTreeMap<PlanId, Known>,
}

impl<'a> World<'a> {
    fn new(plans: &'a [Plan]) -> Self {
        let fresh = Known {
            state: QueueState::Todo,
            stage: Stage::Claimed,
            attempts: 0,
            reason: None,
            finished: 0,
            merged: 0,
        };
        let known = plans
            .iter()
            .map(|plan| (plan.id.clone(), fresh.clone()))
            .collect();
        Self { plans, known }
    }

    /// Everything is read anew each time, as after a kill.
    fn fleet(&self) -> Fleet<'a> {
        let job = |plan: &'a Plan| {
            let known = &self.known[&plan.id];
            Job {
                plan,
                state: known.state,
                stage: known.stage.clone(),
                owner: (known.state == QueueState::InProgress)
                    .then(|| agent_of(plan))
                    .flatten(),
                attempts: known.attempts,
                reason: known.reason.clone(),
                refused: None,
            }
        };
        Fleet::new(self.plans.iter().map(job).collect(), Vec::new())
    }

    fn act(&mut self, action: &Action, rng: &mut TestRng) {
        let luck = rng.random_range(0..10);
        let known = self.known.get_mut(action.plan()).expect("known plan");
        match action {
            Action::Claim { .. } => {
                known.state = QueueState::InProgress;
                known.stage = Stage::Claimed;
            }
            Action::Mount { .. } => known.stage = Stage::Mounted,
            Action::Launch { attempt, .. } | Action::Retry { attempt, .. } => {
                assert_eq!(*attempt, known.attempts + 1, "attempts are counted");
                known.attempts = *attempt;
                known.stage = if luck == 0 {
                    Stage::Lost
                } else {
                    Stage::Running
                };
            }
            Action::Wait {
                on: Waiting::Running,
                ..
            } => match luck {
                0..5 => {
                    known.finished += 1;
                    known.stage = Stage::Ended {
                        status: 0,
                        said: None,
                    };
                }
                5 => {
                    known.stage = Stage::Ended {
                        status: 1,
                        said: None,
                    }
                }
                _ => {}
            },
            Action::Check { .. } if luck == 0 => {
                known.stage = Stage::Refused {
                    reason: "the checks fail".into(),
                };
            }
            Action::Check { .. } => {
                let missing = if luck < 3 {
                    vec!["a review".to_owned()]
                } else {
                    vec![]
                };
                known.stage = Stage::Checked {
                    missing,
                    asked: false,
                };
            }
            Action::RequestReview { missing, .. } => {
                known.stage = Stage::Checked {
                    missing: missing.clone(),
                    asked: true,
                };
            }
            Action::Wait {
                on: Waiting::Review,
                ..
            } if luck < 5 => {
                known.stage = Stage::Checked {
                    missing: vec![],
                    asked: true,
                };
            }
            Action::Merge { .. } => {
                known.state = QueueState::Done;
                known.merged += 1;
            }
            Action::Block { reason, .. } => {
                known.state = QueueState::Blocked;
                known.reason = Some(reason.clone());
            }
            Action::Wait { .. } => {}
        }
    }

    fn under_way(&self) -> Vec<&Plan> {
        let plans = self.plans.iter();
        plans
            .filter(|plan| self.known[&plan.id].state == QueueState::InProgress)
            .collect()
    }

    fn check(&self) {
        let active = self.under_way();
        for (n, one) in active.iter().enumerate() {
            for id in &one.dependencies {
                assert_eq!(
                    self.known[id].state,
                    QueueState::Done,
                    "{} before {id}",
                    one.id
                );
            }
            for two in &active[n + 1..] {
                for (_, mine, write) in claims(one) {
                    for (_, theirs, writes) in claims(two) {
                        let clash = (write || writes) && mine.overlaps(theirs);
                        assert!(!clash, "{} and {} at once", one.id, two.id);
                    }
                }
            }
        }
        for (id, known) in &self.known {
            assert!(known.merged <= 1, "{id} merged twice");
        }
    }
}

fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let claim = prop::sample::select(vec![
        "a", "a/b", "a/*", "b", "**/c", "b/c", "c", "d/**", "e",
    ]);
    let one = (
        prop::collection::btree_set(0_usize..20, 0..3),
        prop::collection::btree_set(claim.clone(), 0..3),
        prop::collection::btree_set(claim, 0..2),
        prop::option::of(1_u32..4),
    );
    prop::collection::vec(one, 1..20).prop_map(|all| {
        let each = all.into_iter().enumerate();
        each.map(|(n, (needs, files, read, priority))| {
            let needs: Vec<String> = needs
                .into_iter()
                .filter(|m| *m < n)
                .map(|m| format!("p{m:02}"))
                .collect();
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            let files: Vec<&str> = files.into_iter().collect();
            let mut plan = plan(&format!("p{n:02}"), &needs, &files);
            plan.claims.read = read
                .iter()
                .map(|text| text.parse().expect("pattern"))
                .collect();
            plan.priority = priority;
            plan
        })
        .collect()
    })
}

proptest! {
    /// Never two overlapping plans at once, never before a dependency, always
    /// progress or a stated reason; and each round starts from what is recorded
    /// alone, with any part of the last round's actions not done.
    #[test]
    fn the_fleet_keeps_its_promises_on_any_graph(
        plans in any_plans(),
        jobs in 1_usize..6,
        seed in any::<[u8; 32]>(),
    ) {
        let mut rng = TestRng::from_seed(proptest::test_runner::RngAlgorithm::ChaCha, &seed);
        let mut world = World::new(&plans);
        let limits = limits(jobs);
        for round in 0.. {
            prop_assert!(round < 3_000, "it goes on for ever");
            let actions = world.fleet().next(&limits);
            let open = world.known.values().filter(|k| k.state != QueueState::Done).count();
            prop_assert_eq!(actions.len(), open, "one action for each open plan");
            for action in &actions {
                if let Action::Wait { reason, .. } | Action::Block { reason, .. } = action {
                    prop_assert!(!reason.is_empty());
                }
            }
            let waits_for_review =
                |a: &Action| matches!(a, Action::Wait { on: Waiting::Review, .. });
            if !actions.iter().any(|a| a.is_progress() || waits_for_review(a)) {
                break;
            }
            for action in &actions {
                if rng.random_range(0..8) == 0 {
                    break; // killed here
                }
                world.act(action, &mut rng);
                world.check();
            }
        }
        for plan in &plans {
            let state = world.known[&plan.id].state;
            let stuck = plan.dependencies.iter().any(|id| world.known[id].state != QueueState::Done);
            prop_assert!(
                state == QueueState::Done || state == QueueState::Blocked || stuck,
                "{} is left as {}", plan.id, state
            );
        }
    }

    #[test]
    fn what_is_recommended_is_stable(plans in any_plans()) {
        let mut reversed = todo(&plans);
        reversed.reverse();
        let one = Fleet::new(todo(&plans), Vec::new()).next(&limits(3));
        let two = Fleet::new(reversed, Vec::new()).next(&limits(3));
        prop_assert_eq!(one, two);
    }
}
