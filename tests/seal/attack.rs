//! What a hostile program tries from inside: one system call, or a few, by name.
//!
//! `govfs --attack NAME [ARG…]` inside the seal exits 0 when the attack worked and 10 when it was refused.
#![expect(
    unsafe_code,
    reason = "attacks are system calls without a safe wrapper"
)]

use std::ffi::CString;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;

use nix::errno::Errno;

/// The exit status that says "refused".
pub(crate) const REFUSED: u8 = 10;

pub(crate) fn main(args: &[String]) -> ExitCode {
    let rest: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    match attempt(&args[0], &rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => {
            say(&format!("{} {errno}", args[0]));
            ExitCode::from(REFUSED)
        }
    }
}

#[expect(clippy::print_stderr, reason = "says how the attack was refused")]
fn say(line: &str) {
    eprintln!("{line}");
}

type Attempt = Result<(), Errno>;

fn attempt(name: &str, args: &[&str]) -> Attempt {
    match name {
        "write" => write(args[0]),
        "create" => file(
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(args[0]),
        ),
        "read" => file(fs::read(args[0])),
        "exists" => file(fs::symlink_metadata(args[0])),
        "chmod" => file(fs::set_permissions(
            args[0],
            fs::Permissions::from_mode(0o700),
        )),
        "times" => {
            file(fs::File::open(args[0]).and_then(|file| file.set_modified(std::time::UNIX_EPOCH)))
        }
        "remove" => file(fs::remove_file(args[0])),
        "rename" => file(fs::rename(args[0], args[1])),
        "link" => file(fs::hard_link(args[0], args[1])),
        "lock" => lock(args[0]),
        "set-id" => file(fs::set_permissions(
            args[0],
            fs::Permissions::from_mode(0o4755),
        )),
        "set-id-create" => file(
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o4755)
                .open(args[0]),
        ),
        "device" => device(args[0]),
        "signal" => signal(number(args[0])),
        "see" => file(fs::read(format!("/proc/{}/stat", args[0]))),
        "memory" => file(fs::File::open(format!("/proc/{}/mem", args[0]))),
        "first-memory" => first_memory(),
        "unix" => unix_connect(args[0]),
        "unix-pair" => unix_pair(args[0]),
        "abstract" => abstract_connect(args[0]),
        "tcp" => file(std::net::TcpStream::connect(args[0])),
        "type-into-terminal" => type_into_terminal(),
        "shm-open" => shared_memory(args[0]),
        "descriptors" => descriptors(),
        "capabilities" => capabilities(),
        "int80" => int80(),
        name => call(name, args),
    }
}

fn number(text: &str) -> i64 {
    text.parse()
        .unwrap_or_else(|_| panic!("{text} is no number"))
}

fn file<T>(result: std::io::Result<T>) -> Attempt {
    result
        .map(drop)
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

fn raw(result: libc::c_long) -> Attempt {
    if result == -1 {
        Err(Errno::last())
    } else {
        Ok(())
    }
}

fn text(value: &str) -> CString {
    CString::new(value).unwrap_or_default()
}

fn write(path: &str) -> Attempt {
    use std::io::Write;
    file(
        fs::OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(b"evil\n")),
    )
}

fn lock(path: &str) -> Attempt {
    let Ok(target) = fs::File::open(path) else {
        return Err(Errno::ENOENT);
    };
    let lock = libc::flock {
        l_type: libc::F_RDLCK.try_into().unwrap_or(0),
        l_whence: 0,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    // SAFETY: the lock outlives the call.
    raw(unsafe { libc::fcntl(target.as_raw_fd(), libc::F_SETLK, &raw const lock) }.into())
}

fn device(path: &str) -> Attempt {
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    nix::sys::stat::mknod(
        path,
        nix::sys::stat::SFlag::S_IFCHR,
        mode,
        libc::makedev(1, 3),
    )
}

fn signal(pid: i64) -> Attempt {
    // SAFETY: takes integers; signal 0 only asks.
    raw(unsafe { libc::kill(i32::try_from(pid).unwrap_or(0), 0) }.into())
}

/// Tracing the first process of the namespace, which talks to the launcher.
fn first_memory() -> Attempt {
    file(fs::OpenOptions::new().read(true).open("/proc/1/mem"))
        .or_else(|_| file(fs::read_dir("/proc/1/fd")))
        .or_else(|_| file(fs::read("/proc/1/environ")))
}

fn unix_pair(path: &str) -> Attempt {
    let pair = std::os::unix::net::UnixDatagram::pair();
    file(pair.and_then(|(one, _)| one.send_to(b"x", path)))
}

fn unix_connect(path: &str) -> Attempt {
    file(std::os::unix::net::UnixStream::connect(path))
}

fn abstract_connect(name: &str) -> Attempt {
    use std::os::linux::net::SocketAddrExt;
    let address =
        std::os::unix::net::SocketAddr::from_abstract_name(name).map_err(|_| Errno::EINVAL)?;
    file(std::os::unix::net::UnixStream::connect_addr(&address))
}

fn type_into_terminal() -> Attempt {
    let letter = b'x';
    // SAFETY: the request reads one byte.
    let typed = raw(unsafe { libc::ioctl(0, libc::TIOCSTI, &raw const letter) }.into());
    if typed == Err(Errno::ENOTTY) {
        // Without a terminal the kernel's answer differs from the filter's, and shows that no filter spoke.
        return Ok(());
    }
    typed
}

fn shared_memory(key: &str) -> Attempt {
    // SAFETY: takes integers only.
    raw(unsafe { libc::shmget(i32::try_from(number(key)).unwrap_or(0), 0, 0) }.into())
}

/// A System V segment of the host, gone when dropped.
pub(crate) struct Segment(i32);

impl Segment {
    pub(crate) fn new(key: i32) -> Self {
        // SAFETY: takes integers only.
        let id = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) };
        assert!(id >= 0, "a segment");
        Self(id)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // SAFETY: removing takes no buffer.
        unsafe { libc::shmctl(self.0, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

fn descriptors() -> Attempt {
    let open = (3..1024).any(|raw| {
        // SAFETY: F_GETFD takes no pointer.
        unsafe { libc::fcntl(raw, libc::F_GETFD) >= 0 }
    });
    if open { Ok(()) } else { Err(Errno::EBADF) }
}

/// "Works" if any capability is left, or could come back by exec.
fn capabilities() -> Attempt {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("")
            .trim()
            .to_owned()
    };
    let sets = ["CapPrm:", "CapEff:", "CapInh:", "CapBnd:", "CapAmb:"];
    let left = sets
        .iter()
        .any(|name| !field(name).trim_matches('0').is_empty());
    if left || field("NoNewPrivs:") != "1" {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

#[cfg(target_arch = "x86_64")]
fn int80() -> Attempt {
    let result: i32;
    // SAFETY: getpid of the i386 table takes nothing and touches no memory.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20 => result, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    if result < 0 {
        Err(Errno::from_raw(-result))
    } else {
        Ok(())
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn int80() -> Attempt {
    Err(Errno::ENOSYS)
}

/// Single calls. Those that need arguments get ones that would work, or fail with another errno than EPERM and
/// ENOSYS where the kernel itself speaks.
fn call(name: &str, args: &[&str]) -> Attempt {
    let path = text(args.first().copied().unwrap_or("/"));
    let pid = args
        .first()
        .and_then(|text| text.parse::<i64>().ok())
        .unwrap_or(0);
    let mut room = [0_u64; 32];
    let buffer = room.as_mut_ptr();
    // SAFETY: every pointer is to `room` or `path`, both larger than what these calls read or write; calls that
    // would change this process are followed by its exit.
    unsafe {
        match name {
            "umount" => raw(libc::umount2(path.as_ptr(), libc::MNT_DETACH).into()),
            "mount" => raw(libc::mount(
                c"none".as_ptr(),
                path.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            )
            .into()),
            "remount" => raw(libc::mount(
                std::ptr::null(),
                path.as_ptr(),
                std::ptr::null(),
                libc::MS_REMOUNT | libc::MS_BIND,
                std::ptr::null(),
            )
            .into()),
            "chroot" => raw(libc::chroot(path.as_ptr()).into()),
            "unshare-user" => raw(libc::unshare(libc::CLONE_NEWUSER).into()),
            "unshare-mount" => raw(libc::unshare(libc::CLONE_NEWNS).into()),
            "clone-user" => raw(clone_user()),
            "clone3" => only_if_known(raw(libc::syscall(libc::SYS_clone3, buffer, 0))),
            "open-tree" => raw(libc::syscall(
                libc::SYS_open_tree,
                libc::AT_FDCWD,
                path.as_ptr(),
                1,
            )),
            "ptrace" => raw(libc::ptrace(
                libc::PTRACE_SEIZE,
                i32::try_from(pid).unwrap_or(0),
                0,
                0,
            )),
            "prlimit" => raw(libc::prlimit(
                i32::try_from(pid).unwrap_or(0),
                libc::RLIMIT_FSIZE,
                std::ptr::null(),
                buffer.cast(),
            )
            .into()),
            "affinity" => {
                raw(
                    libc::sched_setaffinity(i32::try_from(pid).unwrap_or(0), 8, all_cpus(buffer))
                        .into(),
                )
            }
            "io-uring" => only_if_known(raw(libc::syscall(libc::SYS_io_uring_setup, 1, buffer))),
            "bpf" => only_if_known(raw(libc::syscall(libc::SYS_bpf, 0, buffer, 8))),
            "userfaultfd" => only_if_known(raw(libc::syscall(libc::SYS_userfaultfd, 1))),
            "perf" => only_if_known(raw(libc::syscall(
                libc::SYS_perf_event_open,
                buffer,
                0,
                -1,
                -1,
                0,
            ))),
            "keyctl" => raw(libc::syscall(libc::SYS_keyctl, 0, -3, 1)),
            "shm" => raw(libc::shmget(0x6f76, 4096, libc::IPC_CREAT | 0o600).into()),
            "mq" => only_if_known(raw(libc::syscall(
                libc::SYS_mq_open,
                c"govfs-seal".as_ptr(),
                libc::O_CREAT,
                0o600,
                0,
            ))),
            "handle" => only_if_known(raw(libc::syscall(
                libc::SYS_open_by_handle_at,
                -1,
                buffer,
                0,
            ))),
            "vm-read" => raw(libc::syscall(
                libc::SYS_process_vm_readv,
                pid,
                buffer,
                0,
                buffer,
                0,
                0,
            )),
            "vsock" => raw(libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).into()),
            "x32" => raw(libc::syscall(0x4000_0000 | libc::SYS_getpid)),
            other => panic!("no attack is called {other}"),
        }
    }
}

/// A call that reached the kernel answers something else than the filter would.
fn only_if_known(result: Attempt) -> Attempt {
    match result {
        Err(errno) if errno != Errno::EPERM && errno != Errno::ENOSYS => Ok(()),
        result => result,
    }
}

fn all_cpus(buffer: *mut u64) -> *const libc::cpu_set_t {
    // SAFETY: the buffer is 256 bytes; one word of ones is a set of the first 64 CPUs.
    unsafe { buffer.write(u64::MAX) };
    buffer.cast()
}

fn clone_user() -> libc::c_long {
    // SAFETY: a fork with a new user namespace; the child ends at once.
    unsafe {
        let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
        let pid = libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0);
        if pid == 0 {
            libc::_exit(0);
        }
        pid
    }
}
