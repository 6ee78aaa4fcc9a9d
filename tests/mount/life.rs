//! A mount through accidents and odd repositories: killed servers, few descriptors, shallow clones, cargo.

use nix::sys::signal::Signal;

use crate::common::needs;
use crate::common::world::World;

fn two_files() -> World {
    World::of("mkdir d; echo a > d/a; echo b > d/b")
}

#[test]
fn a_killed_server_fails_closed_and_the_next_mount_has_every_write() {
    let mut world = two_files();
    world.mount("alice", &["d"]);
    world.sh("echo x >> d/a");
    world.signal(Signal::SIGKILL);
    world.host("until ls $MNT 2>&1 | grep -q 'not connected'; do :; done");
    world.mount_again("alice", &[]);
    assert_eq!(
        world.sh("cat d/a; git status --porcelain"),
        "a\nx\n M d/a\n"
    );
    world.ok(&["unmount", "alice"]);
    world.ok(&["verify", "--deep"]);
}

#[test]
fn a_repository_that_has_moved_is_not_made_again_where_it_was() {
    let mut world = two_files();
    world.mount("alice", &["d"]);
    world.sh("echo one > d/a; sync d/a");
    let moved = world.at("moved");
    std::fs::rename(world.repo(), &moved).unwrap();
    // Whether it is taken or refused, nothing of it goes to the old place.
    let taken = world.run("echo two > d/b; sync d/b").status.success();
    world.run("echo three > d/c; setfattr -n user.k -v v d/b; sync d/c");
    world.govfs_in(&moved, &["status"]);
    assert!(!world.repo().exists());
    world.govfs_in(&moved, &["unmount", "alice"]);
    assert!(!world.repo().exists());
    std::fs::rename(&moved, world.repo()).unwrap();
    world.govfs(&["unmount", "alice", "--force"]);
    world.mount_again("alice", &[]);
    assert_eq!(world.sh("cat d/a"), "one\n");
    if taken {
        assert_eq!(world.sh("cat d/b"), "two\n");
    }
    world.ok(&["unmount", "alice"]);
    world.ok(&["verify", "--deep"]);
}

#[test]
fn a_small_limit_of_descriptors_is_enough() {
    let mut world = two_files();
    world.ok(&["init"]);
    world.limit_descriptors(64);
    world.mount_again("alice", &["d"]);
    world.sh("for i in $(seq 200); do echo $i > d/n$i; done; cat d/n* | wc -l | grep -qx 200");
    assert_eq!(world.sh("ls d | wc -l"), "202\n");
    world.ok(&["unmount", "alice"]);
}

#[test]
fn git_collects_garbage_in_a_shallow_clone() {
    let mut world = two_files();
    world.host("echo c > d/c; git add .; git commit -qm two; mv ../repo ../whole; git clone -q --depth 1 file://$PWD/../whole ../repo");
    world.mount("alice", &["d"]);
    world.sh("echo x >> d/a; git commit -qam x; git gc -q; git fsck; git status --porcelain | diff - /dev/null");
}

#[test]
fn cargo_builds_where_only_a_source_is_claimed() {
    let mut world = World::of(
        "mkdir src; printf '[package]\\nname = \"small\"\\nversion = \"0.1.0\"\\nedition = \"2021\"\\n' > Cargo.toml
         echo 'fn main() {}' > src/main.rs; printf 'target/\\nCargo.lock\\n' > .gitignore",
    );
    world.mount("alice", &["src/main.rs"]);
    world.sh("mkdir targetAbC123; rmdir targetAbC123; ! mkdir targets 2>/dev/null");
    world.sh("mkdir targetAbC123; touch targetAbC123/CACHEDIR.TAG; mv targetAbC123 target; test -f target/CACHEDIR.TAG");
}

/// A repository with a small file system of its own, which a test can fill.
fn on_a_small_disk(script: &str) -> World {
    let world = World::without_repository();
    world.host_in(
        &world.at(""),
        "mount -t tmpfs -o size=16m,mode=755 tmpfs repo",
    );
    world.init();
    world.host(script);
    world.host("git add -A && git commit -q -m first");
    world
}

#[test]
fn a_full_disk_says_so_and_can_be_emptied_from_inside() {
    if !needs::root() {
        return;
    }
    let mut world = on_a_small_disk("mkdir d; for i in $(seq 300); do echo $i > d/f$i; done");
    world.mount("alice", &["d"]);
    world.sh("echo kept > d/f1");
    world.host("dd if=/dev/zero of=ballast bs=4k 2>/dev/null || true");
    // Fills what the log had room for, until nothing more is taken.
    let full = world.refused("while :; do head -c 65536 /dev/zero >> d/big; done");
    assert!(full.contains("No space left on device"), "{full}");
    let full = world.refused("git status");
    assert!(full.contains("No space left on device"), "{full}");
    world.sh("rm d/f2* d/big; : > d/f3; cat d/f1 | grep -qx kept; test ! -e d/f200");
    world.host("rm ballast");
    world.sh("echo again > d/f2; git status --porcelain | grep -c '^ D' | grep -qx 110");
    world.ok(&["unmount", "alice"]);
    world.mount_again("alice", &[]);
    assert_eq!(
        world.sh("cat d/f1 d/f2 d/f3; ls d | wc -l"),
        "kept\nagain\n190\n"
    );
    world.ok(&["unmount", "alice"]);
    world.ok(&["verify", "--deep"]);
}

#[test]
fn the_first_open_after_a_release_is_refused_and_recorded() {
    let mut world = two_files();
    world.mount("alice", &["d/a", "d/b"]);
    world.sh("echo x >> d/a; echo x >> d/b; cat d/a d/b > /dev/null");
    world.ok(&["release", "alice", "d/a"]);
    world.refused("echo y >> d/a");
    let log = world.ok(&["log", "--denied"]);
    assert!(log.contains("d/a") && log.contains("open"), "{log}");
    world.sh("govfs=1; grep -q 'open d/a' .govfs/denials; echo y >> d/b");
}

#[test]
fn a_silent_server_holds_nobody_up_for_ever() {
    let mut world = two_files();
    world.mount("alice", &["d"]);
    world.sh("echo x >> d/a");
    world.signal(Signal::SIGSTOP);
    // Without --force it says within seconds that nobody answers; that is not waited for here.
    world.ok(&["unmount", "alice", "--force"]);
    world.mount_again("alice", &[]);
    assert_eq!(world.sh("cat d/a"), "a\nx\n");
}

#[test]
fn a_partial_clone_fetches_its_charter_and_says_once_that_lfs_is_missing() {
    let mut world = World::of(
        "mkdir d; echo a > d/a; echo '*.bin filter=lfs' > .gitattributes
         printf 'version https://git-lfs.github.com/spec/v1\\noid sha256:%064d\\nsize 3\\n' 0 > d/x.bin",
    );
    world.ok(&["init"]);
    world.host(
        "git config uploadpack.allowFilter true; mv ../repo ../whole
         git clone -q --filter=blob:none --no-checkout file://$PWD/../whole ../repo",
    );
    let mounted = world.govfs(&["init"]);
    assert!(mounted.status.success(), "{mounted:?}");
    world.mount_again("alice", &["d"]);
    assert_eq!(world.sh("cat d/a; head -c 7 d/x.bin"), "a\nversion");
    if !needs::has("git-lfs") {
        world.sh("cat d/x.bin d/x.bin > /dev/null");
        let log = world.host("cat .git/govfs/sessions/*/server.log");
        assert_eq!(log.matches("pointer").count(), 1, "{log}");
    }
}

#[test]
fn an_unmount_names_what_is_in_its_way_and_waits_out_what_is_not() {
    if !needs::root() {
        return;
    }
    let mut world = two_files();
    world.mount("alice", &["d"]);
    // Nothing that `/proc` shows as a user of the mount.
    world.host("mount --bind / $MNT/d");
    let refused = world.govfs(&["unmount", "alice"]);
    world.host("umount $MNT/d");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{said}");
    assert!(said.contains("a mount that stands in it"), "{said}");
    world.ok(&["unmount", "alice"]);
}

#[test]
fn a_mount_ends_in_order_under_a_charter_that_cannot_be_read() {
    let mut world = two_files();
    world.mount("alice", &["d"]);
    world.sh("echo x >> d/a");
    world.host("sed -i 's/^\\[claims\\]/&\\nbogus = 1/' governor.md && git commit -qam broken");
    let refused = world.govfs(&["claim", "alice", "e"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    world.ok(&["unmount", "alice"]);
    assert!(world.ok(&["status"]).contains("none: govfs mount alice"));
    let verified = world.ok(&["verify", "--deep"]);
    assert!(!verified.contains("not sealed"), "{verified}");
}

#[test]
fn no_mount_stands_over_another_or_in_one() {
    let mut world = two_files();
    world.mount("alice", &["d"]);
    let at = world.mnt();
    for place in [at.clone(), at.join("d/deeper")] {
        let place = place.to_str().expect("a path");
        let ran = world.govfs(&["mount", "bob", place]);
        assert_eq!(ran.status.code(), Some(3), "{ran:?}");
    }
    assert_eq!(world.sh("ls d"), "a\nb\n");
    world.ok(&["unmount", "alice"]);
    let at = at.to_str().expect("a path");
    world.ok(&["mount", "bob", at]);
    world.ok(&["unmount", "bob"]);
}
