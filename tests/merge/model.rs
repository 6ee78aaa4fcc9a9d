//! Random sessions by several agents, merged in random order beside people's commits,
//! some undone again, against a plain model of the tree.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use super::{World, needs};

/// What stands at a path: git's mode and the bytes.
type Tree = BTreeMap<String, (&'static str, Vec<u8>)>;

const AGENTS: [&str; 3] = ["alice", "bob", "carol"];

/// A small generator, so that a failure can be made again from its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % sides
    }
}

/// Does one random thing beneath `part`, in the mount and in the model.
fn act(dice: &mut Dice, mount: &Path, part: &str, view: &mut Tree, step: usize) {
    let mine: Vec<String> = view
        .keys()
        .filter(|path| path.starts_with(&format!("{part}/")))
        .cloned()
        .collect();
    let picked = (!mine.is_empty()).then(|| mine[dice.roll(mine.len())].clone());
    let fresh = format!("{part}/d{}/f{step}", dice.roll(3));
    let text = format!("{part} {step}\n").into_bytes();
    match (dice.roll(10), picked) {
        (0 | 1, _) => {
            fs::create_dir_all(mount.join(&fresh).parent().unwrap()).unwrap();
            fs::write(mount.join(&fresh), &text).unwrap();
            view.insert(fresh, ("100644", text));
        }
        (2, Some(path)) if view[&path].0 != "120000" => {
            fs::write(mount.join(&path), &text).unwrap();
            view.get_mut(&path).unwrap().1 = text;
        }
        (3, Some(path)) => {
            fs::remove_file(mount.join(&path)).unwrap();
            view.remove(&path);
        }
        (4, Some(path)) => {
            fs::create_dir_all(mount.join(&fresh).parent().unwrap()).unwrap();
            fs::rename(mount.join(&path), mount.join(&fresh)).unwrap();
            let thing = view.remove(&path).unwrap();
            view.insert(fresh, thing);
        }
        (5, Some(path)) if view[&path].0 != "120000" => {
            fs::set_permissions(mount.join(&path), fs::Permissions::from_mode(0o755)).unwrap();
            view.get_mut(&path).unwrap().0 = "100755";
        }
        (6, _) => {
            fs::create_dir_all(mount.join(&fresh).parent().unwrap()).unwrap();
            let target = format!("elsewhere{}", dice.roll(9)); // never a circle, which no merge takes
            symlink(&target, mount.join(&fresh)).unwrap();
            view.insert(fresh, ("120000", target.into_bytes()));
        }
        (7 | 8, Some(path)) if view[&path].0 != "120000" => {
            // A part of it, perhaps beyond its end.
            let bytes = &mut view.get_mut(&path).unwrap().1;
            let offset = dice.roll(bytes.len() + 10);
            let file = File::options().write(true).open(mount.join(&path));
            file.unwrap().write_all_at(&text, offset as u64).unwrap();
            let end = offset + text.len();
            bytes.resize(bytes.len().max(end), 0);
            bytes[offset..end].copy_from_slice(&text);
        }
        (9, Some(path)) if view[&path].0 != "120000" => {
            let size = dice.roll(40);
            let file = File::options().write(true).open(mount.join(&path));
            file.unwrap().set_len(size as u64).unwrap();
            view.get_mut(&path).unwrap().1.resize(size, 0);
        }
        _ => {}
    }
}

/// Takes what a session changed over to the branch.
fn promote(main: &mut Tree, base: &Tree, view: &Tree) {
    for path in base.keys().filter(|path| !view.contains_key(*path)) {
        main.remove(path);
    }
    for (path, thing) in view {
        if base.get(path) != Some(thing) {
            main.insert(path.clone(), thing.clone());
        }
    }
}

fn of_branch(world: &World) -> Tree {
    let listed = world.git(&["ls-tree", "-r", "main"]);
    let lines = listed.lines().filter(|line| !line.ends_with("governor.md"));
    lines
        .map(|line| {
            let (meta, path) = line.split_once('\t').unwrap();
            let mode = match &meta[..6] {
                "100644" => "100644",
                "100755" => "100755",
                other => {
                    assert_eq!(other, "120000");
                    "120000"
                }
            };
            (path.to_owned(), (mode, world.at("main", path).into_bytes()))
        })
        .collect()
}

fn round(seed: u64) {
    let mut dice = Dice(seed);
    let first: Vec<(String, String)> = AGENTS
        .iter()
        .flat_map(|agent| {
            (0..4).map(move |n| (format!("{agent}/d0/base{n}"), format!("{agent} {n}\n")))
        })
        .collect();
    let files: Vec<(&str, &str)> = first
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let mut world = World::new(&files);
    let mut main: Tree = first
        .iter()
        .map(|(path, text)| (path.clone(), ("100644", text.clone().into_bytes())))
        .collect();
    for turn in 0..2 {
        let mut open = Vec::new();
        for agent in AGENTS {
            let mount = world.mount(agent, &[agent]);
            let base = main.clone();
            let mut view = main.clone();
            for step in 0..10 {
                act(&mut dice, &mount, agent, &mut view, turn * 100 + step);
            }
            open.push((agent, base, view));
        }
        while !open.is_empty() {
            let (agent, base, view) = open.remove(dice.roll(open.len()));
            if dice.roll(3) == 0 {
                let path = format!("people/{turn}-{agent}");
                world.commit(&[(&path, agent)], "people");
                main.insert(path, ("100644", agent.as_bytes().to_vec()));
            }
            let report = world.govfs(&["--json", "merge", agent]).is(0).json();
            let before = main.clone();
            promote(&mut main, &base, &view);
            assert_eq!(of_branch(&world), main, "seed {seed}, turn {turn}, {agent}");
            if report["merged"] == true && dice.roll(4) == 0 {
                let entry = report["entry"].to_string();
                world.govfs(&["revert", &entry]).is(0);
                main = before;
                assert_eq!(of_branch(&world), main, "seed {seed}, turn {turn}, undone");
            }
        }
        assert!(world.is_clean(), "seed {seed}");
    }
    world.is_whole();
}

#[test]
fn random_sessions_give_the_models_tree() {
    if !needs::root() {
        return;
    }
    for seed in 1..=6 {
        round(seed);
    }
}
