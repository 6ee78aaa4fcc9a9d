//! SHA-1, for the trailer of an index file: git's own checksum against accidents.
//!
//! Nothing is trusted because of it; what must be trusted is hashed with SHA-256.

/// A SHA-1 that grows with what it is given.
#[derive(Clone, Debug)]
pub(in crate::git) struct Sha1 {
    state: [u32; 5],
    /// What does not fill a block yet.
    rest: [u8; 64],
    len: u64,
}

impl Default for Sha1 {
    fn default() -> Self {
        Self {
            state: [
                0x6745_2301,
                0xefcd_ab89,
                0x98ba_dcfe,
                0x1032_5476,
                0xc3d2_e1f0,
            ],
            rest: [0; 64],
            len: 0,
        }
    }
}

impl Sha1 {
    /// How long [`Sha1::held`] is: the state, and what does not fill a block yet.
    pub(in crate::git) const HELD_LEN: usize = 20 + 64;

    /// Returns what a sum needs to go on later, besides the length so far.
    pub(in crate::git) fn held(&self) -> [u8; Self::HELD_LEN] {
        let mut held = [0; Self::HELD_LEN];
        for (word, place) in self.state.iter().zip(held.as_chunks_mut::<4>().0) {
            *place = word.to_be_bytes();
        }
        held[20..].copy_from_slice(&self.rest);
        held
    }

    /// Goes on from what [`Sha1::held`] gave after `len` bytes.
    pub(in crate::git) fn resume(held: [u8; Self::HELD_LEN], len: u64) -> Self {
        let mut sum = Self {
            len,
            ..Self::default()
        };
        for (word, bytes) in sum.state.iter_mut().zip(held.as_chunks::<4>().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        sum.rest.copy_from_slice(&held[20..]);
        sum
    }

    pub(in crate::git) fn update(&mut self, mut bytes: &[u8]) {
        let held = (self.len % 64) as usize;
        self.len += bytes.len() as u64;
        if held > 0 {
            let count = bytes.len().min(64 - held);
            self.rest[held..held + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            if held + count < 64 {
                return;
            }
            let block = self.rest;
            compress(&mut self.state, &block);
        }
        let (blocks, rest) = bytes.as_chunks::<64>();
        for block in blocks {
            compress(&mut self.state, block);
        }
        self.rest[..rest.len()].copy_from_slice(rest);
    }

    pub(in crate::git) fn finish(mut self) -> [u8; 20] {
        let bits = self.len * 8;
        let held = self.len % 64;
        let zeros = (119 - held) % 64;
        let mut tail = vec![0x80];
        tail.resize(1 + usize::try_from(zeros).unwrap_or(0), 0);
        tail.extend_from_slice(&bits.to_be_bytes());
        self.update(&tail);
        let mut out = [0; 20];
        for (word, place) in self.state.iter().zip(out.as_chunks_mut::<4>().0) {
            *place = word.to_be_bytes();
        }
        out
    }
}

/// Returns the SHA-1 of `bytes`.
pub(super) fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut sum = Sha1::default();
    sum.update(bytes);
    sum.finish()
}

fn compress(state: &mut [u32; 5], block: &[u8; 64]) {
    let mut words = [0_u32; 80];
    for (word, bytes) in words.iter_mut().zip(block.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    for at in 16..80 {
        let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
        words[at] = mixed.rotate_left(1);
    }
    let [mut first, mut second, mut third, mut fourth, mut fifth] = *state;
    for (at, word) in words.iter().enumerate() {
        let (mix, constant) = match at / 20 {
            0 => ((second & third) | (!second & fourth), 0x5a82_7999),
            1 => (second ^ third ^ fourth, 0x6ed9_eba1),
            2 => ((second & third) | (fourth & (second | third)), 0x8f1b_bcdc),
            _ => (second ^ third ^ fourth, 0xca62_c1d6_u32),
        };
        let next = first
            .rotate_left(5)
            .wrapping_add(mix)
            .wrapping_add(fifth)
            .wrapping_add(constant)
            .wrapping_add(*word);
        (fifth, fourth, third, second, first) =
            (fourth, third, second.rotate_left(30), first, next);
    }
    for (sum, word) in state.iter_mut().zip([first, second, third, fourth, fifth]) {
        *sum = sum.wrapping_add(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_one_that_git_computes() {
        for len in [0, 1, 40, 55, 56, 57, 63, 64, 65, 119, 120, 1000] {
            let body: Vec<u8> = (0..=250).cycle().take(len).collect();
            let blob = [format!("blob {len}\0").as_bytes(), &body].concat();
            let expected = git2::Oid::hash_object(git2::ObjectType::Blob, &body);
            let expected = expected.expect("hash");
            assert_eq!(sha1(&blob), expected.as_bytes(), "{len}");
            // The same where the sum was put aside in between.
            let (first, second) = blob.split_at(blob.len() * 2 / 3);
            let mut sum = Sha1::default();
            sum.update(first);
            let mut sum = Sha1::resume(sum.held(), first.len() as u64);
            sum.update(second);
            assert_eq!(sum.finish(), expected.as_bytes(), "{len}");
        }
    }
}
