//! Findings over sets of plans by examples, and against looking at every pair.

use proptest::prelude::*;

use super::*;
use crate::domain::plan::Plan;
use crate::domain::plan::tests::sample;

fn plan(id: &str, needs: &[&str], files: &[&str]) -> Plan {
    sample(id, "feature", needs, files)
}

fn members(plans: &[Plan]) -> Vec<Member<'_>> {
    plans
        .iter()
        .map(|plan| Member { plan, done: false })
        .collect()
}

fn report(plans: &[Plan]) -> Report {
    verify(&members(plans), &PlanRules::default())
}

fn messages(plans: &[Plan]) -> Vec<String> {
    let findings = report(plans).findings;
    findings
        .into_iter()
        .map(|f| format!("{}: {}", f.rule, f.fault.message))
        .collect()
}

fn names(ids: &[PlanId]) -> Vec<&str> {
    ids.iter().map(PlanId::as_str).collect()
}

#[test]
fn unknown_dependencies_are_named_with_what_may_be_meant() {
    let plans = [
        plan("api", &["migration-oaut", "zzz"], &[]),
        plan("migration-oauth", &[], &[]),
    ];
    assert_eq!(
        messages(&plans),
        [
            "unknown-dependency: there is no plan migration-oaut; is migration-oauth meant?",
            "unknown-dependency: there is no plan zzz"
        ]
    );
}

#[test]
fn a_cycle_is_shown_as_the_cycle() {
    let plans = [
        plan("a", &["b"], &[]),
        plan("b", &["c"], &[]),
        plan("c", &["a", "b"], &[]),
        plan("d", &["a"], &[]),
        plan("self", &["self"], &[]),
    ];
    let found = report(&plans);
    let cycles: Vec<_> = found
        .findings
        .iter()
        .map(|f| f.fault.message.as_str())
        .collect();
    assert_eq!(
        cycles,
        [
            "the dependencies form a cycle: a -> b -> c -> a",
            "the dependencies form a cycle: self -> self"
        ]
    );
    assert!(
        found.order.is_empty(),
        "nothing in or behind a cycle has an order"
    );
}

#[test]
fn overlaps_are_shown_as_two_patterns_and_a_path_unless_a_dependency_orders_them() {
    let cases: [(&[Plan], &[&str]); 6] = [
        (
            &[plan("a", &[], &["src"]), plan("b", &[], &["src/*.rs"])],
            &[
                "overlap: src overlaps src/*.rs of plan b, which may run at the same time: both cover src/a.rs",
            ],
        ),
        (
            &[plan("a", &[], &["src"]), plan("b", &["a"], &["src/*.rs"])],
            &[],
        ),
        (
            // ordered through another
            &[
                plan("a", &[], &["f"]),
                plan("b", &["a"], &[]),
                plan("c", &["b"], &["f"]),
            ],
            &[],
        ),
        (
            // two branches of a diamond are not ordered, its ends are
            &[
                plan("a", &[], &["f"]),
                plan("b", &["a"], &["f"]),
                plan("c", &["a"], &["f"]),
                plan("d", &["b", "c"], &["f"]),
            ],
            &["overlap: f overlaps f of plan c, which may run at the same time: both cover f"],
        ),
        (
            &[plan("a", &[], &["src/a"]), plan("b", &[], &["src/b"])],
            &[],
        ),
        (&[plan("a", &[], &["f", "f/g"])], &[]),
    ];
    for (plans, expected) in cases {
        assert_eq!(messages(plans), expected, "{plans:#?}");
    }
}

#[test]
fn readers_share_and_exclude_writers() {
    let mut reader = plan("reader", &[], &[]);
    reader.claims.read = vec!["docs".parse().expect("pattern")];
    let mut second = reader.clone();
    second.id = "second".parse().expect("id");
    assert!(messages(&[reader.clone(), second]).is_empty());
    let writer = plan("writer", &[], &["docs/api.md"]);
    let found = messages(&[reader, writer]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("docs (read) overlaps docs/api.md of plan writer"),
        "{found:?}"
    );
}

#[test]
fn tests_are_claims_too_and_done_plans_hold_nothing() {
    let mut one = plan("one", &[], &[]);
    one.claims.tests = vec!["tests".parse().expect("pattern")];
    let two = plan("two", &[], &["tests/a.py"]);
    let pair = |done| {
        let members = [
            Member { plan: &one, done },
            Member {
                plan: &two,
                done: false,
            },
        ];
        verify(&members, &PlanRules::default()).findings.len()
    };
    assert_eq!((pair(false), pair(true)), (1, 0));
}

#[test]
fn an_id_is_taken_once() {
    let mut second = Plan::parse("b.toml", "[plan]\nid = \"x\"\ntype = \"fix\"").expect("plan");
    let first = Plan::parse("a.toml", "[plan]\n\nid = \"x\"\ntype = \"fix\"").expect("plan");
    second.claims.files = vec!["f".parse().expect("pattern")];
    let found = report(&[first, second]).findings;
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].fault.to_string(),
        "b.toml:2: plan.id: the id x is taken: a.toml:3"
    );
}

/// A role, an agent, a file, and the rules that refuse it.
type Case<'a> = (Option<&'a str>, Option<&'a str>, &'a str, &'a [&'a str]);

#[test]
fn the_role_and_the_charter_bound_what_a_plan_may_claim() {
    let patterns = |texts: &[&str]| -> Vec<Pattern> {
        texts
            .iter()
            .map(|text| text.parse().expect("pattern"))
            .collect()
    };
    let role = |name: &str| -> RoleName { name.parse().expect("role") };
    let rules = PlanRules {
        protected: patterns(&["governor.md", ".github"]),
        roles: BTreeMap::from([
            (role("ui"), patterns(&["web", "docs/*.md"])),
            (role("any"), Vec::new()),
        ]),
        agents: BTreeMap::from([("bob".parse().expect("agent"), role("ui"))]),
    };
    let case = |role_name: Option<&str>, agent: Option<&str>, file: &str| -> Vec<&'static str> {
        let mut plan = plan("p", &[], &[file]);
        plan.role = role_name.map(role);
        plan.agent = agent.map(|name| name.parse().expect("agent"));
        let found = verify(&members(&[plan]), &rules).findings;
        found.into_iter().map(|f| f.rule).collect()
    };
    let cases: [Case<'_>; 10] = [
        (Some("ui"), None, "web/a.ts", &[]),
        (Some("ui"), None, "docs/*.md", &[]),
        (Some("ui"), None, "docs", &["role-paths"]),
        (Some("ui"), None, "src/a.rs", &["role-paths"]),
        (None, Some("bob"), "src/a.rs", &["role-paths"]),
        (Some("any"), None, "src/a.rs", &[]),
        (Some("any"), Some("bob"), "src/a.rs", &["role"]),
        (Some("ops"), None, "src/a.rs", &["unknown-role"]),
        (None, None, "governor.md", &["protected"]),
        (None, None, "**", &[]), // protected paths stay refused inside it
    ];
    for (role, agent, file, expected) in cases {
        assert_eq!(
            case(role, agent, file),
            expected,
            "{role:?} {agent:?} {file}"
        );
    }
}

#[test]
fn the_order_is_stable_dependencies_first_then_priority_then_name() {
    let mut plans = vec![
        plan("z", &[], &[]),
        plan("a", &["z"], &[]),
        plan("m", &[], &[]),
        plan("k", &[], &[]),
    ];
    plans[2].priority = Some(1);
    let order = report(&plans).order;
    assert_eq!(names(&order), ["m", "k", "z", "a"]);
    plans.reverse();
    assert_eq!(report(&plans).order, order);
}

#[test]
fn what_depends_on_a_plan_is_known() {
    let plans = [
        plan("a", &[], &[]),
        plan("b", &["a"], &[]),
        plan("c", &["b"], &[]),
        plan("d", &[], &[]),
    ];
    let members = members(&plans);
    let graph = Graph::new(&members);
    let ids = |set: BTreeSet<&PlanId>| {
        set.into_iter()
            .map(|id| id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(graph.dependents(&plans[0].id)), ["b", "c"]);
    assert_eq!(ids(graph.ancestors(&plans[2].id)), ["a", "b"]);
    assert!(graph.dependents(&plans[3].id).is_empty());
}

#[test]
fn the_graph_is_drawn_in_three_ways() {
    let plans = [plan("b", &["a"], &[]), plan("a", &[], &[])];
    let members = members(&plans);
    let graph = Graph::new(&members);
    let label = |id: &PlanId| {
        if id.as_str() == "a" {
            "done".to_owned()
        } else {
            String::new()
        }
    };
    insta::assert_snapshot!(draw(&graph, Drawing::Text, label), @r"
    a [done]
    b <- a
    ");
    insta::assert_snapshot!(draw(&graph, Drawing::Dot, label), @r#"
    digraph plans {
      rankdir=LR;
      node [shape=box];
      "a" [label="a\ndone"];
      "b" [label="b"];
      "a" -> "b";
    }
    "#);
    insta::assert_snapshot!(draw(&graph, Drawing::Mermaid, label), @r#"
    flowchart LR
      p0["a<br/>done"]
      p1["b"]
      p0 --> p1
    "#);
    assert!("svg".parse::<Drawing>().is_err());
}

#[test]
fn no_more_overlaps_are_listed_than_anybody_reads() {
    let plans: Vec<Plan> = (0..100)
        .map(|n| plan(&format!("p{n}"), &[], &["f"]))
        .collect();
    let report = report(&plans);
    assert_eq!(report.findings.len(), OVERLAPS_MAX);
    assert!(report.more);
    assert_eq!(report.refused().len(), 100.min(report.refused().len()));
}

/// Ten thousand plans in lanes, with five claims each: some files are shared
/// along a chain, one pair of plans collides.
fn many(count: usize) -> Vec<Plan> {
    let mut plans = Vec::with_capacity(count);
    for n in 0..count {
        let lane = n % 100;
        let needs = if n >= 100 {
            vec![format!("p{}", n - 100)]
        } else {
            Vec::new()
        };
        let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
        let own = [
            format!("src/lane{lane}/mod.rs"),
            format!("src/lane{lane}/part{n}.rs"),
            format!("src/lane{lane}/sub{n}/**"),
            format!("tests/lane{lane}/case{n}_*.rs"),
            format!("docs/lane{lane}/{n}.md"),
        ];
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        plans.push(plan(&format!("p{n}"), &needs, &own));
    }
    plans
}

#[test]
fn a_large_set_is_verified_and_its_one_collision_found() {
    let mut plans = many(2_000);
    plans.push(plan("late", &["p1999"], &["src/lane98/mod.rs"]));
    let found = messages(&plans);
    assert!(
        found.len() > 1 && found.iter().all(|m| m.contains("src/lane98/mod.rs")),
        "{found:?}"
    );
    plans.pop();
    assert!(report(&plans).is_clean());
}

#[test]
#[ignore = "a figure: run it with --release"]
fn figure_ten_thousand_plans_with_fifty_thousand_claims() {
    let plans = many(10_000);
    let texts: Vec<String> = plans.iter().map(Plan::canonical).collect();
    let start = std::time::Instant::now();
    let read: Vec<Plan> = texts
        .iter()
        .map(|text| Plan::parse("p", text).expect("plan"))
        .collect();
    let parsed = start.elapsed();
    let start = std::time::Instant::now();
    assert!(report(&read).is_clean());
    println!("parse {parsed:?}, verify {:?}", start.elapsed());
    let chain: Vec<Plan> = (0..10_000)
        .map(|n: usize| {
            let needs = n.checked_sub(1).map(|n| format!("c{n}"));
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            plan(
                &format!("c{n}"),
                &needs,
                &["a", "b", "c", "d", "src/**/*.rs"],
            )
        })
        .collect();
    let start = std::time::Instant::now();
    assert!(report(&chain).is_clean());
    println!("one chain over the same files {:?}", start.elapsed());
    let globs: Vec<Plan> = (0..10_000)
        .map(|n: usize| {
            let own: Vec<String> = (0..5).map(|k| format!("**/x{n}_{k}.rs")).collect();
            let own: Vec<&str> = own.iter().map(String::as_str).collect();
            plan(&format!("g{n}"), &[], &own)
        })
        .collect();
    let start = std::time::Instant::now();
    println!(
        "globs at the root: {} findings",
        report(&globs[..1000]).findings.len()
    );
    println!(
        "1 000 plans with 5 000 globs at the root {:?}",
        start.elapsed()
    );
}

/// Whether `from` depends on `to`, the slow and obvious way.
fn reaches(plans: &[Plan], from: &PlanId, to: &PlanId) -> bool {
    let mut todo = vec![from.clone()];
    let mut seen = BTreeSet::new();
    while let Some(id) = todo.pop() {
        let plan = plans.iter().find(|plan| plan.id == id);
        for next in plan.map_or(&[][..], |plan| &plan.dependencies) {
            if next == to {
                return true;
            }
            if seen.insert(next.clone()) {
                todo.push(next.clone());
            }
        }
    }
    false
}

fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let claim = prop::sample::select(vec![
        "a", "a/b", "a/*", "a/**", "b", "*", "**/b", "b/c", "{a,b}/c", "c",
    ]);
    let one = (
        prop::collection::btree_set(0_usize..12, 0..3),
        prop::collection::btree_set(claim.clone(), 0..3),
        prop::collection::btree_set(claim, 0..2),
        any::<bool>(),
    );
    prop::collection::vec(one, 1..12).prop_map(|all| {
        let count = all.len();
        let each = all.into_iter().enumerate();
        each.map(|(n, (needs, files, read, backwards))| {
            // mostly a DAG, at times a cycle
            let needs: Vec<String> = needs
                .into_iter()
                .map(|m| m % count)
                .filter(|m| *m < n || (backwards && n % 5 == 4))
                .map(|m| format!("p{m:02}"))
                .collect();
            let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
            let files: Vec<&str> = files.into_iter().collect();
            let mut plan = plan(&format!("p{n:02}"), &needs, &files);
            plan.claims.read = read
                .iter()
                .map(|text| text.parse().expect("pattern"))
                .collect();
            plan
        })
        .collect()
    })
}

proptest! {
    #[test]
    fn overlaps_are_found_as_by_looking_at_every_pair(plans in any_plans()) {
        let mut expected = BTreeSet::new();
        for (n, one) in plans.iter().enumerate() {
            for two in &plans[n + 1..] {
                if reaches(&plans, &one.id, &two.id) || reaches(&plans, &two.id, &one.id) {
                    continue;
                }
                let writes = |plan: &Plan| plan.claims.files.clone();
                let all = |plan: &Plan| [plan.claims.files.clone(), plan.claims.read.clone()].concat();
                let hits = |a: &[Pattern], b: &[Pattern]| {
                    a.iter().any(|p| b.iter().any(|q| p.overlaps(q)))
                };
                if hits(&writes(one), &all(two)) || hits(&all(one), &writes(two)) {
                    expected.insert((one.id.clone(), two.id.clone()));
                }
            }
        }
        let mut found = BTreeSet::new();
        for finding in report(&plans).findings {
            if let Fact::Overlap { other, mine, theirs, witness } = finding.fact {
                prop_assert!(mine.covers(&witness) && theirs.covers(&witness));
                found.insert((finding.plan, other));
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn cycles_are_cycles_and_the_order_respects_every_dependency(plans in any_plans()) {
        let report = report(&plans);
        let place = |id: &PlanId| report.order.iter().position(|other| other == id);
        for plan in &plans {
            for id in &plan.dependencies {
                if let Some(at) = place(&plan.id) {
                    prop_assert!(place(id).is_some_and(|before| before < at));
                }
            }
            let stuck = plans.iter().any(|other| {
                let on_cycle = reaches(&plans, &other.id, &other.id);
                on_cycle && (other.id == plan.id || reaches(&plans, &plan.id, &other.id))
            });
            prop_assert_eq!(place(&plan.id).is_none(), stuck, "{}", plan.id);
        }
        for finding in &report.findings {
            if let Fact::Cycle(ids) = &finding.fact {
                for (n, id) in ids.iter().enumerate() {
                    let next = &ids[(n + 1) % ids.len()];
                    let plan = plans.iter().find(|plan| plan.id == *id).expect("plan");
                    prop_assert!(plan.dependencies.contains(next));
                }
            }
        }
    }
}
