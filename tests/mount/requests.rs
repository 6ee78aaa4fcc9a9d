//! What a program's operation costs in requests, and what a refused program sees.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use crate::common::bench;
use crate::common::bench::Bench;
use crate::common::mount::{mount, mount_with, out, refused, sh};
use crate::common::needs;
use govfs::domain::gate::Tried;
use govfs::domain::logop::LogOp;
use govfs::vfs::server::Server;

fn bench() -> Bench {
    let files = [
        ("w/a", "alpha"),
        ("w/b", "beta"),
        ("o/a", "outside"),
        ("o/b", "b"),
    ];
    Bench::new(&files, &["w"])
}

/// Counts the requests that `act` waits for.
fn cost(server: &Server, act: impl FnOnce()) -> u64 {
    let before = server.counters().waited();
    act();
    server.counters().waited() - before
}

fn read(path: &Path) {
    let mut text = String::new();
    File::open(path).unwrap().read_to_string(&mut text).unwrap();
}

#[test]
fn each_operation_costs_so_many_requests() {
    if !needs::root() {
        return;
    }
    for xattrs in [false, true] {
        // With attributes the kernel asks for `security.capability` once more.
        costs(xattrs, u64::from(xattrs));
    }
}

fn costs(xattrs: bool, more: u64) {
    let mut bench = bench();
    let server = mount_with(&mut bench, xattrs);
    let (a, fresh) = (bench.mnt().join("w/a"), bench.mnt().join("w/fresh"));
    read(&a);
    fs::metadata(&a).unwrap();
    let ls = || {
        for dir in ["w", "o"] {
            for entry in fs::read_dir(bench.mnt().join(dir)).unwrap() {
                entry.unwrap().metadata().unwrap();
            }
        }
    };
    ls();
    ls();
    let again = || {
        OpenOptions::new()
            .append(true)
            .open(&a)
            .unwrap()
            .write_all(b"x")
            .unwrap();
    };
    again();
    let table: [(&str, u64, &dyn Fn()); 6] = [
        ("stat", 0, &|| assert!(fs::metadata(&a).is_ok())),
        ("list and stat", 0, &ls),
        ("open, read, close", 0, &|| read(&bench.mnt().join("o/a"))),
        ("append", 1, &again),
        ("truncate, write, close", 2 + more, &|| {
            fs::write(&a, "other").unwrap();
        }),
        ("a name that is not there", 0, &|| {
            assert!(fs::metadata(bench.mnt().join("w/none")).is_err());
        }),
    ];
    read(&bench.mnt().join("o/a"));
    let _ = fs::metadata(bench.mnt().join("w/none"));
    for (what, most, act) in table {
        act();
        if what == "open, read, close" || what == "stat" {
            fs::metadata(&a).unwrap(); // a read makes the access time stale, once
        }
        let got = cost(&server, act);
        assert!(got <= most, "{what}: {got} requests, not {most}");
    }
    let created = cost(&server, || fs::write(&fresh, "new").unwrap());
    assert!(created <= 4 + more, "create, write, close: {created}");
    let saved = cost(&server, || {
        fs::write(bench.mnt().join("w/t"), "new").unwrap();
        fs::rename(bench.mnt().join("w/t"), &fresh).unwrap();
    });
    assert!(saved <= 8 + more, "temp and rename: {saved}");
    server.stop().unwrap();
}

#[test]
fn a_pass_over_files_that_were_just_read_costs_one_listing_a_directory() {
    if !needs::root() {
        return;
    }
    let names: Vec<String> = (0..40).map(|at| format!("o/d{}/f{at}", at % 2)).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "text")).collect();
    let mut bench = Bench::new(&files, &["w"]);
    let server = mount(&mut bench);
    let pass = || {
        for dir in ["o/d0", "o/d1"] {
            for entry in fs::read_dir(bench.mnt().join(dir)).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(entry.metadata().unwrap().len(), 4);
                read(&entry.path());
            }
        }
    };
    pass();
    // What the notifier has to say is said when this returns.
    server.settle_all().unwrap();
    // A directory's own attributes, its names, and that there are no more of them.
    let second = cost(&server, pass);
    assert!(second <= 2 * 3, "{second} requests for 40 files");
    let third = cost(&server, pass);
    assert!(
        third <= 2,
        "{third}: a listing makes its directory's time stale"
    );
    assert_eq!(
        cost(&server, pass),
        0,
        "from then on it is the kernel's own"
    );
    // A refused open is seen all the same.
    refused(&bench, "true >> o/d0/f0");
    assert_eq!(bench.gate.denials.lock().unwrap()[0].tried, Tried::Open);
    server.stop().unwrap();
}

#[test]
fn every_refused_attempt_is_seen_and_fails_at_the_call() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let server = mount(&mut bench);
    let table = [
        ("true >> o/a", Some(Tried::Open)),
        ("true > o/a", Some(Tried::Open)),
        ("true <> o/a", Some(Tried::Open)),
        ("python3 -c \"open('o/a','r+')\"", Some(Tried::Open)),
        (
            "python3 -c \"import os,sys; sys.exit(not os.access('o/a',2))\"",
            Some(Tried::Access),
        ),
        ("truncate -c -s0 o/a", Some(Tried::Open)),
        ("rm -f o/a", Some(Tried::Unlink)),
        ("touch -d @1 o/a", Some(Tried::Times)),
        ("chmod +x o/a", Some(Tried::Mode)),
        ("mv o/a o/c", Some(Tried::RenameFrom)),
        ("mv w/a o/a", Some(Tried::RenameTo)),
        ("true > o/new", Some(Tried::Create)),
        ("mkdir o/new", Some(Tried::Mkdir)),
        ("mkfifo w/fifo", Some(Tried::Mknod)),
        ("ln w/a w/z", Some(Tried::Link)),
        ("cat o/a > /dev/null; false", None),
        ("test -x o/a", None),
    ];
    for (script, tried) in table {
        bench.gate.denials.lock().unwrap().clear();
        refused(&bench, script);
        let seen: Vec<Tried> = bench
            .gate
            .denials
            .lock()
            .unwrap()
            .iter()
            .map(|d| d.tried)
            .collect();
        match tried {
            Some(tried) => assert!(seen.contains(&tried), "{script}: {seen:?}"),
            None => assert!(seen.is_empty(), "{script}: {seen:?}"),
        }
    }
    let denial = {
        bench.gate.denials.lock().unwrap().clear();
        sh(&bench, "exec 3>> o/b");
        bench.gate.denials.lock().unwrap()[0].clone()
    };
    assert!(denial.by.pid > 0 && denial.by.start.is_some());
    let exe = String::from_utf8(denial.by.exe.unwrap().0).unwrap();
    assert!(exe.ends_with("bash"), "{exe}");
    assert_eq!(out(&bench, "cat o/a o/b"), "outsideb");
    server.stop().unwrap();
}

#[test]
fn a_claim_granted_or_taken_counts_at_once_on_open_handles_too() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let server = mount(&mut bench);
    refused(&bench, "echo x >> o/a");
    bench.gate.claims(&["w", "o/a"]);
    assert_eq!(out(&bench, "echo x >> o/a; cat o/a"), "outsidex\n");
    let file = OpenOptions::new()
        .write(true)
        .open(bench.mnt().join("o/a"))
        .unwrap();
    file.write_at(b"O", 0).unwrap();
    bench.gate.claims(&["w"]);
    server.overlay().refresh();
    assert_eq!(
        file.write_at(b"Z", 0).unwrap_err().raw_os_error(),
        Some(libc::EACCES)
    );
    assert_eq!(out(&bench, "cat o/a"), "Outsidex\n");
    bench.gate.claims(&["w", "o/a"]);
    server.freeze().unwrap();
    assert_eq!(
        file.write_at(b"Z", 0).unwrap_err().raw_os_error(),
        Some(libc::EACCES)
    );
    server.overlay().thaw();
    file.write_at(b"Q", 0).unwrap();
    assert_eq!(out(&bench, "cat o/a"), "Qutsidex\n");
    drop(file);
    server.stop().unwrap();
}

#[test]
fn the_first_write_claims_where_the_charter_says_so() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    bench.gate.first_write.store(true, Ordering::SeqCst);
    let server = mount(&mut bench);
    out(&bench, "stat o/a; test -w o/b; true");
    assert_eq!(out(&bench, "echo x >> o/a; cat o/a"), "outsidex\n");
    assert!(
        bench.gate.rules.lock().unwrap().claims.len() == 2,
        "looking claims nothing"
    );
    server.stop().unwrap();
}

#[test]
fn an_unlinked_file_stays_open_and_is_logged_no_more() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let server = mount(&mut bench);
    let at = bench.mnt().join("w/a");
    let file = OpenOptions::new().read(true).write(true).open(&at).unwrap();
    fs::remove_file(&at).unwrap();
    fs::write(&at, "another").unwrap();
    let before = bench.gate.log.lock().unwrap().len();
    file.write_at(b"ALPHA", 0).unwrap();
    let mut bytes = [0; 5];
    file.read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!(&bytes, b"ALPHA");
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(fs::read_to_string(&at).unwrap(), "another");
    let log = bench.gate.log.lock().unwrap();
    let writes = log[before..]
        .iter()
        .filter(|logged| matches!(logged.op, LogOp::Write { .. }));
    assert_eq!(writes.count(), 0);
    drop(log);
    drop(file);
    server.stop().unwrap();
    let left: Vec<_> = fs::read_dir(bench.dir.path().join("work"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn git_writes_its_directory_and_nobody_its_config() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let git = bench.dir.path().join("git");
    fs::write(git.join("config"), "[core]\n").unwrap();
    fs::create_dir_all(git.join("refs/heads")).unwrap();
    fs::create_dir_all(git.join("objects/info")).unwrap();
    let server = mount(&mut bench);
    let chown = format!("chown -R 65534:65534 {}", git.display());
    assert!(
        std::process::Command::new("sh")
            .args(["-c", &chown])
            .status()
            .unwrap()
            .success()
    );
    out(
        &bench,
        "echo x > .git/index.lock && mv .git/index.lock .git/index && cat .git/config",
    );
    out(
        &bench,
        "mkdir .git/objects/ab; echo o > .git/objects/ab/tmp_obj_1; ln .git/objects/ab/tmp_obj_1 .git/objects/ab/cdef; rm .git/objects/ab/tmp_obj_1; cat .git/objects/ab/cdef",
    );
    for script in [
        "echo x > .git/config",
        "echo x > .git/config.lock; mv -f .git/config.lock .git/config",
        "mkdir .git/hooks",
        "mv .git/index .git/hooks",
        "mv .git/index .git/config",
        "rm .git/config",
        "ln -s /etc .git/refs/x",
        "echo x > .git/objects/info/alternates",
        "mv .git .git2",
        "mkdir w/.git",
        "mkdir w/.GIT",
    ] {
        refused(&bench, script);
    }
    assert_eq!(out(&bench, "cat .git/config"), "[core]\n");
    assert_eq!(out(&bench, "ls -a | tr '\\n' ' '"), ". .. .git o w ");
    server.stop().unwrap();
}

#[test]
fn scratch_has_everything_a_file_system_has() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let server = mount(&mut bench);
    out(
        &bench,
        "mkdir -p target/d w/node_modules && echo x > target/d/f && ln target/d/f target/d/g && mkfifo target/p && ln -s d target/l && test $(stat -c %h target/d/g) = 2",
    );
    out(
        &bench,
        "chmod 400 target/d/f; cat target/d/f; mv target/d target/e; mv target/e/f w/node_modules/f; ls target/e; rm target/e/g; cat w/node_modules/f",
    );
    refused(
        &bench,
        "mv w/a target/a.txt 2>&1 1>/dev/null >&2 && false; python3 -c \"import os; os.rename('w/b','target/b')\"",
    );
    out(
        &bench,
        "python3 - <<'X'\nimport socket\ns=socket.socket(socket.AF_UNIX); s.bind('target/s')\nX",
    );
    out(
        &bench,
        "cd target; python3 -c \"import sqlite3; c=sqlite3.connect('x.db'); c.execute('pragma journal_mode=wal'); c.execute('create table t(a)'); c.executemany('insert into t values(?)',[(i,) for i in range(100)]); c.commit(); print(c.execute('select count(*) from t').fetchone()[0])\"",
    );
    out(
        &bench,
        "for i in $(seq 300); do echo $i > target/f$i; done; test $(ls target | grep -c ^f) = 300; rm -rf target; ! test -e target",
    );
    let log = bench.gate.log.lock().unwrap();
    let logged = log.iter().any(|logged| match &logged.op {
        LogOp::Write { path, .. } | LogOp::Create { path, .. } => path.encode().contains("target"),
        _ => false,
    });
    assert!(!logged);
    drop(log);
    server.stop().unwrap();
}

#[test]
fn a_share_is_there_at_once_and_copied_on_write() {
    if !needs::root() {
        return;
    }
    let mut bench = bench();
    let theirs = tempfile::tempdir().unwrap();
    let at = theirs.path();
    fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    fs::create_dir_all(at.join("pkg/lib")).unwrap();
    fs::write(at.join("pkg/index.js"), "theirs").unwrap();
    fs::write(at.join("pkg/lib/a.js"), "deep").unwrap();
    std::os::unix::fs::symlink("pkg/index.js", at.join("main")).unwrap();
    bench.share = Some((bench::path("node_modules"), at.to_owned()));
    let server = mount(&mut bench);
    assert_eq!(
        out(
            &bench,
            "ls node_modules; cat node_modules/main node_modules/pkg/lib/a.js; ls | tr '\\n' ' '"
        ),
        "main\npkg\ntheirsdeepnode_modules o w "
    );
    out(
        &bench,
        "ls -li node_modules/pkg/index.js > /tmp/govfs-ino.$PPID; echo mine >> node_modules/pkg/index.js; test \"$(cat node_modules/main)\" = theirsmine; rm /tmp/govfs-ino.$PPID",
    );
    out(
        &bench,
        "echo new > node_modules/pkg/lib/b.js; rm node_modules/pkg/lib/a.js; mv node_modules/pkg/lib/b.js node_modules/c.js; rmdir node_modules/pkg/lib",
    );
    out(
        &bench,
        "mv node_modules/pkg node_modules/moved; chmod 600 node_modules/moved/index.js; mkdir node_modules/pkg; test -z \"$(ls -A node_modules/pkg)\"",
    );
    server.stop().unwrap();
    let server = mount(&mut bench);
    assert_eq!(
        out(
            &bench,
            "ls -R node_modules; cat node_modules/moved/index.js node_modules/c.js"
        ),
        "node_modules:\nc.js\nmain\nmoved\npkg\n\nnode_modules/moved:\nindex.js\n\nnode_modules/pkg:\ntheirsmine\nnew\n"
    );
    out(&bench, "rm -r node_modules; ! test -e node_modules");
    server.stop().unwrap();
    assert_eq!(
        fs::read_to_string(at.join("pkg/index.js")).unwrap(),
        "theirs"
    );
    assert_eq!(fs::read_to_string(at.join("pkg/lib/a.js")).unwrap(), "deep");
}
