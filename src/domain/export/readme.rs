//! The README of an export: how anybody verifies it, with which tools.
//!
//! Owns: the text, and its last line, which is the SHA-256 of all before it. The
//! recipe names nothing of govfs, so that it can be followed without it.

use crate::domain::checkpoint::Checkpoint;
use crate::domain::digest::Digest;

const MARK: &str = "sha256 of the above: ";

const TEXT: &str = "\
Files
  ledger.jsonl              the ledger: one entry a line, exactly the bytes that were hashed
  sessions/<session>.jsonl  the write log of each session, up to its last seal
  checkpoint                the signed statement of the ledger's size and root
  key.pub                   the public key (Ed25519, SubjectPublicKeyInfo in DER)
  charters/<sha256>.md      every charter that was in force, named by its SHA-256
  provenance/               only where asked for: a line for each merge,
    agent-trace.jsonl       as an Agent Trace 0.1.0 record, and
    in-toto.jsonl           as an in-toto statement with SLSA provenance

To verify, in this order (|| joins bytes; every line is taken without its newline)
  1. Compare key.pub with the key that you got from elsewhere. Without that, a
     signature says only that these files belong together.
  2. checkpoint is a C2SP signed note: the text is its first three lines with their
     newlines (origin, number of entries in decimal, root in base64), then an empty
     line, then lines `\u{2014} <name> <base64>`. The first name is the origin. Its base64
     is a key id and a signature: the id is the first 4 bytes of
     SHA-256(name || \"\\n\" || 0x01 || the key's 32 bytes); the other 64 bytes are the
     Ed25519 signature of the text:
       openssl pkeyutl -verify -pubin -keyform DER -inkey key.pub -rawin -in TEXT -sigfile SIGNATURE
  3. Each line of ledger.jsonl ends in one newline and is one JSON object in ASCII, in
     its only spelling: keys v seq prev ts op, then agent and session where there is
     one, then the others sorted by code points, as those of nested objects are; no
     spaces; integers only, from -2^63 to 2^64-1; strings as Python's json.dumps writes
     them; at most 64 levels deep. v is 1; seq counts from 0; ts (UTC, nine digits) is
     later than that of the line before; and
       leaf = SHA-256(0x00 || \"govfs/entry/v1\\n\" || line)
       prev = the leaf of the line before in hex; 64 zeros in the first line.
  4. The tree is that of RFC 6962: of one leaf it is that leaf; of more it is
     SHA-256(0x01 || left || right), left being the tree of the largest power of two of
     leaves below their number; of none it is SHA-256 of nothing. The number of lines
     and their tree are those of the checkpoint; a line beyond them is a fault.
  5. Each sessions/<session>.jsonl is such a chain too. Its first prev is the leaf of
     the ledger's entry `session` with that session. Each entry `seal` of the ledger
     with that session says for the first `count` lines: `head`, the leaf of the last
     of them (of 0 lines: the leaf of the `session` entry), and `root`, their tree, both
     in hex. A line beyond the last seal is a fault, and so is a log that no `session`
     entry names.
  6. Each file of charters/ has the SHA-256 that its name says.

What stands in provenance/ is signed by nobody. Each of its lines carries the merge's
entry (`line`) with its proof: start from the entry's leaf and join it with `hashes`
by RFC 6962 (index, size) to `root`, which is the checkpoint's; then compare what the
entry says with what the record claims.

Paths and patterns in entries are percent-encoded: every byte outside
A-Za-z0-9-._~/@+,=: is %XX.

What this proves: whatever the checkpoint covers was there when it was signed, and has
not been changed, removed or reordered since. Compare it with a checkpoint that you
kept from before (trailers `Govfs-Checkpoint` of merge commits are some): the older
one's root must be the tree of this ledger's first lines. Entries written after the
newest checkpoint that is held where their writer cannot change it are protected by
file permissions and the key alone.
";

/// Returns the text of an export's README.
pub fn readme(checkpoint: &Checkpoint) -> String {
    let text = format!(
        "An export of the govfs ledger {}, {} entries.\n\n{TEXT}",
        checkpoint.origin, checkpoint.size
    );
    let digest = Digest::of(text.as_bytes());
    format!("{text}{MARK}{digest}\n")
}

/// Says whether the last line is the SHA-256 of what stands before it.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    let last = MARK.len() + 65;
    let Some((text, mark)) = bytes.split_at_checked(bytes.len().saturating_sub(last)) else {
        return false;
    };
    mark == format!("{MARK}{}\n", Digest::of(text)).as_bytes()
}
