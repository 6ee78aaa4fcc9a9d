//! Every rule of reviews in one table.

use super::*;

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
