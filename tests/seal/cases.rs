//! The cases by name.

use crate::bench::Bench;
use crate::bench::Caller;

pub(crate) type Case = (&'static str, fn());

pub(crate) fn all() -> Vec<Case> {
    vec![
        ("a_program_runs_at_the_repository_s_own_path", runs_in_place),
        ("the_exit_status_passes_through", exit_status),
        ("what_is_hidden_is_absent", hidden),
    ]
}

fn each(case: impl Fn(&Bench)) {
    for caller in Caller::all() {
        case(&Bench::new(caller));
    }
}

fn runs_in_place() {
    each(|bench| {
        let script = "pwd; echo $PWD $OLDPWD $GOVFS; ls; echo more >> claimed.txt; cat claimed.txt; \
            if echo evil 2>/dev/null > other.txt; then echo WRITTEN; fi; command -v govfs";
        let repo = bench.text("repo");
        let said = bench.answer(&bench.shell(script));
        let wanted = format!(
            "{repo}\n{repo} {repo} 1\nclaimed.txt\nother.txt\nclaimed\nmore\n/run/govfs/bin/govfs\n"
        );
        assert_eq!(said, wanted, "{:?}", bench.caller);
    });
}

fn exit_status() {
    each(|bench| {
        for (script, wanted) in [
            ("exit 0", 0),
            ("exit 7", 7),
            ("kill -TERM $$", 128 + 15),
            ("kill -KILL $$", 128 + 9),
        ] {
            assert_eq!(
                bench.run(&bench.shell(script)).status.code(),
                Some(wanted),
                "{:?} {script}",
                bench.caller
            );
        }
    });
}

fn hidden() {
    each(|bench| {
        for path in [
            "home/.ssh/id",
            "home/.config/govfs/key",
            "store/ledger.db",
            "repo/real.txt",
        ] {
            assert!(
                !bench.attack(&["read", &bench.text(path)], |_| {}),
                "{:?} reads {path}",
                bench.caller
            );
        }
        assert!(
            bench.attack(&["read", &bench.text("home/plain")], |_| {}),
            "{:?}: home is readable",
            bench.caller
        );
    });
}
