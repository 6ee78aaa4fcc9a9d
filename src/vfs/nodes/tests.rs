//! Inodes: their numbers, their size, and names that come and go.

use super::*;
use crate::domain::base::BaseKind;

const OID: Oid = Oid([0; 20]);

fn entry(name: &str, kind: BaseKind) -> BaseEntry {
    BaseEntry {
        name: name.as_bytes().to_vec(),
        kind,
        oid: OID,
    }
}

fn tree(names: &[&str]) -> Tree {
    let mut tree = Tree::new(OID);
    let file = BaseKind::File { exec: false };
    let entries: Vec<_> = names.iter().map(|name| entry(name, file)).collect();
    tree.load(ROOT, &entries);
    tree
}

fn names(tree: &Tree, after: u32) -> Vec<String> {
    let list = tree.list(ROOT, after);
    list.map(|(_, idx)| String::from_utf8_lossy(tree.name(idx)).into_owned())
        .collect()
}

#[test]
fn numbers_come_from_what_a_node_is() {
    let (one, two) = (tree(&["a", "b"]), tree(&["b", "a"]));
    for name in [b"a", b"b"] {
        let ino = |tree: &Tree| tree.node(tree.child(ROOT, name).unwrap()).ino;
        assert_eq!(ino(&one), ino(&two));
        assert_eq!(Realm::of(ino(&one)), Realm::Tree);
    }
    assert_eq!(one.ino_of_entry(7), two.ino_of_entry(7));
    assert_ne!(one.ino_of_entry(7), one.ino_of_entry(8));
}

#[test]
fn list_positions_do_not_move_while_names_go() {
    let all: Vec<String> = (0..500).map(|n| format!("f{n:03}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let mut tree = tree(&all);
    let mut seen = Vec::new();
    let mut after = 0;
    loop {
        let some: Vec<_> = tree.list(ROOT, after).take(7).collect();
        let Some(&(last, _)) = some.last() else { break };
        after = last;
        for (_, idx) in some {
            seen.push(String::from_utf8_lossy(tree.name(idx)).into_owned());
            tree.detach(idx);
            tree.free(idx);
        }
    }
    assert_eq!(seen, all);
    assert!(tree.is_empty_dir(ROOT));
    assert_eq!(tree.len(), 1);
}

#[test]
fn a_moved_directory_carries_its_names_and_knows_its_base() {
    let mut tree = Tree::new(OID);
    tree.load(
        ROOT,
        &[entry("d", BaseKind::Dir), entry("e", BaseKind::Dir)],
    );
    let (d, e) = (
        tree.child(ROOT, b"d").unwrap(),
        tree.child(ROOT, b"e").unwrap(),
    );
    tree.load(d, &[entry("f", BaseKind::File { exec: true })]);
    tree.load(e, &[]);
    let f = tree.child(d, b"f").unwrap();
    tree.pin_base(d).unwrap();
    tree.detach(d);
    tree.attach(d, e, b"new");
    assert_eq!(tree.path(f).unwrap().encode(), "e/new/f");
    assert_eq!(tree.base_path(f).unwrap().encode(), "d/f");
    assert!(tree.is_beneath(f, e));
    assert_eq!(tree.child(ROOT, b"d"), None);
    assert_eq!(names(&tree, 0), ["e"]);
}

#[test]
fn many_names_come_and_go_without_growing() {
    let mut tree = Tree::new(OID);
    tree.load(ROOT, &[]);
    let long = "x".repeat(200);
    for round in 0..30_000_u64 {
        let name = format!("{long}{round}");
        let ino = tree.ino_of_entry(round);
        let idx = tree.insert(ROOT, name.as_bytes(), ino, Kind::File, 0, OID);
        assert_eq!(tree.child(ROOT, name.as_bytes()), Some(idx));
        tree.detach(idx);
        tree.free(idx);
    }
    assert!(tree.nodes.len() < 4, "{}", tree.nodes.len());
    assert!(tree.names.len() < 4 << 20, "{}", tree.names.len());
}

#[test]
fn a_known_inode_costs_at_most_130_bytes() {
    assert!(size_of::<Node>() <= 64, "{}", size_of::<Node>());
}
