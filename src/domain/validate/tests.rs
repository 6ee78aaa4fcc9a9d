//! Validators and their verdicts, over facts from a list of files.

mod conditions;

use crate::domain::dag::PlanRules;
use crate::domain::dag::verify;

use super::*;
use crate::domain::plan::tests::sample as plan;

fn patterns(texts: &[&str]) -> Vec<Pattern> {
    texts
        .iter()
        .map(|text| text.parse().expect("pattern"))
        .collect()
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect(text)
}

fn table() -> ValidatorTable {
    let external = Validator::External {
        name: "licences".into(),
        command: Command::Argv(vec!["./check".into()]),
    };
    ValidatorTable(BTreeMap::from([
        (
            "feature".into(),
            vec![Validator::NoOverlap, Validator::TestsPresent],
        ),
        ("fix".into(), vec![Validator::ClaimsExist]),
        ("migration".into(), vec![Validator::MigrationOrder]),
        ("audited".into(), vec![external]),
        ("empty".into(), Vec::new()),
    ]))
}

/// Answers what was asked from a list of files.
fn facts(plans: &[Plan], tree: &[&str]) -> Facts {
    let members = members(plans);
    let asked = questions(&members, &table());
    let tree: Vec<RepoPath> = tree.iter().map(|text| path(text)).collect();
    let present = asked.present.iter();
    let names = |dir: &RepoPath| -> BTreeSet<Vec<u8>> {
        let inside = tree
            .iter()
            .filter(|file| file.parent().as_ref() == Some(dir));
        inside.map(|file| file.name().to_vec()).collect()
    };
    Facts {
        present: present
            .filter(|p| tree.iter().any(|file| p.covers(file)))
            .cloned()
            .collect(),
        listings: asked
            .listings
            .iter()
            .map(|dir| (dir.clone(), names(dir)))
            .collect(),
        external: BTreeMap::new(),
    }
}

fn members(plans: &[Plan]) -> Vec<Member<'_>> {
    plans
        .iter()
        .map(|plan| Member { plan, done: false })
        .collect()
}

fn found(plans: &[Plan], facts: &Facts) -> Vec<String> {
    let members = members(plans);
    let graph = Graph::new(&members);
    let findings = judge(&members, &graph, &table(), facts);
    findings
        .into_iter()
        .map(|f| format!("{}: {}: {}", f.plan, f.rule, f.fault.message))
        .collect()
}

#[test]
fn a_type_without_a_validator_is_refused() {
    for kind in ["unheard-of", "empty"] {
        let plans = [plan("p", kind, &[], &[])];
        let found = found(&plans, &Facts::default());
        assert_eq!(found.len(), 1, "{kind}");
        assert!(found[0].starts_with("p: no-validator: the charter has no validator for type"));
    }
}

#[test]
fn claims_exist_looks_at_the_base_and_at_what_comes_before() {
    let plans = [
        plan("new", "feature", &[], &["src/new.rs", "gen/**"]),
        plan(
            "p",
            "fix",
            &["new"],
            &["src/a.rs", "src/new.rs", "gen/x.rs", "src/b.rs", "web/*.ts"],
        ),
    ];
    let mut plans = plans;
    plans[0].claims.tests = patterns(&["tests/new.rs"]);
    assert_eq!(
        found(&plans, &facts(&plans, &["src/a.rs"])),
        [
            "p: claims-exist: src/b.rs is not there, and no plan that this one depends on claims it either",
            "p: claims-exist: web/*.ts matches nothing, and no plan that this one depends on claims it either",
        ]
    );
    assert!(
        found(
            &plans,
            &facts(&plans, &["src/a.rs", "src/b.rs", "web/i.ts"])
        )
        .is_empty()
    );
}

#[test]
fn tests_present_wants_a_test() {
    let mut plans = [plan("p", "feature", &[], &["src"])];
    assert_eq!(found(&plans, &Facts::default()).len(), 1);
    plans[0].claims.tests = patterns(&["tests/p.rs"]);
    assert!(found(&plans, &Facts::default()).is_empty());
}

#[test]
fn migrations_form_one_line() {
    let cases: [(&str, &[Plan], &[&str]); 8] = [
        (
            "the next",
            &[plan("m", "migration", &[], &["db/003_c.sql"])],
            &[],
        ),
        (
            "behind what is there",
            &[plan("m", "migration", &[], &["db/002_again.sql"])],
            &["comes after nothing newer than migration 2"],
        ),
        (
            "an old one edited",
            &[plan("m", "migration", &[], &["db/001_a.sql"])],
            &[],
        ),
        (
            "one number for two",
            &[
                plan("m", "migration", &[], &["db/3_c.sql"]),
                plan("n", "migration", &[], &["db/003_d.sql"]),
            ],
            &[
                "plan n has a migration 3 there too",
                "plan m has a migration 3 there too",
            ],
        ),
        (
            "out of order",
            &[
                plan("m", "migration", &[], &["db/003_c.sql"]),
                plan("n", "migration", &[], &["db/004_d.sql"]),
            ],
            &["migration 3 of plan m comes first, so this plan must depend on it"],
        ),
        (
            "in order",
            &[
                plan("m", "migration", &[], &["db/003_c.sql"]),
                plan("n", "migration", &["m"], &["db/V004__d.sql"]),
            ],
            &[],
        ),
        (
            "other directories are other lines",
            &[
                plan("m", "migration", &[], &["db/003_c.sql"]),
                plan("n", "migration", &[], &["other/001.sql", "notes.txt"]),
            ],
            &[],
        ),
        (
            "dates are numbers",
            &[plan("m", "migration", &[], &["db/20260401120000_x.rb"])],
            &[],
        ),
    ];
    for (name, plans, expected) in cases {
        let found = found(
            plans,
            &facts(plans, &["db/001_a.sql", "db/002_b.sql", "db/README"]),
        );
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{name}: {found}");
        }
    }
}

#[test]
fn a_directory_nobody_looked_at_refuses() {
    let plans = [plan("m", "migration", &[], &["db/003_c.sql"])];
    assert!(found(&plans, &Facts::default())[0].contains("is not known"));
}

#[test]
fn an_executables_verdict_counts_only_if_it_is_one() {
    let exited = |status, text: &str| Outcome::Exited {
        status,
        stdout: text.to_owned(),
    };
    let cases: [(Option<Outcome>, Option<&str>); 15] = [
        (Some(exited(0, r#"{"verdict":"allow"}"#)), None),
        (
            Some(exited(
                0,
                "{\"verdict\":\"ok\",\"reasons\":[],\"more\":1}\n",
            )),
            None,
        ),
        (
            Some(exited(
                0,
                r#"{"verdict":"deny","reasons":["no header","x"]}"#,
            )),
            Some("no header; x"),
        ),
        (
            Some(exited(0, r#"{"verdict":"reject"}"#)),
            Some("it gives no reason"),
        ),
        (
            Some(exited(0, r#"{"verdict":"maybe"}"#)),
            Some("its verdict is \"maybe\""),
        ),
        (Some(exited(0, "")), Some("not a verdict")),
        (Some(exited(0, "fine")), Some("not a verdict")),
        (
            Some(exited(0, r#"{"verdict":true}"#)),
            Some("not a verdict"),
        ),
        (
            Some(exited(0, r#"{"verdict":"allow"}{"verdict":"allow"}"#)),
            Some("not a verdict"),
        ),
        (
            Some(exited(0, r#"{"verdict":"allow","reasons":"x"}"#)),
            Some("not a verdict"),
        ),
        (
            Some(exited(1, r#"{"verdict":"allow"}"#)),
            Some("it ended with status 1"),
        ),
        (
            Some(Outcome::Killed { signal: 11 }),
            Some("it was killed by signal 11"),
        ),
        (
            Some(Outcome::TimedOut { after_ms: 30_000 }),
            Some("no answer within 30000 ms"),
        ),
        (
            Some(Outcome::Failed {
                reason: "not found".into(),
            }),
            Some("could not be run: not found"),
        ),
        (None, Some("it was not asked")),
    ];
    for (outcome, expected) in cases {
        let plans = [plan("p", "audited", &[], &[])];
        let key = ("p".parse().expect("id"), "licences".to_owned());
        let facts = Facts {
            external: outcome
                .clone()
                .map(|outcome| (key, outcome))
                .into_iter()
                .collect(),
            ..Facts::default()
        };
        let found = found(&plans, &facts);
        match expected {
            None => assert!(found.is_empty(), "{outcome:?}: {found:?}"),
            Some(text) => assert!(found[0].contains(text), "{outcome:?}: {found:?}"),
        }
    }
    let long = exited(
        0,
        &format!(
            "{{\"verdict\":\"allow\"}}{}",
            " ".repeat(external::ANSWER_BYTES_MAX)
        ),
    );
    assert!(external::judge(&plan("p", "audited", &[], &[]), "v", Some(&long)).is_some());
}

#[test]
fn an_executable_is_told_the_plan_and_the_others() {
    let plans = [
        plan("p", "audited", &[], &["a b"]),
        plan("q", "fix", &["p"], &[]),
    ];
    let text = external::request("licences", "abc", &plans[0], &members(&plans));
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["schema"], "govfs/validator/v1");
    assert_eq!(json["plan"]["claims"]["files"][0], "a%20b");
    assert_eq!(json["plans"][0]["id"], "q");
    assert_eq!(json["plans"][0]["done"], false);
    assert_eq!(questions(&members(&plans), &table()).external.len(), 1);
}

#[test]
fn a_plan_is_stale_when_its_files_moved_under_it() {
    let mut second = plan("b", "fix", &["a"], &["src"]);
    second.claims.read = patterns(&["docs"]);
    let plans = [
        plan("a", "fix", &[], &["src"]),
        second,
        plan("c", "fix", &[], &["web"]),
    ];
    let members = members(&plans);
    let graph = Graph::new(&members);
    let moved = |text: &str, by: Option<&str>| Moved {
        path: path(text),
        by: by.map(|id| id.parse().expect("id")),
    };
    for (change, stale) in [
        (moved("src/x.rs", None), true),
        (moved("src/x.rs", Some("c")), true),
        (moved("src/x.rs", Some("a")), false), // it was written to follow a
        (moved("src/x.rs", Some("b")), false),
        (moved("docs/x.md", None), true),
        (moved("web/x.ts", None), false),
    ] {
        let since = super::Since::Moved(vec![change]);
        let found = super::stale(&plans[1], &graph, &since);
        assert_eq!(found.is_some(), stale, "{since:?}");
    }
    let gone = super::Since::Unknown(crate::domain::base::Oid([7; 20]));
    let found = super::stale(&plans[1], &graph, &gone).expect("nobody can tell");
    assert_eq!((found.rule, found.fault.key.as_str()), ("stale", "plan.id"));
}

#[test]
fn overlap_is_judged_for_every_type() {
    let plans = [
        plan("a", "empty", &[], &["f"]),
        plan("b", "fix", &[], &["f"]),
    ];
    let report = verify(&members(&plans), &PlanRules::default());
    assert_eq!(report.findings.len(), 1);
}

#[test]
fn built_in_validators_go_by_their_names() {
    for name in [
        "no-overlap",
        "claims-exist",
        "tests-present",
        "migration-order",
    ] {
        assert_eq!(
            name.parse::<Validator>().map(|v| v.name().to_owned()),
            Ok(name.to_owned())
        );
    }
    assert!("overlap".parse::<Validator>().is_err());
}
