//! How everything that a pattern covers begins and ends, byte for byte.
//!
//! Owns: [`Ends`], the cheap half of the overlap decision: where two patterns' ends
//! contradict each other no path is covered by both, and neither needs to be
//! compiled to see it. Says "apart" only where that is certain, and never "overlap".

use crate::domain::path::RepoPath;
use crate::domain::pattern::Pattern;
use crate::domain::pattern::glob::{Glob, Part, Token, path_leads, path_matches};

/// Longer ends are cut: what is left still holds.
const END_MAX: usize = 64;

/// Bytes that every covered path has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// What it begins with.
    pub head: Vec<u8>,
    /// What its last name begins with.
    pub name: Vec<u8>,
    /// What it ends with, the last byte first.
    pub tail: Vec<u8>,
}

impl Ends {
    /// Says that no path has both ends.
    pub fn apart(&self, head: &[u8], name: &[u8], tail: &[u8]) -> bool {
        contradict(&self.head, head) || contradict(&self.name, name) || contradict(&self.tail, tail)
    }
}

fn contradict(one: &[u8], two: &[u8]) -> bool {
    !one.starts_with(two) && !two.starts_with(one)
}

impl Pattern {
    /// Returns how everything that it covers begins and ends.
    pub fn ends(&self) -> Ends {
        let mut all = self.0.alternatives.iter().map(|parts| ends_of(parts));
        let Some(mut common) = all.next() else {
            return Ends::default();
        };
        for other in all {
            share(&mut common.head, &other.head);
            share(&mut common.name, &other.name);
            share(&mut common.tail, &other.tail);
        }
        for end in [&mut common.head, &mut common.name, &mut common.tail] {
            end.truncate(END_MAX);
        }
        common
    }

    /// Says whether a literal pattern for `path` would overlap this one. Compiles and allocates nothing.
    pub fn meets_literal(&self, path: &RepoPath) -> bool {
        self.meets_plain(path.as_bytes())
    }

    /// The same for the bytes of a path that is known to be one.
    pub fn meets_plain(&self, path: &[u8]) -> bool {
        let Some(own) = self.literal() else {
            let mut parts = self.0.alternatives.iter();
            return parts.any(|parts| path_matches(parts, path) || path_leads(parts, path));
        };
        let own = own.as_bytes();
        let (short, long) = if own.len() < path.len() {
            (own, path)
        } else {
            (path, own)
        };
        let rest = long.strip_prefix(short);
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/' || short.is_empty())
    }
}

fn share(common: &mut Vec<u8>, other: &[u8]) {
    let same = common.iter().zip(other).take_while(|(a, b)| a == b).count();
    common.truncate(same);
}

fn ends_of(parts: &[Part]) -> Ends {
    Ends {
        head: head_of(parts),
        name: match parts.last() {
            Some(Part::Name(name)) => name.to_vec(),
            Some(Part::Glob(glob)) => fixed(glob.tokens.iter()),
            Some(Part::Deep) | None => Vec::new(),
        },
        tail: tail_of(parts),
    }
}

fn head_of(parts: &[Part]) -> Vec<u8> {
    let mut head = Vec::new();
    for part in parts {
        let name = match part {
            Part::Name(name) => name.to_vec(),
            Part::Glob(glob) => fixed(glob.tokens.iter()),
            Part::Deep => break,
        };
        if !head.is_empty() {
            head.push(b'/');
        }
        head.extend(name);
        if matches!(part, Part::Glob(_)) {
            break;
        }
    }
    head
}

fn tail_of(parts: &[Part]) -> Vec<u8> {
    let mut tail = Vec::new();
    for part in parts.iter().rev() {
        // What skips names may skip none at all, and then there is no slash either.
        let Some(name) = tail_name(part) else { break };
        if !tail.is_empty() {
            tail.push(b'/');
        }
        tail.extend(name);
        if matches!(part, Part::Glob(_)) {
            break;
        }
    }
    tail
}

fn tail_name(part: &Part) -> Option<Vec<u8>> {
    match part {
        Part::Name(name) => Some(name.iter().rev().copied().collect()),
        Part::Glob(Glob { tokens, .. }) => Some(fixed(tokens.iter().rev())),
        Part::Deep => None,
    }
}

/// The bytes that come before the first wildcard.
fn fixed<'a>(tokens: impl Iterator<Item = &'a Token>) -> Vec<u8> {
    tokens
        .map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::Set(_) | Token::Star => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ends(text: &str) -> (String, String, String) {
        let Ends { head, name, tail } = Pattern::parse(text.as_bytes()).unwrap().ends();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let backwards = tail.into_iter().rev().collect();
        (text(head), text(name), text(backwards))
    }

    #[test]
    fn ends_are_what_every_covered_path_has() {
        let cases = [
            // A literal covers what lies beneath it too.
            ("src/a.rs", ("src/a.rs", "", "")),
            ("src/*.rs", ("src/", "", ".rs")),
            ("src/mod*.rs", ("src/mod", "mod", ".rs")),
            ("**/name", ("", "name", "name")),
            ("**/x/name", ("", "name", "x/name")),
            ("a/**/b*c", ("a", "b", "c")),
            ("a/*/c", ("a/", "c", "/c")),
            ("dir/**", ("dir", "", "")),
            ("{a,ab}/x", ("a", "x", "/x")),
            ("src/{one,other}.rs", ("src/o", "o", ".rs")),
            ("**", ("", "", "")),
        ];
        for (text, (head, name, tail)) in cases {
            let expected = (head.to_owned(), name.to_owned(), tail.to_owned());
            assert_eq!(ends(text), expected, "{text}");
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let atom =
            prop::sample::select(vec!["a", "b", "ab", "*", "?", "[ab]", "{a,b}", "a*", "*b"]);
        let part = prop_oneof![
            4 => prop::collection::vec(atom, 1..3).prop_map(|atoms| atoms.concat()),
            1 => Just("**".to_owned()),
        ];
        prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
    }

    proptest! {
        #[test]
        fn what_overlaps_is_never_called_apart(one in text(), two in text()) {
            let (Ok(one), Ok(two)) = (Pattern::parse(one.as_bytes()), Pattern::parse(two.as_bytes()))
            else {
                return Ok(());
            };
            let Ends { head, name, tail } = two.ends();
            prop_assert!(!(one.ends().apart(&head, &name, &tail) && one.overlaps(&two)), "{one} {two}");
            if let Some(path) = two.literal() {
                prop_assert_eq!(one.meets_literal(path), one.overlaps(&two), "{} {}", one, two);
            }
            let covered = RepoPath::clone(one.example());
            let Ends { head, tail, .. } = one.ends();
            prop_assert!(covered.as_bytes().starts_with(&head));
            prop_assert!(covered.as_bytes().iter().rev().take(tail.len()).eq(tail.iter()));
        }
    }
}
