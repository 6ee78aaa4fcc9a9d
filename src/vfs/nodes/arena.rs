//! Names of nodes, side by side in one buffer.
//!
//! Owns: the buffer and how much of it is waste. A name costs its own bytes and
//! five more in the node. Never knows a node.

/// Packed, so that a node is 64 bytes long.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
pub(super) struct Name {
    at: u32,
    len: u8,
}

/// Less waste than this is not worth a sweep.
const WASTE_MIN: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Arena {
    bytes: Vec<u8>,
    waste: usize,
}

impl Arena {
    /// Takes a name in; names are at most 255 bytes, and 4 GiB of them would be 300 million.
    pub(super) fn add(&mut self, name: &[u8]) -> Name {
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let at = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&name[..usize::from(len)]);
        Name { at, len }
    }

    pub(super) fn get(&self, name: Name) -> &[u8] {
        let at = name.at as usize;
        &self.bytes[at..at + usize::from(name.len)]
    }

    pub(super) fn drop_name(&mut self, name: Name) {
        self.waste += usize::from(name.len);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_wasteful(&self) -> bool {
        self.waste > WASTE_MIN && self.waste * 2 > self.bytes.len()
    }
}
