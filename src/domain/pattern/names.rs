//! Which names may stand in a witness, byte by byte.
//!
//! Owns: the automaton that follows a name as it is spelled and knows whether
//! it is one that a path may have: not empty, not `.` or `..`, not `.git` in any
//! disguise. It says the same as `path::check_name` and `path::is_git_alias`,
//! but for the length, which the searches count themselves.

use crate::domain::pattern::glob::ByteSet;

/// How far a name has been spelled; small, so that it can stand in a search's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Spelling {
    git: Git,
    /// A code point that HFS+ ignores, begun: its bytes so far.
    ignorable: Ignorable,
    dots: Dots,
}

/// How much of `.git` or `git~1` stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Git {
    Nothing,
    Dot,
    DotG,
    DotGi,
    G,
    Gi,
    Undotted,
    Tilde,
    /// The whole, and perhaps dots and spaces after it.
    Whole,
    /// The whole and a stream or backslash: what follows changes nothing.
    Stream,
    /// Something else.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Ignorable {
    No,
    E2,
    E280,
    E281,
    Ef,
    Efbb,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Dots {
    Empty,
    One,
    Two,
    Other,
}

impl Spelling {
    pub(super) const START: Self = Self {
        git: Git::Nothing,
        ignorable: Ignorable::No,
        dots: Dots::Empty,
    };

    /// A name already, whatever follows.
    pub(super) const FREE: Self = Self {
        git: Git::Other,
        ignorable: Ignorable::No,
        dots: Dots::Other,
    };

    pub(super) fn step(self, byte: u8) -> Self {
        let dots = match (self.dots, byte) {
            (Dots::Empty, b'.') => Dots::One,
            (Dots::One, b'.') => Dots::Two,
            _ => Dots::Other,
        };
        let (git, ignorable) = match self.git {
            Git::Other | Git::Stream => (self.git, Ignorable::No),
            git => match ignorable(self.ignorable, byte) {
                Some(next) => (git, next),
                None if self.ignorable == Ignorable::No => (git.step(byte), Ignorable::No),
                None => (Git::Other, Ignorable::No),
            },
        };
        Self {
            git,
            ignorable,
            dots,
        }
    }

    /// Says whether the name may stand as it is.
    pub(super) fn is_name(self) -> bool {
        let git =
            self.git == Git::Stream || (self.git == Git::Whole && self.ignorable == Ignorable::No);
        !git && self.dots == Dots::Other
    }

    /// Says whether whatever follows will be a name too.
    pub(super) fn is_free(self) -> bool {
        self == Self::FREE
    }
}

impl Git {
    fn step(self, byte: u8) -> Self {
        match (self, byte.to_ascii_lowercase()) {
            (Self::Nothing, b'.') => Self::Dot,
            (Self::Dot, b'g') => Self::DotG,
            (Self::DotG, b'i') => Self::DotGi,
            (Self::DotGi, b't') | (Self::Tilde, b'1') | (Self::Whole, b'.' | b' ') => Self::Whole,
            (Self::Nothing, b'g') => Self::G,
            (Self::G, b'i') => Self::Gi,
            (Self::Gi, b't') => Self::Undotted,
            (Self::Undotted, b'~') => Self::Tilde,
            (Self::Whole, b':' | b'\\') => Self::Stream,
            _ => Self::Other,
        }
    }
}

/// Follows a code point that HFS+ does not compare; `None` where it is none.
fn ignorable(so_far: Ignorable, byte: u8) -> Option<Ignorable> {
    match (so_far, byte) {
        (Ignorable::No, 0xE2) => Some(Ignorable::E2),
        (Ignorable::No, 0xEF) => Some(Ignorable::Ef),
        (Ignorable::E2, 0x80) => Some(Ignorable::E280),
        (Ignorable::E2, 0x81) => Some(Ignorable::E281),
        (Ignorable::Ef, 0xBB) => Some(Ignorable::Efbb),
        (Ignorable::E280, 0x8C..=0x8F | 0xAA..=0xAE)
        | (Ignorable::E281, 0xAA..=0xAF)
        | (Ignorable::Efbb, 0xBF) => Some(Ignorable::No),
        _ => None,
    }
}

/// The bytes that [`Spelling::step`] tells apart: it treats all of one set alike,
/// and all that are in none.
pub(super) const TOLD_APART: [ByteSet; 21] = [
    ByteSet::span(b'.', b'.'),
    ByteSet::span(b' ', b' '),
    ByteSet::span(b'~', b'~'),
    ByteSet::span(b'1', b'1'),
    ByteSet::span(b':', b':'),
    ByteSet::span(b'\\', b'\\'),
    ByteSet::span(b'g', b'g'),
    ByteSet::span(b'G', b'G'),
    ByteSet::span(b'i', b'i'),
    ByteSet::span(b'I', b'I'),
    ByteSet::span(b't', b't'),
    ByteSet::span(b'T', b'T'),
    ByteSet::span(0xE2, 0xE2),
    ByteSet::span(0x80, 0x80),
    ByteSet::span(0x81, 0x81),
    ByteSet::span(0xEF, 0xEF),
    ByteSet::span(0xBB, 0xBB),
    ByteSet::span(0x8C, 0x8F),
    ByteSet::span(0xAA, 0xAE),
    ByteSet::span(0xAF, 0xAF),
    ByteSet::span(0xBF, 0xBF),
];

/// Cuts the bytes into kinds that neither a spelling nor any of `sets` tells apart.
pub(super) fn kinds(sets: impl Iterator<Item = ByteSet>) -> Vec<ByteSet> {
    let mut kinds = vec![ByteSet::any()];
    for set in TOLD_APART.into_iter().chain(sets) {
        let halves = kinds
            .iter()
            .flat_map(|kind| [kind.and(&set), kind.and(&set.negate())]);
        kinds = halves.filter(|half| !half.is_empty()).collect();
    }
    kinds.sort_by_key(|kind| kind.readable().map(rank));
    kinds
}

/// Orders bytes by how readable they are.
fn rank(byte: u8) -> (u8, u8) {
    let group = match byte {
        b'a'..=b'z' => 0,
        b'0'..=b'9' => 1,
        b'A'..=b'Z' => 2,
        b'!'..=b'~' => 3,
        b' ' => 4,
        _ => 5,
    };
    (group, byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::path::check_name;
    use crate::domain::path::is_git_alias;
    use proptest::prelude::*;

    const PIECES: [&[u8]; 24] = [
        b".",
        b"g",
        b"G",
        b"i",
        b"t",
        b"T",
        b"~",
        b"1",
        b" ",
        b":",
        b"\\",
        b"x",
        b"\xE2",
        b"\x80",
        b"\x8C",
        b"\xE2\x80\x8D",
        b"\xE2\x80\xAE",
        b"\xE2\x81\xAF",
        b"\xEF\xBB\xBF",
        b".git",
        b"git~1",
        b"\xEF",
        b"\xBB",
        b"\xAF",
    ];

    fn follow(name: &[u8]) -> Spelling {
        name.iter().fold(Spelling::START, |at, &byte| at.step(byte))
    }

    #[test]
    fn the_automaton_knows_the_disguises_of_git() {
        for name in [
            &b".git"[..],
            b".GIT",
            b"git~1",
            b".git. .",
            b".git::$DATA",
            b".g\xE2\x80\x8Cit",
            b"\xEF\xBB\xBF.git",
            b".git\\x",
            b".",
            b"..",
            b"",
        ] {
            assert!(!follow(name).is_name(), "{}", name.escape_ascii());
        }
        for name in [
            &b"a"[..],
            b"...",
            b".gitignore",
            b"git",
            b".git\xE2\x80",
            b"git~2",
        ] {
            assert!(follow(name).is_name(), "{}", name.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn the_automaton_agrees_with_the_rules_for_paths(
            picks in proptest::collection::vec(0..PIECES.len(), 0..7),
        ) {
            let name: Vec<u8> = picks.iter().flat_map(|&at| PIECES[at]).copied().collect();
            let expected = check_name(&name).is_ok() && !is_git_alias(&name);
            prop_assert_eq!(follow(&name).is_name(), expected, "{}", name.escape_ascii());
        }

        #[test]
        fn bytes_in_the_same_sets_lead_to_the_same_state(
            picks in proptest::collection::vec(0..PIECES.len(), 0..4), one: u8, two: u8,
        ) {
            let name: Vec<u8> = picks.iter().flat_map(|&at| PIECES[at]).copied().collect();
            if TOLD_APART.iter().all(|set| set.contains(one) == set.contains(two)) {
                prop_assert_eq!(follow(&name).step(one), follow(&name).step(two));
            }
        }
    }

    #[test]
    fn the_kinds_hold_every_byte_once_and_the_most_readable_first() {
        let digits = ByteSet::span(b'0', b'9');
        let kinds = kinds(std::iter::once(digits));
        for byte in 0..=255_u8 {
            let times = kinds.iter().filter(|kind| kind.contains(byte)).count();
            assert_eq!(times, usize::from(byte != 0 && byte != b'/'), "{byte}");
        }
        assert_eq!(kinds[0].readable(), Some(b'a'));
        assert!(
            kinds
                .iter()
                .all(|kind| kind.and(&digits).is_empty() || kind.and(&digits) == *kind)
        );
    }
}
