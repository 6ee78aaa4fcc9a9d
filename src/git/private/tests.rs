//! The private directory with git itself working in it, by examples and random edits.

use super::*;

mod edits;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::domain::zone::GitdirRule;
use crate::domain::zone::gitdir_rule;
use crate::git::base::GitBase;
use crate::git::base::Options;
use crate::git::base::tests::Repo;
use crate::git::base::tests::git_in;

/// A directory that looks like an agent's mount: the base's files, `.git` a private
/// git directory, `.govfs/changed` the list of what differs from the base.
struct Mount {
    repo: Repo,
    base: BTreeMap<PathBuf, Vec<u8>>,
    /// Every path that ever differed from the base: a layer forgets none either.
    touched: RefCell<BTreeSet<PathBuf>>,
    session: TempDir,
    root: PathBuf,
}

impl Mount {
    fn new(files: &[(&str, &str)]) -> Self {
        let repo = Repo::new();
        for (path, text) in files {
            repo.write(path, text);
        }
        repo.commit();
        let session = TempDir::new().expect("tempdir");
        let root = session.path().canonicalize().expect("path").join("tree");
        let place = root.to_str().expect("utf-8");
        repo.git(["worktree", "add", "-q", "--detach", place]);
        fs::remove_file(root.join(".git")).expect("a linked worktree's file");
        let mount = Self {
            base: snapshot(&root),
            touched: RefCell::default(),
            repo,
            session,
            root,
        };
        mount.prepare();
        mount.tell();
        mount
    }

    fn prepare(&self) {
        let base = GitBase::open(&self.repo.common(), self.repo.head(), Options::default());
        let base = base.expect("base");
        let dir = self.root.join(".git");
        let agent: AgentName = "alice".parse().expect("a name");
        let spec = PrivateSpec {
            common_dir: &self.repo.common(),
            objects: &object_dirs(&self.repo.common()),
            base: self.repo.head(),
            branch: "main",
            agent: &agent,
            cat: asked(),
            eol: EolConfig::default(),
            exclude: EXCLUDE,
            shown: &self.session.path().join("refs"),
        };
        prepare(&dir, &spec).expect("prepared");
        let templates = self.session.path().join("templates");
        prepare_index(&dir, &base, &templates, &self.root, EXCLUDE).expect("an index");
    }

    /// Writes the list that the layer would give.
    fn tell(&self) {
        let now = snapshot(&self.root);
        let paths: BTreeSet<_> = now.keys().chain(self.base.keys()).collect();
        let differ = paths
            .into_iter()
            .filter(|path| now.get(*path) != self.base.get(*path));
        let mut touched = self.touched.borrow_mut();
        touched.extend(differ.cloned());
        let mut list = b"govfs\0".to_vec();
        for path in touched.iter() {
            list.extend_from_slice(path.as_os_str().as_bytes());
            list.push(0);
        }
        fs::create_dir_all(self.root.join(".govfs")).expect("mkdir");
        fs::write(self.root.join(".govfs/changed"), list).expect("write");
    }

    /// Gives directories that were just changed a time of their own. The file systems
    /// underneath count in ticks of milliseconds, and two edits in one tick would look
    /// like one to git's untracked cache; a mount counts in nanoseconds.
    fn tick(&self) {
        let mut dirs = vec![self.root.clone()];
        while let Some(dir) = dirs.pop() {
            let file = fs::File::open(&dir).expect("a directory");
            let changed = file
                .metadata()
                .and_then(|meta| meta.modified())
                .expect("a time");
            if changed
                .elapsed()
                .is_ok_and(|age| age < Duration::from_millis(50))
            {
                file.set_modified(SystemTime::now()).expect("a time");
            }
            for entry in fs::read_dir(&dir).expect("names").flatten() {
                let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_dir && entry.file_name() != ".git" {
                    dirs.push(entry.path());
                }
            }
        }
    }

    fn git(&self, args: &[&str]) -> String {
        self.tell();
        self.tick();
        let out = git_in(&self.root, args);
        self.tell();
        String::from_utf8_lossy(&out).into_owned()
    }

    /// Returns the status, which must be the one without any help.
    fn status(&self) -> String {
        let plain = [
            "-c",
            "core.fsmonitor=false",
            "-c",
            "core.untrackedCache=false",
        ];
        let plain: Vec<_> = ["--no-optional-locks"]
            .iter()
            .chain(&plain)
            .copied()
            .collect();
        let mut last = String::new();
        for how in [
            &["status", "--porcelain"][..],
            &["status", "--porcelain", "-uall"],
        ] {
            let helped = self.git(how);
            let unhelped = self.git(&[&plain, how].concat());
            assert_eq!(helped, unhelped, "{how:?}");
            if last.is_empty() {
                last = helped;
            }
        }
        last
    }

    fn write(&self, path: &str, text: &str) {
        let full = self.root.join(path);
        fs::create_dir_all(full.parent().expect("parent")).expect("mkdir");
        fs::write(full, text).expect("write");
    }
}

/// Returns the content of every file of a tree, but for git's and govfs's own.
fn snapshot(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![root.to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("read_dir") {
            let path = entry.expect("entry").path();
            let inside = path.strip_prefix(root).expect("inside").to_path_buf();
            let data = fs::symlink_metadata(&path).expect("metadata");
            if inside == Path::new(".git") || inside == Path::new(".govfs") {
                continue;
            }
            if data.is_dir() {
                dirs.push(path);
            } else if data.is_symlink() {
                let target = fs::read_link(&path).expect("target");
                found.insert(inside, target.into_os_string().into_encoded_bytes());
            } else {
                found.insert(inside, fs::read(&path).expect("read"));
            }
        }
    }
    found
}

/// As the mount has it: the git of the machine may be too old to be told.
fn asked() -> Option<&'static Path> {
    super::monitor::may_be_told(Path::new("git")).then_some(Path::new("/bin/cat"))
}

fn sample() -> Mount {
    Mount::new(&[
        ("README", "one\ntwo\nthree\n"),
        (".gitignore", "*.o\n/out/\n"),
        ("a/b.c", "int b;\n"),
        ("a/b/deep/c.c", "int c;\n"),
        ("a/b/deep/.gitignore", "*.tmp\n"),
        ("a-b/x", "x\n"),
        ("a.b", "y\n"),
        ("z/long/name/of/a/file/that/is/rather/long.txt", "z\n"),
    ])
}

#[test]
fn a_new_directory_shows_a_clean_tree_and_its_history() {
    let mount = sample();
    assert_eq!(mount.status(), "");
    assert_eq!(mount.git(&["diff", "HEAD"]), "");
    assert_eq!(mount.git(&["branch", "--show-current"]).trim(), "main");
    assert_eq!(mount.git(&["log", "--format=%s"]), "x\n");
    assert_eq!(
        mount.git(&["config", "user.email"]).trim(),
        "alice@govfs.invalid"
    );
    assert_eq!(
        mount.git(&["write-tree"]),
        mount.git(&["rev-parse", "HEAD^{tree}"])
    );
    mount.git(&["fsck", "--strict"]);
    assert!(mount.git(&["blame", "README"]).contains("three"));
}

#[test]
fn git_takes_the_prepared_index_as_it_stands() {
    let mount = sample();
    let before = fs::read(mount.root.join(".git/index")).expect("index");
    let trace = mount.session.path().join("trace");
    let status = Command::new("git")
        // Also a git that the mount would not tell takes it so.
        .args(["-c", "core.fsmonitor=/bin/cat .govfs/changed #"])
        .args(["status", "--porcelain"])
        .current_dir(&mount.root)
        .env("GIT_TRACE2_PERF", &trace)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", mount.session.path())
        .output()
        .expect("git");
    assert!(status.status.success() && status.stderr.is_empty());
    let trace = fs::read_to_string(trace).expect("trace");
    let value = |name: &str| {
        let line = trace.lines().find(|line| line.contains(name));
        line.map(|line| {
            line.rsplit(':')
                .next()
                .unwrap_or_default()
                .trim()
                .to_owned()
        })
    };
    // No directory was opened, no directory's rules were found to have changed.
    assert_eq!(value("opendir:").as_deref(), Some("0"), "{trace}");
    assert_eq!(value("gitignore-invalidation").as_deref(), Some("0"));
    assert_eq!(value("directories-visited").as_deref(), Some("14"));
    let after = fs::read(mount.root.join(".git/index")).expect("index");
    assert_eq!(before, after, "nothing was left for git to add");
}

#[test]
fn everyday_commands_work_and_touch_nothing_of_the_repository() {
    let mount = sample();
    let refs = mount.repo.git(["for-each-ref"]);
    let config = fs::read(mount.repo.common().join("config")).expect("config");
    mount.write("README", "one\n2\nthree\n");
    mount.write("new/file", "new\n");
    fs::remove_file(mount.root.join("a.b")).expect("remove");
    assert_eq!(mount.status(), " M README\n D a.b\n?? new/\n");
    mount.git(&["stash", "-u", "-q"]);
    assert_eq!(mount.status(), "");
    mount.git(&["stash", "pop", "-q"]);
    mount.git(&["checkout", "-q", "-b", "topic"]);
    mount.git(&["add", "-A"]);
    mount.git(&["commit", "-q", "-m", "first"]);
    assert_eq!(mount.status(), "");
    mount.write("a/b.c", "int bb;\n");
    mount.git(&["commit", "-q", "-a", "-m", "second"]);
    mount.git(&["checkout", "-q", "main"]);
    mount.write("a-b/x", "xx\n");
    mount.git(&["commit", "-q", "-a", "-m", "third"]);
    mount.git(&["rebase", "-q", "topic"]);
    assert_eq!(
        mount.git(&["log", "--format=%s"]),
        "third\nsecond\nfirst\nx\n"
    );
    mount.git(&["gc", "-q", "--prune=now"]);
    mount.git(&["fsck"]);
    assert_eq!(mount.status(), "");
    assert_eq!(mount.repo.git(["for-each-ref"]), refs);
    assert_eq!(
        fs::read(mount.repo.common().join("config")).expect("config"),
        config
    );
}

/// Names that git 2.47 made while it was traced through some sixty commands.
const MADE: &str = "AUTO_MERGE AUTO_MERGE.lock BISECT_EXPECTED_REV.lock BISECT_HEAD.lock BISECT_LOG \
    BISECT_NAMES BISECT_START CHERRY_PICK_HEAD CHERRY_PICK_HEAD.lock COMMIT_EDITMSG FETCH_HEAD HEAD \
    HEAD.lock MERGE_HEAD MERGE_MODE MERGE_MSG MERGE_MSG.lock ORIG_HEAD ORIG_HEAD.lock REBASE_HEAD.lock \
    gc.pid gc.pid.lock index index.lock index.stash.110 index.stash.110.lock info/refs info/refs_MQiTMe \
    logs/HEAD logs/refs/heads/t logs/refs/stash next-index-111.lock objects/3a/tmp_obj_x9 \
    objects/info/commit-graph objects/info/commit-graph.lock objects/info/packs objects/info/packs_15QG \
    objects/maintenance.lock objects/pack/.tmp-1-pack-0a.idx objects/pack/multi-pack-index.lock \
    objects/pack/pack-0a.pack objects/pack/tmp_pack_T packed-refs packed-refs.lock packed-refs.new \
    rebase-apply rebase-apply/0001 rebase-merge rebase-merge/git-rebase-todo.lock refs/heads/t.lock \
    refs/notes/commits refs/stash refs/stash.lock refs/tags/v1";

#[test]
fn what_git_makes_may_be_made_and_nothing_that_it_would_run() {
    for name in MADE.split_whitespace() {
        assert_eq!(gitdir_rule(name.as_bytes()), GitdirRule::Writable, "{name}");
    }
    for name in ["config", "info/exclude", "objects/info/alternates"] {
        assert_eq!(gitdir_rule(name.as_bytes()), GitdirRule::Provided, "{name}");
    }
    for name in [
        "config.worktree",
        "hooks",
        "hooks/pre-commit",
        "info/attributes",
        "commondir.lock",
        "objects/info/alternates.lock",
        "modules/x/config",
        "worktrees/x",
        "info/grafts",
        "gitdir.lock",
    ] {
        assert_eq!(gitdir_rule(name.as_bytes()), GitdirRule::Refused, "{name}");
    }
    let mount = sample();
    mount.write("README", "other\n");
    mount.git(&["stash", "-q"]);
    mount.git(&["gc", "-q"]);
    let dir = mount.root.join(".git");
    for name in snapshot(&dir).keys() {
        let rule = gitdir_rule(name.as_os_str().as_bytes());
        assert_ne!(rule, GitdirRule::Refused, "{}", name.display());
    }
}

#[test]
fn preparing_again_keeps_what_the_agent_did() {
    let mount = sample();
    mount.write("README", "changed\n");
    mount.git(&["commit", "-q", "-a", "-m", "mine"]);
    fs::write(
        mount.root.join(".git/config"),
        "[core]\n\thooksPath = evil\n",
    )
    .expect("write");
    mount.prepare();
    assert_eq!(mount.git(&["log", "-1", "--format=%s"]), "mine\n");
    assert_eq!(mount.git(&["config", "core.hooksPath"]), "/dev/null\n");
    assert_eq!(mount.status(), "");
}

#[test]
fn an_index_from_a_kept_template_is_the_one_that_was_built() {
    let mount = sample();
    let (index, templates) = (
        mount.root.join(".git/index"),
        mount.session.path().join("templates"),
    );
    let again = || {
        fs::remove_file(&index).expect("an index");
        mount.prepare();
        fs::read(&index).expect("an index")
    };
    let kept = || {
        let mut found = fs::read_dir(&templates).expect("a directory");
        found.next().expect("a template").expect("a name").path()
    };
    let built = fs::read(&index).expect("an index");
    let whole = fs::read(kept()).expect("a template");
    assert_eq!(again(), built);
    // One that is cut short is made anew.
    fs::write(kept(), &whole[..whole.len() - 1]).expect("write");
    assert_eq!(again(), built);
    assert_eq!(fs::read(kept()).expect("a template"), whole);
}

#[test]
fn an_index_moves_with_its_mount() {
    let mount = sample();
    let dir = mount.root.join(".git");
    mount.write("README", "changed\n");
    assert_eq!(mount.status(), " M README\n");
    let other = Path::new("/somewhere/else, where names are rather longer");
    let index = || fs::read(dir.join("index")).expect("index");
    let before = index();
    relocate_index(&dir, other).expect("moved");
    assert!(String::from_utf8_lossy(&index()).contains("/somewhere/else"));
    relocate_index(&dir, &mount.root).expect("moved back");
    assert_eq!(index(), before);
    assert_eq!(mount.status(), " M README\n");
    mount.git(&["fsck"]);
    for version in ["2", "3", "4"] {
        mount.git(&["update-index", "--index-version", version]);
        relocate_index(&dir, other).expect(version);
        relocate_index(&dir, &mount.root).expect(version);
        assert_eq!(mount.status(), " M README\n");
    }
    fs::write(dir.join("index"), "DIRC").expect("write");
    assert!(relocate_index(&dir, other).is_err());
}

#[test]
fn a_symlink_in_the_way_is_not_followed() {
    let mount = sample();
    let dir = mount.root.join(".git");
    let away = mount.session.path().join("away");
    fs::create_dir(&away).expect("mkdir");
    fs::remove_dir_all(dir.join("info")).expect("remove");
    std::os::unix::fs::symlink(&away, dir.join("info")).expect("symlink");
    let agent: AgentName = "bob".parse().expect("a name");
    let spec = PrivateSpec {
        common_dir: &mount.repo.common(),
        objects: &[],
        base: mount.repo.head(),
        branch: "main",
        agent: &agent,
        cat: asked(),
        eol: EolConfig::default(),
        exclude: b"",
        shown: &mount.session.path().join("refs"),
    };
    assert!(matches!(
        prepare(&dir, &spec),
        Err(PrivateError::NotADirectory { .. })
    ));
    assert_eq!(fs::read_dir(&away).expect("read_dir").count(), 0);
    let spec = PrivateSpec {
        branch: "a..b",
        ..spec
    };
    let fresh = mount.session.path().join("fresh");
    assert!(matches!(
        prepare(&fresh, &spec),
        Err(PrivateError::BranchName { .. })
    ));
}
