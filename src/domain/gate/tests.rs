//! The gate's decisions by table: claim, lists, role, halt.

use super::*;

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes()).unwrap()
}

fn rules(claims: &[&str]) -> Rules {
    let grants = claims.iter().enumerate().map(|(at, text)| Grant {
        id: at as u64 + 1,
        pattern: pattern(text),
        until_boot_ms: Some(1000),
        beyond_role: false,
    });
    let mut rules = Rules::new(grants.collect());
    rules.protected = vec![pattern("governor.md"), pattern("**/SECRET")];
    rules.sensitive = vec![pattern("**/CLAUDE.md")];
    rules.others = vec![Held {
        agent: "bob".into(),
        pattern: pattern("docs"),
    }];
    rules
}

#[test]
fn the_gate_decides_by_claims_and_says_which_rule() {
    let claims = [
        "src/a.rs",
        "lib",
        "tests/*.rs",
        "gen/**",
        "docs/**",
        "CLAUDE.md",
    ];
    let mut set = rules(&claims);
    set.role = Some(vec![
        pattern("src/**"),
        pattern("lib"),
        pattern("tests/**"),
        pattern("docs"),
        pattern("CLAUDE.md"),
    ]);
    let table: [(&str, Tried, Result<u64, &str>); 18] = [
        ("src/a.rs", Tried::Write, Ok(1)),
        ("src/a.rsX", Tried::Write, Err("not-claimed")),
        ("src/b.rs", Tried::Write, Err("not-claimed")),
        ("src", Tried::Mkdir, Ok(1)),
        ("src", Tried::Unlink, Err("not-claimed")),
        ("lib/x/y", Tried::Create, Ok(2)),
        ("libx", Tried::Create, Err("not-claimed")),
        ("tests/t.rs", Tried::Write, Ok(3)),
        ("tests/d/t.rs", Tried::Write, Err("not-claimed")),
        ("gen/x", Tried::Write, Err("role")),
        ("docs/x", Tried::Write, Ok(5)),
        ("governor.md", Tried::Write, Err("protected")),
        ("lib/SECRET", Tried::Write, Err("protected")),
        ("lib/CLAUDE.md", Tried::Write, Ok(2)),
        ("gen/CLAUDE.md", Tried::Write, Err("sensitive")),
        ("CLAUDE.md", Tried::Write, Ok(6)),
        ("other", Tried::Mkdir, Err("not-claimed")),
        ("tests", Tried::Rmdir, Ok(3)),
    ];
    for (text, tried, want) in table {
        let got = set.decide(tried, &path(text), 5);
        let got = got.map(|permit| permit.claim()).map_err(|no| no.rule);
        assert_eq!(got, want, "{text} {tried:?}");
    }
}

#[test]
fn a_lapsed_claim_and_a_halted_session_write_nothing() {
    let mut set = rules(&["src"]);
    let at = |set: &Rules, now| {
        set.decide(Tried::Write, &path("src/x"), now)
            .map_err(|no| no.rule)
            .map(|permit| permit.claim())
    };
    assert_eq!(at(&set, 999), Ok(1));
    assert_eq!(at(&set, 1000), Err("expired"));
    set.halt = Some(Halt::Frozen);
    assert_eq!(at(&set, 0), Err("frozen"));
    set.halt = Some(Halt::Ended);
    assert_eq!(at(&set, 0), Err("ended"));
}

#[test]
fn a_refusal_names_the_holder() {
    let no = rules(&[])
        .decide(Tried::Write, &path("docs/a"), 0)
        .unwrap_err();
    assert_eq!(no.rule, "held");
    assert!(no.reason.contains("bob holds docs"), "{}", no.reason);
}

#[test]
fn a_directory_is_uniform_only_under_a_literal_claim_without_exceptions() {
    let mut set = rules(&["lib", "gen/**"]);
    assert!(!set.uniform(&path("lib/x"))); // **/SECRET may stand beneath
    set.protected.clear();
    set.sensitive.clear();
    assert!(set.uniform(&path("lib")));
    assert!(set.uniform(&path("lib/x")));
    assert!(!set.uniform(&path("gen")));
    assert!(!set.uniform(&path("li")));
}

#[test]
fn every_rule_has_a_meaning() {
    for (name, meaning) in RULES {
        assert_eq!(Refusal::by_rule(name, "").reason, meaning);
    }
}

#[test]
fn the_operators_leave_goes_beyond_the_role_and_never_to_what_is_protected() {
    let mut rules = rules(&["docs", "governor.md"]);
    rules.role = Some(vec![pattern("src")]);
    let decide = |rules: &Rules, path: &str| {
        let path = RepoPath::parse(path.as_bytes()).expect("a path");
        let decided = rules.decide(Tried::Write, &path, 0);
        decided.map(|permit| permit.claim()).map_err(|no| no.rule)
    };
    assert_eq!(decide(&rules, "docs/a"), Err("role"));
    for grant in &mut rules.claims {
        grant.beyond_role = true;
    }
    assert_eq!(decide(&rules, "docs/a"), Ok(1));
    assert_eq!(decide(&rules, "governor.md"), Err("protected"));
}
