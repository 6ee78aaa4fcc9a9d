//! The two rule sets that a program takes along for ever: Landlock's write allow-list and seccomp's deny list.
//!
//! Landlock handles write rights only (reading is decided by what the view shows) and both scopes, each a hard
//! requirement: a right that the kernel does not know is an error, never a silent gap. Claims are not in here,
//! they change while the program runs. Seccomp refuses with EPERM what would go around the mount or the
//! namespaces, and with ENOSYS what programs have a fall-back for and whose arguments no filter can see.

use std::path::Path;
use std::path::PathBuf;

use landlock::ABI;
use landlock::Access;
use landlock::AccessFs;
use landlock::CompatLevel;
use landlock::Compatible;
use landlock::PathBeneath;
use landlock::PathFd;
use landlock::Ruleset;
use landlock::RulesetAttr;
use landlock::RulesetCreatedAttr;
use landlock::RulesetStatus;
use landlock::Scope;
use seccompiler::BpfProgram;

use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::filter;
use crate::sandbox::filter::Refusal;
use crate::sandbox::filter::Refusals;
use crate::sandbox::filter::Test;
use crate::sandbox::sys;

/// Below this nothing is called enforcement: truncation would be open.
pub const LANDLOCK_MIN: i32 = 3;
/// From here on signals and abstract sockets are scoped.
pub const LANDLOCK_SCOPES: i32 = 6;

/// Returns the Landlock version of the running kernel, 0 where there is none.
pub fn landlock_version() -> i32 {
    sys::landlock_version()
}

/// What the Landlock rules have to hold.
#[derive(Debug, Clone)]
pub(super) struct WriteRules {
    pub(super) allowed: Vec<PathBuf>,
    /// Whether the pid and ipc namespaces and the socket filter stand, so that scopes may be missing.
    pub(super) scopes_redundant: bool,
}

/// Returns the running kernel's version, if it is new enough.
pub(super) fn enforcing_version(scopes_redundant: bool) -> Result<i32, SealError> {
    let version = landlock_version();
    let least = if scopes_redundant {
        LANDLOCK_MIN
    } else {
        LANDLOCK_SCOPES
    };
    if version < least {
        return Err(SealError::new(
            Layer::Landlock,
            format!("this kernel has version {version}, {least} is needed"),
        )
        .fix("a newer kernel (6.12 has version 6), started with `landlock` among its security modules"));
    }
    Ok(version)
}

/// Restricts this process, and whatever it becomes, to writing under the allowed paths.
pub(super) fn restrict_writes(rules: &WriteRules) -> Result<(), SealError> {
    let version = enforcing_version(rules.scopes_redundant)?;
    apply(version, &rules.allowed)
        .map_err(|error| SealError::new(Layer::Landlock, error.to_string()))
}

/// Returns the ABI whose write rights are asked for: the kernel's own, capped where later ones change reads.
fn write_abi(version: i32) -> ABI {
    match version {
        ..=2 => ABI::V2,
        3..=4 => ABI::V3,
        _ => ABI::V5,
    }
}

fn apply(version: i32, allowed: &[PathBuf]) -> Result<(), Box<dyn std::error::Error>> {
    let rights = AccessFs::from_write(write_abi(version));
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(rights)?;
    if version >= LANDLOCK_SCOPES {
        ruleset = ruleset.scope(Scope::from_all(ABI::V6))?;
    }
    let mut ruleset = ruleset.create()?;
    for path in allowed {
        let rights = if path.is_dir() {
            rights
        } else {
            rights & AccessFs::from_file(write_abi(version))
        };
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, rights))?;
    }
    let status = ruleset.restrict_self()?;
    if status.ruleset == RulesetStatus::FullyEnforced {
        return Ok(());
    }
    Err(format!("only {:?}", status.ruleset).into())
}

/// The devices that programs write to without touching anything outside.
pub(super) const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Returns the devices that are always writable.
pub(super) fn common_writable() -> Vec<PathBuf> {
    let devices = DEVICES.iter().map(|name| Path::new("/dev").join(name));
    devices
        .chain([PathBuf::from("/dev/pts")])
        .filter(|path| path.exists())
        .collect()
}

/// What of the deny list depends on the launch.
#[derive(Debug, Clone, Copy)]
pub(super) struct CallRules {
    pub(super) unix_sockets: bool,
    /// Without a network namespace the filter is all that can take the network away.
    pub(super) internet_sockets: bool,
    /// Without a pid namespace other processes are visible, and their priorities must be out of reach too.
    pub(super) pid_namespace: bool,
}

/// A compiled filter.
#[derive(Debug)]
pub(super) struct CallFilter(BpfProgram);

/// Compiles the deny list.
pub(super) fn call_filter(rules: CallRules) -> Result<CallFilter, SealError> {
    filter::compile(&refusals(rules)).map(CallFilter)
}

/// Puts the filter on this process for ever. Sets `no_new_privs` on the way.
pub(super) fn restrict_calls(filter: &CallFilter) -> Result<(), SealError> {
    seccompiler::apply_filter(&filter.0).map_err(|error| {
        SealError::new(Layer::Seccomp, error.to_string()).fix(
            "a kernel with CONFIG_SECCOMP_FILTER; in a container allow the seccomp system call",
        )
    })
}

/// Refused whatever their arguments are.
const REFUSED: &[i64] = &[
    // Rings make calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Another view of the file system.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Kernel surface that no agent needs.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_fanotify_init,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    // System V and POSIX message queues: names that are not paths.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_semtimedop,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
];

/// Since Linux 6.15; the number is the same on every architecture.
const SYS_OPEN_TREE_ATTR: i64 = 467;
/// Since Linux 6.6; the number is the same on every architecture.
const SYS_FCHMODAT2: i64 = 452;

#[cfg(target_arch = "x86_64")]
const REFUSED_LEGACY: &[i64] = &[libc::SYS_kexec_file_load, libc::SYS_iopl, libc::SYS_ioperm];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_LEGACY: &[i64] = &[];

/// Terminal requests that type into, or drive, somebody's terminal.
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;

/// In the types `SOCK_DGRAM` and `SOCK_RAW`, which Unix sockets take for the same, and not in those of streams.
const DATAGRAM_BIT: u32 = 2;

/// Every flag of clone(2) that makes a namespace. `CLONE_NEWTIME` shares its bit with the exit signal there, so that
/// it cannot be asked for.
const CLONE_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// The deny list. Whose arguments lie in memory, where no filter sees them, is absent: libraries fall back to older calls.
fn refusals(rules: CallRules) -> Refusals {
    let mut calls = Refusals::new();
    let mut refuse = |number: i64, cases: Vec<Vec<Test>>| {
        let errno = libc::EPERM;
        calls.insert(number, Refusal { errno, cases });
    };
    for number in REFUSED.iter().chain(REFUSED_LEGACY) {
        refuse(*number, Vec::new());
    }
    refuse(libc::SYS_ioctl, any(1, &[TIOCSTI, TIOCLINUX]));
    let namespaces = CLONE_NAMESPACES.iter();
    let bits = namespaces.fold(0, |bits, flag| bits | flag.cast_unsigned());
    refuse(libc::SYS_clone, vec![vec![Test::AnyBit { index: 0, bits }]]);
    for number in other_process_calls() {
        refuse(number, vec![vec![Test::Differs { index: 0, value: 0 }]]);
    }
    if !rules.pid_namespace {
        refuse(libc::SYS_setpriority, other_by_kind(0));
        refuse(libc::SYS_ioprio_set, other_by_kind(1));
    }
    refuse(libc::SYS_socket, any(0, &families(rules)));
    if !rules.unix_sockets {
        // One of a pair of datagram sockets can be sent to, and connected to, any path: as good as a socket.
        let (index, bits) = (1, DATAGRAM_BIT);
        refuse(
            libc::SYS_socketpair,
            vec![vec![Test::AnyBit { index, bits }]],
        );
    }
    for (number, mode) in mode_calls() {
        refuse(number, vec![vec![set_id(mode)]]);
    }
    for (number, flags, mode) in create_calls() {
        refuse(number, vec![vec![creates(flags), set_id(mode)]]);
    }
    for number in [libc::SYS_clone3, libc::SYS_openat2] {
        let absent = Refusal {
            errno: libc::ENOSYS,
            cases: Vec::new(),
        };
        calls.insert(number, absent);
    }
    calls
}

/// One case for each value of an argument.
fn any(index: u8, values: &[u32]) -> Vec<Vec<Test>> {
    let equal = |value: &u32| {
        vec![Test::Equal {
            index,
            value: *value,
        }]
    };
    values.iter().map(equal).collect()
}

/// Limits and scheduling of another process; its own (pid 0) stay.
fn other_process_calls() -> [i64; 5] {
    [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setattr,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setscheduler,
    ]
}

/// A call whose second argument names somebody else, or whose first names more than a process.
fn other_by_kind(process: u32) -> Vec<Vec<Test>> {
    let other = Test::Differs { index: 1, value: 0 };
    let many = Test::Differs {
        index: 0,
        value: process,
    };
    vec![vec![other], vec![many]]
}

/// The socket families that are refused.
fn families(rules: CallRules) -> Vec<u32> {
    let mut families = vec![libc::AF_VSOCK];
    if !rules.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    if !rules.internet_sockets {
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_PACKET]);
    }
    families.into_iter().map(i32::cast_unsigned).collect()
}

/// Calls that set a mode, with the index of that argument. A set-id bit on a writable directory of the host
/// would be the operator's right, lent to everybody outside.
fn mode_calls() -> Vec<(i64, u8)> {
    let mut calls = vec![
        (libc::SYS_fchmod, 1),
        (libc::SYS_fchmodat, 2),
        (SYS_FCHMODAT2, 2),
        (libc::SYS_mknodat, 2),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        (libc::SYS_chmod, 1),
        (libc::SYS_mknod, 1),
        (libc::SYS_creat, 1),
    ]);
    calls
}

/// Calls that may create with a mode: number, index of the flags, index of the mode.
fn create_calls() -> Vec<(i64, u8, u8)> {
    let mut calls = vec![(libc::SYS_openat, 2, 3)];
    #[cfg(target_arch = "x86_64")]
    calls.push((libc::SYS_open, 1, 2));
    calls
}

fn set_id(index: u8) -> Test {
    let bits = libc::S_ISUID | libc::S_ISGID;
    Test::AnyBit { index, bits }
}

/// The mode argument counts only beside `O_CREAT` or `O_TMPFILE`; without them it may be anything.
fn creates(index: u8) -> Test {
    const TMPFILE_BIT: libc::c_int = libc::O_TMPFILE & !libc::O_DIRECTORY;
    let bits = (libc::O_CREAT | TMPFILE_BIT).cast_unsigned();
    Test::AnyBit { index, bits }
}

/// Every refusal that any launch may ask for.
#[cfg(test)]
pub(super) fn every_refusal() -> Refusals {
    refusals(CallRules {
        unix_sockets: false,
        internet_sockets: false,
        pid_namespace: false,
    })
}
