//! Keys and copies of checkpoints: private, kept through every crash, one an origin.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::digest::Digest;

fn origin(n: u8) -> Origin {
    Origin::of_random([n; 16])
}

fn keys(dir: &tempfile::TempDir) -> Keys {
    Keys::new(dir.path().join("config/govfs"))
}

#[test]
fn an_empty_or_relative_variable_counts_as_unset() {
    let env = |pairs: &'static [(&str, &str)]| {
        move |name: &str| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        }
    };
    let dir = |pairs| config_dir(env(pairs)).ok();
    assert_eq!(
        dir(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]),
        Some("/c/govfs".into())
    );
    for value in ["", "relative"] {
        let pairs = match value {
            "" => &[("XDG_CONFIG_HOME", ""), ("HOME", "/h")],
            _ => &[("XDG_CONFIG_HOME", "relative"), ("HOME", "/h")],
        };
        assert_eq!(dir(pairs), Some("/h/.config/govfs".into()), "{value:?}");
    }
    assert_eq!(
        state_dir(env(&[("HOME", "/h")])).ok(),
        Some("/h/.local/state/govfs".into())
    );
    assert_eq!(dir(&[("HOME", "")]), None);
    assert_eq!(dir(&[]), None);
}

#[test]
fn keys_are_private_and_per_origin() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    assert!(keys.load(&origin(1)).unwrap().is_none());
    let first = keys.create(&origin(1)).unwrap();
    let second = keys.create(&origin(2)).unwrap();
    assert_ne!(first.public(), second.public());
    for (n, key) in [(1, first), (2, second)] {
        let found = keys.load(&origin(n)).unwrap().unwrap();
        assert_eq!(found.current.public(), key.public());
        assert!(found.next.is_none());
    }
    let mode = fs::metadata(keys.path()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mode = fs::metadata(keys.path().parent().unwrap()).unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    let again = keys.create(&origin(1)).unwrap_err();
    assert!(matches!(again, KeyError::Exists(_)), "{again}");
}

#[test]
fn a_key_file_that_others_may_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    keys.create(&origin(1)).unwrap();
    for mode in [0o640, 0o604, 0o620, 0o601] {
        fs::set_permissions(keys.path(), fs::Permissions::from_mode(mode)).unwrap();
        let error = keys.load(&origin(1)).unwrap_err();
        assert!(matches!(error, KeyError::Open { .. }), "{error}");
        assert!(keys.create(&origin(2)).is_err());
    }
    fs::set_permissions(keys.path(), fs::Permissions::from_mode(0o400)).unwrap();
    assert!(keys.load(&origin(1)).unwrap().is_some());
}

#[test]
fn a_line_that_nobody_wrote_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    keys.create(&origin(1)).unwrap();
    let good = fs::read_to_string(keys.path()).unwrap();
    for bad in ["x", "\n", "a AAAA\n", &format!("{} last\n", good.trim())] {
        fs::write(keys.path(), format!("{good}{bad}")).unwrap();
        let error = keys.load(&origin(1)).unwrap_err();
        assert!(matches!(error, KeyError::Line { line: 2, .. }), "{error}");
    }
}

#[test]
fn a_rotation_loses_no_key_wherever_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    let old = keys.create(&origin(1)).unwrap();
    keys.create(&origin(2)).unwrap();
    assert!(keys.promote(&origin(1)).is_err());
    let staged = keys.stage(&origin(1)).unwrap();
    assert_eq!(staged.current.public(), old.public());
    let next = staged.next.unwrap();
    let again = keys.stage(&origin(1)).unwrap();
    assert_eq!(again.next.unwrap().public(), next.public());
    fs::write(keys.path().with_extension("new"), "left by a crash").unwrap();
    assert_eq!(keys.promote(&origin(1)).unwrap().public(), next.public());
    let now = keys.load(&origin(1)).unwrap().unwrap();
    assert_eq!(now.current.public(), next.public());
    assert!(now.next.is_none());
    assert!(keys.load(&origin(2)).unwrap().is_some());
    assert!(matches!(keys.stage(&origin(3)), Err(KeyError::Missing(_))));
}

#[test]
fn keys_made_at_the_same_time_are_all_kept() {
    let dir = tempfile::tempdir().unwrap();
    let keys = keys(&dir);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let keys = &keys;
            scope.spawn(move || keys.create(&origin(n)).unwrap());
        }
    });
    assert!((0..16).all(|n| keys.load(&origin(n)).unwrap().is_some()));
}

#[test]
fn origins_are_unique() {
    assert_ne!(fresh_origin().unwrap(), fresh_origin().unwrap());
}

fn note(size: u64) -> String {
    let checkpoint = Checkpoint {
        origin: origin(1),
        size,
        root: Digest::of(&size.to_be_bytes()),
    };
    checkpoint.sign(&SecretKey::of_bytes(&[1; 32]))
}

#[test]
fn copies_of_checkpoints_are_appended_newest_last() {
    let dir = tempfile::tempdir().unwrap();
    let key = SecretKey::of_bytes(&[1; 32]).public();
    let copies = Copies::of(&dir.path().join("state/govfs"), &origin(1));
    assert_eq!(copies.all().unwrap(), []);
    for size in 1..4 {
        copies.append(&note(size)).unwrap();
    }
    let sizes = || {
        let kept = copies.all().unwrap();
        let notes = kept.iter().filter_map(|piece| match piece {
            // A signature cut short is still a line, but nobody's.
            Kept::Note(note) => note.verify(&key).ok().map(|checkpoint| checkpoint.size),
            Kept::Damaged(_) => None,
        });
        let notes: Vec<u64> = notes.collect();
        (kept.len() > notes.len(), notes)
    };
    assert_eq!(sizes(), (false, vec![1, 2, 3]));
    // A crash in the middle of one: it is named, and the next one stands by itself.
    let whole = fs::read(copies.path()).unwrap();
    for cut in 1..note(3).len() {
        fs::write(copies.path(), &whole[..whole.len() - cut]).unwrap();
        copies.append(&note(4)).unwrap();
        // Only the newlines at its end can be told without them.
        let expected = match cut {
            1 | 2 => (false, vec![1, 2, 3, 4]),
            _ => (true, vec![1, 2, 4]),
        };
        assert_eq!(sizes(), expected, "cut {cut}");
    }
}
