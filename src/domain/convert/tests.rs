//! Conversions by git's rules as tables, and random bytes out and back.

use super::*;

use std::sync::Arc;

use proptest::prelude::*;

use crate::domain::attributes::AttributeFile;
use crate::domain::attributes::AttributeStack;
use crate::domain::digest::Digest;
use crate::domain::path::RepoPath;

const OID: Oid = Oid([0xab; 20]);

fn conversion_with(attributes: &str, config: EolConfig) -> Conversion {
    let file = AttributeFile::parse(format!("f {attributes}\n").as_bytes());
    let stack = AttributeStack::new(&[(RepoPath::root(), Arc::new(file))]);
    let path = RepoPath::parse(b"f").expect("path");
    Conversion::new(&stack.evaluate(&path), config)
}

fn conversion(attributes: &str) -> Conversion {
    conversion_with(attributes, EolConfig::default())
}

fn out(attributes: &str, bytes: &[u8]) -> Vec<u8> {
    to_worktree(bytes, &OID, &conversion(attributes)).into_owned()
}

fn back(attributes: &str, bytes: &[u8]) -> Result<Vec<u8>, ConvertError> {
    to_git(bytes, &conversion(attributes), None).map(Cow::into_owned)
}

fn auto_with(crlf: bool, whole: bool) -> LineAction {
    LineAction::Auto { crlf, whole }
}

#[test]
fn line_endings_follow_attributes_and_settings() {
    let crlf = EolConfig {
        autocrlf: AutoCrlf::False,
        eol: Eol::Crlf,
    };
    let auto = EolConfig {
        autocrlf: AutoCrlf::True,
        eol: Eol::Lf,
    };
    let input = EolConfig {
        autocrlf: AutoCrlf::Input,
        eol: Eol::Crlf,
    };
    let none = EolConfig::default();
    for (attributes, config, expected) in [
        ("", none, LineAction::Keep),
        ("", auto, auto_with(true, true)),
        ("", input, auto_with(false, false)),
        ("text", none, LineAction::Text { crlf: false }),
        ("text", crlf, LineAction::Text { crlf: true }),
        ("text", input, LineAction::Text { crlf: false }),
        ("-text eol=crlf", auto, LineAction::Keep),
        ("text=auto", crlf, auto_with(true, true)),
        ("text=auto eol=crlf", none, auto_with(true, true)),
        ("text=auto eol=lf", auto, auto_with(false, false)),
        ("eol=crlf", none, LineAction::Text { crlf: true }),
        ("text=input", auto, LineAction::Text { crlf: false }),
        ("text=input eol=crlf", none, LineAction::Text { crlf: true }),
        ("crlf", crlf, LineAction::Text { crlf: true }),
        ("-crlf", auto, LineAction::Keep),
        ("crlf=input", auto, LineAction::Text { crlf: false }),
        ("text=auto", none, auto_with(false, true)),
        ("text=odd", auto, auto_with(true, true)),
    ] {
        let lines = conversion_with(attributes, config).lines;
        assert_eq!(lines, expected, "{attributes} {config:?}");
    }
}

#[test]
fn guessed_text_with_carriage_returns_is_left_alone() {
    assert_eq!(out("eol=crlf", b"a\nb\r\nc"), b"a\r\nb\r\nc");
    assert_eq!(out("text=auto eol=crlf", b"a\nb\r\n"), b"a\nb\r\n");
    assert_eq!(out("text=auto eol=crlf", b"a\nb\n"), b"a\r\nb\r\n");
    assert_eq!(out("text=auto eol=crlf", b"a\n\0"), b"a\n\0");
    assert_eq!(back("text", b"a\r\r\nb\r"), Ok(b"a\r\nb\r".to_vec()));
    let auto = conversion("text=auto");
    let stored: [(Option<&[u8]>, &[u8]); 4] = [
        (None, b"a\nb\n"),
        (Some(b"a\n"), b"a\nb\n"),
        (Some(b"a\r\n"), b"a\r\nb\r\n"),
        (Some(b"a\r\n\0"), b"a\nb\n"),
    ];
    for (base, expected) in stored {
        let got = to_git(b"a\r\nb\r\n", &auto, base).expect("converted");
        assert_eq!(&*got, expected, "{base:?}");
    }
}

#[test]
fn identifiers_expand_and_collapse_on_one_line() {
    let id = format!("Id: {OID} $");
    for (stored, shown) in [
        ("$Id$", format!("${id}")),
        ("x $Id: old $ y $Id$", format!("x ${id} y ${id}")),
        ("$Id: a b c $", "$Id: a b c $".to_owned()),
        ("$Id: a b $Id$", "$Id: a b $Id$".to_owned()),
        ("$$Id$ $Id$", format!("$$Id$ ${id}")),
        ("$Id: a\n$Id$", format!("$Id: a\n${id}")),
        ("$Id:$", format!("${id}")),
        ("$Id: open", "$Id: open".to_owned()),
        ("$Idx$ $$ $", "$Idx$ $$ $".to_owned()),
    ] {
        let got = out("ident", stored.as_bytes());
        assert_eq!(String::from_utf8_lossy(&got), shown, "{stored}");
    }
    assert_eq!(
        back("ident", b"a $Id: x y $ $Id$Id: 1 $"),
        Ok(b"a $Id$ $Id$Id$".to_vec())
    );
}

#[test]
fn wide_encodings_keep_gits_rules_for_marks() {
    assert_eq!(out("working-tree-encoding=UTF-16", b"a"), b"\xff\xfea\0");
    assert_eq!(out("working-tree-encoding=utf16be", b"a"), b"\0a");
    assert_eq!(
        out("working-tree-encoding=UTF-16LE-BOM", b"a"),
        b"\xff\xfea\0"
    );
    assert_eq!(out("working-tree-encoding=UTF-32LE", b"a"), b"a\0\0\0");
    assert_eq!(out("working-tree-encoding=UTF-16", b""), b"");
    assert_eq!(out("working-tree-encoding=UTF-16", b"\xff"), b"\xff");
    assert_eq!(
        back("working-tree-encoding=UTF-16", b"\xfe\xff\0a"),
        Ok(b"a".to_vec())
    );
    assert!(matches!(
        back("working-tree-encoding=UTF-16", b"a\0"),
        Err(ConvertError::MissingMark { .. })
    ));
    assert!(matches!(
        back("working-tree-encoding=UTF-16LE", b"\xff\xfea\0"),
        Err(ConvertError::ProhibitedMark { .. })
    ));
    for bad in [b"\xff\xfea".as_slice(), b"\xff\xfe\0\xd8"] {
        assert!(matches!(
            back("working-tree-encoding=UTF-16", bad),
            Err(ConvertError::NotInEncoding { .. })
        ));
    }
}

#[test]
fn narrow_encodings_say_what_iconv_says() {
    let cases: [(&str, &str, &[u8]); 6] = [
        ("ISO-8859-1", "\u{85}é", b"\x85\xe9"),
        ("cp1252", "€", b"\x80"),
        ("windows-1251", "Я", b"\xdf"),
        ("SHIFT-JIS", "\u{301c}表", b"\x81\x60\x95\x5c"),
        ("koi8-r", "Я", b"\xf1"),
        ("GBK", "中", b"\xd6\xd0"),
    ];
    for (name, text, bytes) in cases {
        let attribute = format!("working-tree-encoding={name}");
        assert_eq!(out(&attribute, text.as_bytes()), bytes, "{name}");
        assert_eq!(
            back(&attribute, bytes),
            Ok(text.as_bytes().to_vec()),
            "{name}"
        );
    }
    // Not in the encoding: shown as stored, refused on the way back.
    let attribute = "working-tree-encoding=cp1252";
    assert_eq!(out(attribute, "Я".as_bytes()), "Я".as_bytes());
    assert!(back(attribute, b"\x81").is_err());
    // Unknown names and UTF-8 itself change nothing.
    for name in ["UTF-8", "utf8", "EUC-JP", "no-such"] {
        assert!(!conversion(&format!("working-tree-encoding={name}")).shows_other_bytes());
    }
}

#[test]
fn content_of_an_lfs_file_becomes_its_pointer() {
    let text = lfs_pointer(&Digest::of(b"hello"), 5);
    assert_eq!(
        text,
        "version https://git-lfs.github.com/spec/v1\n\
         oid sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\nsize 5\n"
    );
    let attributes = "filter=lfs diff=lfs merge=lfs -text";
    assert_eq!(back(attributes, b"hello"), Ok(text.clone().into_bytes()));
    assert_eq!(
        back(attributes, text.as_bytes()),
        Ok(text.clone().into_bytes())
    );
    assert_eq!(back(attributes, b""), Ok(Vec::new()));
    assert_eq!(LfsPointer::parse(text.as_bytes()).map(|p| p.size), Some(5));
    assert_eq!(
        LfsPointer::parse(b"version 2\noid sha256:x\nsize 1\n"),
        None
    );
    assert_eq!(conversion("filter=other").filter(), Filter::Other);
    assert!(!conversion("filter=other").shows_other_bytes());
}

fn attributes() -> impl Strategy<Value = String> {
    let lines = prop::sample::select(vec![
        "",
        "text",
        "text=auto",
        "eol=crlf",
        "text=auto eol=crlf",
    ]);
    let ident = prop::sample::select(vec!["", "ident"]);
    let encoding = prop::sample::select(vec!["", "UTF-16", "UTF-16BE", "UTF-32", "UTF-16LE-BOM"]);
    (lines, ident, encoding).prop_map(|(lines, ident, encoding)| match encoding {
        "" => format!("{lines} {ident}"),
        _ => format!("{lines} {ident} working-tree-encoding={encoding}"),
    })
}

proptest! {
    /// What git would store unchanged comes back unchanged.
    #[test]
    fn normalised_text_survives_the_way_out_and_back(
        attributes in attributes(),
        text in "([a-z ß€]|\n|\\$Id\\$|\\$){0,40}",
    ) {
        let conversion = conversion(&attributes);
        let shown = to_worktree(text.as_bytes(), &OID, &conversion).into_owned();
        let stored = to_git(&shown, &conversion, Some(text.as_bytes())).expect("converted");
        prop_assert_eq!(&*stored, text.as_bytes());
    }

    #[test]
    fn nothing_is_changed_where_nothing_is_asked(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let conversion = conversion("diff=cpp");
        prop_assert_eq!(&*to_worktree(&bytes, &OID, &conversion), &bytes[..]);
        prop_assert_eq!(&*to_git(&bytes, &conversion, None).expect("same"), &bytes[..]);
    }

    #[test]
    fn any_bytes_are_converted_or_refused_without_panic(
        attributes in attributes(),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let conversion = conversion(&attributes);
        let _ = to_worktree(&bytes, &OID, &conversion);
        let _ = to_git(&bytes, &conversion, None);
    }
}
