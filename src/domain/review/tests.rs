use super::*;

fn party(agent: &str, role: &str, engine: &str) -> Party {
    Party {
        agent: agent.parse().expect(agent),
        role: role.parse().expect(role),
        engine: (!engine.is_empty()).then(|| engine.to_owned()),
        person: engine == "human",
    }
}

fn oid(byte: u8) -> Oid {
    Oid([byte; 20])
}

const NOW: Candidate = Candidate {
    tree: Oid([1; 20]),
    base: Oid([2; 20]),
};

fn vote(by: &Party, stance: Stance) -> Vote {
    Vote {
        by: by.clone(),
        stance,
        candidate: NOW,
        message: String::new(),
    }
}

fn yes(by: &Party) -> Vote {
    vote(by, Stance::Approve)
}

fn paths(texts: &[&str]) -> Vec<RepoPath> {
    let path = |text: &&str| RepoPath::parse(text.as_bytes()).expect("path");
    texts.iter().map(path).collect()
}

fn role(text: &str) -> RoleName {
    text.parse().expect(text)
}

/// Delivery lanes A, B, C; D-arch and E-governance both for what lies under
/// `api`; a person for `billing`.
fn lanes() -> ReviewRules {
    let reviewing = || BTreeSet::from([role("D-arch"), role("E-governance")]);
    let delivery = ["A", "B", "C"].map(|lane| (role(lane), reviewing()));
    ReviewRules {
        required: 1,
        reviewers: BTreeMap::from(delivery),
        paths: vec![
            PathRule {
                paths: vec!["api".parse().expect("pattern")],
                roles: vec![role("D-arch"), role("E-governance")],
                ..PathRule::default()
            },
            PathRule {
                paths: vec!["billing/**".parse().expect("pattern")],
                person: true,
                required: 2,
                ..PathRule::default()
            },
        ],
        ..ReviewRules::default()
    }
}

fn missing(rules: &ReviewRules, author: &Party, changed: &[&str], votes: &[Vote]) -> Vec<String> {
    let verdict = judge(rules, author, NOW, &paths(changed), votes);
    assert_eq!(verdict.is_approved(), verdict.missing.is_empty());
    let line = |m: Missing| format!("{}: {}", m.rule, m.message);
    verdict.missing.into_iter().map(line).collect()
}

/// What is tried, the rules, the author, the changed paths, the votes, and what is missing.
type Case<'a> = (
    &'a str,
    &'a ReviewRules,
    &'a Party,
    &'a [&'a str],
    Vec<Vote>,
    &'a [&'a str],
);

#[test]
#[expect(clippy::too_many_lines, reason = "one table of all rules")]
fn every_rule_of_reviews_in_one_table() {
    let author = party("ann", "A", "claude");
    let other = party("abe", "A", "codex");
    let arch = party("dan", "D-arch", "codex");
    let arch2 = party("dot", "D-arch", "claude");
    let governance = party("eve", "E-governance", "claude");
    let person = party("pat", "A", "human");
    let with = |diversity| ReviewRules {
        diversity,
        ..lanes()
    };
    let (lanes, none) = (lanes(), ReviewRules::default());
    let two = ReviewRules {
        required: 2,
        ..ReviewRules::default()
    };
    let engine = with(Diversity::Require);
    let rejects = Vote {
        message: "breaks the contract".into(),
        ..vote(&arch, Stance::Reject)
    };
    let cases: Vec<Case<'_>> = vec![
        (
            "nothing is asked for",
            &none,
            &author,
            &["api/x"],
            vec![],
            &[],
        ),
        (
            "a count",
            &two,
            &author,
            &["x"],
            vec![yes(&arch)],
            &["review-count: 2 approvals are needed, 1 are there"],
        ),
        (
            "a count reached",
            &two,
            &author,
            &["x"],
            vec![yes(&arch), yes(&other)],
            &[],
        ),
        (
            "one counts once",
            &two,
            &author,
            &["x"],
            vec![yes(&arch), yes(&arch)],
            &["review-count"],
        ),
        (
            "nobody approves their own",
            &two,
            &author,
            &["x"],
            vec![yes(&author), yes(&arch)],
            &["review-count"],
        ),
        (
            "not the own lane",
            &lanes,
            &author,
            &["x"],
            vec![yes(&other)],
            &["review-count: an approval is needed"],
        ),
        (
            "a reviewing lane",
            &lanes,
            &author,
            &["x"],
            vec![yes(&arch)],
            &[],
        ),
        (
            "a person always",
            &lanes,
            &author,
            &["x"],
            vec![yes(&person)],
            &[],
        ),
        (
            "both lanes for api",
            &lanes,
            &author,
            &["x", "api/users.proto"],
            vec![yes(&arch)],
            &["review-lane: lane E-governance must approve, for api/users.proto"],
        ),
        (
            "both are there",
            &lanes,
            &author,
            &["api"],
            vec![yes(&arch), yes(&governance)],
            &[],
        ),
        (
            "a person is no lane",
            &lanes,
            &author,
            &["api"],
            vec![yes(&arch), yes(&person)],
            &["review-lane"],
        ),
        (
            "D's own change needs E",
            &lanes,
            &arch,
            &["api/x"],
            vec![yes(&governance)],
            &[],
        ),
        (
            "D's own change is not for D",
            &lanes,
            &arch,
            &["api/x"],
            vec![yes(&arch2)],
            &[
                "review-count",
                "review-lane: lane E-governance must approve",
            ],
        ),
        (
            "E's own change needs D",
            &lanes,
            &governance,
            &["api/x"],
            vec![yes(&arch)],
            &[],
        ),
        (
            "delivery does not review D",
            &lanes,
            &arch,
            &["x"],
            vec![yes(&author)],
            &["review-count"],
        ),
        (
            "a person where the charter says so",
            &lanes,
            &author,
            &["billing/tax.rs"],
            vec![yes(&arch), yes(&governance)],
            &["review-person: a person must approve for billing/tax.rs"],
        ),
        (
            "a person and another",
            &lanes,
            &author,
            &["billing/tax.rs"],
            vec![yes(&arch), yes(&person)],
            &[],
        ),
        (
            "the path's count",
            &lanes,
            &author,
            &["billing/tax.rs"],
            vec![yes(&person)],
            &["review-count: 2 approvals are needed, 1 are there"],
        ),
        (
            "another engine is required",
            &engine,
            &author,
            &["x"],
            vec![yes(&governance)],
            &["review-engine: an approval by another engine than the author's (claude) is needed"],
        ),
        (
            "another engine is there",
            &engine,
            &author,
            &["x"],
            vec![yes(&arch)],
            &[],
        ),
        (
            "a person is another engine",
            &engine,
            &author,
            &["x"],
            vec![yes(&person)],
            &[],
        ),
        (
            "an unknown engine is none",
            &engine,
            &author,
            &["x"],
            vec![yes(&party("dan", "D-arch", ""))],
            &["review-engine"],
        ),
        (
            "a rejection stands",
            &lanes,
            &author,
            &["x"],
            vec![rejects.clone(), yes(&governance)],
            &["rejected: dan rejects it: breaks the contract"],
        ),
        (
            "until it is taken back",
            &lanes,
            &author,
            &["x"],
            vec![rejects.clone(), yes(&arch)],
            &[],
        ),
        (
            "the later word counts",
            &lanes,
            &author,
            &["x"],
            vec![yes(&arch), rejects],
            &["rejected", "review-count"],
        ),
        (
            "whose approval would not count rejects nothing",
            &lanes,
            &author,
            &["x"],
            vec![vote(&other, Stance::Reject), yes(&arch)],
            &[],
        ),
    ];
    for (name, rules, author, changed, votes, expected) in cases {
        let found = missing(rules, author, changed, &votes);
        assert_eq!(found.len(), expected.len(), "{name}: {found:?}");
        for text in expected {
            assert!(
                found.iter().any(|f| f.starts_with(text)),
                "{name}: {text}: {found:?}"
            );
        }
    }
}

#[test]
fn an_approval_is_for_one_exact_candidate() {
    let author = party("ann", "A", "claude");
    let arch = party("dan", "D-arch", "codex");
    let of = |tree, base| Vote {
        candidate: Candidate {
            tree: oid(tree),
            base: oid(base),
        },
        ..yes(&arch)
    };
    let verdict = |votes: &[Vote]| judge(&lanes(), &author, NOW, &paths(&["x"]), votes);
    assert!(verdict(&[of(1, 2)]).is_approved());
    for (vote, why) in [
        (
            of(9, 2),
            format!("the review was of tree {}; it is {} now", oid(9), oid(1)),
        ),
        (
            of(1, 9),
            format!(
                "the review was of base {}; it stands on {} now",
                oid(9),
                oid(2)
            ),
        ),
    ] {
        let verdict = verdict(&[vote]);
        assert!(!verdict.is_approved());
        assert_eq!(verdict.void, [(arch.agent.clone(), why)]);
    }
    let back = verdict(&[of(1, 2), of(9, 2)]);
    assert!(
        back.is_approved(),
        "what was approved once is approved when it is that again"
    );
    assert!(back.void.is_empty());
}

#[test]
fn a_rejection_of_an_older_candidate_is_void_too() {
    let author = party("ann", "A", "claude");
    let old = Vote {
        candidate: Candidate {
            tree: oid(9),
            base: oid(2),
        },
        ..vote(&party("dan", "D-arch", "codex"), Stance::Reject)
    };
    let votes = [old, yes(&party("eve", "E-governance", "claude"))];
    assert!(judge(&lanes(), &author, NOW, &paths(&["x"]), &votes).is_approved());
}

#[test]
fn a_preference_is_advice() {
    let rules = ReviewRules {
        diversity: Diversity::Prefer,
        ..lanes()
    };
    let author = party("ann", "A", "claude");
    let votes = [yes(&party("eve", "E-governance", "claude"))];
    let verdict = judge(&rules, &author, NOW, &paths(&["x"]), &votes);
    assert!(verdict.is_approved());
    assert_eq!(
        verdict.advice,
        ["an approval by another engine than the author's (claude) is preferred"]
    );
}

#[test]
fn the_only_reviewing_lane_leaves_its_own_changes_to_a_person() {
    let mut rules = lanes();
    rules.reviewers = BTreeMap::from([(role("A"), BTreeSet::from([role("D-arch")]))]);
    rules.paths = vec![PathRule {
        paths: vec!["api".parse().expect("pattern")],
        roles: vec![role("D-arch")],
        ..PathRule::default()
    }];
    let arch = party("dan", "D-arch", "codex");
    let votes = [
        yes(&party("dot", "D-arch", "claude")),
        yes(&party("ann", "A", "claude")),
    ];
    let found = missing(&rules, &arch, &["api/x"], &votes);
    assert_eq!(
        found,
        [
            "review-count: an approval is needed",
            "review-lane: D-arch may not approve its own change of api/x: a person must"
        ]
    );
    assert!(
        missing(
            &rules,
            &arch,
            &["api/x"],
            &[yes(&party("pat", "A", "human"))]
        )
        .is_empty()
    );
}

#[test]
fn a_review_that_could_never_count_is_refused_at_once() {
    let rules = lanes();
    let author = party("ann", "A", "claude");
    let refusal = |by: &Party| {
        rules
            .may_review(&author, by)
            .map_err(|m| (m.rule, m.message))
    };
    assert_eq!(
        refusal(&author),
        Err((
            "self-review",
            "ann may not review its own change".to_owned()
        ))
    );
    assert_eq!(
        refusal(&party("bea", "B", "claude")),
        Err((
            "review-lane",
            "bea is of lane B, and changes of lane A are reviewed by D-arch, E-governance"
                .to_owned()
        ))
    );
    assert_eq!(refusal(&party("dan", "D-arch", "")), Ok(()));
    let person = Party {
        person: true,
        ..author.clone()
    };
    assert!(
        rules.may_review(&person, &person).is_err(),
        "not even a person's own"
    );
}

#[test]
fn the_stricter_of_two_charters_counts() {
    let author = party("ann", "A", "claude");
    let votes = [yes(&party("dan", "D-arch", "codex"))];
    let strict = ReviewRules {
        person: true,
        ..lanes()
    };
    let judged = |rules: &[&ReviewRules]| judge_all(rules, &author, NOW, &paths(&["x"]), &votes);
    assert!(judged(&[&lanes(), &ReviewRules::default()]).is_approved());
    let verdict = judged(&[&lanes(), &strict, &strict]);
    assert_eq!(verdict.missing.len(), 1);
    assert_eq!(verdict.missing[0].rule, "review-person");
}

#[test]
fn who_is_asked_first() {
    let author = party("ann", "A", "claude");
    let agents = [
        party("ann", "A", "claude"),
        party("bea", "B", "codex"),
        party("dan", "D-arch", "claude"),
        party("dot", "D-arch", "codex"),
        party("pat", "A", "human"),
    ];
    let asked = |changed: &[&str]| -> Vec<String> {
        let changed = paths(changed);
        let out = reviewers(&lanes(), &author, &changed, &agents);
        out.into_iter().map(|by| by.agent.to_string()).collect()
    };
    assert_eq!(asked(&["api/x"]), ["dot", "dan", "pat"]);
    assert_eq!(asked(&["billing/x"]), ["pat", "dot", "dan"]);
}
