//! Two patterns: overlap is the same both ways, and its witness is covered by both.
#![no_main]

use govfs::domain::path::RepoPath;
use govfs::domain::pattern::Pattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |&byte| byte == b'\n');
    let mut next = || parts.next().unwrap_or_default();
    let (first, second, path) = (next(), next(), next());
    let (Ok(first), Ok(second)) = (Pattern::parse(first), Pattern::parse(second)) else {
        return;
    };
    let witness = first.overlap(&second);
    assert_eq!(witness.is_some(), second.overlaps(&first));
    if let Some(witness) = witness {
        assert!(first.covers(&witness), "{first:?} does not cover {witness}");
        assert!(
            second.covers(&witness),
            "{second:?} does not cover {witness}"
        );
    }
    if let Ok(path) = RepoPath::parse(path)
        && first.covers(&path)
        && second.covers(&path)
    {
        assert!(first.overlaps(&second), "both cover {path}");
    }
    assert!(first.covers(first.example()) || first.is_literal());
});
