//! The index as a template: kept, read back, and never a panic.

use super::*;

use proptest::prelude::*;

#[test]
fn numbers_are_written_as_git_writes_them() {
    for (value, bytes) in [
        (0, &[0][..]),
        (127, &[127]),
        (128, &[0x80, 0]),
        (255, &[0x80, 127]),
        (16_511, &[0xff, 127]),
        (16_512, &[0x80, 0x80, 0]),
    ] {
        assert_eq!(varint(value), bytes, "{value}");
        assert_eq!(read_varint(bytes), Some((value, &[][..])), "{value}");
    }
    assert_eq!(read_varint(&[0x80]), None);
}

#[test]
fn a_template_survives_being_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("kept");
    let placed = |mut template: Template| {
        let mut out = tempfile::NamedTempFile::new().expect("a file");
        (template.place(Path::new("/x"), out.as_file_mut())).expect("placed");
        fs::read(out.path()).expect("bytes")
    };
    for front in [&b""[..], b"front", &[7; 64], &[8; 1000]] {
        let built = Template::new(front.to_vec(), b"rest".to_vec());
        built.keep(&path).expect("kept");
        let read = Template::open(&path).expect("a template");
        let index = placed(read);
        assert_eq!(index, placed(built));
        let (body, sum) = index.split_at(index.len() - CHECKSUM_LEN);
        assert_eq!(sha1(body), sum);
        let bytes = fs::read(&path).expect("bytes");
        for len in (0..16).chain([bytes.len() - 1]) {
            fs::write(&path, &bytes[..len]).expect("cut short");
            assert!(Template::open(&path).is_none());
        }
    }
}

proptest! {
    #[test]
    fn any_number_is_read_back(value in 0_usize..1 << 40, tail in any::<u8>()) {
        let mut bytes = varint(value);
        bytes.push(tail);
        prop_assert_eq!(read_varint(&bytes), Some((value, &[tail][..])));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut index = b"DIRC\0\0\0\x04\0\0\0\x01".to_vec();
        index.extend_from_slice(&bytes);
        let _ = relocated(&index, Path::new("/x"));
        let _ = relocated(&bytes, Path::new("/x"));
    }
}
