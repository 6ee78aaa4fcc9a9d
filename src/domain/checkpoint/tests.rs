//! Signed notes by their standard's own vectors, and with every byte changed.

use super::*;

fn key(seed: u8) -> SecretKey {
    SecretKey::of_bytes(&[seed; 32])
}

fn checkpoint() -> Checkpoint {
    Checkpoint {
        origin: Origin::of_random([0xAB; 16]),
        size: 200,
        root: Digest::of(b"root"),
    }
}

#[test]
fn a_signed_checkpoint_is_believed_by_its_key_alone() {
    let note = checkpoint().sign(&key(1));
    let parsed = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(parsed.verify(&key(1).public()), Ok(&checkpoint()));
    let other = parsed.verify(&key(2).public());
    assert_eq!(other, Err(CheckpointError::OtherKey));
}

/// The key of RFC 8032, section 7.1, test 1.
#[test]
fn keys_are_those_of_the_standard() {
    let hex = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let secret = SecretKey::of_bytes(&hex.parse::<Digest>().unwrap().0);
    let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    assert_eq!(secret.public().to_string(), public);
    let signature = secret.sign(b"");
    assert_eq!(signature[..4], [0xe5, 0x56, 0x43, 0x00]);
    assert!(secret.public().verifies(b"", &signature));
    let der = secret.public().der();
    assert_eq!(der.len(), 44);
    assert_eq!(PublicKey::from_der(&der), Ok(secret.public()));
    for at in 0..12 {
        let mut wrong = der.clone();
        wrong[at] ^= 1;
        assert_eq!(PublicKey::from_der(&wrong), Err(CheckpointError::Der));
    }
    assert_eq!(PublicKey::from_der(&der[..43]), Err(CheckpointError::Der));
    let debug = format!("{secret:?}");
    assert!(!debug.contains("9d61") && debug.contains(public));
}

/// The example key of Go's `sumdb/note` package.
#[test]
fn key_ids_are_those_of_signed_notes() {
    let vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    let key = strict_base64(vkey.rsplit_once('+').unwrap().1).unwrap();
    let public = PublicKey::of_bytes(key[1..].try_into().unwrap());
    assert_eq!(public.vkey("PeterNeumann"), vkey);
}

#[test]
fn every_changed_byte_of_a_note_is_noticed() {
    let note = checkpoint().sign(&key(1)).into_bytes();
    for at in 0..note.len() {
        for bit in 0..8 {
            let mut wrong = note.clone();
            wrong[at] ^= 1 << bit;
            let read = Note::parse(&wrong);
            let believed = read.is_ok_and(|note| note.verify(&key(1).public()).is_ok());
            assert!(!believed, "byte {at} bit {bit}");
        }
    }
    for len in 0..note.len() {
        assert!(Note::parse(&note[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn the_origin_signs_first_and_witnesses_after_it() {
    let checkpoint = checkpoint();
    let own = checkpoint.sign(&key(1));
    let witness = signature_line("witness.example", &key(2), &checkpoint.text());
    let note = Note::parse(format!("{own}{witness}").as_bytes()).unwrap();
    assert_eq!(note.signatures().len(), 2);
    assert!(note.verify(&key(1).public()).is_ok());
    let swapped = format!(
        "{}\n{witness}{}",
        checkpoint.text(),
        own.rsplit_once("\n\n").unwrap().1
    );
    let note = Note::parse(swapped.as_bytes()).unwrap();
    let verdict = note.verify(&key(1).public());
    assert!(matches!(verdict, Err(CheckpointError::Name { .. })));
}

#[test]
fn only_a_well_formed_note_is_read() {
    let good = checkpoint().sign(&key(1));
    for (from, to) in [
        ("\n200\n", "\n0200\n"),
        ("\n200\n", "\n+200\n"),
        ("\n200\n", "\n\n"),
        ("\n200\n", "\n200\nmore\n"),
        ("govfs-", "-govfs"),
        ("govfs-", "gov fs-"),
        ("\n\n", "\n"),
        ("\u{2014} ", "- "),
        ("=", ""),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good);
        assert!(Note::parse(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_trailer_comes_back() {
    let checkpoint = checkpoint();
    let value = checkpoint.trailer();
    assert_eq!(Checkpoint::from_trailer(&value), Ok(checkpoint));
    for bad in [
        "",
        "a 1",
        "a 01 00",
        &format!("{value} x"),
        &value[1..value.len() - 1],
    ] {
        assert!(Checkpoint::from_trailer(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_rotation_is_signed_by_the_key_before() {
    let origin = checkpoint().origin;
    let message = rotation_message(&origin, &key(1).public(), &key(2).public());
    let signature = key(1).sign(&message);
    assert!(key(1).public().verifies(&message, &signature));
    let other = rotation_message(&origin, &key(1).public(), &key(3).public());
    assert!(!key(1).public().verifies(&other, &signature));
}
