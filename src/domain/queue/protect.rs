//! The protected branch: which moves of it came through govfs.
//!
//! Owns: reading what git's `reference-transaction` hook is told, and the
//! verdict. A move is ours when an entry announced its commit before the
//! reference moved (`merge-intent`); a person's with the charter's leave is
//! allowed and recorded; any other is refused. Never runs git.

use crate::domain::base::Oid;

/// One line of the hook's standard input: `<old> SP <new> SP <ref>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefUpdate {
    /// As git spells it: an id, zeros, or `ref:` and a name.
    pub old: String,
    pub new: String,
    pub name: String,
}

/// What the hook says of one update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveVerdict {
    /// Not the protected branch, or announced by an entry.
    Allowed,
    /// A person's, with the charter's leave: an entry is due.
    Leave,
    Refused(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a line of a reference transaction: {0:?}")]
pub struct UpdateError(String);

/// Reads the hook's input.
pub fn updates(text: &str) -> Result<Vec<RefUpdate>, UpdateError> {
    let one = |line: &str| {
        let mut words = line.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some(old), Some(new), Some(name)) if !name.is_empty() => Ok(RefUpdate {
                old: old.to_owned(),
                new: new.to_owned(),
                name: name.to_owned(),
            }),
            _ => Err(UpdateError(line.chars().take(80).collect())),
        }
    };
    text.lines().map(one).collect()
}

/// Where the branch is while git asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub tip: Option<Oid>,
    /// What the packed references say of it.
    pub packed: Option<Oid>,
}

impl Place {
    /// Says whether the branch stays where it is. Packing references is told as the
    /// creation of one that is there already, then as the deletion of its file; a real
    /// deletion is told of the packed one too, and that as zeros.
    fn keeps(self, update: &RefUpdate) -> bool {
        let is = |oid: Option<Oid>, text: &str| oid.is_some_and(|oid| oid.to_string() == text);
        let prunes =
            is_zeros(&update.new) && is(self.packed, &update.old) && self.packed == self.tip;
        is(self.tip, &update.new) || prunes
    }
}

fn is_zeros(text: &str) -> bool {
    text.bytes().all(|b| b == b'0')
}

/// Judges one update. `branch` is the protected branch's short name, `place` where it
/// is now, `announced` the commits that entries say it is to move to, `leave` the
/// charter's for whoever runs git now.
pub fn judge(
    update: &RefUpdate,
    branch: &str,
    place: Place,
    announced: &[Oid],
    leave: bool,
) -> MoveVerdict {
    if update.name != format!("refs/heads/{branch}") {
        return MoveVerdict::Allowed;
    }
    let ours = announced.iter().any(|oid| oid.to_string() == update.new);
    // Git says zeros for "whatever it is", so zeros to zeros is a deletion too.
    let deletes = is_zeros(&update.new);
    if ours || place.keeps(update) || (update.old == update.new && !deletes) {
        return MoveVerdict::Allowed;
    }
    if leave {
        return MoveVerdict::Leave;
    }
    let what = if deletes {
        "deleting it".to_owned()
    } else {
        format!("moving it to {}", update.new)
    };
    MoveVerdict::Refused(format!(
        "{branch} is protected: {what} would come around govfs. Work in a session and \
         merge it with `govfs merge AGENT`; the charter may give people leave."
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MERGE: Oid = Oid([0xab; 20]);

    #[test]
    fn only_announced_moves_of_the_protected_branch_pass() {
        let (old, ours, other) = ("1".repeat(40), MERGE.to_string(), "2".repeat(40));
        let zeros = "0".repeat(40);
        let cases = [
            (ours.as_str(), "refs/heads/main", false, "allowed"),
            (&other, "refs/heads/main", false, "refused"),
            (&other, "refs/heads/main", true, "leave"),
            (&zeros, "refs/heads/main", false, "refused"),
            (&zeros, "refs/heads/main", true, "leave"),
            (&old, "refs/heads/main", false, "allowed"),
            ("ref:refs/heads/x", "refs/heads/main", false, "refused"),
            (&other, "refs/heads/main2", false, "allowed"),
            (&other, "refs/heads/feature/main", false, "allowed"),
            (&other, "refs/remotes/origin/main", false, "allowed"),
            (&other, "HEAD", false, "allowed"),
        ];
        for (new, name, leave, expected) in cases {
            let updates = updates(&format!("{old} {new} {name}\n")).expect("a line");
            let verdict = judge(&updates[0], "main", Place::default(), &[MERGE], leave);
            let found = match &verdict {
                MoveVerdict::Allowed => "allowed",
                MoveVerdict::Leave => "leave",
                MoveVerdict::Refused(why) => {
                    assert!(why.contains("govfs merge"), "{why}");
                    "refused"
                }
            };
            assert_eq!(found, expected, "{new} {name} {leave}");
        }
    }

    #[test]
    fn a_deletion_whatever_it_was_is_refused() {
        let zeros = "0".repeat(40);
        let updates = updates(&format!("{zeros} {zeros} refs/heads/main\n")).expect("a line");
        assert!(matches!(
            judge(&updates[0], "main", Place::default(), &[], false),
            MoveVerdict::Refused(_)
        ));
    }

    #[test]
    fn packing_references_moves_nothing() {
        let (here, there) = (Oid([1; 20]), Oid([2; 20]));
        let zeros = "0".repeat(40);
        let cases = [
            (&zeros, &here.to_string(), None, true),
            (&here.to_string(), &zeros, Some(here), true),
            (&here.to_string(), &zeros, None, false),
            (&here.to_string(), &zeros, Some(there), false),
            (&there.to_string(), &zeros, Some(there), false),
            (&zeros, &zeros, Some(here), false),
            (&zeros, &there.to_string(), Some(there), false),
        ];
        for (old, new, packed, allowed) in cases {
            let updates = updates(&format!("{old} {new} refs/heads/main\n")).expect("a line");
            let place = Place {
                tip: Some(here),
                packed,
            };
            let verdict = judge(&updates[0], "main", place, &[], false);
            assert_eq!(
                verdict == MoveVerdict::Allowed,
                allowed,
                "{old} {new} {packed:?}"
            );
        }
    }

    #[test]
    fn what_git_would_not_say_is_an_error() {
        assert_eq!(updates(""), Ok(Vec::new()));
        for text in ["x", "a b", "a b ", "\n"] {
            assert!(updates(text).is_err(), "{text:?}");
        }
    }
}
