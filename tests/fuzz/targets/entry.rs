//! A line of a log: what is read has exactly one spelling, and what it says is read again.
#![no_main]

use govfs::domain::digest::Digest;
use govfs::domain::entry::{Chain, Line, decode, leaf};
use govfs::domain::event::Entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = Chain::new(Digest::ZERO).push(bytes);
    let Ok(line) = Line::parse(bytes) else {
        return;
    };
    assert_eq!(line.bytes(), bytes);
    let _ = Entry::from_line(&line, leaf(bytes));
    let _ = decode(&line);
    if let Ok(body) = line.body() {
        assert_eq!(body.len(), line.fields().count());
    }
});
