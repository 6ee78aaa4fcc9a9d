//! What comes from outside is read or refused: no bytes make a reader panic.

use govfs::domain::charter::Charter;
use govfs::domain::checkpoint::{Checkpoint, Note, PublicKey};
use govfs::domain::digest::Digest;
use govfs::domain::entry::{Chain, Line, decode, leaf};
use govfs::domain::event::Entry;
use govfs::domain::path::RepoPath;
use govfs::domain::pattern::Pattern;
use govfs::domain::plan::Plan;
use govfs::domain::proof::Tree;
use govfs::domain::time::parse_duration;
use proptest::prelude::*;

/// Bytes that look like something, and bytes that look like nothing.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        prop::sample::select(WORDS.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
    ];
    proptest::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

const WORDS: [&str; 40] = [
    "\n",
    " ",
    "=",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\\",
    "**",
    "*",
    "?",
    "[!",
    "/",
    "..",
    ".git",
    ",",
    "[plan]\n",
    "[claims]\n",
    "[paths]\n",
    "protected = ",
    "id = ",
    "ttl = \"8h\"\n",
    "files = [\"a\"]\n",
    "```toml charter\n",
    "```\n",
    "{\"v\":1,\"seq\":0,\"prev\":\"",
    "0000000000000000",
    "\",\"ts\":\"",
    "2026-01-01T00:00:00.000000000Z",
    "\",\"op\":\"write\"",
    ",\"path\":\"a\"",
    "}",
    "govfs-",
    "\u{2014} ",
    "AAAA",
    "18446744073709551616",
    "%2F",
    "\\ud800",
    "\u{0}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in bytes()) {
        let text = String::from_utf8_lossy(&bytes);
        let _ = Charter::parse(&text);
        let _ = Charter::parse(&format!("```toml charter\n{text}\n```\n"));
        let _ = Plan::parse("plan.toml", &text);
        let _ = Pattern::parse(&bytes);
        let _ = RepoPath::parse(&bytes);
        let _ = RepoPath::decode(&text);
        let _ = Note::parse(&bytes);
        let _ = Checkpoint::from_trailer(&text);
        let _ = PublicKey::from_der(&bytes);
        let _ = parse_duration(&text);
        let _ = Chain::new(Digest::ZERO).push(&bytes);
        if let Ok(line) = Line::parse(&bytes) {
            let _ = decode(&line);
            let _ = Entry::from_line(&line, leaf(&bytes));
        }
        let hashes = bytes.chunks(3).map(Digest::of).collect();
        let _ = Tree::resume(bytes.len() as u64, hashes);
    }
}
