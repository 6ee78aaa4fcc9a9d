//! Reviews by three delivery lanes, two others and a person.

mod table;

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
