//! What no merge may bring in: links, names, modes and sizes.

use proptest::prelude::*;

use super::*;

/// Every kind of hostile content is refused by its own name.
#[test]
fn hostile_content_is_refused_by_name() {
    let before = Map::of(&[
        "README.md",
        "src/lib.rs",
        "src/caf\u{e9}",
        "out -> /etc",
        "up -> src/..",
    ]);
    let cases: &[(&str, &str)] = &[
        ("src/.git/config", "git-directory"),
        ("src/.GIT/hooks/pre-commit", "git-directory"),
        ("GIT~1/config", "git-directory"),
        ("src/.g\u{200c}it/config", "git-directory"),
        ("src/.git. /config", "git-directory"),
        ("src/.git::$INDEX_ALLOCATION/x", "git-directory"),
        ("src/.git", "git-directory"),
        ("src/.gitmodules", "git-control"),
        (".gitattributes", "git-control"),
        (".lfsconfig", "git-control"),
        ("src/.GITMODULES", "git-disguise"),
        ("GITMOD~1", "git-disguise"),
        ("src/GI7D29~2", "git-disguise"),
        (".gitattributes. ", "git-disguise"),
        (".gitignore -> src/lib.rs", "git-control-link"),
        (".github/workflows/ci.yml", "sensitive"),
        ("governor.md", "protected"),
        (".govfs/claims", "reserved"),
        ("src/a\nb", "control-character"),
        ("src/a\u{1b}[2Jb", "control-character"),
        ("src/a\u{7f}", "control-character"),
        ("src/a\u{85}b", "control-character"),
        ("src/a\u{2028}b", "control-character"),
        ("src/evil\u{202e}txt.exe", "bidi-character"),
        ("src/a\u{2066}b/c", "bidi-character"),
        ("src/a\u{200b}b", "invisible-character"),
        ("src/LIB.rs", "case-collision"),
        ("SRC/other.rs", "case-collision"),
        ("readme.md", "case-collision"),
        ("src/cafe\u{301}", "normalisation-collision"),
        ("src/-rf", "option-like"),
        ("link -> /etc/passwd", "symlink-absolute"),
        ("link -> ../outside", "symlink-escape"),
        ("src/link -> ../../outside", "symlink-escape"),
        ("src/link -> ../src/../../x", "symlink-escape"),
        ("link -> up/../x", "symlink-escape"),
        ("link -> out/passwd", "symlink-absolute"),
        ("link -> .git/config", "symlink-git"),
        ("src/link -> ../.GIT/hooks", "symlink-git"),
        ("link -> link", "symlink-circle"),
        ("link -> src/\u{1b}[2J", "symlink-target"),
    ];
    for (name, rule) in cases {
        let found = rules(&before, &[added(name)]);
        assert!(found.contains(rule), "{name:?}: {found:?}");
    }
}

/// What is odd, but harms nobody, is merged.
#[test]
fn ordinary_and_merely_odd_content_passes() {
    let before = Map::of(&[
        "README.md",
        "src/lib.rs",
        "odd\u{202e}dir/x",
        "up -> src/..",
    ]);
    for name in [
        "src/new.rs",
        "a name with spaces and 'quotes'",
        "日本語/ファイル",
        "src/.gitkeep",
        ".gitignore",
        ".gitx/y",
        "src/a-b--c",
        "odd\u{202e}dir/y",
        "link -> src/lib.rs",
        "src/link -> ../README.md",
        "dangling -> nowhere/yet",
        "link -> up/README.md",
        "src/deep/link -> ../../src/../README.md",
        "HEAD",
        "objects/x",
    ] {
        assert_eq!(rules(&before, &[added(name)]), [""; 0], "{name:?}");
    }
    let odd = [modified("odd\u{202e}dir/x")];
    assert_eq!(rules(&before, &odd), [""; 0]);
}

#[test]
fn two_new_names_can_collide_with_each_other() {
    let none = Map::default();
    let both = [added("new/File"), added("new/file")];
    let verdict = judge_with(&none, &both, &wide, &|_| {});
    let paths: Vec<_> = verdict
        .refusals
        .iter()
        .filter_map(|line| line.path.clone())
        .collect();
    assert_eq!(paths, [path("new/File"), path("new/file")]);
    for pair in [
        ["stra\u{df}e", "STRASSE"],
        ["\u{3c3}", "\u{3c2}"],
        ["\u{212a}", "k"],
    ] {
        assert_eq!(
            rules(&none, &pair.map(added)),
            ["case-collision"],
            "{pair:?}"
        );
    }
    let before = Map::of(&["old"]);
    let renamed_case = [deleted("old"), added("Old")];
    assert_eq!(rules(&before, &renamed_case), [""; 0]);
}

#[test]
fn a_directory_that_git_would_enter_is_refused() {
    let none = Map::default();
    let bare = ["x/HEAD", "x/config", "x/objects/keep", "x/refs/keep"].map(added);
    assert_eq!(rules(&none, &bare), ["embedded-repository"]);
    let gitfile = ["x/HEAD", "x/commondir"].map(added);
    assert_eq!(rules(&none, &gitfile), ["embedded-repository"]);
    let folded = ["x/head", "x/Objects/keep", "x/REFS/keep"].map(added);
    assert_eq!(rules(&none, &folded), ["embedded-repository"]);
    let linked = [
        added("x/HEAD"),
        added("x/objects -> ../o"),
        added("x/refs -> ../r"),
    ];
    assert_eq!(rules(&none, &linked), ["embedded-repository"]);
    let half = Map::of(&["x/objects/keep", "x/refs/keep"]);
    assert_eq!(rules(&half, &[added("x/HEAD")]), ["embedded-repository"]);
    let known = Map::of(&["x/HEAD", "x/objects/a", "x/refs/a"]);
    assert_eq!(rules(&known, &[added("x/objects/b")]), [""; 0]);
}

#[test]
fn modes_and_sizes_that_git_does_not_know_are_refused() {
    let none = Map::default();
    let cases = [
        (0o100_644, ""),
        (0o100_755, ""),
        (0o104_755, "unknown-mode"),
        (0o100_600, "unknown-mode"),
        (0o010_644, "unknown-mode"),
        (0o040_000, "unknown-mode"),
        (0o160_000, "submodule"),
    ];
    for (mode, rule) in cases {
        let change = Proposed {
            mode: Some(mode),
            ..added("x")
        };
        assert_eq!(rules(&none, &[change]).join(""), rule, "{mode:o}");
    }
    let huge = Proposed {
        size: FILE_MAX + 1,
        ..added("x")
    };
    assert_eq!(rules(&none, &[huge]), ["too-large"]);
}

proptest! {
    /// A link either stays inside by plain path arithmetic, or is refused.
    #[test]
    fn links_without_other_links_follow_plain_arithmetic(
        depth in 0_usize..4,
        parts in proptest::collection::vec(proptest::sample::select(&["..", ".", "a", ""][..]), 1..8),
    ) {
        let target = parts.join("/");
        let name = format!("{}link", "d/".repeat(depth));
        let mut level = i64::try_from(depth).unwrap();
        let mut escapes = false;
        for part in &parts {
            level += match *part { ".." => -1, "a" => 1, _ => 0 };
            escapes |= level < 0;
        }
        let found = rules(&Map::default(), &[added(&format!("{name} -> {target}"))]);
        let expected = if target.is_empty() { "symlink-target" }
            else if target.starts_with('/') { "symlink-absolute" }
            else if escapes { "symlink-escape" }
            else { "" };
        prop_assert_eq!(found.join(""), expected, "{}", target);
    }
}
