//! Numbers and the tree cache, as git writes them.

use super::*;

#[test]
fn numbers_are_written_as_git_writes_them() {
    for (value, bytes) in [
        (0, vec![0]),
        (127, vec![127]),
        (128, vec![128, 0]),
        (16511, vec![255, 127]),
        (16512, vec![128, 128, 0]),
    ] {
        assert_eq!(varint(value), bytes);
    }
}

#[test]
fn a_tree_cache_is_void_above_what_changed_and_nowhere_else() {
    let oid = [7_u8; 20];
    let mut data = b"\x003 2\n".to_vec();
    data.extend(oid);
    for name in [&b"a"[..], b"b"] {
        data.extend([name, b"\x001 0\n"].concat());
        data.extend(oid);
    }
    let mut expected = b"\0-1 2\na\0-1 0\nb\x001 0\n".to_vec();
    expected.extend(oid);
    assert_eq!(without(&data, &[b"a/f".to_vec()]), Some(expected));
    assert_eq!(without(b"\x00x", &[]), None);
}
