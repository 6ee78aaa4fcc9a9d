//! What must hold before a plan is begun, and once it is done.

use super::*;
use crate::domain::validate::conditions::{After, Before, after, before};

fn conditioned() -> Plan {
    Plan::parse(
        "p",
        r#"
[plan]
id = "p"
type = "fix"
[preconditions]
schema_version = "2.3.0"
feature_flags = ["oauth_enabled", "beta"]
commands = ["test -e x"]
[postconditions]
tests_pass = true
coverage_delta = -0.5
tests_not_dropped = true
commands = [["make", "lint"]]
[acceptance]
checks = ["e2e"]
"#,
    )
    .expect("plan")
}

fn said(text: &str) -> Option<Outcome> {
    let stdout = text.to_owned();
    let printed = Outcome::Exited { status: 0, stdout };
    (!text.is_empty()).then_some(printed)
}

fn failed() -> Outcome {
    Outcome::Exited {
        status: 1,
        stdout: String::new(),
    }
}

fn well() -> Outcome {
    Outcome::Exited {
        status: 0,
        stdout: String::new(),
    }
}

/// The findings of one case, in order, each containing the words that are expected.
fn assert_named(case: &str, found: &[Finding], expected: &[&str]) {
    assert_eq!(found.len(), expected.len(), "{case}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        let said = &found.fault.message;
        assert!(said.contains(expected), "{case}: {said}");
    }
}

#[test]
fn preconditions_hold_or_are_named() {
    let plan = conditioned();
    let good = || Before {
        schema_version: said("2.3.0\n"),
        feature_flags: said("beta, oauth_enabled\n"),
        commands: vec![well()],
    };
    let list = said(r#"["beta","oauth_enabled"]"#);
    let cases: [(&str, Before, &[&str]); 9] = [
        ("all", good(), &[]),
        (
            "a JSON list",
            Before {
                feature_flags: list,
                ..good()
            },
            &[],
        ),
        (
            "no source",
            Before {
                schema_version: None,
                ..good()
            },
            &["names no command for schema-version"],
        ),
        (
            "another version",
            Before {
                schema_version: said("2.4.0"),
                ..good()
            },
            &["needs schema version 2.3.0, found 2.4.0"],
        ),
        (
            "a longer version",
            Before {
                schema_version: said("2.3.0.1"),
                ..good()
            },
            &["found 2.3.0.1"],
        ),
        (
            "a broken source",
            Before {
                schema_version: Some(failed()),
                ..good()
            },
            &["ended with status 1"],
        ),
        (
            "a missing flag",
            Before {
                feature_flags: said("beta2 oauth_enabled"),
                ..good()
            },
            &["needs feature flag beta"],
        ),
        (
            "a failed command",
            Before {
                commands: vec![failed()],
                ..good()
            },
            &["`test -e x`: it ended with status 1"],
        ),
        (
            "nothing",
            Before::default(),
            &["schema-version", "feature-flags", "was not run"],
        ),
    ];
    for (name, facts, expected) in cases {
        let found = before(&plan, &facts);
        assert_named(name, &found, expected);
    }
}

#[test]
fn postconditions_hold_or_are_named() {
    let plan = conditioned();
    let good = || After {
        tests: Some(well()),
        coverage_base: said("TOTAL 100 10 90.0%\n"),
        coverage_candidate: said("89.5"),
        dropped: Vec::new(),
        commands: vec![well()],
        checks: vec![well()],
    };
    let cases: [(&str, After, &[&str]); 10] = [
        ("all", good(), &[]),
        (
            "tests fail",
            After {
                tests: Some(failed()),
                ..good()
            },
            &["the tests do not pass"],
        ),
        (
            "no tests command",
            After {
                tests: None,
                ..good()
            },
            &["names no command for tests"],
        ),
        (
            "coverage falls",
            After {
                coverage_candidate: said("89.499999"),
                ..good()
            },
            &["from 90 to 89.499999, which is -0.500001"],
        ),
        (
            "coverage is words",
            After {
                coverage_candidate: said("good"),
                ..good()
            },
            &["ends with no number"],
        ),
        (
            "coverage unknown",
            After {
                coverage_base: None,
                ..good()
            },
            &["base: the charter names no command for coverage"],
        ),
        (
            "a test dropped",
            After {
                dropped: vec![path("tests/a.py")],
                ..good()
            },
            &["tests/a.py is a test, and the candidate drops it"],
        ),
        (
            "a command fails",
            After {
                commands: vec![failed()],
                ..good()
            },
            &["`make lint`"],
        ),
        (
            "a check fails",
            After {
                checks: vec![Outcome::TimedOut { after_ms: 5 }],
                ..good()
            },
            &["`e2e`: no answer within 5 ms"],
        ),
        (
            "a check not run",
            After {
                checks: Vec::new(),
                ..good()
            },
            &["`e2e`: it was not run"],
        ),
    ];
    for (name, facts, expected) in cases {
        let found = after(&plan, &facts);
        assert_named(name, &found, expected);
    }
}
