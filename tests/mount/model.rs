//! The same random system calls on a claimed directory of a mount and on a real
//! directory: the same errors, the same tree.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use crate::common::bench::Bench;
use crate::common::mount::mount;
use crate::common::needs;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::RenameFlags;
use nix::fcntl::renameat2;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Create(PathBuf, bool),
    Append(PathBuf, Vec<u8>),
    WriteAt(PathBuf, u64, Vec<u8>),
    Truncating(PathBuf, Vec<u8>),
    SetLen(PathBuf, u64),
    Mkdir(PathBuf),
    Symlink(PathBuf),
    Unlink(PathBuf),
    Rmdir(PathBuf),
    Rename(PathBuf, PathBuf, u8),
    Chmod(PathBuf, bool),
    CopyRange(PathBuf, PathBuf),
    Fsync(PathBuf),
    Orphan(PathBuf, Vec<u8>),
}

fn act(top: &Path, op: &Op) -> io::Result<Vec<u8>> {
    let at = |path: &PathBuf| top.join(path);
    let nofollow = |path: &PathBuf| {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NOFOLLOW);
        options.open(at(path))
    };
    match op {
        Op::Create(path, exec) => {
            let mode = if *exec { 0o755 } else { 0o644 };
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(mode)
                .open(at(path))?;
        }
        Op::Append(path, data) => {
            let mut options = OpenOptions::new();
            options.append(true).custom_flags(libc::O_NOFOLLOW);
            options.open(at(path))?.write_all(data)?;
        }
        Op::WriteAt(path, offset, data) => nofollow(path)?.write_all_at(data, *offset)?,
        Op::Truncating(path, data) => {
            let mut options = OpenOptions::new();
            options
                .write(true)
                .truncate(true)
                .create(true)
                .custom_flags(libc::O_NOFOLLOW);
            options.open(at(path))?.write_all(data)?;
        }
        Op::SetLen(path, len) => nofollow(path)?.set_len(*len)?,
        Op::Mkdir(path) => fs::create_dir(at(path))?,
        Op::Symlink(path) => std::os::unix::fs::symlink("nowhere", at(path))?,
        Op::Unlink(path) => fs::remove_file(at(path))?,
        Op::Rmdir(path) => fs::remove_dir(at(path))?,
        Op::Rename(from, to, how) => {
            let flags = match how {
                0 => RenameFlags::RENAME_NOREPLACE,
                1 => RenameFlags::RENAME_EXCHANGE,
                _ => RenameFlags::empty(),
            };
            renameat2(AT_FDCWD, &at(from), AT_FDCWD, &at(to), flags)?;
        }
        Op::Chmod(path, exec) => {
            nofollow(path)?.set_permissions(PermissionsExt::from_mode(if *exec {
                0o755
            } else {
                0o644
            }))?;
        }
        Op::CopyRange(from, to) => {
            let (source, target) = (fs::File::open(at(from))?, nofollow(to)?);
            if source.metadata()?.is_file() {
                rustix::fs::copy_file_range(&source, None, &target, None, 1000)?;
            }
        }
        Op::Fsync(path) => nofollow(path)?.sync_all()?,
        Op::Orphan(path, data) => {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(at(path))?;
            fs::remove_file(at(path))?;
            file.write_all_at(data, 2)?;
            let mut bytes = vec![0; 64];
            let got = file.read_at(&mut bytes, 0)?;
            bytes.truncate(got);
            return Ok(bytes);
        }
    }
    Ok(Vec::new())
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Dir,
    File(Vec<u8>, u32, u64),
    Link(PathBuf),
}

fn walk(top: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut stack = vec![top.to_owned()];
    while let Some(dir) = stack.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let thing = if meta.is_dir() {
                stack.push(path.clone());
                Seen::Dir
            } else if meta.is_symlink() {
                Seen::Link(fs::read_link(&path).unwrap())
            } else {
                Seen::File(
                    fs::read(&path).unwrap(),
                    meta.permissions().mode() & 0o777,
                    meta.len(),
                )
            };
            seen.insert(path.strip_prefix(top).unwrap().to_owned(), thing);
        }
    }
    seen
}

fn some_path() -> impl Strategy<Value = PathBuf> {
    let name =
        prop_oneof![4 => Just("a"), 3 => Just("b"), 2 => Just("c"), 3 => Just("d"), 2 => Just("e")];
    prop::collection::vec(name, 1..4).prop_map(|names| names.iter().collect())
}

fn some_op() -> impl Strategy<Value = Op> {
    let bytes = || prop::collection::vec(any::<u8>(), 1..20);
    prop_oneof![
        1 => (some_path(), any::<bool>()).prop_map(|(p, x)| Op::Create(p, x)),
        2 => (some_path(), bytes()).prop_map(|(p, d)| Op::Append(p, d)),
        2 => (some_path(), 0_u64..10_000, bytes()).prop_map(|(p, at, d)| Op::WriteAt(p, at, d)),
        3 => (some_path(), bytes()).prop_map(|(p, d)| Op::Truncating(p, d)),
        1 => (some_path(), 0_u64..9000).prop_map(|(p, len)| Op::SetLen(p, len)),
        2 => some_path().prop_map(Op::Mkdir),
        1 => some_path().prop_map(Op::Symlink),
        1 => some_path().prop_map(Op::Unlink),
        1 => some_path().prop_map(Op::Rmdir),
        4 => (some_path(), some_path(), 0_u8..6).prop_map(|(a, b, how)| Op::Rename(a, b, how)),
        1 => (some_path(), any::<bool>()).prop_map(|(p, x)| Op::Chmod(p, x)),
        1 => (some_path(), some_path()).prop_filter("itself", |(a, b)| a != b).prop_map(|(a, b)| Op::CopyRange(a, b)),
        1 => some_path().prop_map(Op::Fsync),
        1 => (some_path(), bytes()).prop_map(|(p, d)| Op::Orphan(p, d)),
    ]
}

fn check(ops: &[Op]) {
    let files = [
        ("w/a", "alpha"),
        ("w/d/b", "beta"),
        ("w/d/e/c", "gamma"),
        ("w/l", "-> a"),
    ];
    let mut bench = Bench::new(&files, &["w"]);
    let real = tempfile::tempdir().unwrap();
    for (at, text) in files {
        let at = real.path().join(at.strip_prefix("w/").unwrap());
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        match text.strip_prefix("-> ") {
            Some(target) => std::os::unix::fs::symlink(target, at).unwrap(),
            None => fs::write(at, text).unwrap(),
        }
    }
    let server = mount(&mut bench);
    let top = bench.mnt().join("w");
    for op in ops {
        let (got, want) = (act(&top, op), act(real.path(), op));
        let (got, want) = (
            got.map_err(|e| e.raw_os_error()),
            want.map_err(|e| e.raw_os_error()),
        );
        assert_eq!(got, want, "{op:?}");
    }
    assert_eq!(walk(&top), walk(real.path()));
    server.stop().unwrap();
    let server = mount(&mut bench);
    assert_eq!(walk(&top), walk(real.path()), "after a remount");
    server.stop().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_claimed_directory_is_a_directory(ops in prop::collection::vec(some_op(), 1..50)) {
        if needs::root() {
            check(&ops);
        }
    }
}

#[test]
fn attributes_of_users_are_kept_and_others_refused() {
    if !needs::root() {
        return;
    }
    let mut bench = Bench::new(&[("w/a", "alpha")], &["w"]);
    let server = mount(&mut bench);
    let file = fs::File::open(bench.mnt().join("w/a")).unwrap();
    let name = CString::new("user.note").unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::fsetxattr(&file, &name, b"value", flags).unwrap();
    assert!(rustix::fs::fsetxattr(&file, c"security.x", b"v", flags).is_err());
    drop(file);
    server.stop().unwrap();
    let server = mount(&mut bench);
    let file = fs::File::open(bench.mnt().join("w/a")).unwrap();
    let mut value = [0_u8; 16];
    let len = rustix::fs::fgetxattr(&file, &name, &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"value");
    rustix::fs::fremovexattr(&file, &name).unwrap();
    assert!(rustix::fs::fgetxattr(&file, &name, &mut value[..]).is_err());
    drop(file);
    server.stop().unwrap();
}
