//! The system calls that no safe wrapper covers: forks into namespaces, mounts by descriptor, capabilities, exec.
//!
//! All `unsafe` of the house is in this file. Each function is a thin, total wrapper: it passes
//! owned memory to the kernel, checks the result, and decides nothing.
#![expect(
    unsafe_code,
    reason = "system calls without a safe wrapper; each block says why it is sound"
)]

use std::ffi::CStr;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::mman::MapFlags;
use nix::sys::mman::ProtFlags;
use nix::sys::mman::mmap_anonymous;
use nix::sys::mman::mprotect;
use nix::sys::mman::munmap;
use nix::unistd::Pid;

pub(super) const ATTR_READ_ONLY: u64 = 0x1;
pub(super) const ATTR_NO_SUID: u64 = 0x2;
pub(super) const ATTR_NO_DEV: u64 = 0x4;
pub(super) const ATTR_NO_EXEC: u64 = 0x8;
const ATTR_IDMAP: u64 = 0x0010_0000;

const AT_RECURSIVE: libc::c_uint = 0x8000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;
const MOVE_MOUNT_T_EMPTY_PATH: libc::c_uint = 0x40;
const CLOSE_RANGE_CLOEXEC: libc::c_int = 4;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Which side of a fork one is on.
pub(super) enum Fork {
    Parent(Pid),
    Child,
}

/// Forks with namespace flags. The child shares nothing with the parent but descriptors.
///
/// The caller must be the only thread of its process ([`super::launch()`] checks it), so that the
/// child may allocate: no other thread can hold a lock at that moment.
pub(super) fn fork_into(flags: libc::c_int) -> nix::Result<Fork> {
    // SAFETY: no CLONE_VM, no new stack: this is fork(2) with namespaces; null pointers are what it takes
    // for "no thread-local storage, no tid to store".
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags | libc::SIGCHLD),
            0,
            0,
            0,
            0,
        )
    };
    match Errno::result(pid)? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(Pid::from_raw(
            i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?,
        ))),
    }
}

/// As much as the work of a child that shares its parent's memory, or of a fork of it, ever needs.
const STACK_BYTES: usize = 1 << 20;
const GUARD_BYTES: usize = 64 << 10;

/// Runs `work` in a child that uses this process's memory, and none of its descriptors, directories or signals; this
/// process stands still until the child has ended or has become another program. No page table is copied.
///
/// The caller must be the only thread of its process. What `work` writes is seen here afterwards.
pub(super) fn fork_sharing(work: &mut dyn FnMut()) -> nix::Result<Pid> {
    let bytes = std::num::NonZeroUsize::new(GUARD_BYTES + STACK_BYTES).ok_or(Errno::EINVAL)?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_STACK;
    let rights = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new anonymous mapping at a place that the kernel chooses touches no memory in use.
    let place = unsafe { mmap_anonymous(None, bytes, rights, flags) }?;
    // SAFETY: these are the first pages of the mapping just made; nothing refers to them.
    unsafe { mprotect(place, GUARD_BYTES, ProtFlags::PROT_NONE) }?;
    // SAFETY: the rest of the mapping is readable, writable, zeroed, and used by the child alone.
    let stack = unsafe {
        std::slice::from_raw_parts_mut(place.cast::<u8>().as_ptr().add(GUARD_BYTES), STACK_BYTES)
    };
    let run = Box::new(|| {
        work();
        0
    });
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    // SAFETY: with CLONE_VFORK this thread, the only one, does not run before the child has let go of the memory, so
    // that everything borrowed by `work` and the stack outlive its use, and no lock is held by anybody else.
    let child = unsafe { nix::sched::clone(run, stack, flags, Some(libc::SIGCHLD)) };
    // SAFETY: the child has ended or has memory of its own, and nothing else refers to the mapping.
    unsafe { munmap(place, bytes.get()) }?;
    child
}

/// Ends this process at once, running no destructor and flushing no buffer of the parent's.
pub(super) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes an integer and does not return.
    unsafe { libc::_exit(status) }
}

fn owned(result: libc::c_long) -> nix::Result<OwnedFd> {
    let raw = i32::try_from(Errno::result(result)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Clones the mounts at and below `path` into a detached tree.
pub(super) fn clone_tree(path: &CStr) -> nix::Result<OwnedFd> {
    open_tree(path, AT_RECURSIVE)
}

/// Clones the mount at `path` alone.
pub(super) fn clone_mount(path: &CStr) -> nix::Result<OwnedFd> {
    open_tree(path, 0)
}

fn open_tree(path: &CStr, recursive: libc::c_uint) -> nix::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | recursive | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: `path` is a NUL-terminated string that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })
}

/// Attaches a detached tree over the file or directory behind `target`.
pub(super) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both descriptors are borrowed for the call; the paths are empty constant strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// What to change on a mount.
#[derive(Default, Clone, Copy)]
pub(super) struct Change {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) recursive: bool,
}

fn set_attributes(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> nix::Result<()> {
    let flags = libc::AT_EMPTY_PATH.cast_unsigned() | if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: `attr` is a whole `struct mount_attr` of the size given and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// Sets and clears mount attributes.
pub(super) fn change_mount(mount: BorrowedFd<'_>, change: Change) -> nix::Result<()> {
    let attr = MountAttr {
        set: change.set,
        clear: change.clear,
        propagation: 0,
        userns: 0,
    };
    set_attributes(mount, change.recursive, &attr)
}

/// Maps the owners shown by a detached tree through a user namespace.
pub(super) fn map_owners(tree: BorrowedFd<'_>, userns: BorrowedFd<'_>) -> nix::Result<()> {
    let descriptor = u64::try_from(userns.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let attr = MountAttr {
        set: ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        userns: descriptor,
    };
    set_attributes(tree, true, &attr)
}

/// Marks every descriptor from `first` on to be closed by exec.
pub(super) fn close_on_exec_from(first: u32) -> nix::Result<()> {
    // SAFETY: takes integers only.
    Errno::result(unsafe { libc::close_range(first, libc::c_uint::MAX, CLOSE_RANGE_CLOEXEC) })
        .map(drop)
}

/// The kernel's `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// The kernel's `struct __user_cap_data_struct`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability for good: bounding, ambient, permitted, effective and inheritable sets.
pub(super) fn drop_capabilities() -> nix::Result<()> {
    for capability in 0..64 {
        // SAFETY: prctl with integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(result) {
            Ok(_) => {}
            // The first number this kernel does not know ends the set.
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    // SAFETY: prctl with integers only.
    let result = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    Errno::result(result)?;
    set_capabilities([CapabilityData::default(); 2])
}

fn set_capabilities(data: [CapabilityData; 2]) -> nix::Result<()> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    // SAFETY: version 3 takes one header and two data structs; both outlive the call.
    let result =
        unsafe { libc::syscall(libc::SYS_capset, std::ptr::from_ref(&header), data.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Makes `terminal` the controlling terminal of this session leader.
pub(super) fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the request takes an integer.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) }).map(drop)
}

/// Returns the window size of a terminal.
pub(super) fn window_size(terminal: BorrowedFd<'_>) -> nix::Result<libc::winsize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the request fills one `winsize`, which outlives the call.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size)
}

/// Sets the window size of a terminal; its foreground group gets SIGWINCH if it changed.
pub(super) fn set_window_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> nix::Result<()> {
    // SAFETY: the request reads one `winsize`, which outlives the call.
    let result = unsafe {
        libc::ioctl(
            terminal.as_raw_fd(),
            libc::TIOCSWINSZ,
            std::ptr::from_ref(size),
        )
    };
    Errno::result(result).map(drop)
}

/// Sets the interface flags of `lo` to up and running.
pub(super) fn raise_loopback(socket: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: an `ifreq` of zeroes is valid; the kernel reads name and flags from it.
    let result = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l'.cast_signed();
        request.ifr_name[1] = b'o'.cast_signed();
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING).try_into().unwrap_or(0);
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    };
    Errno::result(result).map(drop)
}

/// Gives a signal its default action again.
pub(super) fn default_action(signal: libc::c_int) {
    // SAFETY: SIG_DFL installs no code of ours. A wrong number is refused by the kernel and changes nothing.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Replaces this process, and returns only the reason why it could not.
pub(super) fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter()
            .map(|item| item.as_ptr())
            .chain([std::ptr::null()])
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer, and every string outlives the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::last()
}

/// Takes ownership of a descriptor that the kernel has just put into this process.
pub(super) fn adopt(raw: i32) -> OwnedFd {
    // SAFETY: called only with descriptors received by SCM_RIGHTS, or duplicated, in this very call; nobody else knows them.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Borrows one of the three standard streams, which a launcher never closes.
pub(super) fn standard_stream<const INDEX: i32>() -> BorrowedFd<'static> {
    const { assert!(INDEX >= 0 && INDEX <= 2) };
    // SAFETY: the launch opens /dev/null over a standard stream that is missing, and nothing closes them.
    unsafe { BorrowedFd::borrow_raw(INDEX) }
}

/// Whether a signal is ignored by this process.
pub(super) fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a zeroed `sigaction` is a valid place for the answer; a null new action changes nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

/// Returns another descriptor of what the caller of this process left open under a number.
pub(super) fn duplicate(raw: i32) -> nix::Result<OwnedFd> {
    // SAFETY: fcntl reads no memory; a number that is not open is an error.
    let number = unsafe { libc::fcntl(raw, libc::F_DUPFD_CLOEXEC, 3) };
    Errno::result(number).map(adopt)
}

/// Whether a descriptor number is in use.
pub(super) fn is_open(raw: i32) -> bool {
    // SAFETY: F_GETFD takes no pointer and changes nothing.
    unsafe { libc::fcntl(raw, libc::F_GETFD) >= 0 }
}

/// Returns the kernel's Landlock version, 0 where it has none or it is switched off.
pub(super) fn landlock_version() -> i32 {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with the version flag the call takes no attributes and makes no descriptor.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0,
            VERSION,
        )
    };
    i32::try_from(version).unwrap_or(0).max(0)
}
