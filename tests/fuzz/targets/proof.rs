//! Proofs: those of a tree hold, and no other list of hashes is taken for one.
#![no_main]

use govfs::domain::digest::Digest;
use govfs::domain::proof::{Stated, Tree, consistency, consistent, included, inclusion, root};
use libfuzzer_sys::fuzz_target;

fn hashes(bytes: &[u8]) -> Vec<Digest> {
    bytes.chunks(4).map(Digest::of).collect()
}

fuzz_target!(|bytes: &[u8]| {
    let [size, at, rest @ ..] = bytes else {
        return;
    };
    let leaves: Vec<Digest> = (0..=*size).map(|number| Digest::of(&[number])).collect();
    let (size, top) = (leaves.len() as u64, root(&leaves));
    let at = u64::from(*at) % size;
    let leaf = leaves[usize::try_from(at).expect("small")];
    let proof = inclusion(&leaves, at).expect("there is such a leaf");
    assert!(included(leaf, at, size, &proof, top));
    let other = hashes(rest);
    assert_eq!(included(leaf, at, size, &other, top), other == proof);

    let old = leaves[..usize::try_from(at).expect("small")].to_vec();
    let old = Stated {
        size: at,
        root: root(&old),
    };
    let new = Stated { size, root: top };
    let proof = consistency(&leaves, at).expect("there was such a tree");
    assert!(consistent(old, new, &proof));
    assert_eq!(consistent(old, new, &other), other == proof);

    let mut tree = Tree::new();
    tree.extend(leaves.iter().copied());
    let resumed = Tree::resume(size, tree.frontier().to_vec()).expect("its own frontier");
    assert_eq!(resumed.root(), top);
    let _ = Tree::resume(size, other);
});
