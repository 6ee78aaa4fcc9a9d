//! A signed note, a trailer, and a public key, from wherever they came.
#![no_main]

use govfs::domain::checkpoint::{Checkpoint, Note, PublicKey, SecretKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = PublicKey::from_der(bytes);
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(stated) = Checkpoint::from_trailer(text)
    {
        assert_eq!(
            Checkpoint::from_trailer(&stated.trailer()).ok(),
            Some(stated)
        );
    }
    let Ok(note) = Note::parse(bytes) else {
        return;
    };
    let key = SecretKey::of_bytes(&[7; 32]);
    assert!(
        note.verify(&SecretKey::of_bytes(&[8; 32]).public())
            .is_err()
    );
    let signed = note.claimed().sign(&key);
    let again = Note::parse(signed.as_bytes()).expect("what was signed is a note");
    assert_eq!(again.verify(&key.public()).ok(), Some(note.claimed()));
});
