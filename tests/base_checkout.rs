//! The base shows what `git checkout` writes, and what is written back is stored
//! as `git add` stores it: both held against the real git, on random repositories.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use govfs::domain::base::Base as _;
use govfs::domain::base::Oid;
use govfs::domain::convert;
use govfs::domain::convert::AutoCrlf;
use govfs::domain::convert::Eol;
use govfs::domain::convert::EolConfig;
use govfs::domain::path::RepoPath;
use govfs::git::base::GitBase;
use govfs::git::base::Options;
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;

fn git(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git runs");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(input)
        .expect("input");
    child.wait_with_output().expect("git ends")
}

fn git_ok(dir: &Path, args: &[&str], input: &[u8]) -> Vec<u8> {
    let output = git(dir, args, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {args:?}: {said}");
    output.stdout
}

fn oid(text: &[u8]) -> Oid {
    let text = std::str::from_utf8(text.trim_ascii()).expect("hex");
    text.parse().expect("an object id")
}

/// Commits blobs exactly as they are.
fn commit(dir: &Path, files: &[(String, Vec<u8>)]) -> Oid {
    git_ok(dir, &["init", "-q", "-b", "main"], b"");
    let mut stream = Vec::new();
    stream.extend_from_slice(b"commit refs/heads/main\ncommitter a <a@x> 1700000000 +0000\n");
    stream.extend_from_slice(b"data 1\nx\n");
    for (path, bytes) in files {
        let head = format!("M 644 inline {path}\ndata {}\n", bytes.len());
        stream.extend_from_slice(head.as_bytes());
        stream.extend_from_slice(bytes);
        stream.push(b'\n');
    }
    git_ok(dir, &["fast-import", "--quiet"], &stream);
    oid(&git_ok(dir, &["rev-parse", "HEAD"], b""))
}

const PATHS: [&str; 12] = [
    "a.txt",
    "b.c",
    "c.bin",
    "x y.txt",
    "sub/a.txt",
    "sub/b.c",
    "sub/deep/a.txt",
    "sub/deep/c.bin",
    "docs/a.md",
    "docs/b.txt",
    "other/a.txt",
    "Makefile",
];

fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        &b"line\n"[..],
        b"line\r\n",
        b"\r",
        b"\n",
        b"word ",
        b"$Id$",
        b"$Id: 0123 $",
        b"$Id: x y z $",
        b"$Id: open\n",
        b"$",
        b"$Id",
        b"$Id:",
        b"Id$",
        b"\t",
        "\u{e9}\u{20ac}\u{42f}".as_bytes(),
        b"a long run of printable characters, so that one odd byte does not make it binary, and more of them still, to be sure",
        b"\x01",
        b"\0",
        b"\x1a",
        b"\xff",
    ]);
    // Mostly plain pieces, as most random mixtures are binary.
    let plain = select(vec![
        &b"line\n"[..],
        b"line\r\n",
        b"$Id$\n",
        b"$Id: 01 $\n",
        b"text ",
    ]);
    prop_oneof![
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(plain, 0..6).prop_map(|pieces| pieces.concat()),
    ]
}

fn attribute_file() -> impl Strategy<Value = Vec<u8>> {
    let pattern = select(vec![
        "*",
        "*.txt",
        "*.c",
        "/a.txt",
        "sub/*",
        "sub/**",
        "**/a.txt",
        "a.*",
        "[ab].*",
        "docs/",
        "\"x y.txt\"",
        "deep/*.bin",
        "!*.c",
        "*.[!c]*",
        "Makefile",
        "b.?",
    ]);
    let attribute = select(vec![
        "text",
        "-text",
        "!text",
        "text=auto",
        "text=input",
        "text=odd",
        "crlf",
        "-crlf",
        "crlf=input",
        "eol=crlf",
        "eol=lf",
        "-eol",
        "ident",
        "-ident",
        "binary",
        "-binary",
        "!binary",
        "mine",
        "-mine",
        "filter=lfs",
        "diff=c",
        "working-tree-encoding=UTF-16",
        "working-tree-encoding=utf-16le",
        "working-tree-encoding=UTF-16LE-BOM",
        "working-tree-encoding=ISO-8859-1",
        "working-tree-encoding=cp1252",
        "!working-tree-encoding",
        "bad/name",
    ]);
    let line = (pattern, prop::collection::vec(attribute, 1..4));
    let lines = prop::collection::vec(line, 0..7);
    let ending = select(vec!["\n", "\r\n"]);
    let head = select(vec![
        "",
        "[attr]mine text=auto eol=crlf",
        "[attr]mine binary ident",
        "# x",
    ]);
    (head, lines, ending).prop_map(|(head, lines, ending)| {
        let mut text = format!("{head}{ending}");
        for (pattern, attributes) in lines {
            text.extend([pattern, " ", &attributes.join(" "), ending]);
        }
        // `git add` reads these files as they are in the worktree.
        let plain = ".gitattributes !working-tree-encoding !ident";
        text.extend([plain, ending]);
        text.into_bytes()
    })
}

fn config() -> impl Strategy<Value = EolConfig> {
    let autocrlf = select(vec![
        AutoCrlf::False,
        AutoCrlf::False,
        AutoCrlf::True,
        AutoCrlf::Input,
    ]);
    let eol = select(vec![Eol::Lf, Eol::Crlf]);
    (autocrlf, eol).prop_map(|(autocrlf, eol)| EolConfig {
        autocrlf,
        // Git refuses `input` beside `core.eol=crlf`.
        eol: if autocrlf == AutoCrlf::Input {
            Eol::Lf
        } else {
            eol
        },
    })
}

fn settings(config: EolConfig) -> [String; 2] {
    let autocrlf = match config.autocrlf {
        AutoCrlf::False => "false",
        AutoCrlf::True => "true",
        AutoCrlf::Input => "input",
    };
    let eol = if config.eol == Eol::Crlf {
        "crlf"
    } else {
        "lf"
    };
    [
        format!("core.autocrlf={autocrlf}"),
        format!("core.eol={eol}"),
    ]
}

type Files = Vec<(String, Vec<u8>)>;

fn files() -> impl Strategy<Value = Files> {
    let files = prop::collection::vec(contents(), PATHS.len());
    (attribute_file(), attribute_file(), files).prop_map(|(root, sub, contents)| {
        let mut files: Files = PATHS
            .iter()
            .map(|p| (*p).to_owned())
            .zip(contents)
            .collect();
        files.push((".gitattributes".to_owned(), root));
        files.push(("sub/.gitattributes".to_owned(), sub));
        files
    })
}

fn check_checkout(files: &Files, config: EolConfig, tails: &[Vec<u8>]) {
    let dir = TempDir::new().expect("tempdir");
    let dir = dir.path();
    let head = commit(dir, files);
    let [autocrlf, eol] = settings(config);
    let common = ["-c", &autocrlf, "-c", &eol, "-c", "core.safecrlf=false"];

    let reset = [&common[..], &["reset", "-q", "--hard"]].concat();
    git_ok(dir, &reset, b"");
    let options = Options {
        eol: config,
        ..Options::default()
    };
    let base = GitBase::open(&dir.join(".git"), head, options).expect("base");
    for (at, (name, blob)) in files.iter().enumerate() {
        let path = RepoPath::parse(name.as_bytes()).expect("path");
        let entry = base.find(&path).expect("find").expect("entry");
        let shown = base.read(&path, &entry).expect("read");
        let written = fs::read(dir.join(name)).expect("written");
        let context = format!("{name} {config:?} {:?}", base.conversion(&path));
        assert_eq!(
            shown.escape_ascii().to_string(),
            written.escape_ascii().to_string(),
            "{context}"
        );
        assert_eq!(
            base.size(&path, &entry).expect("size"),
            shown.len() as u64,
            "{context}"
        );
        // Git does not look again at a file that it wrote and nobody changed.
        let tail = &tails[at % tails.len()];
        if name.ends_with(".gitattributes") || tail.is_empty() {
            continue;
        }
        let mut edited = shown;
        edited.extend_from_slice(tail);
        fs::write(dir.join(name), &edited).expect("edit");
        let conversion = base.conversion(&path).expect("conversion");
        let added = git(dir, &[&common[..], &["add", "--", name]].concat(), b"");
        match convert::to_git(&edited, &conversion, Some(blob)) {
            Ok(stored) => {
                let said = String::from_utf8_lossy(&added.stderr).into_owned();
                assert!(added.status.success(), "{context}: {said}");
                let blob = git_ok(dir, &["cat-file", "blob", &format!(":{name}")], b"");
                assert_eq!(
                    stored.escape_ascii().to_string(),
                    blob.escape_ascii().to_string(),
                    "add {context}"
                );
            }
            Err(error) => assert!(!added.status.success(), "{context}: {error}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_base_shows_what_checkout_writes_and_stores_what_add_stores(
        files in files(),
        config in config(),
        tails in prop::collection::vec(contents(), 5),
    ) {
        // LFS has no driver here, so git stores the content; ours stores a pointer.
        let files: Files = files
            .into_iter()
            .map(|(path, bytes)| (path, String::from_utf8(bytes.clone()).map_or(bytes, |text| text.replace("filter=lfs", "filter=odd").into_bytes())))
            .collect();
        check_checkout(&files, config, &tails);
    }

    #[test]
    fn a_base_ignores_what_git_ignores(
        root in ignore_file(),
        sub in ignore_file(),
        deep in ignore_file(),
    ) {
        check_ignored(&[
            (".gitignore".to_owned(), root),
            ("sub/.gitignore".to_owned(), sub),
            ("sub/deep/.gitignore".to_owned(), deep),
        ]);
    }
}

const TREE: [&str; 22] = [
    "a.log",
    "keep.log",
    "build/x.o",
    "build/keep",
    "sub/a.log",
    "sub/build/y",
    "sub/deep/a.log",
    "sub/deep/target/z",
    "sub/x y",
    "trail ",
    "#hash",
    "!bang",
    "docs/a.txt",
    "docs/in/a.txt",
    "target/debug/a",
    "x/target",
    "\\back",
    "[a]",
    "dist/a.js",
    "dist/keep/b.js",
    "$home",
    "Build/x",
];

fn ignore_file() -> impl Strategy<Value = Vec<u8>> {
    let line = select(vec![
        "*.log",
        "!keep.log",
        "/build",
        "build/",
        "!build/keep",
        "build/*",
        "target",
        "target/",
        "/sub/deep",
        "sub/**",
        "**/a.txt",
        "docs/**/a.txt",
        "docs/*.txt",
        "\\#hash",
        "#hash",
        "\\!bang",
        "!bang",
        "x y",
        "trail\\ ",
        "trail ",
        "*",
        "!*/",
        "!*.js",
        "dist",
        "!dist/keep",
        "deep/*",
        "!a.log",
        "[a]",
        "\\[a\\]",
        "[!a-z]*",
        "\\\\back",
        "",
        "/",
        "**",
        "a?log",
        "$home",
        "\\$home",
        "!/sub/",
        "**/deep/**",
        "x/**",
        "/*",
        "dist/*",
        "b[tu]ild",
        "[[:upper:]]*",
        "*.",
        "sub/build/y ",
        "a.log\\",
    ]);
    let ending = select(vec!["\n", "\n", "\r\n"]);
    let mark = select(vec!["", "", "\u{feff}"]);
    (mark, prop::collection::vec(line, 0..7), ending).prop_map(|(mark, lines, ending)| {
        let lines: String = lines.iter().flat_map(|line| [line, ending]).collect();
        format!("{mark}{lines}").into_bytes()
    })
}

fn check_ignored(files: &[(String, Vec<u8>)]) {
    let dir = TempDir::new().expect("tempdir");
    let dir = dir.path();
    let head = commit(dir, files);
    git_ok(dir, &["reset", "-q", "--hard"], b"");
    let mut paths = std::collections::BTreeSet::new();
    for file in TREE {
        let full = dir.join(file);
        fs::create_dir_all(full.parent().expect("parent")).expect("mkdir");
        fs::write(full, b"").expect("write");
        let path = RepoPath::parse(file.as_bytes()).expect("path");
        paths.extend(path.ancestors());
        paths.insert(path);
    }
    let input: Vec<u8> = paths
        .iter()
        .flat_map(|p| [p.as_bytes(), b"\0"].concat())
        .collect();
    let output = git(
        dir,
        &["check-ignore", "--no-index", "-z", "--stdin"],
        &input,
    );
    let ignored: Vec<&[u8]> = output.stdout.split(|&b| b == 0).collect();
    let base = GitBase::open(&dir.join(".git"), head, Options::default()).expect("base");
    for path in &paths {
        let is_dir = dir
            .join(String::from_utf8_lossy(path.as_bytes()).as_ref())
            .is_dir();
        let expected = ignored.contains(&path.as_bytes());
        assert_eq!(
            base.ignored(path, is_dir).expect("ignored"),
            expected,
            "{path} {files:?}"
        );
    }
}
