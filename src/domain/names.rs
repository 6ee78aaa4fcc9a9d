//! Names of actors and sessions.
//!
//! Owns: what a name may look like, so that one can stand in a ledger line, a
//! file name, a git trailer or an e-mail address without quoting; and how far two
//! names are apart, for those who suggest the one that was meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{what} name {text:?} is not usable: 1 to 64 of A-Z a-z 0-9 . _ -, and the first a letter or digit"
)]
pub struct NameError {
    what: &'static str,
    text: String,
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let bytes = text.as_bytes();
    let fine = (1..=64).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && !bytes.ends_with(b".lock")
        && !text.contains("..")
        && !text.ends_with('.');
    if fine {
        Ok(())
    } else {
        Err(NameError {
            what,
            text: text.chars().take(80).collect(),
        })
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check($what, text).map(|()| Self(text.to_owned()))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A named actor.
    AgentName, "agent"
}
name! {
    /// A lane: what an agent may do, and who reviews it.
    RoleName, "role"
}
name! {
    /// One agent's work from first mount to merge: `<agent>-<n>`.
    SessionId, "session"
}
name! {
    PlanId, "plan"
}

impl SessionId {
    /// Returns the id of `agent`'s `n`th session; names too long are cut, `n` keeps them apart.
    pub fn nth(agent: &AgentName, n: u64) -> Self {
        let stem: String = agent.as_str().chars().take(50).collect();
        Self(format!("{stem}-{n}"))
    }
}

/// Returns how many single letters to change, insert or drop between two names (Levenshtein).
pub fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in two.iter().enumerate() {
            let change = corner + usize::from(a != *b);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[two.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_single_letters() {
        for (one, two, apart) in [
            ("", "", 0),
            ("ttl", "ttl", 0),
            ("", "abc", 3),
            ("targett", "target", 1),
            ("kitten", "sitting", 3),
            ("é", "e", 1),
        ] {
            assert_eq!(distance(one, two), apart, "{one} {two}");
            assert_eq!(distance(two, one), apart, "{two} {one}");
        }
    }

    #[test]
    fn names_need_no_quoting_anywhere() {
        for good in ["a", "agent-7", "D-arch", "x.y_z", &"a".repeat(64)] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            ".a",
            "a b",
            "a/b",
            "a..b",
            "a.lock",
            "é",
            "a.",
            &"a".repeat(65),
        ] {
            assert!(bad.parse::<AgentName>().is_err(), "{bad}");
        }
    }
}
