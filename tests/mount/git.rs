//! git inside a governed mount: it works, it answers right, and nothing of the operator's moves.

use std::fmt::Write as _;

use crate::common::world::World;

/// A small repository with a history, a tag, a branch and a stash of the operator's.
fn storied() -> World {
    let world = World::of(
        "mkdir src docs; for i in 1 2 3 4; do seq $i 40 > src/f$i.txt; done; echo d > docs/d.md
         printf 'target/\\n*.o\\n' > .gitignore; ln -s src/f1.txt link
         printf '#!/bin/sh\\n' > run.sh; chmod +x run.sh",
    );
    world.host(
        "for i in 1 2 3; do echo line $i >> src/f1.txt; git commit -qam c$i; done
         git tag v1; git branch other; echo mine >> docs/d.md; git stash -q",
    );
    world
}

/// Everything of the operator's that an agent's git must not touch.
fn operators(world: &World) -> String {
    world.host(
        "git for-each-ref | grep -v refs/govfs; cat .git/config .git/HEAD; sha1sum .git/index
         git stash list; git reflog; ls .git .git/hooks; git status --porcelain
         find .git/objects -type f | sort; find . -path ./.git -prune -o -type f -exec sha1sum {} + | sort",
    )
}

#[test]
fn the_daily_commands_work_and_touch_nothing_of_the_operators() {
    let mut world = storied();
    world.mount("alice", &["**"]);
    let before = operators(&world);
    assert_eq!(world.sh("git status --porcelain"), "");
    world.sh(
        "echo new > src/new.txt; echo more >> src/f2.txt; rm src/f3.txt; mv src/f4.txt src/f5.txt",
    );
    world.sh("chmod +x docs/d.md; mkdir target; echo o > target/x; echo o > a.o");
    assert_eq!(
        world.sh("git status --porcelain"),
        " M docs/d.md\n M src/f2.txt\n D src/f3.txt\n D src/f4.txt\n?? src/f5.txt\n?? src/new.txt\n"
    );
    world.sh("git add -A; git commit -qm first; git diff --exit-code HEAD");
    assert_eq!(
        world.sh("git log -1 --format='%an %ae %cn'"),
        "alice alice@govfs.invalid alice\n"
    );
    world.sh("echo x >> src/f1.txt; git stash -q; git diff --exit-code; git stash pop -q; git diff | grep -q '^+x'");
    world.sh("git stash -q; git stash drop -q; git status --porcelain | diff - /dev/null");
    assert!(
        world
            .sh("git blame -s -L 41,41 src/f1.txt")
            .ends_with("line 1\n")
    );
    world.sh("git checkout -q -b feat; echo y >> src/f2.txt; git commit -qam onfeat");
    world.sh("git checkout -q main; echo z >> src/new.txt; git commit -qam onmain; git merge -q feat -m merged");
    world.sh("git checkout -q -b reb HEAD~1; echo r > src/r; git add src/r; git commit -qm r; git rebase -q main");
    world.sh("git rebase -q -i --exec true HEAD~1; git checkout -q main");
    world.sh("git tag v2; git tag -a v3 -m ann; git show --stat v3 | grep -q merged; git grep -q 'line 3'");
    world.sh(
        "git bisect start HEAD v1; git bisect run true | grep -q 'first bad'; git bisect reset",
    );
    world.sh("git reset -q --hard HEAD~1; git revert --no-edit HEAD; git cherry-pick reb; git notes add -m hi");
    world.sh("git rm -q src/f1.txt; git mv docs/d.md docs/e.md; git restore --staged .; git restore .; git clean -qfdx");
    world.sh(
        "git switch -q -c sw; git switch -q main; git pack-refs --all; git reflog | grep -q 'merge feat'",
    );
    world.sh("git gc -q; git gc -q --prune=now; git repack -qadl; git fsck; git status --porcelain | diff - /dev/null");
    assert_eq!(before, operators(&world));
    // What the repository has is not packed a second time.
    let own = world.sh("git count-objects -v | sed -n 's/^in-pack: //p'");
    assert!(own.trim().parse::<u32>().unwrap() < 60, "{own}");
}

#[test]
fn branches_are_renamed_and_deleted_without_a_word() {
    let mut world = storied();
    world.mount("alice", &["**"]);
    let said = world.run("git checkout -q -b one; git branch -m one two; git branch -M main2; git branch three; git branch -d three; git branch");
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success(), "{text}");
    assert_eq!(text, "");
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "Deleted branch three (was ".to_owned()
            + world.sh("git rev-parse --short HEAD").trim()
            + ").\n  main\n* main2\n  other\n"
    );
}

#[test]
fn configuration_hooks_and_other_doors_of_git_stay_shut() {
    let mut world = storied();
    world.mount("alice", &["**"]);
    let before = world.sh("cat .git/config .git/objects/info/alternates .git/info/exclude");
    for script in [
        "git config user.name evil",
        "git config --local core.hooksPath x",
        "git config core.fsmonitor 'touch /tmp/x'",
        "git remote add x /tmp",
        "echo x >> .git/config",
        "cp .git/config .git/config.lock; echo '[a]' >> .git/config.lock; mv .git/config.lock .git/config",
        "rm .git/config",
        "mv .git/config .git/index.lock",
        "ln .git/config .git/index.lock",
        "echo x > .git/index.lock; ln .git/index.lock .git/config.lock",
        "echo x > .git/index.lock; mv .git/index.lock .git/config.lock",
        "mkdir .git/hooks",
        "mkdir .git/worktrees",
        "echo x > .git/config.worktree",
        "echo x > .git/commondir",
        "echo x > .git/info/attributes",
        "echo x >> .git/info/exclude",
        "echo /x > .git/objects/info/alternates",
        "ln -s /etc/passwd .git/HEAD.lock",
        "mv .git .got",
        "git worktree add $MNT/../wt",
        "git worktree add -f src/wt",
    ] {
        world.run("rm -f .git/*.lock");
        let said = world.refused(script);
        assert!(
            ["ermission denied", "not permitted", "denied"]
                .iter()
                .any(|word| said.contains(word)),
            "{script}: {said}"
        );
    }
    world.run("rm -f .git/*.lock");
    assert_eq!(
        before,
        world.sh("cat .git/config .git/objects/info/alternates .git/info/exclude")
    );
    // The file that stands there is still govfs's own: a writer who kept the lock open changes nothing.
    world.sh(
        "exec 7>.git/config.lock; cat .git/config >&7; ls -l .git .git/config.lock >/dev/null
         mv .git/config.lock .git/config; echo evil >&7; ! grep evil .git/config",
    );
    assert_eq!(world.sh("git config user.name"), "alice\n");
}

#[test]
fn the_repositorys_objects_are_seen_through_the_mount_and_never_changed() {
    let mut world = storied();
    world.mount("alice", &["src"]);
    assert_eq!(
        world.sh("cat .git/objects/info/alternates"),
        "../../.govfs/objects/0\n"
    );
    assert!(!world.sh("ls -a").contains(".govfs"));
    let before = world.host("find .git/objects -type f | sort");
    for script in [
        "touch .govfs/objects/x",
        "echo > .govfs/objects/0/x",
        "mkdir .govfs/objects/0/zz",
        "rm -rf .govfs/objects/0/pack",
        "mv .govfs/objects/0/info .govfs/objects/0/i",
        "ln -s x .govfs/objects/0/link",
        "for f in .govfs/objects/0/*/*; do echo x >> $f; done",
        "chmod -R u+w .govfs/objects/0",
    ] {
        world.refused(script);
    }
    assert_eq!(before, world.host("find .git/objects -type f | sort"));
    assert_eq!(
        world.sh("cd .govfs/objects/0; find . -type f | sort"),
        world.host("cd .git/objects; find . -type f | sort")
    );
    // The operator's gc moves every object; the agent's git finds them where they went.
    world.sh("git log --stat -p > target.o");
    world.host("git gc -q --prune=now");
    world.sh("git fsck; git log --stat -p | cmp - target.o");
    world.host("echo later >> docs/d.md; git commit -qam later; git repack -qad");
    world.sh(
        "git fsck; git log --stat -p | cmp - target.o; ls .govfs/objects/0/pack | grep -q pack$",
    );
}

#[test]
fn the_base_survives_a_force_push_and_a_pruning_gc() {
    let mut world = storied();
    world.mount("alice", &["src"]);
    world.host(
        "git stash drop -q; git checkout -q --orphan elsewhere; git rm -rfq src docs; git commit -qm x
         git branch -f main; git branch -D other; git tag -d v1; git reflog expire --all --expire=now
         git gc -q --prune=now; git repack -qad",
    );
    assert_eq!(world.sh("cat src/f4.txt | wc -l"), "37\n");
    world.sh("git status; git log -p | grep -q 'line 2'; echo x >> src/f1.txt; git commit -qam x; git fsck --connectivity-only HEAD");
    world.ok(&["unmount", "alice"]);
    world.mount_again("alice", &[]);
    world.sh("cat src/* > /dev/null; tail -1 src/f1.txt | grep -qx x; git log -1 --format=%s | grep -qx x");
}

/// A line of a random script: what to do with which of a few names.
fn step(seed: &mut u64) -> String {
    let mut draw = |below: u64| {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed % below
    };
    let dirs = ["a", "b", "a/c", "new", "new/deep", "."];
    let names = ["f1", "f2", "f3", "g", "h.o", "x y"];
    let pick =
        |at: u64, from: &[&str]| from[usize::try_from(at).unwrap_or(0) % from.len()].to_owned();
    let one = format!("'{}/{}'", pick(draw(6), &dirs), pick(draw(6), &names));
    let two = format!("'{}/{}'", pick(draw(6), &dirs), pick(draw(6), &names));
    let dir = pick(draw(5), &dirs);
    let other = pick(draw(5), &dirs);
    match draw(22) {
        0 | 1 => format!("mkdir -p {dir}; echo {} > {one}", draw(9)),
        2 => format!("echo more >> {one}"),
        3 => format!("rm -f {one}"),
        4 => format!("mv {one} {two}"),
        5 => format!("mv {dir} {other}"),
        6 => format!("rm -rf {dir}"),
        7 => format!("chmod +x {one}"),
        8 => format!("chmod -x {one}"),
        9 => format!("ln -sf {} {one}", draw(9)),
        10 => "git add -A".to_owned(),
        11 => format!("git add {one}"),
        12 => "git commit -qam x".to_owned(),
        13 => "git stash -q".to_owned(),
        14 => "git stash pop -q".to_owned(),
        15 => "git reset -q --hard".to_owned(),
        16 => format!("cp {one} {two}"),
        17 => format!("touch {one}"),
        18 => format!("sed -i s/1/2/ {one}"),
        19 => "git checkout -q -B b$((RANDOM % 3))".to_owned(),
        20 => "git checkout -q main; git checkout -q -".to_owned(),
        _ => format!("rm -rf {one}; mkdir -p {one}; echo in > {one}/in"),
    }
}

/// `git status` is answered from the layer; what it says is what a look at every file says.
#[test]
fn status_is_right_after_any_sequence_of_changes() {
    for first in 1..=4_u64 {
        let mut world = World::of(
            "mkdir -p a/c b; for d in a b a/c .; do for f in f1 f2 f3; do echo $d$f > $d/$f; done; done
             echo '*.o' > .gitignore",
        );
        world.mount("alice", &["**"]);
        let mut seed = first.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut script = "plain='-c core.fsmonitor=false -c core.untrackedCache=false'\n\
            look() { GIT_OPTIONAL_LOCKS=0 git $2 status --porcelain $1; }\n\
            same() { local fast slow; fast=$(look \"$1\" ''); slow=$(look \"$1\" \"$plain\")\n\
              [ \"$fast\" = \"$slow\" ] || { echo \"differs after: $2\"; echo \"$fast\"; echo --; echo \"$slow\"; exit 1; }; }\n\
            set +e\n"
            .to_owned();
        for number in 0..60 {
            let step = step(&mut seed);
            let quoted = step.replace('\'', "'\\''");
            let _ = writeln!(
                script,
                "{{ {step}; }} 2>/dev/null >&2; git status --porcelain >/dev/null; same '' '{number}: {quoted}'; same -uall '{number}: {quoted}'"
            );
        }
        let output = world.run(&script);
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "seed {first}: {said}{errors}\n{script}"
        );
    }
}

#[test]
fn branches_that_the_operator_pruned_leave_no_broken_refs() {
    let mut world = storied();
    world.host(
        "git checkout -q -b gone; echo g > g; git add g; git commit -qm gone; git checkout -q main",
    );
    world.mount("alice", &["src"]);
    world.sh("git tag -a -m mine mine; git branch own; git pack-refs --all; git log --oneline gone | grep -q gone");
    world.ok(&["unmount", "alice"]);
    world.host("git branch -qD gone; git reflog expire --expire=now --all; git gc -q --prune=now");
    world.mount_again("alice", &[]);
    let sound = "git log --oneline --all >/dev/null; git fsck --no-dangling; git rev-parse mine own main >/dev/null; ! git rev-parse -q --verify gone";
    world.sh(sound);
    world.ok(&["unmount", "alice"]);

    // The same while the mount lives: its server mends it when it looks around next.
    world.host(
        "git checkout -q -b gone; echo h > h; git add h; git commit -qm gone; git checkout -q main",
    );
    world.mount("bob", &["docs"]);
    world.sh("git branch own; git tag -a -m mine mine; git log --oneline gone | grep -q gone");
    world.host("git branch -qD gone; git reflog expire --expire=now --all; git gc -q --prune=now");
    world.ok(&["claim", "bob", "more"]);
    world.sh(sound);
}
