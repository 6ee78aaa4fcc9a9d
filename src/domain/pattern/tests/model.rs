//! Patterns against brute force over small worlds of paths.

use proptest::prelude::*;

use super::*;

/// Expands braces as text, and matches by trying everything: slow and obvious.
mod naive {
    pub(super) fn covers(pattern: &str, path: &str) -> bool {
        let literal = !pattern.contains(['*', '?', '[', '{']);
        if literal {
            return path == pattern || path.starts_with(&format!("{pattern}/"));
        }
        // Only what was written as `**` is one, not what braces put together.
        braces(&pattern.replace("**", "@")).iter().any(|one| {
            let parts: Vec<&str> = one.split('/').collect();
            let names: Vec<&str> = path.split('/').collect();
            paths(&parts, &names)
        })
    }

    fn braces(text: &str) -> Vec<String> {
        let Some(open) = text.find('{') else {
            return vec![text.to_owned()];
        };
        let (mut depth, mut from, mut branches) = (0, open + 1, Vec::new());
        for (at, c) in text.char_indices().skip(open) {
            match c {
                '{' => depth += 1,
                '}' if depth == 1 => {
                    branches.push(&text[from..at]);
                    let (start, end) = (&text[..open], &text[at + 1..]);
                    return branches
                        .iter()
                        .flat_map(|middle| braces(&format!("{start}{middle}{end}")))
                        .collect();
                }
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    branches.push(&text[from..at]);
                    from = at + 1;
                }
                _ => {}
            }
        }
        unreachable!("unbalanced {text}")
    }

    fn paths(parts: &[&str], names: &[&str]) -> bool {
        match (parts, names) {
            ([], []) => true,
            (["@", rest @ ..], _) => {
                paths(rest, names) || (!names.is_empty() && paths(parts, &names[1..]))
            }
            ([part, parts @ ..], [name, names @ ..]) => {
                bytes(part.as_bytes(), name.as_bytes()) && paths(parts, names)
            }
            _ => false,
        }
    }

    fn bytes(part: &[u8], name: &[u8]) -> bool {
        match (part, name) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                bytes(rest, name) || (!name.is_empty() && bytes(part, &name[1..]))
            }
            ([b'?', rest @ ..], [_, name @ ..]) => bytes(rest, name),
            ([b'[', b'!', one, b']', rest @ ..], [c, name @ ..]) => one != c && bytes(rest, name),
            ([b'[', from, b'-', to, b']', rest @ ..], [c, name @ ..]) => {
                (from..=to).contains(&c) && bytes(rest, name)
            }
            ([b'[', ..], _) => false,
            ([own, rest @ ..], [c, name @ ..]) => own == c && bytes(rest, name),
            _ => false,
        }
    }
}

/// Every path of up to three components with names of up to two of the letters.
fn world() -> Vec<RepoPath> {
    let letters = ["a", "b", "."];
    let mut names: Vec<String> = letters.map(str::to_owned).to_vec();
    for one in letters {
        names.extend(letters.map(|two| format!("{one}{two}")));
    }
    names.retain(|name| name != "." && name != "..");
    let mut all = names.clone();
    let mut last = names.clone();
    for _ in 0..2 {
        last = last
            .iter()
            .flat_map(|dir| names.iter().map(move |name| format!("{dir}/{name}")))
            .collect();
        all.extend(last.iter().cloned());
    }
    all.iter().map(|text| path(text)).collect()
}

fn any_name() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("a".to_owned()),
        3 => Just("b".to_owned()),
        2 => Just(".".to_owned()),
        3 => Just("*".to_owned()),
        2 => Just("?".to_owned()),
        1 => Just("[!a]".to_owned()),
        1 => Just("[a-b]".to_owned()),
        1 => Just("{a,b*}".to_owned()),
        1 => Just("{,a{b,.}}".to_owned()),
        1 => Just("{a/b,b}".to_owned()),
    ];
    proptest::collection::vec(piece, 1..4).prop_map(|pieces| pieces.concat())
}

fn any_text() -> impl Strategy<Value = String> {
    let part =
        prop_oneof![4 => any_name(), 1 => Just("**".to_owned()), 1 => Just("{**,a}".to_owned())];
    proptest::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn any_pattern() -> impl Strategy<Value = (String, Pattern)> {
    any_text().prop_filter_map("no pattern", |text| {
        text.parse().ok().map(|pattern| (text, pattern))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn covering_agrees_with_the_naive_matcher((text, pattern) in any_pattern()) {
        for path in world() {
            let name = path.encode();
            prop_assert_eq!(pattern.covers(&path), naive::covers(&text, &name), "{} {}", text, name);
        }
    }

    #[test]
    fn leading_agrees_with_what_is_covered((text, pattern) in any_pattern()) {
        for path in world() {
            if pattern.covers(&path) {
                prop_assert!(path.starts_with(pattern.literal_prefix()));
                for dir in path.ancestors() {
                    prop_assert!(pattern.leads_to(&dir), "{} {}", text, dir);
                }
            }
        }
    }

    #[test]
    fn overlap_agrees_with_brute_force((one, left) in any_pattern(), (two, right) in any_pattern()) {
        let found = left.overlap(&right);
        prop_assert_eq!(found.is_some(), left.overlaps(&right));
        prop_assert_eq!(found.is_some(), right.overlap(&left).is_some());
        let common = world().into_iter().filter(|p| left.covers(p) && right.covers(p));
        let shortest = common.map(|p| p.as_bytes().len()).min();
        let Some(witness) = found else {
            prop_assert_eq!(shortest, None, "{} {}", one, two);
            return Ok(());
        };
        prop_assert!(left.covers(&witness) && right.covers(&witness), "{} {} {}", one, two, witness);
        let names = witness.components().count(); // each may have been made readable
        let longest = shortest.map_or(usize::MAX, |len| len + names);
        prop_assert!(witness.as_bytes().len() <= longest, "{} {} {}", one, two, witness);
    }

    #[test]
    fn inclusion_agrees_with_brute_force(
        (text, own) in any_pattern(),
        others in proptest::collection::vec(any_pattern(), 0..4),
    ) {
        let names: Vec<&String> = others.iter().map(|(text, _)| text).collect();
        let others: Vec<Pattern> = others.iter().map(|(_, pattern)| pattern.clone()).collect();
        let outside = |p: &RepoPath| own.covers(p) && !others.iter().any(|o| o.covers(p));
        if let Err(witness) = own.inside(&others) {
            prop_assert!(outside(&witness), "{} {:?} {}", text, names, witness);
        } else {
            let missed = world().into_iter().find(|p| outside(p));
            prop_assert_eq!(missed, None, "{} {:?}", text, names);
        }
    }

    #[test]
    fn a_path_becomes_its_own_literal(bytes in proptest::collection::vec(any::<u8>(), 1..12)) {
        if let Ok(path) = RepoPath::parse(&bytes)
            && let Ok(pattern) = Pattern::exactly(&path)
        {
            prop_assert_eq!(pattern.literal(), Some(&path));
        }
    }

    #[test]
    fn no_text_is_a_panic(bytes in proptest::collection::vec(
        prop_oneof![any::<u8>(), Just(b'*'), Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), Just(b','), Just(b'/')], 0..40,
    )) {
        if let Ok(pattern) = Pattern::parse(&bytes) {
            let stored = serde_json::to_string(&pattern).expect("json");
            prop_assert_eq!(serde_json::from_str::<Pattern>(&stored).expect("again"), pattern.clone());
            prop_assert!(pattern.covers(pattern.example()));
        }
    }
}
