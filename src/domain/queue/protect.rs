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

/// Judges one update. `branch` is the protected branch's short name, `announced`
/// the commits that entries say it is to move to, `leave` the charter's for
/// whoever runs git now.
pub fn judge(update: &RefUpdate, branch: &str, announced: &[Oid], leave: bool) -> MoveVerdict {
    if update.name != format!("refs/heads/{branch}") {
        return MoveVerdict::Allowed;
    }
    let ours = announced.iter().any(|oid| oid.to_string() == update.new);
    // Git says zeros for "whatever it is", so zeros to zeros is a deletion too.
    let deletes = update.new.bytes().all(|b| b == b'0');
    if ours || (update.old == update.new && !deletes) {
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
            let verdict = judge(&updates[0], "main", &[MERGE], leave);
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
            judge(&updates[0], "main", &[], false),
            MoveVerdict::Refused(_)
        ));
    }

    #[test]
    fn what_git_would_not_say_is_an_error() {
        assert_eq!(updates(""), Ok(Vec::new()));
        for text in ["x", "a b", "a b ", "\n"] {
            assert!(updates(text).is_err(), "{text:?}");
        }
    }
}
