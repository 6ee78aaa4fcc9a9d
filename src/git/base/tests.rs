//! Bases of real repositories: packed, partial, shallow, crafted, and read by many threads.

use super::*;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A repository made with the real git, in a cleared environment.
pub(crate) struct Repo {
    dir: TempDir,
}

impl Repo {
    pub(crate) fn new() -> Self {
        let repo = Self {
            dir: TempDir::new().expect("a temporary directory"),
        };
        repo.git(["init", "-q", "-b", "main"]);
        repo
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn common(&self) -> PathBuf {
        self.path().join(".git")
    }

    pub(crate) fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Vec<u8> {
        git_in(self.path(), args)
    }

    pub(crate) fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let full = self.path().join(path);
        std::fs::create_dir_all(full.parent().expect("a parent")).expect("mkdir");
        std::fs::write(full, bytes).expect("write");
    }

    pub(crate) fn commit(&self) -> Oid {
        self.git(["add", "-A"]);
        self.git(["commit", "-q", "--allow-empty", "-m", "x"]);
        self.head()
    }

    pub(crate) fn head(&self) -> Oid {
        let text = self.git(["rev-parse", "HEAD"]);
        tree::parse_hex(text.trim_ascii()).expect("an object id")
    }

    pub(crate) fn base(&self) -> GitBase {
        GitBase::open(&self.common(), self.head(), Options::default()).expect("a base")
    }
}

pub(crate) fn git_in<S: AsRef<OsStr>>(dir: &Path, args: impl IntoIterator<Item = S>) -> Vec<u8> {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", dir)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "a")
        .env("GIT_AUTHOR_EMAIL", "a@x")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_NAME", "c")
        .env("GIT_COMMITTER_EMAIL", "c@x")
        .env("GIT_COMMITTER_DATE", "1700000123 +0200")
        .output()
        .expect("git runs");
    assert!(
        output.status.success(),
        "git failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

pub(crate) fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect(text)
}

fn names(base: &GitBase, dir: &Oid) -> Vec<String> {
    let list = base.list(dir).expect("a list");
    list.iter()
        .map(|entry| String::from_utf8_lossy(&entry.name).into_owned())
        .collect()
}

fn content(base: &GitBase, at: &str) -> Vec<u8> {
    let entry = base.find(&path(at)).expect("find").expect(at);
    let bytes = base.read(&path(at), &entry).expect("read");
    assert_eq!(
        base.size(&path(at), &entry).expect("size"),
        bytes.len() as u64
    );
    bytes
}

fn sample() -> Repo {
    let repo = Repo::new();
    repo.write("a.txt", "one\n");
    repo.write("dir/b.txt", "two\n");
    repo.write("dir.d/c", "three");
    repo.write("dir-c", "");
    std::os::unix::fs::symlink("../nowhere", repo.path().join("link")).expect("symlink");
    repo.write("run.sh", "#!/bin/sh\n");
    repo.git(["update-index", "--add", "--chmod=+x", "run.sh"]);
    repo.commit();
    repo
}

#[test]
fn a_base_lists_and_reads_the_tree_of_its_commit() {
    let repo = sample();
    let base = repo.base();
    assert_eq!(base.time(), 1_700_000_123);
    assert_eq!(
        names(&base, &base.root()),
        ["a.txt", "dir", "dir-c", "dir.d", "link", "run.sh"]
    );
    assert_eq!(content(&base, "dir/b.txt"), b"two\n");
    assert_eq!(content(&base, "link"), b"../nowhere");
    let link = base.find(&path("link")).expect("find").expect("link");
    assert_eq!(link.kind, BaseKind::Symlink);
    assert_eq!(base.find(&path("dir/none")).expect("find"), None);
    assert_eq!(base.find(&path("a.txt/x")).expect("find"), None);
}

#[test]
fn a_base_is_right_before_during_and_after_a_repack() {
    let repo = sample();
    let base = repo.base();
    assert_eq!(content(&base, "a.txt"), b"one\n");
    repo.git(["repack", "-adq"]);
    repo.git(["prune-packed"]);
    assert_eq!(content(&base, "dir.d/c"), b"three");
    repo.write("more", "more");
    repo.commit();
    // The first pack vanishes under an open handle; what it held is in another.
    repo.git(["repack", "-adqf"]);
    assert_eq!(content(&base, "dir/b.txt"), b"two\n");
    assert_eq!(content(&repo.base(), "more"), b"more");
}

#[test]
fn a_missing_object_is_an_error_that_names_it() {
    let repo = sample();
    let base = repo.base();
    let entry = base.find(&path("a.txt")).expect("find").expect("a.txt");
    let hex = entry.oid.to_string();
    let loose = repo
        .common()
        .join("objects")
        .join(&hex[..2])
        .join(&hex[2..]);
    std::fs::remove_file(loose).expect("remove");
    let error = base.read(&path("a.txt"), &entry).expect_err("missing");
    assert!(error.to_string().contains(&hex), "{error}");
    assert!(base.size(&path("a.txt"), &entry).is_err());
}

#[test]
fn a_partial_clone_fetches_what_it_lacks() {
    let repo = sample();
    repo.git(["config", "uploadpack.allowFilter", "true"]);
    repo.git(["config", "uploadpack.allowAnySHA1InWant", "true"]);
    let clone = TempDir::new().expect("tempdir");
    let url = format!("file://{}", repo.path().display());
    git_in(
        clone.path(),
        ["clone", "-q", "--bare", "--filter=blob:none", &url, "c.git"],
    );
    let common = clone.path().join("c.git");
    let closed = GitBase::open(&common, repo.head(), Options::default()).expect("base");
    let entry = closed.find(&path("a.txt")).expect("find").expect("a.txt");
    assert!(closed.read(&path("a.txt"), &entry).is_err());
    let options = Options {
        fetch: Some(Arc::new(PromisorGit::new("git".into(), common.clone()))),
        ..Options::default()
    };
    let base = GitBase::open(&common, repo.head(), options).expect("base");
    assert_eq!(content(&base, "a.txt"), b"one\n");
}

#[test]
fn alternates_and_shallow_clones_are_read() {
    let repo = sample();
    repo.write("a.txt", "newer\n");
    repo.commit();
    let clone = TempDir::new().expect("tempdir");
    let url = format!("file://{}", repo.path().display());
    git_in(clone.path(), ["clone", "-q", "--depth=1", &url, "shallow"]);
    let source = repo.path().to_str().expect("utf-8");
    git_in(clone.path(), ["clone", "-q", "--shared", source, "shared"]);
    for name in ["shallow", "shared"] {
        let common = clone.path().join(name).join(".git");
        let base = GitBase::open(&common, repo.head(), Options::default()).expect(name);
        assert_eq!(content(&base, "a.txt"), b"newer\n", "{name}");
    }
}

#[test]
fn a_crafted_tree_shows_only_what_can_be_served() {
    let blob = [7u8; 20];
    let mut bytes = Vec::new();
    for (mode, name) in [
        ("100644", ".git"),
        ("100644", ".GIT"),
        ("40000", ".."),
        ("100644", "a/b"),
        ("100644", ""),
        ("100664", "old"),
        ("100644", "old"),
        ("160000", "sub"),
    ] {
        bytes.extend_from_slice(format!("{mode} {name}\0").as_bytes());
        bytes.extend_from_slice(&blob);
    }
    let list = tree::parse_tree(&bytes).expect("a tree");
    let shown: Vec<_> = list.iter().map(|e| (e.name.as_slice(), e.kind)).collect();
    assert_eq!(
        shown,
        [
            (b"old".as_slice(), BaseKind::File { exec: false }),
            (b"sub".as_slice(), BaseKind::Submodule)
        ]
    );
    assert!(tree::parse_tree(&bytes[..bytes.len() - 1]).is_none());
}

#[test]
fn threads_read_at_the_same_time() {
    let repo = sample();
    let base = Arc::new(repo.base());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(content(&base, "dir/b.txt"), b"two\n");
                }
            });
        }
    });
}
