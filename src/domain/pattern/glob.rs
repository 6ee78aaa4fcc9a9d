//! The compiled form of a pattern, and how it matches.
//!
//! Two levels of the same machine: a path is a sequence of names and `Deep` skips
//! any number of them; a name is a sequence of bytes and `Star` skips any number
//! of them. Both match greedily and fall back to the last skip only, which is
//! exact where everything else takes exactly one element.

/// A set of bytes; `/` and NUL are in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(super) const EMPTY: Self = Self([0; 4]);

    pub(super) const fn any() -> Self {
        Self([!(1 | 1 << b'/'), !0, !0, !0])
    }

    pub(super) const fn one(byte: u8) -> Self {
        let mut set = Self::EMPTY;
        set.0[(byte >> 6) as usize] = 1 << (byte & 63);
        set
    }

    /// Returns the bytes from `from` to `to` that may stand in a name.
    pub(super) const fn span(from: u8, to: u8) -> Self {
        let mut set = Self::EMPTY;
        let mut byte = from;
        loop {
            if byte != 0 && byte != b'/' {
                set.0[(byte >> 6) as usize] |= 1 << (byte & 63);
            }
            if byte == to {
                return set;
            }
            byte += 1;
        }
    }

    pub(super) const fn contains(&self, byte: u8) -> bool {
        self.0[(byte >> 6) as usize] >> (byte & 63) & 1 == 1
    }

    pub(super) fn insert(&mut self, byte: u8) {
        *self =
            Self(std::array::from_fn(|at| self.0[at] | Self::one(byte).0[at])).and(&Self::any());
    }

    pub(super) fn and(&self, other: &Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// Returns every byte that is not in the set but may stand in a name.
    pub(super) fn negate(&self) -> Self {
        Self(self.0.map(|word| !word)).and(&Self::any())
    }

    /// Returns the most readable byte of the set.
    pub(super) fn readable(&self) -> Option<u8> {
        const RANKS: [ByteSet; 6] = [
            ByteSet::span(b'a', b'z'),
            ByteSet::span(b'0', b'9'),
            ByteSet::span(b'A', b'Z'),
            ByteSet::span(b'!', b'~'),
            ByteSet::span(b' ', b' '),
            ByteSet::any(),
        ];
        let mut ranked = RANKS.iter().map(|rank| self.and(rank));
        let best = ranked.find(|set| !set.is_empty())?;
        let at = best.0.iter().position(|word| *word != 0)?;
        u8::try_from(at * 64 + best.0[at].trailing_zeros() as usize).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    Set(ByteSet),
    /// Any number of bytes; never two in a row.
    Star,
}

impl Token {
    /// Returns the bytes it takes at one step.
    pub(super) fn set(&self) -> ByteSet {
        match self {
            Self::Byte(byte) => ByteSet::one(*byte),
            Self::Set(set) => *set,
            Self::Star => ByteSet::any(),
        }
    }

    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Byte(own) => *own == byte,
            Self::Set(set) => set.contains(byte),
            Self::Star => false,
        }
    }
}

/// A component with wildcards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob {
    pub(super) tokens: Box<[Token]>,
    /// A shortest name that matches.
    pub(super) example: Box<[u8]>,
}

/// One component of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Name(Box<[u8]>),
    Glob(Glob),
    /// `**`: any number of components.
    Deep,
}

impl Part {
    /// Says whether one component with this name matches.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        match self {
            Self::Name(own) => **own == *name,
            Self::Glob(glob) => name_matches(&glob.tokens, name),
            Self::Deep => true,
        }
    }

    pub(super) fn is_deep(&self) -> bool {
        matches!(self, Self::Deep)
    }
}

fn name_matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry = None;
    loop {
        match tokens.get(token) {
            Some(Token::Star) if token + 1 == tokens.len() => return true,
            Some(Token::Star) => {
                token += 1;
                retry = Some((token, at));
                continue;
            }
            Some(one) if at < name.len() && one.takes(name[at]) => {
                (token, at) = (token + 1, at + 1);
                continue;
            }
            None if at == name.len() => return true,
            _ => {}
        }
        match retry {
            Some((after, from)) if from < name.len() => {
                (token, at) = (after, from + 1);
                retry = Some((token, at));
            }
            _ => return false,
        }
    }
}

/// Returns where the component that begins at `at` ends.
fn end_of(path: &[u8], at: usize) -> usize {
    (path[at..].iter().position(|&b| b == b'/')).map_or(path.len(), |len| at + len)
}

/// Says whether the non-empty `path` as a whole matches.
pub(super) fn path_matches(parts: &[Part], path: &[u8]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut retry = None;
    loop {
        if at > path.len() {
            return parts[part..].iter().all(Part::is_deep);
        }
        match parts.get(part) {
            Some(Part::Deep) if part + 1 == parts.len() => return true,
            Some(Part::Deep) => {
                part += 1;
                retry = Some((part, at));
                continue;
            }
            Some(one) => {
                let end = end_of(path, at);
                if one.takes(&path[at..end]) {
                    (part, at) = (part + 1, end + 1);
                    continue;
                }
            }
            None => {}
        }
        match retry {
            Some((after, from)) if from <= path.len() => {
                (part, at) = (after, end_of(path, from) + 1);
                retry = Some((part, at));
            }
            _ => return false,
        }
    }
}

/// Says whether something beneath the directory `dir` can match.
pub(super) fn path_leads(parts: &[Part], dir: &[u8]) -> bool {
    if dir.is_empty() {
        return true;
    }
    let mut names = dir.split(|&b| b == b'/');
    for part in parts {
        if part.is_deep() {
            return true;
        }
        match names.next() {
            None => return true,
            Some(name) if part.takes(name) => {}
            Some(_) => return false,
        }
    }
    false
}
