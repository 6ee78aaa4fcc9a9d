//! Patterns as tables.

mod model;

use super::*;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn texts(paths: Option<RepoPath>) -> Option<String> {
    paths.map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned())
}

#[test]
fn a_literal_covers_itself_and_everything_beneath_a_glob_only_whole_paths() {
    for (text, yes, no) in [
        ("src", "src src/a src/a/b.rs", "srcs sr a/src src.rs"),
        ("src/", "src src/a", "srcs"),
        (r"a\*b", "a*b a*b/c", "axb a*"),
        (r"[id]", "i d", "[id] i/x id"),
        (
            r"app/\[id\]/page",
            "app/[id]/page app/[id]/page/x",
            "app/i/page",
        ),
        ("a,b", "a,b", "a b"),
        (
            "src/*.rs",
            "src/a.rs src/.rs src/.x.rs",
            "src/a.rs/b src/a/b.rs src x/a.rs",
        ),
        ("*", "a .a a.b", "a/b"),
        ("?", "a .", "ab"),
        ("src/?", "src/a", "src/ab src/é src"),
        ("src/??", "src/ab src/é", "src/a"),
        ("[a-c]x", "ax cx", "dx x -x"),
        ("[!a-c]x", "dx .x -x", "ax cx"),
        ("[^a]x", "bx ^x", "ax"),
        ("[a^!]x", "ax ^x !x", "bx"),
        ("[]a]x", "]x ax", "bx"),
        ("[!]a]x", "bx", "]x ax"),
        ("[a-]x", "ax -x", "bx"),
        (r"[\]\\]x", r"]x \x", "ax"),
        ("[[:digit:]_]x", "7x _x", "ax :x"),
        ("[--0]x", "-x .x 0x", "1x"),
        ("{a,b}/{c,d{e,f}}", "a/c b/de a/df", "a/d a c a/c/x"),
        (
            "{src,docs/api}/*.md",
            "src/a.md docs/api/b.md",
            "docs/a.md src/x/a.md",
        ),
        ("src{,/**}", "src src/a src/a/b", "srcs"),
        ("{a}", "a", "a/b {a}"),
        ("*{.rs,.toml}", "a.rs .toml x.toml", "a.md"),
        ("**", "a a/b .a/b", ""),
        ("src/**", "src src/a src/a/b", "srcs x/src"),
        ("**/x", "x a/x a/b/x .a/x", "ax x/a"),
        ("a/**/b", "a/b a/x/b a/x/y/b a/b/b", "a b a/b/c ab"),
        (
            "a/**/b/**/c",
            "a/b/c a/x/b/y/c a/b/b/c/c",
            "a/c/b a/b a/x/c",
        ),
        ("**/*.rs", "a.rs x/y/b.rs", "a.rs/x a.r"),
        ("**/a*b*/c?", "ab/cd x/aXbY/c1", "ab/c a/b/cd"),
        ("**/**/a", "a x/a", "b"),
    ] {
        let compiled = pattern(text);
        for yes in yes.split_whitespace().filter(|p| *p != ".") {
            assert!(compiled.covers(&path(yes)), "{text} covers {yes}");
        }
        for no in no.split_whitespace() {
            assert!(!compiled.covers(&path(no)), "{text} does not cover {no}");
        }
        assert!(!compiled.covers(&RepoPath::root()), "{text} and the root");
        assert!(
            compiled.covers(compiled.example()),
            "{text} and its example"
        );
    }
}

#[test]
fn names_are_bytes() {
    let latin = Pattern::parse(b"d\xE9j\xE0 *").expect("bytes");
    let name = RepoPath::parse(b"d\xE9j\xE0 vu").expect("bytes");
    assert!(latin.covers(&name));
    assert_eq!(latin.to_string(), "d%E9j%E0 *");
    let class = Pattern::parse(b"[\xE0-\xE9]x").expect("a byte range");
    assert!(class.covers(&RepoPath::parse(b"\xE5x").expect("bytes")));
    assert_eq!(
        texts(pattern("é").overlap(&pattern("??"))),
        Some("é".into())
    );
}

#[test]
fn a_pattern_that_can_never_be_claimed_is_refused_with_what_to_write_instead() {
    for (text, words) in [
        ("", "empty; write a path, or `**`"),
        ("/", "repository's root: `**`"),
        ("/src/a", "repository's root: `src/a`"),
        (".", "write `**`"),
        ("./src", "write `src`"),
        ("src/./a", "write `src/a`"),
        ("../x", "`..` leads out"),
        ("src/../x", "`..` leads out"),
        ("{a,../b}", "`..` leads out"),
        ("src//a", "write `src/a`"),
        ("src//", "write `src`"),
        ("src/*/", "write `src/*/**`"),
        ("{a,}", "write `**`"),
        ("{a,/b}", "write `b`"),
        (".git", "`.git` is git's own directory"),
        (".git/config", "git's own directory"),
        ("sub/.GIT/hooks/*", "`.GIT` is git's own"),
        ("git~1", "git's own directory"),
        (".git. /x", "git's own directory"),
        (r"\.git", "git's own directory"),
        (".gi[t]", "no name matches"),
        (".[gG]it", "no name matches"),
        ("[.]", "no name matches"),
        (".[.]/x", "no name matches"),
        ("a\0b", "NUL"),
        ("[a", "`[` without its `]`"),
        ("[", "`[` without its `]`"),
        ("[]", "`[` without its `]`"),
        (r"[a\", "`[` without its `]`"),
        ("[a/b]", "cannot match `/`"),
        ("[a/b", "`[` without its `]`"),
        ("[z-a]", "range `z-a`"),
        ("[é]", "`é` is several"),
        ("[[:nope:]]", "`[:nope:]` is no class"),
        ("{a,b", "`{` without its `}`"),
        ("{a,{b}", "`{` without its `}`"),
        ("a}", "`}` without its `{`"),
        ("{}", "no alternatives"),
        ("a**", "`**` stands for whole components"),
        ("**a", "`**` stands for whole components"),
        ("a/***", "`**` stands for whole components"),
        ("{a,**}b", "`**` stands for whole components"),
        ("a\\", "single `\\`"),
        (&"{a,b}".repeat(11), "more than 1024 alternatives"),
        (&"{".repeat(40), "more than 32 braces"),
        (&format!("{}*", "*a".repeat(64)), "more than 64 `*`"),
        (&format!("{}b", "**/a/".repeat(9)), "more than 8 `**`"),
        (
            &format!("{}*", "a/".repeat(300)),
            "more than 256 components",
        ),
        (&"?".repeat(256), "no name matches"),
        (&"x".repeat(256), "longer than 255"),
        (&"x/".repeat(2049), "longest is 4096"),
    ] {
        let error = Pattern::parse(text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    for fine in [
        &"x".repeat(255),
        &format!("{}/x", "é".repeat(100)),
        &"x/".repeat(2048)[..4095].to_owned(),
        &"{a,b}".repeat(10),
        &"?".repeat(255),
        &format!("{}b{}", "{a,".repeat(3), "}".repeat(3)),
        &".git*".to_owned(),
        &".gitignore".to_owned(),
        &" ".to_owned(),
        &"-".to_owned(),
        &"a]".to_owned(),
    ] {
        assert!(Pattern::parse(fine.as_bytes()).is_ok(), "{fine}");
    }
}

#[test]
fn what_leads_to_a_pattern_is_a_proper_ancestor_of_something_it_covers() {
    for (text, yes, no) in [
        ("a/b/c", "a a/b a/b/c a/b/c/d", "b a/c"),
        ("a/*/c", "a a/x", "a/x/c a/x/c/d b"),
        ("a/**", "a a/x a/x/y", "b"),
        ("**/x", "a a/b x x/y", ""),
        ("*.rs", "", "a a.rs"),
        ("{a/b,c/d/e}", "a c c/d", "a/b c/d/e b"),
    ] {
        for yes in yes.split_whitespace() {
            assert!(pattern(text).leads_to(&path(yes)), "{yes} leads to {text}");
        }
        for no in no.split_whitespace() {
            assert!(
                !pattern(text).leads_to(&path(no)),
                "{no} leads not to {text}"
            );
        }
        assert!(pattern(text).leads_to(&RepoPath::root()), "{text}");
    }
}

#[test]
fn explicit_patterns_and_prefixes() {
    for (text, literal, explicit, prefix) in [
        ("src/a.rs", Some("src/a.rs"), true, "src/a.rs"),
        (r"src/\*", Some("src/*"), true, "src/*"),
        ("src/", Some("src"), true, "src"),
        ("src/*.rs", None, false, "src"),
        ("src/**", None, false, "src"),
        ("**/Makefile", None, true, ""),
        ("src/*/mod.rs", None, true, "src"),
        ("src/{a,b}.rs", None, true, "src"),
        ("src/{a,b*}.rs", None, false, "src"),
        ("{src/x,src/y}/m/*", None, false, "src"),
        ("x/{a}/b", None, true, "x/a/b"),
        ("*", None, false, ""),
    ] {
        let compiled = pattern(text);
        assert_eq!(
            texts(compiled.literal().cloned()).as_deref(),
            literal,
            "{text}"
        );
        assert_eq!(compiled.is_literal(), literal.is_some(), "{text}");
        assert_eq!(compiled.is_explicit(), explicit, "{text}");
        assert_eq!(
            compiled.literal_prefix().as_bytes(),
            prefix.as_bytes(),
            "{text}"
        );
    }
}

#[test]
fn what_is_mostly_a_slip_of_the_pen_must_be_escaped() {
    let table: [(&[u8], &str, &str); 6] = [
        (b"a ", "white space", r"'a\ '"),
        (b"a/ b", "white space", r"'a/\ b'"),
        (b"a  /b", "white space", r"'a\ \ /b'"),
        (b"a\tb", "control", r"$'a\\\tb'"),
        (b"d\xE9j", "UTF-8", r"$'d\\\351j'"),
        (b" ", "white space", r"'\ '"),
    ];
    for (text, word, instead) in table {
        let error = Pattern::typed(text).expect_err("a slip").to_string();
        assert!(error.contains(word) && error.ends_with(instead), "{error}");
    }
    for own in [&b".govfs"[..], b".govfs/claims", b".govfs/*"] {
        assert!(matches!(Pattern::typed(own), Err(PatternError::Control)));
    }
    for meant in [
        &b"a\\ "[..],
        b"docs/.govfs",
        b".govfs2",
        b"d\\\xE9j",
        b"a\\\tb",
        b"a b",
        "\u{e9}".as_bytes(),
    ] {
        assert!(Pattern::typed(meant).is_ok(), "{}", meant.escape_ascii());
    }
}

#[test]
fn odd_but_legal_patterns_are_warned_of() {
    for (text, words) in [
        (r"src\auth.py", "separated by `/`"),
        ("app/[id]/page", "name with brackets"),
    ] {
        let odd = pattern(text).odd().expect(text);
        assert!(odd.contains(words), "{text}: {odd}");
    }
    for plain in ["src/a b.rs", "*.[ch]", r"a\*b", "ünïcode/**", "-x"] {
        assert_eq!(pattern(plain).odd(), None, "{plain}");
    }
}

#[test]
fn overlap_is_decided_exactly_and_shows_a_readable_path() {
    for (one, two, witness) in [
        ("src", "src/a.rs", Some("src/a.rs")),
        ("src", "srcs", None),
        ("src/**", "src/*.rs", Some("src/a.rs")),
        ("src/*.rs", "src/*.py", None),
        ("src/*.rs", "src/lib*", Some("src/lib.rs")),
        ("src/*.rs", "docs", None),
        ("*.md", "src", None),
        ("*", "src/x", None),
        ("**/x", "src", Some("src/x")),
        ("**/*.rs", "src/**/mod.*", Some("src/mod.rs")),
        ("a*b", "b*a", None),
        ("a*b", "*ab", Some("ab")),
        ("a/**/b", "a/*", Some("a/b")),
        ("a/**/b/c", "a/*/c", Some("a/b/c")),
        ("[a-m]*", "[m-z]*", Some("m")),
        ("[!a]", "[!b]", Some("c")),
        ("?", "??", None),
        ("{a,b}/x", "{b,c}/x", Some("b/x")),
        ("**", "**", Some("a")),
        (".git*", ".gi?", None), // only `.git`
        (".gi*", ".gi?", Some(".gia")),
        (".g[i]*", "*[t]", Some(".giat")), // `.git` itself is nobody's
        (".gi*", "?[g]?[t]", None),
        ("git~?", "git~[0-1]", Some("git~0")),
        ("?[.]", "[.]*", None), // only `..`
    ] {
        assert_eq!(
            texts(pattern(one).overlap(&pattern(two))).as_deref(),
            witness,
            "{one} {two}"
        );
        assert_eq!(
            texts(pattern(two).overlap(&pattern(one))).as_deref(),
            witness,
            "{two} {one}"
        );
        assert_eq!(
            pattern(one).overlaps(&pattern(two)),
            witness.is_some(),
            "{one} {two}"
        );
    }
}

#[test]
fn a_common_name_longer_than_names_can_be_is_no_overlap() {
    let (a, b) = ("a".repeat(130), "b".repeat(130));
    assert_eq!(
        pattern(&format!("{a}*")).overlap(&pattern(&format!("*{b}"))),
        None
    );
    let (a, b) = (&a[..127], &b[..128]);
    let witness = pattern(&format!("{a}*")).overlap(&pattern(&format!("*{b}")));
    assert_eq!(texts(witness), Some(format!("{a}{b}")));
}

#[test]
fn inside_is_inclusion_in_the_union_with_a_path_outside() {
    for (own, others, outside) in [
        ("src/a.rs", &["src"][..], None),
        ("src", &["src/**"], None),
        ("src/**", &["src"], None),
        ("src", &["src/*"], Some("src")),
        ("src/*.rs", &["src"], None),
        ("src/*.rs", &["src/*"], None),
        ("src/*", &["src/*.rs"], Some("src/a")),
        ("src/**", &["src/*"], Some("src")),
        ("**", &["src"], Some("a")),
        ("**", &["*", "*/**"], None),
        ("**", &["*", "*/*/**"], None), // `**` is zero components too
        ("**", &["*", "*/*/*/**"], Some("a/a")),
        ("*", &["[a-m]*", "[!a-m]*"], None),
        ("*", &["[a-m]*", "[!a-n]*"], Some("n")),
        ("?", &["[a-m]", "[n-z]"], Some("0")),
        ("{a,b,c}", &["a", "b"], Some("c")),
        ("**/x", &["x", "*/**"], None),
        ("a/**/b", &["a/b", "a/*/b"], Some("a/a/a/b")),
        ("*.rs", &["a*", "[!a]*"], None),
        ("*a*b*", &["*a*"], None),
        ("*a*", &["*a*b*"], Some("a")),
        (".g*", &[".g[!i]*", ".gi[!t]*", ".git?*", ".g", ".gi"], None), // but for `.git`
        ("src", &[], Some("src")),
        ("**", &["**/{,a{b,.}}{a/b,b}/{**,a}", "{**,x}"], None),
    ] {
        let others: Vec<Pattern> = others.iter().map(|text| pattern(text)).collect();
        let found = texts(pattern(own).inside(&others).err());
        assert_eq!(found.as_deref(), outside, "{own} inside {others:?}");
    }
}

#[test]
fn what_cannot_be_decided_in_bounded_time_is_not_inside() {
    // Together these are everything, but to see it the last letters of a name have
    // to be remembered in all their combinations.
    let everything = |len: usize| {
        let tail = "?".repeat(len);
        let mut others = vec![
            pattern(&format!("*a{tail}")),
            pattern(&format!("*[!a]{tail}")),
        ];
        others.extend((1..=len).map(|len| pattern(&"?".repeat(len))));
        others
    };
    assert_eq!(pattern("*").inside(&everything(6)), Ok(()));
    assert!(pattern("*").inside(&everything(20)).is_err());
}

#[test]
fn the_stored_form_is_percent_encoded_and_order_is_that_of_the_text() {
    let glob = pattern("src/*.rs");
    let json = serde_json::to_string(&glob).expect("json");
    assert_eq!(json, "\"src/%2A.rs\"");
    assert_eq!(serde_json::from_str::<Pattern>(&json).expect("again"), glob);
    assert!(serde_json::from_str::<Pattern>("\"src/*.rs\"").is_err());
    assert!(pattern("a") < pattern("b"));
    assert_eq!(pattern("src/"), pattern("src"));
    assert_eq!(pattern(r"a\\/").source(), br"a\\");
    assert_eq!(pattern(r"a\/").source(), b"a");
    assert_eq!(
        format!("{} {:?}", pattern("a b"), pattern("x\ny")),
        "a b `x%0Ay`"
    );
}
