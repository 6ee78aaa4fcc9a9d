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
        self.git == Git::Other && self.dots == Dots::Other
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

/// Every byte a name may have, the most readable first.
pub(super) const READABLE: [u8; 254] = readable();

const fn readable() -> [u8; 254] {
    let mut out = [0; 254];
    let mut count = 0;
    let mut rank = 0;
    while rank < 7 {
        let mut byte = 1_u16;
        while byte < 256 {
            #[expect(clippy::cast_possible_truncation, reason = "below 256")]
            let b = byte as u8;
            if b != b'/' && rank_of(b) == rank {
                out[count] = b;
                count += 1;
            }
            byte += 1;
        }
        rank += 1;
    }
    out
}

const fn rank_of(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 0,
        b'0'..=b'9' => 1,
        b'A'..=b'Z' => 2,
        b'_' | b'-' => 3,
        b'!'..=b'~' => 4,
        b' ' => 5,
        _ => 6,
    }
}

/// Returns the sets that tell bytes apart for [`Spelling::step`]: two bytes that
/// are in the same of them lead to the same state.
pub(super) fn told_apart() -> impl Iterator<Item = ByteSet> {
    const SINGLE: [u8; 17] = [
        b'.', b' ', b'~', b'1', b':', b'\\', b'g', b'G', b'i', b'I', b't', b'T', 0xE2, 0x80, 0x81,
        0xEF, 0xBB,
    ];
    const RANGES: [(u8, u8); 4] = [(0x8C, 0x8F), (0xAA, 0xAE), (0xAF, 0xAF), (0xBF, 0xBF)];
    let singles = SINGLE.into_iter().map(|byte| (byte, byte));
    singles.chain(RANGES).map(|(from, to)| {
        let mut set = ByteSet::EMPTY;
        (from..=to).for_each(|byte| set.insert(byte));
        set
    })
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
            if told_apart().all(|set| set.contains(one) == set.contains(two)) {
                prop_assert_eq!(follow(&name).step(one), follow(&name).step(two));
            }
        }
    }

    #[test]
    fn every_byte_a_name_may_have_is_there_once() {
        let mut all = READABLE.to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 254);
        assert!(!all.contains(&0) && !all.contains(&b'/'));
    }
}
