//! The last steps of the process that becomes the program: its group, directory, environment, rules, exec.
//!
//! Everything here happens after the view stands and every privilege is gone, and nothing that it takes on can be
//! given back: Landlock, then the call filter, then the program.

use std::ffi::CStr;
use std::ffi::CString;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::SigmaskHow;
use nix::sys::signal::sigprocmask;
use nix::sys::stat::umask;
use nix::unistd::AccessFlags;
use nix::unistd::Pid;

use crate::domain::shell;
use crate::sandbox::error::Context;
use crate::sandbox::error::Layer;
use crate::sandbox::error::SealError;
use crate::sandbox::inside::Setup;
use crate::sandbox::plan;
use crate::sandbox::rules;
use crate::sandbox::rules::WriteRules;
use crate::sandbox::spec::Spec;
use crate::sandbox::spec::Tier;
use crate::sandbox::sys;
use crate::sandbox::terminal::Inner;

/// Takes on every restriction and becomes the program; returns only why it could not.
pub(super) fn become_program(setup: &Setup<'_>, inner: Option<&Inner>) -> SealError {
    match restrict(setup, inner) {
        Ok((argv, env, candidates)) => {
            let errno = exec_first(&argv, &env, &candidates);
            cannot_run(&setup.spec.argv, errno)
        }
        Err(error) => error,
    }
}

type Invocation = (Vec<CString>, Vec<CString>, Vec<CString>);

fn restrict(setup: &Setup<'_>, inner: Option<&Inner>) -> Result<Invocation, SealError> {
    let spec = setup.spec;
    if let Some(inner) = inner {
        inner.give_to_program()?;
    }
    let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
    if let Some(inner) = inner
        && inner.foreground
    {
        let _ = nix::unistd::tcsetpgrp(&inner.slave, nix::unistd::getpid());
    }
    umask(setup.umask);
    let cwd = go_to_start(setup)?;
    let env = environment(spec, &cwd);
    let candidates = candidates(&spec.argv, &env)?;
    let invocation = (
        c_strings(&spec.argv)?,
        c_strings(&joined(&env))?,
        candidates,
    );
    if spec.has(Layer::Descriptors) {
        sys::close_on_exec_from(3).context(Layer::Descriptors, "cannot close descriptors")?;
    }
    if spec.has(Layer::Landlock) && spec.tier != Tier::C {
        let mut allowed = setup.plan.write_allowed(spec.tier);
        allowed.extend(own_files());
        rules::restrict_writes(&WriteRules {
            allowed,
            scopes_redundant: scopes_redundant(spec),
        })?;
    }
    sys::default_action(libc::SIGPIPE);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&setup.mask), None)
        .context(Layer::Program, "cannot set signals")?;
    if let Some(filter) = &setup.filter
        && spec.has(Layer::Seccomp)
    {
        rules::restrict_calls(filter)?;
    }
    Ok(invocation)
}

/// Returns the files that the caller has redirected to: what is open for writing may also be opened by its name,
/// `/dev/stderr`.
fn own_files() -> impl Iterator<Item = PathBuf> {
    let streams = [sys::standard_stream::<1>(), sys::standard_stream::<2>()];
    let is_file = |stream| {
        let found = nix::sys::stat::fstat(stream);
        let flags = nix::fcntl::fcntl(stream, nix::fcntl::FcntlArg::F_GETFL).unwrap_or_default();
        // One without a name left (a memory file, say) lies beneath nothing that a rule could name.
        found.is_ok_and(|found| found.st_mode & libc::S_IFMT == libc::S_IFREG && found.st_nlink > 0)
            && flags & libc::O_ACCMODE != libc::O_RDONLY
    };
    let files = streams.into_iter().filter(move |stream| is_file(*stream));
    files.map(|stream| PathBuf::from(format!("/proc/self/fd/{}", stream.as_raw_fd())))
}

/// Says why nothing could be run under the program's name, as far as it can be known before it is tried.
pub(super) fn look_up(setup: &Setup<'_>) -> Result<(), SealError> {
    let cwd = go_to_start(setup)?;
    let candidates = candidates(&setup.spec.argv, &environment(setup.spec, &cwd))?;
    let mut last = Errno::ENOENT;
    for path in &candidates {
        match nix::unistd::access(path.as_c_str(), AccessFlags::X_OK) {
            Ok(()) => return Ok(()),
            Err(errno) if is_nowhere(path, errno, candidates.len()) => {}
            Err(errno) => last = errno,
        }
    }
    Err(cannot_run(&setup.spec.argv, last))
}

/// Goes to the directory where the program starts.
fn go_to_start(setup: &Setup<'_>) -> Result<PathBuf, SealError> {
    let spec = setup.spec;
    let standing = setup.plan.standing(spec.tier);
    match spec.cwd.strip_prefix(&setup.plan.repo) {
        Ok(below) if below != Path::new("") => change_directory(&standing.join(below), standing),
        Ok(_) => change_directory(standing, standing),
        Err(_) => change_directory(&spec.cwd, standing),
    }
}

/// Whether the namespaces and the socket filter do what Landlock's scopes would.
fn scopes_redundant(spec: &Spec) -> bool {
    let standing = [Layer::PidNamespace, Layer::IpcNamespace, Layer::Seccomp];
    spec.tier == Tier::A && !spec.unix_sockets && standing.iter().all(|layer| spec.has(*layer))
}

/// Changes to the directory asked for, or to its nearest ancestor that the view has, or to the repository.
fn change_directory(wanted: &Path, repo: &Path) -> Result<PathBuf, SealError> {
    let above = wanted
        .ancestors()
        .skip(1)
        .filter(|directory| directory.starts_with(repo));
    for directory in [wanted].into_iter().chain(above).chain([repo]) {
        if nix::unistd::chdir(directory).is_ok() {
            return Ok(directory.to_owned());
        }
    }
    Err(SealError::new(
        Layer::View,
        format!("cannot enter {}", repo.display()),
    ))
}

type Environment = Vec<(OsString, OsString)>;

fn environment(spec: &Spec, cwd: &Path) -> Environment {
    let own = ["PWD", "OLDPWD", "GOVFS", "PATH"];
    let mut env: Environment = spec
        .env
        .iter()
        .filter(|(key, _)| !own.iter().any(|name| key == name))
        .cloned()
        .collect();
    let rest = spec
        .env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.clone());
    let mut path = match (spec.tier, spec.program.parent()) {
        (Tier::B | Tier::C, Some(directory)) => directory.as_os_str().to_owned(),
        _ => OsString::from(plan::PROGRAM_DIRECTORY),
    };
    path.push(":");
    path.push(rest.unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin")));
    env.push(("PATH".into(), path));
    env.push(("PWD".into(), cwd.into()));
    env.push(("OLDPWD".into(), cwd.into()));
    env.push(("GOVFS".into(), "1".into()));
    env
}

fn joined(env: &Environment) -> Vec<OsString> {
    env.iter()
        .map(|(key, value)| {
            let mut line = key.clone();
            line.push("=");
            line.push(value);
            line
        })
        .collect()
}

fn c_strings(list: &[OsString]) -> Result<Vec<CString>, SealError> {
    list.iter().map(|item| c_string(item)).collect()
}

fn c_string(text: &OsStr) -> Result<CString, SealError> {
    CString::new(text.to_owned().into_vec())
        .map_err(|_| SealError::new(Layer::Program, "an argument or variable has a NUL byte"))
}

/// Returns the files to try, as `execvp` would look for them in the view's own `PATH`.
fn candidates(argv: &[OsString], env: &Environment) -> Result<Vec<CString>, SealError> {
    let Some(name) = argv.first() else {
        return Err(SealError::new(Layer::Program, "no program was named"));
    };
    if name.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(name)?]);
    }
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, value)| value.clone())
        .unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .map(|directory| c_string(directory.join(name).as_os_str()))
        .collect()
}

/// Returns why none of the candidates could be executed.
fn exec_first(argv: &[CString], env: &[CString], candidates: &[CString]) -> Errno {
    let mut last = Errno::ENOENT;
    for path in candidates {
        let errno = match sys::exec(path, argv, env) {
            // A script without an interpreter line is the shell's, as for every other caller of execvp.
            Errno::ENOEXEC => {
                let mut shell = vec![c"/bin/sh".to_owned(), path.clone()];
                shell.extend(argv.iter().skip(1).cloned());
                sys::exec(c"/bin/sh", &shell, env)
            }
            errno => errno,
        };
        if !is_nowhere(path, errno, candidates.len()) {
            last = errno;
        }
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) {
            break;
        }
    }
    last
}

/// Says whether a candidate is just not there. So it is in a directory of `PATH` that may not be entered.
fn is_nowhere(path: &CStr, errno: Errno, candidates: usize) -> bool {
    let unseen = || nix::unistd::access(path, AccessFlags::F_OK).is_err();
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR)
        || (errno == Errno::EACCES && candidates > 1 && unseen())
}

fn cannot_run(argv: &[OsString], errno: Errno) -> SealError {
    let name = argv.first().map_or(&[][..], |name| name.as_bytes());
    let is_path = name.contains(&b'/');
    let what = format!("cannot run {}", shell::word(name));
    let failed = SealError::errno(Layer::Program, &what, errno);
    match errno {
        Errno::ENOENT if is_path => failed.fix(
            "inside there is no such file, or none that its first line names; what is hidden or private is absent there",
        ),
        Errno::ENOENT => {
            failed.fix("no directory of PATH has it inside, where what is hidden is absent: give its whole path")
        }
        Errno::EACCES => failed.fix(
            "it has to be a file that may be executed, in directories that the run may enter",
        ),
        _ => failed,
    }
}
