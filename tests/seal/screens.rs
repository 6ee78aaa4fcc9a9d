//! Streams, and interactive programs, driven through a terminal as a person would.

use std::fs;
use std::io::Seek;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use nix::poll::PollFd;
use nix::poll::PollFlags;
use nix::poll::PollTimeout;
use nix::pty::Winsize;

use crate::bench::Bench;
use crate::bench::Caller;
use crate::cases::each;
use crate::helper::Job;

/// Nothing here takes long; this only ends a test that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// A terminal with a program in front.
struct Screen {
    master: OwnedFd,
    slave: OwnedFd,
    child: Child,
    seen: String,
}

fn size(rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Screen {
    fn open(command: &Command) -> Self {
        let pair = nix::pty::openpty(Some(&size(24)), None).expect("a terminal");
        for end in [&pair.master, &pair.slave] {
            let flag = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
            nix::fcntl::fcntl(end, flag).expect("a flag");
        }
        let side = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        let mut wrapped = Command::new("setsid");
        wrapped
            .args(["--ctty", "--wait"])
            .arg(command.get_program())
            .args(command.get_args());
        wrapped.env("TERM", "xterm").env("PS1", "outer> ");
        let child = wrapped
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("a program");
        Self {
            master: pair.master,
            slave: pair.slave,
            child,
            seen: String::new(),
        }
    }

    fn run(bench: &Bench, job: &Job) -> Self {
        Self::open(&bench.command(job))
    }

    fn keys(&self, keys: &str) {
        nix::unistd::write(&self.master, keys.as_bytes()).expect("typing");
    }

    /// Reads until a text appears, and forgets everything up to its end.
    fn until(&mut self, text: &str) {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                self.seen.drain(..at + text.len());
                return;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "{text:?} did not appear after {:?}",
                self.seen
            );
            self.read();
        }
    }

    fn read(&mut self) {
        let mut watched = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(1000).expect("a timeout");
        if nix::poll::poll(&mut watched, patience).expect("waiting") > 0 {
            let mut bytes = [0; 4096];
            let count = nix::unistd::read(&self.master, &mut bytes).unwrap_or(0);
            self.seen
                .push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn status(&mut self) -> Option<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("a status") {
                return status.code();
            }
            self.read();
        }
        self.child.kill().expect("an end");
        panic!("the program did not end after {:?}", self.seen);
    }

    fn resize(&self, rows: u16) {
        let rows = rows.to_string();
        let slave = Stdio::from(self.slave.try_clone().expect("a descriptor"));
        let done = Command::new("stty")
            .args(["rows", &rows])
            .stdin(slave)
            .status()
            .expect("stty");
        assert!(done.success());
    }

    fn settings(&self) -> String {
        let slave = Stdio::from(self.slave.try_clone().expect("a descriptor"));
        let output = Command::new("stty")
            .arg("-a")
            .stdin(slave)
            .output()
            .expect("stty");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

pub(crate) fn own_terminal() {
    each(|bench| {
        let mut screen = Screen::run(
            bench,
            &bench.shell("tty; stty size; test -t 0 && test -t 2 && echo both; exit 3"),
        );
        screen.until("/dev/pts/0");
        screen.until("24 80");
        screen.until("both");
        assert_eq!(screen.status(), Some(3), "{:?}", bench.caller);
    });
}

pub(crate) fn interrupt() {
    each(|bench| {
        let script = "trap 'echo caught; exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let mut screen = Screen::run(bench, &bench.shell(script));
        let before = screen.settings();
        screen.until("ready");
        screen.keys("\x03");
        screen.until("caught");
        assert_eq!(screen.status(), Some(5), "{:?}", bench.caller);
        assert_eq!(
            screen.settings(),
            before,
            "{:?}: the terminal is given back as it was",
            bench.caller
        );
    });
}

fn outer_shell() -> Command {
    let mut shell = Command::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    shell
}

fn quoted(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let quote =
        |word: &std::ffi::OsStr| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''"));
    words.map(quote).collect::<Vec<_>>().join(" ")
}

/// Writes the command into a script, so that the outer shell's echo stays short.
fn script(bench: &Bench, job: &Job, around: (&str, &str)) -> String {
    let path = bench.path("bin/go");
    let (before, after) = around;
    fs::write(
        &path,
        format!("{before}exec {}{after}\n", quoted(&bench.command(job))),
    )
    .expect("a script");
    format!("sh {}", path.display())
}

pub(crate) fn stop_and_go_on() {
    each(|bench| {
        let go = script(
            bench,
            &bench.shell("echo re''ady; read line; echo got $line; exit 6"),
            ("", ""),
        );
        let mut screen = Screen::open(&outer_shell());
        screen.until("outer> ");
        screen.keys(&format!("{go}\n"));
        screen.until("ready");
        screen.keys("\x1a");
        screen.until("Stopped");
        screen.until("outer> ");
        screen.keys("echo outer''most\n");
        screen.until("outermost");
        screen.keys("fg\n");
        screen.until(&go);
        screen.keys("hello\n");
        screen.until("got hello");
        screen.until("outer> ");
        screen.keys("echo status=$?; exit\n");
        screen.until("status=6");
        screen.status();
    });
}

pub(crate) fn brought_to_the_front() {
    each(|bench| {
        let job = bench.shell("echo re''ady; while read line; do echo got $line; done");
        let go = script(bench, &job, ("", ""));
        for ending in [" &", ""] {
            let mut screen = Screen::open(&outer_shell());
            screen.until("outer> ");
            screen.keys(&format!("{go}{ending}\n"));
            screen.until("ready");
            if ending.is_empty() {
                screen.keys("\x1a");
                screen.until("Stopped");
                screen.until("outer> ");
                screen.keys("bg\n");
            }
            screen.keys("echo outer''most\n");
            screen.until("outermost");
            screen.until("outer> ");
            // A shell says nothing to a job that runs already.
            screen.keys("fg\n");
            screen.until(&go);
            screen.keys("hello\n");
            screen.until("got hello");
            screen.keys("\x04");
            screen.until("outer> ");
            screen.keys("exit\n");
            screen.status();
        }
    });
}

pub(crate) fn inner_jobs() {
    each(|bench| {
        let mut job = bench.job(&["bash", "--norc", "--noprofile", "-i"]);
        job.env.insert("PS1".to_owned(), "inner> ".to_owned());
        job.env.insert("TERM".to_owned(), "xterm".to_owned());
        let mut screen = Screen::run(bench, &job);
        screen.until("inner> ");
        screen.keys("sh -c 'echo wait''ing; read line'\n");
        screen.until("waiting");
        screen.keys("\x1a");
        screen.until("Stopped");
        screen.until("inner> ");
        screen.keys("kill -KILL %1; wait; echo don''e\n");
        screen.until("done");
        // A shell that still counts its stopped job asks once more.
        screen.keys("exit 4\nexit 4\n");
        assert_eq!(screen.status(), Some(4), "{:?}", bench.caller);
        assert!(!screen.seen.contains("no job control"), "{}", screen.seen);
    });
}

pub(crate) fn editor() {
    each(|bench| {
        let file = bench.text("home/writable/text");
        let mut job = bench.job(&["vim", "-u", "NONE", "-n", &file]);
        job.env.insert("TERM".to_owned(), "xterm".to_owned());
        let mut screen = Screen::run(bench, &job);
        screen.until("[New");
        screen.keys("ihello from vim\x1b:wq\r");
        assert_eq!(screen.status(), Some(0), "{:?}", bench.caller);
        let written = bench.answer(&bench.job(&["cat", &file]));
        assert_eq!(written, "hello from vim\n", "{:?}", bench.caller);
    });
}

pub(crate) fn window_size() {
    each(|bench| {
        let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.05; done";
        let mut screen = Screen::run(bench, &bench.shell(script));
        screen.until("ready");
        screen.resize(50);
        screen.until("50 80");
        assert_eq!(screen.status(), Some(0), "{:?}", bench.caller);
    });
}

pub(crate) fn pipeline() {
    each(|bench| {
        let go = script(
            bench,
            &bench.shell("echo first; read line; echo got $line"),
            ("", " | cat"),
        );
        let mut screen = Screen::open(&outer_shell());
        screen.until("outer> ");
        let before = screen.settings();
        screen.keys(&format!("{go}\n"));
        screen.until("first");
        screen.keys("typed\r");
        screen.until("got typed");
        screen.until("outer> ");
        assert_eq!(
            screen.settings(),
            before,
            "{:?}: the terminal is given back as it was",
            bench.caller
        );
        screen.keys("exit\n");
        screen.status();
    });
}

pub(crate) fn hang_up() {
    each(|bench| {
        let mut job = bench.job(&["bash", "--norc", "--noprofile", "-i"]);
        job.env.insert("PS1".to_owned(), "inner> ".to_owned());
        let mut screen = Screen::run(bench, &job);
        screen.until("inner> ");
        let Screen {
            master,
            slave,
            mut child,
            ..
        } = screen;
        drop((master, slave));
        let start = Instant::now();
        while child.try_wait().expect("a status").is_none() {
            assert!(
                start.elapsed() < PATIENCE,
                "{:?}: a closed window ends the session",
                bench.caller
            );
            std::thread::yield_now();
        }
    });
}

pub(crate) fn streams() {
    each(|bench| {
        let job = bench.shell("echo out >/dev/stdout; echo err >/dev/stderr; exec cat /dev/stdin");
        // Others than root have pipes of their own, not these.
        if bench.caller != Caller::User {
            let mut child = bench.command(&job);
            child
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = child.spawn().expect("a run");
            let mut typed = child.stdin.take().expect("a pipe");
            typed.write_all(b"in\n").expect("written");
            drop(typed);
            let output = child.wait_with_output().expect("a run");
            assert_eq!(output.stdout, b"out\nin\n", "{:?} {output:?}", bench.caller);
            assert_eq!(output.stderr, b"err\n", "{:?} {output:?}", bench.caller);
        }
        // A file is opened with the rights of whoever opens it: a mapped agent has none over root's.
        if bench.caller == Caller::User {
            let log = bench.path("home/log");
            let file = || {
                fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&log)
                    .expect("a file")
            };
            let job = bench
                .shell("echo one; echo two >>/dev/stderr; exec 2>&-; echo three >>/dev/stdout");
            bench.own(&bench.path("home"));
            drop(file());
            bench.own(&log);
            let status = bench
                .command(&job)
                .stdin(Stdio::null())
                .stdout(file())
                .stderr(file())
                .status();
            assert!(status.expect("a run").success());
            assert_eq!(
                fs::read_to_string(&log).expect("a log"),
                "one\ntwo\nthree\n"
            );
        }
        // What is given to be read is not given to be changed, also where the agent owns it.
        let path = bench.path("home/given");
        fs::write(&path, "first\nsecond\n").expect("a file");
        bench.own(&path);
        let before = fs::metadata(&path).expect("a file");
        let mut file = fs::File::open(&path).expect("a file");
        let job = bench.shell(
            "chmod 777 /proc/self/fd/0; touch -d @1 /proc/self/fd/0; read line; echo got $line",
        );
        let stdin = file.try_clone().expect("a descriptor");
        let output = bench.command(&job).stdin(stdin).output().expect("a run");
        assert_eq!(
            output.stdout, b"got first\n",
            "{:?} {output:?}",
            bench.caller
        );
        let after = fs::metadata(&path).expect("a file");
        assert_eq!(
            (after.mode(), after.mtime()),
            (before.mode(), before.mtime()),
            "{:?}",
            bench.caller
        );
        assert_eq!(
            file.stream_position().expect("a place"),
            6,
            "{:?}",
            bench.caller
        );
        let directory = fs::File::open(bench.path("elsewhere")).expect("a directory");
        let output = bench
            .command(&bench.shell("ls /proc/self/fd/0/"))
            .stdin(directory)
            .output();
        let output = output.expect("a run");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(125), "{:?} {said}", bench.caller);
        assert!(said.contains("the standard input is a directory"), "{said}");
    });
}
