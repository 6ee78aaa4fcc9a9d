//! The search for claims in the way, against looking at every claim.

use proptest::prelude::*;

use super::*;

const PATTERNS: [&str; 24] = [
    "a", "a/b", "a/b/c", "b", "b/c", "*", "**", "a/*", "a/**", "*/b", "**/b", "**/c", "?/b", "a?",
    "{a,b}/c", "a/{b,c}", "[ab]/b", "[!a]/c", "**/*c", "**/b*", "a/**/c", "*b", "b*", "a/b?c",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_claim_in_the_way_is_found(
        held in prop::collection::vec((prop::sample::select(&PATTERNS[..]), any::<bool>()), 0..12),
        new in prop::sample::select(&PATTERNS[..]),
        writes in any::<bool>(),
    ) {
        let mode = |writes| if writes { Mode::Write } else { Mode::Read };
        let dir = tempfile::tempdir().expect("a directory");
        let mut ledger = ledger(dir.path());
        for (n, (text, writes)) in held.iter().enumerate() {
            let mut asked = ask(&format!("holder-{n}"), &[text]);
            asked.mode = mode(*writes);
            run(&mut ledger, &Command::Claim(asked)); // refused where another came first
        }
        let mut asked = ask("newcomer", &[new]);
        asked.mode = mode(writes);
        let found = run(&mut ledger, &Command::Claim(asked.clone()));
        let found = found.map(|refusal| refusal.conflicts).unwrap_or_default();
        let all = ledger.state(&[Need::All(Kind::Claim)]).expect("read");
        let every = conflicts(&all, &asked.agent, asked.mode, &asked.patterns);
        prop_assert_eq!(found, every);
    }
}
