//! The charter as a table of faults, and the default one with all its examples.

use super::*;
use proptest::prelude::*;

fn block(toml: &str) -> String {
    format!("# Rules\n\n```toml charter\n{toml}\n```\n")
}

fn parsed(toml: &str) -> Charter {
    Charter::parse(&block(toml)).unwrap_or_else(|faults| panic!("{toml}: {faults:?}"))
}

fn faults(text: &str) -> String {
    let faults = Charter::parse(text).expect_err(text);
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect(text)
}

#[test]
fn the_default_charter_lets_a_newcomer_work_at_once() {
    let charter = Charter::parse(DEFAULT_CHARTER).expect("the default charter");
    assert_eq!(charter.digest(), &Digest::of(DEFAULT_CHARTER.as_bytes()));
    assert_eq!(charter.claims.mode, ClaimMode::Explicit);
    assert_eq!(charter.claims.ttl_ms, 8 * 3_600_000);
    assert_eq!(charter.default_role.as_str(), "agent");
    let role = &charter.roles[&charter.default_role];
    assert!(role.paths[0].covers(&path("any/thing")));
    assert!(!charter.plans.required);
    assert_eq!(charter.reviews.required, 0);
    assert!(charter.checks.is_empty() && charter.reviews.rules.is_empty());
    assert_eq!(charter.sandbox.least_tier, None);
    assert!(charter.sandbox.network && !charter.sandbox.af_unix);
    assert_eq!(charter.merge.target, "main");
    for kind in ["feature", "refactor", "fix", "migration", "test", "docs"] {
        assert!(charter.plans.validators.contains_key(kind), "{kind}");
    }
    assert!(charter.is_protected(&path("governor.md")));
    for text in [
        ".gitattributes",
        "sub/.gitmodules",
        ".github/workflows/ci.yml",
        "sub/CLAUDE.md",
        ".claude/settings.json",
        ".cursor/rules/a",
        ".gitlab-ci.yml",
        ".lfsconfig",
    ] {
        assert!(charter.is_sensitive(&path(text)), "{text}");
    }
    for text in ["src/main.rs", "README.md", ".gitignore", "docs/claude.rs"] {
        assert!(!charter.is_sensitive(&path(text)), "{text}");
    }
}

#[test]
fn an_empty_block_says_the_same_as_the_default_charter() {
    let mut default = Charter::parse(DEFAULT_CHARTER).expect("the default charter");
    let empty = parsed("");
    default.digest = *empty.digest();
    assert_eq!(empty, default);
}

#[test]
fn every_default_is_in_order() {
    for list in [defaults::SENSITIVE, defaults::SCRATCH, defaults::TEST_FILES] {
        for text in list {
            assert!(text.parse::<Pattern>().is_ok(), "{text}");
        }
    }
    let quoted = |list: &[&str]| format!("{list:?}");
    parsed(&format!(
        "[sandbox]\nwritable = {}\ncopied = {}\nhidden = {}\nenvironment = {}",
        quoted(defaults::STATES),
        quoted(defaults::COPIED),
        quoted(defaults::HIDDEN),
        quoted(&[defaults::ALWAYS, defaults::ENVIRONMENT].concat()),
    ));
}

/// Returns the runs of commented settings in the default charter, as line ranges.
fn examples() -> Vec<Vec<usize>> {
    let is_setting = |line: &str| {
        let mut chars = line.chars();
        chars.next() == Some('#')
            && chars
                .next()
                .is_some_and(|c| c == '[' || c.is_ascii_lowercase())
    };
    let start = DEFAULT_CHARTER
        .lines()
        .position(|line| line == "```toml charter");
    let mut runs: Vec<Vec<usize>> = Vec::new();
    for (at, line) in DEFAULT_CHARTER
        .lines()
        .enumerate()
        .skip(start.expect("a block"))
    {
        if !is_setting(line) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.last() == Some(&(at - 1)) => run.push(at),
            _ => runs.push(vec![at]),
        }
    }
    runs
}

fn uncommented(lines: &[usize]) -> String {
    let lines = DEFAULT_CHARTER.lines().enumerate().map(|(at, line)| {
        if lines.contains(&at) {
            &line[1..]
        } else {
            line
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_commented_example_of_the_default_charter_holds_when_uncommented() {
    let examples = examples();
    assert!(examples.len() > 15, "{examples:?}");
    let default = Charter::parse(DEFAULT_CHARTER).expect("the default charter");
    for example in &examples {
        let text = uncommented(example);
        let charter = Charter::parse(&text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
        let differs = charter.explain() != default.explain();
        assert!(differs, "says nothing: {:?}", text.lines().nth(example[0]));
    }
    let all = uncommented(&examples.concat());
    let charter = Charter::parse(&all).unwrap_or_else(|faults| panic!("{faults:?}"));
    let core = "core".parse().expect("a role");
    assert_eq!(charter.reviewers_of(&core)[0].as_str(), "architecture");
    assert_eq!(charter.merge.checks, ["tests", "lint"]);
    assert_eq!(charter.ledger.session_quota, Some(10 << 30));
    assert!(charter.sandbox.passes("MYAPP_X") && charter.sandbox.passes("PATH"));
    assert!(charter.transient.adds(b"x.partial") && !charter.transient.adds(b"x"));
}

#[test]
fn there_is_one_block_and_only_one() {
    insta::assert_snapshot!(faults("# Rules\n\n```toml\n[paths]\n```\n"), @"line 1: there is no charter: write one block that begins with ```toml charter");
    insta::assert_snapshot!(faults(""), @"line 1: there is no charter: write one block that begins with ```toml charter");
    insta::assert_snapshot!(faults("a\n```toml charter\n```\nb\n```toml charter\n```\n"), @"line 5: a second charter block; the first begins on line 2");
    insta::assert_snapshot!(faults("a\n```toml charter\n[claims]\n"), @"line 2: the charter block is never closed; end it with ```");
    insta::assert_snapshot!(faults("~~~~\n```toml charter\n```\n~~~~\n"), @"line 1: there is no charter: write one block that begins with ```toml charter");
    for text in [
        "```toml charter\n```",
        "  ~~~~  toml   charter \r\n[claims]\r\nttl = \"1h\"\r\n~~~~\r\n",
        "````\n```toml charter\n````\n```toml charter\n````\n", // longer fences close shorter ones
    ] {
        assert!(Charter::parse(text).is_ok(), "{text}");
    }
}

#[test]
fn all_faults_are_told_at_once_with_their_line_in_the_file() {
    let text = block(
        r#"
[claims]
mode = "implicit"
ttl = 8
tll = "1h"
[paths]
protected = ["/etc", "a/../b", 7, "src"]
[roles.core]
paths = []
engine = "two words"
reviewed-by = ["nobody"]
[roles."bad name"]
[sandbox]
tier = "D"
network = "yes"
writable = ["~/.ssh", "relative"]
environment = ["A=B"]
[reviews]
required = -1
[[reviews.rules]]
roles = ["ghost"]
[[reviews.rules]]
paths = ["src"]
[checks.tests]
timeout = "soon"
[checks.lint]
command = []
[merge]
target = "refs/heads/main"
checks = ["unit"]
[ledger]
seal-entries = 0
session-quota = "lots"
keep-contents = "0s"
[plans.types]
spike = ["magic"]
[surprise]
a = 1
"#,
    );
    insta::assert_snapshot!(faults(&text), @r##"
        line 6: claims.mode: must be one of "explicit", "first-write", is "implicit"
        line 7: claims.ttl: must be a duration in quotes, such as "90s" or "8h", is integer
        line 8: claims.tll: unknown key; did you mean `ttl`?
        line 10: paths.protected: `/etc` is no pattern: the pattern is absolute; give it relative to the repository's root: `etc`
        line 10: paths.protected: `a/../b` is no pattern: `..` leads out of what can be claimed; give the path from the repository's root
        line 10: paths.protected: must hold strings only, one is integer
        line 12: roles.core.paths: is empty, which says nothing; name at least one, or leave the key out
        line 13: roles.core.engine: "two words" is no engine; write one word, as in "claude"
        line 14: roles.core.reviewed-by: no role `nobody` is defined; defined: core
        line 15: roles.bad name: role name "bad name" is not usable: 1 to 64 of A-Z a-z 0-9 . _ -, and the first a letter or digit
        line 16: sandbox.hidden: `~/.ssh` is both writable and hidden
        line 17: sandbox.tier: must be one of "A", "B", "C", is "D"
        line 18: sandbox.network: must be true or false, is string
        line 19: sandbox.writable: `relative` must begin with `~/` or `/`
        line 20: sandbox.environment: "A=B" is no variable's name; write `NAME` or `NAME_*`
        line 22: reviews.required: must be a whole number from 0 to 4294967295
        line 23: reviews.rules[0].paths: is missing; say which paths the rule is for
        line 24: reviews.rules[0].roles: no role `ghost` is defined; defined: core
        line 25: reviews.rules[1].roles: asks for nobody; name `roles`, or set `person = true`
        line 27: checks.tests.command: is missing; say what to run
        line 28: checks.tests.timeout: "soon" is no duration; write it as "90s", "30m", "8h" or "7d"
        line 30: checks.lint.command: is empty, which says nothing; name at least one, or leave the key out
        line 32: merge.target: "refs/heads/main" is no branch; write its short name, as in "main"
        line 33: merge.checks: no check `unit` is defined; write [checks.unit] with its command
        line 35: ledger.seal-entries: must be a whole number from 1 to 4294967295
        line 36: ledger.session-quota: "lots" is no size; write it as "500MiB" or "10GiB"
        line 37: ledger.keep-contents: "0s" is no duration; write it as "90s", "30m", "8h" or "7d"
        line 39: plans.types.spike: no validator `magic` is defined; known: no-overlap, claims-exist, tests-present, migration-order
        line 40: surprise: unknown key; known here: roles, checks, paths, claims, scratch, transient, share, agents, sandbox, reviews, validators, plans, facts, merge, ledger
        "##);
}

#[test]
fn a_text_that_is_no_toml_is_told_by_line() {
    insta::assert_snapshot!(faults(&block("[claims]\nttl = 8h\n\n[paths\nx = 1\nx = 2")), @r##"
        line 5: ttl: string values must be quoted, expected literal string
        line 7: unclosed table, expected `]`
        "##);
    insta::assert_snapshot!(faults(&block("claims = 1\n[[roles]]\n")), @r##"
        line 4: claims: must be a table, is integer
        line 5: roles: must be a table, is array
        "##);
    insta::assert_snapshot!(faults(&block("[claims]\nttl = \"1h\"\nttl = \"2h\"")), @r##"line 6: ttl: duplicate key"##);
}

#[test]
fn several_roles_need_a_default_one_unless_one_is_called_agent() {
    insta::assert_snapshot!(faults(&block("[roles.a]\n[roles.b]")), @r##"line 4: agents.default-role: several roles are defined; say which one an agent gets that was added without"##);
    assert_eq!(parsed("[roles.solo]").default_role.as_str(), "solo");
    assert_eq!(
        parsed("[roles.a]\n[roles.agent]").default_role.as_str(),
        "agent"
    );
    insta::assert_snapshot!(faults(&block("[agents]\ndefault-role = \"x\"")), @r##"line 5: agents.default-role: no role `x` is defined; defined: agent"##);
}

#[test]
fn reviewers_are_found_from_both_sides() {
    let charter = parsed(
        r#"
        [agents]
        default-role = "a"
        [roles.a]
        reviewed-by = ["arch"]
        [roles.arch]
        reviews = ["gov"]
        [roles.gov]
        reviews = ["a", "arch"]
        "#,
    );
    for (role, reviewers) in [("a", "arch gov"), ("arch", "gov"), ("gov", "arch")] {
        let found = charter.reviewers_of(&role.parse().expect("a role"));
        let found: Vec<&str> = found.into_iter().map(RoleName::as_str).collect();
        assert_eq!(found.join(" "), reviewers, "{role}");
    }
}

#[test]
fn lists_replace_the_defaults_and_also_lists_add_to_them() {
    let charter = parsed(
        r#"
        [paths]
        protected = ["LICENSE"]
        sensitive = ["a"]
        also-sensitive = ["b"]
        [sandbox]
        hidden = []
        also-writable = ["/srv/cache/", "~/.codex"]
        [checks.t]
        command = "true"
        [checks.u]
        command = ["true", ""]
        [merge]
        checks = ["t"]
        "#,
    );
    let texts = |list: &[Pattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&charter.paths.protected), ["governor.md", "LICENSE"]);
    assert!(
        charter
            .paths
            .sensitive()
            .map(ToString::to_string)
            .eq(["a", "b"])
    );
    assert!(charter.sandbox.hidden.is_empty());
    let writable: Vec<&str> = charter
        .sandbox
        .writable
        .iter()
        .map(HostPath::as_str)
        .collect();
    assert_eq!(writable, ["/srv/cache", "~/.codex"]);
    assert_eq!(charter.sandbox.states.len(), defaults::STATES.len() - 1);
    let alone = parsed("[sandbox]\nwritable = [\"~/.codex\"]").sandbox;
    assert_eq!((alone.states.len(), alone.writable.len()), (0, 1));
    assert_eq!(charter.merge.checks, ["t"]);
    assert_eq!(
        charter.checks[1].command,
        CharterCommand::Argv(vec!["true".into(), String::new()])
    );
    assert!(parsed("[paths]\nprotected = []").is_protected(&path("governor.md")));
}

#[test]
fn a_charter_is_told_in_plain_words() {
    let lines = |charter: &Charter| {
        let sections = charter.explain().into_iter();
        let text = sections.map(|(heading, lines)| format!("{heading}\n  {}", lines.join("\n  ")));
        text.collect::<Vec<_>>().join("\n")
    };
    let charter = parsed(
        r#"
        [paths]
        sensitive = [".github/**"]
        [scratch]
        paths = ["target"]
        [claims]
        ttl = "1h30m"
        [sandbox]
        writable = []
        copied = ["~/.cache"]
        hidden = ["~/.ssh"]
        environment = []
        [reviews]
        required = 1
        [[reviews.rules]]
        paths = ["src"]
        person = true
        [checks.tests]
        command = ["make", "test"]
        [facts]
        test-files = ["tests"]
        "#,
    );
    insta::assert_snapshot!(lines(&charter), @r##"
        Paths
          protected, nobody may write: governor.md
          sensitive, only under a claim that names them: .github/**
          scratch, besides what git ignores; never merged: target
          transient, for saving atomically: names made from a claimed file's name
        Claims
          a path is claimed before it is written
          a claim that is not used ends after 1h30m
        Roles
          agent may claim inside **
          an agent that was added without a role is: agent
        Sandbox
          tier A is required: every layer of enforcement, or nothing starts; --allow-tier may put up with less
          the network is allowed
          Unix sockets are refused
          written through for the agent that keeps its state there: none
          written through for every program: none
          each session has its own copy: ~/.cache
          absent: ~/.ssh
          variables passed on: PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_*, TERM, COLORTERM, TZ, EDITOR, NO_COLOR
        Plans
          work without a plan may be merged
          a plan of type docs is validated by no-overlap
          a plan of type feature is validated by no-overlap
          a plan of type fix is validated by no-overlap
          a plan of type migration is validated by no-overlap, migration-order
          a plan of type refactor is validated by no-overlap
          a plan of type test is validated by no-overlap
          tests are: tests
        Reviews
          every merge needs an approval
          nobody approves their own change, and any change voids an approval
          a reviewer with another engine is asked first
          changes under src need: a person
        Merge
          sessions are merged to main
          check tests: `make test`, at most 10m; must pass
          people who may move a protected branch themselves: none
        Ledger
          contents are kept for 90d, hashes for ever
          a session's entries are sealed every 1000 entries and every 1m
          a session may keep any number of bytes
        "##);
}

#[test]
fn a_merge_is_judged_by_the_pinned_charter_and_the_current_one() {
    let pinned = parsed(
        r#"
        [paths]
        protected = ["LICENSE"]
        [reviews]
        required = 2
        engine-diversity = "require"
        [roles.agent]
        reviewed-by = ["arch"]
        [roles.arch]
        [checks.old]
        command = "old"
        [checks.both]
        command = "then"
        "#,
    );
    let current = parsed(
        r#"
        [paths]
        protected = ["policy"]
        [reviews]
        required = 1
        [[reviews.rules]]
        paths = ["src"]
        person = true
        [checks.both]
        command = "now"
        "#,
    );
    let both = current.with_demands_of(&pinned);
    for text in ["LICENSE", "policy", "governor.md"] {
        assert!(both.is_protected(&path(text)), "{text}");
    }
    assert_eq!(both.reviews.required, 2);
    assert_eq!(both.reviews.engine_diversity, Diversity::Require);
    assert_eq!(both.reviews.rules, current.reviews.rules);
    assert_eq!(both.reviewers_of(&both.default_role)[0].as_str(), "arch");
    assert_eq!(both.merge.checks, ["both", "old"]);
    assert_eq!(both.checks[0].command, CharterCommand::Shell("now".into()));
    assert_eq!(current.with_demands_of(&current), current);
}

proptest! {
    #[test]
    fn no_text_is_a_panic(cuts in proptest::collection::vec((0..DEFAULT_CHARTER.len(), 0..40_usize, "[\\[\\]\"=#\n`a-z{}*]{0,4}"), 0..6)) {
        let mut text = DEFAULT_CHARTER.replace("\n#", "\n");
        for (at, len, put) in cuts {
            let (at, end) = (at.min(text.len()), (at + len).min(text.len()));
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &put);
            }
        }
        match Charter::parse(&text) {
            Ok(charter) => prop_assert!(!charter.explain().is_empty()),
            Err(faults) => {
                let lines = text.lines().count() + 1;
                prop_assert!(faults.iter().all(|fault| (1..=lines).contains(&fault.line)), "{faults:?}");
            }
        }
    }
}
