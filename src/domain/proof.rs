//! The Merkle tree of RFC 6962 over leaf hashes, and its proofs.
//!
//! Owns: the tree hash (a node is `SHA-256(0x01 ‖ left ‖ right)`, split at the
//! largest power of two below the size; the tree of nothing is SHA-256 of
//! nothing; the tree of one leaf is that leaf), the frontier from which a growing
//! log knows its root without its lines, inclusion and consistency proofs and
//! their verification. Never hashes a line (that is `entry`'s) and never signs.

use crate::domain::digest::Digest;

/// More proof hashes than this belong to no tree.
const PROOF_MAX: usize = 64;

fn node(left: &Digest, right: &Digest) -> Digest {
    Digest::of_parts(&[&[1], &left.0, &right.0])
}

/// Returns the tree hash of no leaves.
pub fn empty_root() -> Digest {
    Digest::of(b"")
}

/// A growing tree, of which only the roots of its perfect subtrees are kept:
/// one for each bit of its size, largest first.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Tree {
    size: u64,
    frontier: Vec<Digest>,
}

impl Tree {
    pub const fn new() -> Self {
        Self {
            size: 0,
            frontier: Vec::new(),
        }
    }

    /// Continues a tree that was kept as its size and frontier.
    pub fn resume(size: u64, frontier: Vec<Digest>) -> Option<Self> {
        let fits = u32::try_from(frontier.len()) == Ok(size.count_ones());
        fits.then_some(Self { size, frontier })
    }

    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Returns the roots of the perfect subtrees, largest first.
    pub fn frontier(&self) -> &[Digest] {
        &self.frontier
    }

    pub fn push(&mut self, leaf: Digest) {
        let mut root = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.frontier.pop() {
                root = node(&left, &root);
            }
        }
        self.frontier.push(root);
        self.size += 1;
    }

    pub fn root(&self) -> Digest {
        let mut subtrees = self.frontier.iter().rev();
        let Some(last) = subtrees.next() else {
            return empty_root();
        };
        subtrees.fold(*last, |root, left| node(left, &root))
    }
}

impl Extend<Digest> for Tree {
    fn extend<I: IntoIterator<Item = Digest>>(&mut self, leaves: I) {
        leaves.into_iter().for_each(|leaf| self.push(leaf));
    }
}

/// Returns the tree hash of `leaves`.
pub fn root(leaves: &[Digest]) -> Digest {
    let mut tree = Tree::new();
    tree.extend(leaves.iter().copied());
    tree.root()
}

/// Returns the largest power of two below `size` (which is at least 2).
fn split(size: usize) -> usize {
    1 << (size - 1).ilog2()
}

/// Returns the hashes that lead from leaf `index` to the root, nearest first.
pub fn inclusion(leaves: &[Digest], index: u64) -> Option<Vec<Digest>> {
    let mut index = usize::try_from(index).ok()?;
    if index >= leaves.len() {
        return None;
    }
    let mut leaves = leaves;
    let mut proof = Vec::new();
    while leaves.len() > 1 {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if index < left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            index -= left.len();
            leaves = right;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Says whether `leaf` is leaf `index` of the tree of `size` leaves with `root`.
pub fn included(leaf: Digest, index: u64, size: u64, proof: &[Digest], root: Digest) -> bool {
    if index >= size || proof.len() > PROOF_MAX {
        return false;
    }
    let (mut at, mut last) = (index, size - 1);
    let mut hash = leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            hash = node(&hash, sibling);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && hash == root
}

/// Returns the hashes that prove the tree of all `leaves` to be the tree of the
/// first `old` and what came after. None are needed from nothing, or from itself.
pub fn consistency(leaves: &[Digest], old: u64) -> Option<Vec<Digest>> {
    let mut old = usize::try_from(old).ok()?;
    if old > leaves.len() {
        return None;
    }
    let mut proof = Vec::new();
    if old == 0 || old == leaves.len() {
        return Some(proof);
    }
    let mut leaves = leaves;
    let mut whole = true;
    while old != leaves.len() {
        let (left, right) = leaves.split_at(split(leaves.len()));
        if old <= left.len() {
            proof.push(root(right));
            leaves = left;
        } else {
            proof.push(root(left));
            old -= left.len();
            leaves = right;
            whole = false;
        }
    }
    if !whole {
        proof.push(root(leaves));
    }
    proof.reverse();
    Some(proof)
}

/// A tree as a checkpoint states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stated {
    pub size: u64,
    pub root: Digest,
}

/// Says whether the tree `new` begins with the tree `old`.
pub fn consistent(old: Stated, new: Stated, proof: &[Digest]) -> bool {
    if old.size > new.size || proof.len() > PROOF_MAX {
        return false;
    }
    if old.size == new.size {
        return proof.is_empty() && old.root == new.root;
    }
    if old.size == 0 {
        return proof.is_empty() && old.root == empty_root();
    }
    let mut rest = proof.iter();
    let first = if old.size.is_power_of_two() {
        Some(&old.root)
    } else {
        rest.next()
    };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old.size - 1, new.size - 1);
    while at & 1 == 1 {
        at >>= 1;
        last >>= 1;
    }
    let (mut old_root, mut new_root) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_root = node(hash, &old_root);
            new_root = node(hash, &new_root);
            while at & 1 == 0 && at != 0 {
                at >>= 1;
                last >>= 1;
            }
        } else {
            new_root = node(&new_root, hash);
        }
        at >>= 1;
        last >>= 1;
    }
    last == 0 && old_root == old.root && new_root == new.root
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 300;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count)
            .map(|n| Digest::of_parts(&[&[0], &(n as u64).to_be_bytes()]))
            .collect()
    }

    /// The definition of RFC 6962, section 2.1, word for word.
    fn naive(leaves: &[Digest]) -> Digest {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let mut k = 1;
                while k * 2 < leaves.len() {
                    k *= 2;
                }
                node(&naive(&leaves[..k]), &naive(&leaves[k..]))
            }
        }
    }

    fn roots(leaves: &[Digest]) -> Vec<Digest> {
        (0..=leaves.len()).map(|n| naive(&leaves[..n])).collect()
    }

    /// Every proof with one hash wrong, one missing, one too many.
    fn spoiled(proof: &[Digest]) -> Vec<Vec<Digest>> {
        let mut all = Vec::new();
        for at in 0..proof.len() {
            let mut wrong = proof.to_vec();
            wrong[at].0[at % 32] ^= 1 << (at % 8);
            all.push(wrong);
            let mut short = proof.to_vec();
            short.remove(at);
            all.push(short);
        }
        let mut long = proof.to_vec();
        long.push(Digest::ZERO);
        all.push(long);
        all
    }

    /// The leaves that the Certificate Transparency implementations test with.
    const FOREIGN_LEAVES: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    /// Their roots for 0 to 8 leaves, and proofs, from a program in another language.
    const FOREIGN_ROOTS: [&str; 9] = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    type ForeignProof = (u64, usize, &'static [&'static str]);
    const FOREIGN_INCLUSION: [ForeignProof; 5] = [
        (0, 1, &[]),
        (
            0,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            &[
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            3,
            &["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
        ),
        (
            1,
            5,
            &[
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ];
    const FOREIGN_CONSISTENCY: [ForeignProof; 5] = [
        (
            1,
            8,
            &[
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            &[
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            &[
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            7,
            8,
            &[
                "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                "46f6ffadd3d06a09ff3c5860d2755c8b9819db7df44251788c7d8e3180de8eb1",
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            4,
            8,
            &["6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"],
        ),
    ];

    #[test]
    fn roots_and_proofs_are_those_of_an_independent_implementation() {
        let leaves = FOREIGN_LEAVES.map(|data| Digest::of_parts(&[&[0], data]));
        let hex = |hashes: &[Digest]| hashes.iter().map(Digest::hex).collect::<Vec<_>>();
        for (size, expected) in FOREIGN_ROOTS.iter().enumerate() {
            assert_eq!(root(&leaves[..size]).hex(), *expected, "size {size}");
        }
        for (index, size, expected) in FOREIGN_INCLUSION {
            let proof = inclusion(&leaves[..size], index).unwrap();
            assert_eq!(hex(&proof), expected, "leaf {index} of {size}");
        }
        for (old, new, expected) in FOREIGN_CONSISTENCY {
            let proof = consistency(&leaves[..new], old).unwrap();
            assert_eq!(hex(&proof), expected, "{old} to {new}");
        }
    }

    #[test]
    fn the_frontier_knows_every_root_and_can_be_kept() {
        let leaves = leaves(MANY);
        let mut tree = Tree::new();
        for (size, root) in roots(&leaves).into_iter().enumerate() {
            assert_eq!(tree.root(), root, "size {size}");
            assert_eq!(super::root(&leaves[..size]), root);
            let kept = Tree::resume(tree.size(), tree.frontier().to_vec());
            assert_eq!(kept.as_ref(), Some(&tree));
            if size < leaves.len() {
                tree.push(leaves[size]);
            }
        }
        assert_eq!(Tree::resume(3, vec![Digest::ZERO]), None);
    }

    #[test]
    fn every_inclusion_proof_holds_and_no_spoiled_one_does() {
        let leaves = leaves(MANY);
        let roots = roots(&leaves);
        for size in 1..=MANY {
            for index in 0..size {
                let proof = inclusion(&leaves[..size], index as u64).unwrap();
                let holds = |leaf, index: usize, size: usize, proof: &[Digest], root| {
                    included(leaf, index as u64, size as u64, proof, root)
                };
                assert!(holds(leaves[index], index, size, &proof, roots[size]));
                assert!(!holds(Digest::ZERO, index, size, &proof, roots[size]));
                assert!(!holds(leaves[index], index, size, &proof, Digest::ZERO));
                assert!(!holds(leaves[index], size, size, &proof, roots[size]));
                for wrong in spoiled(&proof) {
                    assert!(!holds(leaves[index], index, size, &wrong, roots[size]));
                }
                if size % 16 > 1 && size > 40 {
                    continue; // every other index: for small trees and around the round sizes
                }
                for other in (0..size).filter(|&other| other != index) {
                    assert!(!holds(leaves[index], other, size, &proof, roots[size]));
                }
            }
        }
        assert_eq!(inclusion(&leaves, MANY as u64), None);
    }

    #[test]
    fn every_consistency_proof_holds_and_no_spoiled_one_does() {
        let leaves = leaves(MANY);
        let roots = roots(&leaves);
        let stated = |size: usize| Stated {
            size: size as u64,
            root: roots[size],
        };
        for new in 0..=MANY {
            for old in 0..=new {
                let proof = consistency(&leaves[..new], old as u64).unwrap();
                assert!(consistent(stated(old), stated(new), &proof), "{old} {new}");
                for wrong in spoiled(&proof) {
                    assert!(!consistent(stated(old), stated(new), &wrong), "{old} {new}");
                }
                let lie = |size: usize| Stated {
                    root: Digest([7; 32]),
                    ..stated(size)
                };
                assert!(!consistent(lie(old), stated(new), &proof));
                assert!(!consistent(stated(old), lie(new), &proof) || old == 0);
                if old < new {
                    assert!(!consistent(stated(new), stated(old), &proof));
                }
            }
        }
        assert_eq!(consistency(&leaves, MANY as u64 + 1), None);
    }
}
