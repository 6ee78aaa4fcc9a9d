//! Verdicts over trees in memory: claims, gates and their order.

mod content;

use std::collections::BTreeMap;

use super::*;

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect(text)
}

fn agent() -> AgentName {
    "alice".parse().expect("a name")
}

/// A tree of files and links; directories follow from them.
#[derive(Clone, Default)]
struct Map(BTreeMap<RepoPath, Node>);

impl Map {
    fn of(names: &[&str]) -> Self {
        let node = |name: &&str| match name.split_once(" -> ") {
            Some((name, target)) => (path(name), Node::Symlink(target.as_bytes().to_vec())),
            None => (path(name), Node::File),
        };
        Self(names.iter().map(node).collect())
    }

    fn node(&self, at: &RepoPath) -> Option<Node> {
        let beneath = |other: &RepoPath| other != at && other.starts_with(at);
        match self.0.get(at) {
            Some(node) => Some(node.clone()),
            None if self.0.keys().any(beneath) => Some(Node::Directory),
            None => None,
        }
    }

    fn names(&self, dir: &RepoPath) -> Vec<Vec<u8>> {
        let inner = |path: &RepoPath| {
            let rest = path.rebase(dir, &RepoPath::root())?;
            let first = rest.components().next()?;
            Some(first.to_vec())
        };
        let mut names: Vec<_> = self.0.keys().filter_map(inner).collect();
        names.dedup();
        names
    }
}

fn added(name: &str) -> Proposed {
    let (name, target) = match name.split_once(" -> ") {
        Some((name, target)) => (name, Some(target.as_bytes().to_vec())),
        None => (name, None),
    };
    Proposed {
        path: path(name),
        status: Status::Added,
        mode: Some(if target.is_some() {
            0o120_000
        } else {
            0o100_644
        }),
        size: 1,
        target,
        blank: false,
        moved_to: None,
    }
}

fn modified(name: &str) -> Proposed {
    Proposed {
        status: Status::Modified,
        ..added(name)
    }
}

fn deleted(name: &str) -> Proposed {
    Proposed {
        status: Status::Deleted,
        mode: None,
        ..added(name)
    }
}

/// A wide claim on everything, unless a test says otherwise.
fn wide(_: &RepoPath) -> ClaimFact {
    ClaimFact::Held { explicit: false }
}

fn judge_with(
    before: &Map,
    proposed: &[Proposed],
    claim: &dyn Fn(&RepoPath) -> ClaimFact,
    change: &dyn Fn(&mut Facts<'_>),
) -> Verdict {
    let mut after = before.clone();
    for one in proposed {
        match (&one.target, one.status) {
            (_, Status::Deleted) => after.0.remove(&one.path),
            (Some(target), _) => after
                .0
                .insert(one.path.clone(), Node::Symlink(target.clone())),
            (None, _) => after.0.insert(one.path.clone(), Node::File),
        };
    }
    let agent = agent();
    let mut facts = Facts {
        agent: &agent,
        after: View {
            node: &|path| Ok(after.node(path)),
            names: &|path| Ok(after.names(path)),
        },
        before: View {
            node: &|path| Ok(before.node(path)),
            names: &|path| Ok(before.names(path)),
        },
        claim,
        protected: &|path| (path.as_bytes() == b"governor.md").then(|| "governor.md".to_owned()),
        sensitive: &|path| {
            let ci = path.starts_with(&RepoPath::parse(b".github").unwrap());
            ci.then(|| ".github/**".to_owned())
        },
        test: &|path| path.starts_with(&RepoPath::parse(b"tests").unwrap()),
        conflicts: &[],
        stale: &[],
        seen: &[],
        dependencies: &[],
        others: &[],
    };
    change(&mut facts);
    judge(proposed, &facts)
}

fn rules(before: &Map, proposed: &[Proposed]) -> Vec<&'static str> {
    let verdict = judge_with(before, proposed, &wide, &|_| {});
    let mut rules: Vec<_> = verdict.refusals.iter().map(|line| line.rule).collect();
    rules.dedup();
    rules
}

#[test]
fn a_change_needs_a_claim_now_or_one_that_nobody_took_over() {
    let cases = [
        (ClaimFact::Held { explicit: false }, ""),
        (ClaimFact::Lapsed { explicit: false }, ""),
        (
            ClaimFact::Lost {
                by: "bob".to_owned(),
            },
            "claim-lost",
        ),
        (ClaimFact::Never, "not-claimed"),
    ];
    for (fact, rule) in cases {
        let claim = |_: &RepoPath| fact.clone();
        for change in [added("x"), modified("x"), deleted("x")] {
            let verdict = judge_with(&Map::of(&["x"]), &[change], &claim, &|_| {});
            let found: Vec<_> = verdict.refusals.iter().map(|line| line.rule).collect();
            assert_eq!(found.join(""), rule, "{fact:?}");
        }
    }
}

#[test]
fn an_explicit_claim_opens_what_a_wide_one_does_not() {
    let explicit = |_: &RepoPath| ClaimFact::Held { explicit: true };
    let before = Map::of(&["tests/a.rs", "governor.md"]);
    let changes = [
        added(".gitattributes"),
        added(".github/workflows/ci.yml"),
        added("-x"),
        deleted("tests/a.rs"),
        modified("governor.md"),
    ];
    let verdict = judge_with(&before, &changes, &explicit, &|_| {});
    let found: Vec<_> = verdict.refusals.iter().map(|line| line.rule).collect();
    assert_eq!(found, ["protected"]);
    let advice: Vec<_> = verdict.advice.iter().map(|line| line.rule).collect();
    assert_eq!(advice, ["dropped-test"]);
}

#[test]
fn vanished_and_emptied_tests_are_noticed() {
    let before = Map::of(&["tests/a.rs", "src/a.rs"]);
    let moved = |to: &str| Proposed {
        moved_to: Some(path(to)),
        ..deleted("tests/a.rs")
    };
    let blank = |change: Proposed| Proposed {
        blank: true,
        ..change
    };
    let cases = [
        (deleted("tests/a.rs"), "dropped-test"),
        (deleted("src/a.rs"), ""),
        (moved("tests/b.rs"), ""),
        (moved("src/b.rs"), "dropped-test"),
        (blank(modified("tests/a.rs")), "emptied-test"),
        (blank(modified("src/a.rs")), ""),
        (modified("tests/a.rs"), ""),
    ];
    for (change, rule) in cases {
        let shown = format!("{change:?}");
        assert_eq!(rules(&before, &[change]).join(""), rule, "{shown}");
    }
}

#[test]
fn all_gates_speak_together_removals_first() {
    let before = Map::of(&["z", "governor.md", "tests/t"]);
    let changes = [
        added("a\n"),
        modified("governor.md"),
        deleted("tests/t"),
        added("b -> /x"),
    ];
    let conflict = [Conflict {
        path: path("z"),
        kind: ConflictKind::Removed { by: Side::Ours },
        note: Some("renamed to y".to_owned()),
    }];
    let stale = [(path("api.h"), "api.h".to_owned())];
    let seen = [path("notes")];
    let plan: PlanId = "p1".parse().unwrap();
    let dependencies = [(plan, "in_progress".to_owned())];
    let others = [MergeRefusal::general(
        "review",
        "no approval yet",
        "ask for one",
    )];
    let verdict = {
        let agent = agent();
        let after = Map::of(&["z", "governor.md", "a\n", "b -> /x"]);
        let facts = Facts {
            agent: &agent,
            after: View {
                node: &|path| Ok(after.node(path)),
                names: &|path| Ok(after.names(path)),
            },
            before: View {
                node: &|path| Ok(before.node(path)),
                names: &|path| Ok(before.names(path)),
            },
            claim: &wide,
            protected: &|path| (path.as_bytes() == b"governor.md").then(|| "governor.md".into()),
            sensitive: &|_| None,
            test: &|path| path.as_bytes().starts_with(b"tests/"),
            conflicts: &conflict,
            stale: &stale,
            seen: &seen,
            dependencies: &dependencies,
            others: &others,
        };
        judge(&changes, &facts)
    };
    let shown: Vec<String> = verdict
        .refusals
        .iter()
        .map(|line| {
            let path = line.path.as_ref().map_or("-".to_owned(), RepoPath::encode);
            format!("{} {}: {}", line.rule, path, line.reason)
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r"
    dropped-test tests/t: a test was removed
    control-character a%0A: U+000A is a control character
    stale-read api.h: changed on the branch since this session read it (api.h)
    symlink-absolute b: the target is absolute
    protected governor.md: the charter protects governor.md
    conflict z: removed on the branch and changed here (renamed to y)
    dependency -: plan p1, on which this one depends, is in_progress, not merged
    review -: no approval yet
    ");
    assert_eq!(verdict.advice[0].rule, "seen-read");
    assert!(verdict.refusals.iter().all(|line| !line.hint.is_empty()));
}

#[test]
fn a_question_without_an_answer_is_a_refusal() {
    let verdict = judge_with(&Map::default(), &[added("a/b")], &wide, &|facts| {
        facts.before.node = &|_| Err("object 1234 is missing".to_owned());
        facts.after.names = &|_| Err("object 1234 is missing".to_owned());
    });
    assert!(!verdict.refusals.is_empty());
    assert!(
        verdict
            .refusals
            .iter()
            .all(|line| line.rule == "unreadable")
    );
}
