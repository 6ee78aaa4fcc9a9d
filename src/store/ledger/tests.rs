//! The database against the fold, and what happens when it is tampered with or full.

mod overlaps;

use std::cell::Cell;
use std::path::Path;

use super::*;
use crate::domain::claim::{Ask, CONFLICTS_MAX, conflicts};
use crate::domain::command::{Command, Need, Refusal};
use crate::domain::digest::Digest;
use crate::domain::entry::Chain;
use crate::domain::event::{CharterSet, CharterSource, Draft, Entry, Event, Mode};
use crate::domain::names::AgentName;
use crate::domain::pattern::Pattern;
use crate::domain::state::{Kind, State};
use crate::domain::time::{Now, Timestamp};

const CHARTER: &str = include_str!("../../../governor.md");

thread_local! {
    static MS: Cell<u64> = const { Cell::new(1) };
}

/// A clock that a test sets; it may stand still, and entries' times still grow.
fn clock() -> Now {
    let ms = MS.get();
    Now {
        ts: Timestamp(i64::try_from(ms).expect("fits") * 1_000_000),
        boot: "boot".to_owned(),
        boot_ms: ms,
    }
}

fn raw(ledger: &mut Ledger) -> &mut Connection {
    ledger.connection().expect("open")
}

fn ledger(dir: &Path) -> Ledger {
    let mut ledger = Ledger::create(dir).expect("made");
    let mut turn = ledger.turn(&clock).expect("a turn");
    let set = CharterSet {
        sha256: Digest::of(CHARTER.as_bytes()),
        source: CharterSource::Init,
        text: CHARTER.to_owned(),
    };
    turn.append(&Draft::new(Event::Charter(set)))
        .expect("appended");
    turn.commit().expect("committed");
    ledger
}

fn ask(who: &str, what: &[&str]) -> Ask {
    let agent: AgentName = who.parse().expect("a name");
    let patterns = what
        .iter()
        .map(|text| Pattern::parse(text.as_bytes()).expect(text))
        .collect();
    Ask::new(agent, Mode::Write, patterns)
}

fn run(ledger: &mut Ledger, command: &Command) -> Option<Refusal> {
    let mut turn = ledger.turn(&clock).expect("a turn");
    let refusal = turn.command(command).expect("decided");
    turn.commit().expect("committed");
    refusal
}

/// Folds all lines from nothing; the chain must hold.
fn fold(ledger: &mut Ledger) -> Result<State, LedgerError> {
    let lines = ledger.lines()?;
    let mut chain = Chain::new(Digest::ZERO);
    let mut state = State::default();
    lines.forward(0, &mut |_, bytes| {
        let (line, leaf) = chain.push(bytes)?;
        state.apply(&Entry::from_line(&line, leaf)?);
        Ok(true)
    })?;
    let (end, _) = lines.tail()?;
    assert_eq!((end.seq(), end.prev()), (chain.seq(), chain.prev()));
    match lines.compare(&state)? {
        None => Ok(state),
        Some(difference) => Err(LedgerError::Damaged(difference)),
    }
}

#[test]
fn the_projections_are_the_fold_after_every_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    let mut short = ask("carol", &["tmp/**"]);
    short.ttl_ms = Some(10);
    let steps = [
        (Command::Claim(ask("alice", &["src", "docs/**"])), true),
        (Command::Claim(ask("bob", &["src/a.rs"])), false),
        (Command::Claim(short), true),
        (Command::Claim(ask("bob", &["**/x.md"])), false),
        (Command::Claim(ask("bob", &["lib/x.md"])), true),
        (Command::Claim(ask("alice", &["src"])), true),
        (
            Command::Renew {
                agent: "alice".parse().expect("a name"),
            },
            true,
        ),
        (
            Command::Release {
                agent: "alice".parse().expect("a name"),
                patterns: Vec::new(),
                cut: None,
            },
            true,
        ),
        (Command::Claim(ask("bob", &["tmp/x"])), true),
        (Command::Claim(ask("dave", &["s?c", "doc*/**"])), true),
        (Command::Claim(ask("erin", &["src/a"])), true),
    ];
    for (at, (command, allowed)) in steps.into_iter().enumerate() {
        MS.set(1 + at as u64 * 5);
        let refusal = run(&mut ledger, &command);
        assert_eq!(refusal.is_none(), allowed, "{command:?}: {refusal:?}");
        fold(&mut ledger).expect("projections are the fold");
    }
}

#[test]
fn a_claim_that_is_filed_under_another_name_is_found() {
    for change in [
        "agent = 'mallory'",
        "mode = 1 - mode",
        "prefix = x'00'",
        "boot_end = boot_end + 1",
        "ts_end = 0",
        "literal = 1 - literal",
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ledger = ledger(dir.path());
        run(&mut ledger, &Command::Claim(ask("alice", &["src"])));
        fold(&mut ledger).expect("projections are the fold");
        let sql = format!("UPDATE claim SET {change}");
        raw(&mut ledger).execute(&sql, []).expect(change);
        assert!(fold(&mut ledger).is_err(), "{change}");
    }
}

#[test]
fn a_turn_that_is_dropped_has_never_been() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    let mut turn = ledger.turn(&clock).expect("a turn");
    turn.command(&Command::Claim(ask("alice", &["src"])))
        .expect("decided");
    drop(turn);
    assert!(fold(&mut ledger).expect("whole").claims.is_empty());
}

#[test]
fn entries_cannot_be_changed_by_accident() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    for sql in ["UPDATE entry SET line = x'00'", "DELETE FROM entry"] {
        let error = raw(&mut ledger).execute(sql, []).expect_err(sql);
        assert!(error.to_string().contains("append-only"), "{error}");
    }
}

#[test]
fn rows_changed_behind_the_ledgers_back_are_found() {
    let tamperings = [
        (
            "UPDATE item SET body = CAST(replace(CAST(body AS TEXT), 'role', 'rule') AS BLOB) WHERE kind = 'agent'",
            "fold",
        ),
        ("DELETE FROM claim", "fold"),
        (
            "UPDATE claim SET body = CAST(replace(CAST(body AS TEXT), '\"write\"', '\"read\"') AS BLOB)",
            "fold",
        ),
        (
            "INSERT INTO item VALUES ('agent', 'eve', CAST('{}' AS BLOB))",
            "fold",
        ),
        ("DELETE FROM entry WHERE seq = 2", "chain"),
        (
            "DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)",
            "tail",
        ),
        (
            "UPDATE entry SET seq = 100 - seq WHERE seq IN (1, 99)",
            "chain",
        ),
        (
            "UPDATE entry SET line = (SELECT line FROM entry WHERE seq = 1) WHERE seq = 2",
            "chain",
        ),
        (
            "UPDATE entry SET line = CAST(replace(CAST(line AS TEXT), 'src', 'lib') AS BLOB) WHERE seq = 2",
            "chain",
        ),
        (
            "INSERT INTO entry SELECT seq + 1, line, leaf FROM entry ORDER BY seq DESC LIMIT 1",
            "chain",
        ),
    ];
    for (sql, kind) in tamperings {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ledger = ledger(dir.path());
        run(&mut ledger, &Command::Claim(ask("alice", &["src"])));
        run(&mut ledger, &Command::Claim(ask("bob", &["docs"])));
        let guards = "DROP TRIGGER entry_stays; DROP TRIGGER entry_lasts;";
        raw(&mut ledger).execute_batch(guards).expect("dropped");
        let changed = raw(&mut ledger).execute(sql, []).expect(sql);
        assert!(changed > 0, "{sql}");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fold(&mut ledger)));
        let found = match result {
            Ok(Err(LedgerError::Damaged(_) | LedgerError::Row(_))) => "fold",
            Ok(Err(LedgerError::Chain(_))) => "chain",
            Ok(Err(LedgerError::Tail(_))) => "tail",
            other => panic!("{sql}: {other:?}"),
        };
        assert_eq!(found, kind, "{sql}");
    }
}

#[test]
fn a_full_disk_leaves_the_ledger_valid_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    run(&mut ledger, &Command::Claim(ask("alice", &["src"])));
    let pages: i64 = raw(&mut ledger)
        .query_row("PRAGMA page_count", [], |row| row.get(0))
        .expect("counted");
    raw(&mut ledger)
        .pragma_update(None, "max_page_count", pages)
        .expect("limited");
    let many: Vec<String> = (0..500)
        .map(|n| format!("some/long/path/number/{n}"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut turn = ledger.turn(&clock).expect("a turn");
    let failed = match turn.command(&Command::Claim(ask("bob", &many))) {
        Ok(_) => turn.commit().map(drop),
        Err(error) => {
            drop(turn);
            Err(error)
        }
    };
    assert!(matches!(failed, Err(LedgerError::Full)), "{failed:?}");
    assert_eq!(
        failed.expect_err("full").to_string(),
        "the disk is full: nothing was recorded"
    );
    raw(&mut ledger)
        .pragma_update(None, "max_page_count", 1_000_000)
        .expect("lifted");
    assert_eq!(fold(&mut ledger).expect("whole").claims.len(), 1);
    assert_eq!(run(&mut ledger, &Command::Claim(ask("bob", &many))), None);
    fold(&mut ledger).expect("whole");
}

#[test]
fn a_newer_store_and_a_foreign_file_are_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut made = ledger(dir.path());
    raw(&mut made)
        .pragma_update(None, "user_version", FORMAT + 1)
        .expect("set");
    drop(made);
    assert!(matches!(
        Ledger::open(dir.path()),
        Err(LedgerError::Newer { found, known: FORMAT }) if found == FORMAT + 1
    ));
    for name in [FILE, "ledger.db-wal", "ledger.db-shm"] {
        let gone = std::fs::remove_file(dir.path().join(name));
        assert!(gone.is_ok() || name != FILE, "{gone:?}");
    }
    assert!(matches!(
        Ledger::open(dir.path()),
        Err(LedgerError::NotThere(_))
    ));
    std::fs::write(dir.path().join(FILE), b"something else, and long enough").expect("written");
    assert!(matches!(
        Ledger::open(dir.path()),
        Err(LedgerError::Damaged(_) | LedgerError::Foreign(_))
    ));
}

#[test]
fn the_queue_keeps_its_order_and_forgets_the_dead() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    let turn = ledger.turn(&clock).expect("a turn");
    let process = |pid| Process {
        pid,
        start: 7,
        boot: "boot".to_owned(),
    };
    for (pid, who) in [(1, "alice"), (2, "bob"), (3, "carol")] {
        let ask = ask(who, &["src"]);
        turn.join(&ask.agent, ask.mode, &ask.patterns, &process(pid))
            .expect("joined");
    }
    let names = |turn: &Turn<'_>, dead: u32| -> Vec<String> {
        let queue = turn
            .queue(&|process| process.pid != dead)
            .expect("the queue");
        queue
            .into_iter()
            .map(|waiting| waiting.agent.to_string())
            .collect()
    };
    assert_eq!(names(&turn, 0), ["alice", "bob", "carol"]);
    assert_eq!(names(&turn, 1), ["bob", "carol"]);
    assert_eq!(
        names(&turn, 0),
        ["bob", "carol"],
        "who died is gone for good"
    );
}

/// What format 1 had: claims without the ends of their patterns.
const CLAIMS_BEFORE: &str = "DROP TABLE claim;
CREATE TABLE claim (
    id INTEGER PRIMARY KEY, agent TEXT NOT NULL, mode INTEGER NOT NULL, pattern BLOB NOT NULL,
    prefix BLOB NOT NULL, boot TEXT NOT NULL, boot_end INTEGER NOT NULL, ts_end INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT;
INSERT INTO claim SELECT id, agent, mode, pattern, prefix, boot, boot_end, ts_end, body FROM temp.kept;
DROP TABLE temp.kept;
PRAGMA user_version = 1;";

#[test]
fn an_older_store_is_brought_forward_and_keeps_its_claims() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut made = ledger(dir.path());
    let mut turn = made.turn(&clock).expect("a turn");
    let claimed = turn.command(&Command::Claim(ask("alice", &["src/*.rs", "docs"])));
    assert_eq!(claimed.expect("decided"), None);
    turn.commit().expect("committed");
    let before = made.state(&[Need::All(Kind::Claim)]).expect("read").claims;
    raw(&mut made)
        .execute_batch("CREATE TEMP TABLE kept AS SELECT * FROM claim")
        .and_then(|()| raw(&mut made).execute_batch(CLAIMS_BEFORE))
        .expect("made old");
    drop(made);
    assert!(matches!(
        Ledger::open(dir.path()),
        Err(LedgerError::Older {
            found: 1,
            known: FORMAT
        })
    ));
    let mut now = Ledger::migrate(dir.path()).expect("brought forward");
    let after = now.state(&[Need::All(Kind::Claim)]).expect("read");
    assert!(after.claims.len() == 2 && after.claims == before);
    let mut turn = now.turn(&clock).expect("a turn");
    for pattern in ["**/*.rs", "src/a.rs", "**/x", "docs/b"] {
        let refused = turn.command(&Command::Claim(ask("bob", &[pattern])));
        assert!(refused.expect("decided").is_some(), "{pattern}");
    }
    for pattern in ["src/*.txt", "lib"] {
        let refused = turn.command(&Command::Claim(ask("bob", &[pattern])));
        assert_eq!(refused.expect("decided"), None, "{pattern}");
    }
    drop(turn);
    drop(now);
    Ledger::open(dir.path()).expect("it is of this format now");
}

#[test]
fn an_error_in_the_middle_of_a_turn_leaves_the_ledger_valid_and_is_said() {
    // Each breaks another step: the entry, a row, a claim, the end of the chain, the commit.
    for (event, table) in [
        ("INSERT", "entry"),
        ("INSERT", "item"),
        ("UPDATE", "item"),
        ("INSERT", "claim"),
        ("UPDATE", "tail"),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ledger = ledger(dir.path());
        run(&mut ledger, &Command::Claim(ask("alice", &["src"])));
        let before = ledger.lines().expect("lines").size().expect("size");
        let trap = format!(
            "CREATE TEMP TRIGGER trap BEFORE {event} ON main.{table} \
             BEGIN SELECT RAISE(ABORT, 'the disk said no'); END;"
        );
        raw(&mut ledger).execute_batch(&trap).expect("set");
        let mut turn = ledger.turn(&clock).expect("a turn");
        let command = Command::Claim(ask("bob", &["docs", "lib"]));
        let failed = match turn.command(&command) {
            Ok(_) => turn.commit().map(drop),
            Err(error) => {
                drop(turn);
                Err(error)
            }
        };
        let said = failed.expect_err("refused").to_string();
        for word in ["the disk said no", "nothing was recorded"] {
            assert!(said.contains(word), "{event} {table}: {said}");
        }
        raw(&mut ledger)
            .execute_batch("DROP TRIGGER trap")
            .expect("gone");
        let after = ledger.lines().expect("lines").size().expect("size");
        assert_eq!(after, before, "{event} {table}");
        assert_eq!(fold(&mut ledger).expect("whole").claims.len(), 1);
        assert_eq!(run(&mut ledger, &command), None, "{event} {table}");
        assert_eq!(fold(&mut ledger).expect("whole").claims.len(), 3);
    }
}

#[test]
fn the_size_counts_what_is_not_folded_back() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    let before = ledger.bytes();
    run(&mut ledger, &Command::Claim(ask("alice", &["src"])));
    assert!(ledger.bytes() > before);
}

#[test]
fn many_short_commands_leave_a_short_log() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(ledger(dir.path()));
    let (mut shortened, mut before) = (0, 0);
    for n in 0..60 {
        let mut ledger = Ledger::open(dir.path()).expect("opened");
        let path = format!("some/{n}");
        assert_eq!(
            run(&mut ledger, &Command::Claim(ask("alice", &[&path]))),
            None
        );
        drop(ledger);
        let log = std::fs::metadata(dir.path().join("ledger.db-wal"));
        let len = log.map_or(0, |meta| meta.len());
        assert!(len < schema::LOG_MAX, "{n}: {len}");
        shortened += u32::from(len < before);
        before = len;
    }
    assert!((2..30).contains(&shortened), "{shortened} times");
    let mut ledger = Ledger::open(dir.path()).expect("opened");
    assert_eq!(fold(&mut ledger).expect("whole").claims.len(), 60);
}

#[test]
fn a_refusal_names_every_holder_and_what_is_loaded_decides_as_all_would() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ledger = ledger(dir.path());
    let many: Vec<String> = (0..CONFLICTS_MAX + 40).map(|n| format!("a/{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    run(&mut ledger, &Command::Claim(ask("alice", &many)));
    for n in 0..30 {
        let (who, path) = (format!("b{}", n % 10), format!("b/{n}"));
        run(
            &mut ledger,
            &Command::Claim(ask(&who, &[&path, &format!("c/*{n}")])),
        );
    }
    for what in [&["**/x"][..], &["a", "**"], &["b/3", "c/*"]] {
        let asked = ask("newcomer", what);
        let refusal = run(&mut ledger, &Command::Claim(asked.clone())).expect("refused");
        let all = ledger.state(&[Need::All(Kind::Claim)]).expect("read");
        let full = conflicts(&all, &asked.agent, asked.mode, &asked.patterns);
        assert_eq!(refusal.conflicts, full, "{what:?}");
        let most = CONFLICTS_MAX + 10;
        assert!(full.len() <= most, "{what:?}: {}", full.len());
    }
    let all = ledger.state(&[Need::All(Kind::Claim)]).expect("read");
    let everything = ask("newcomer", &["**"]);
    let named = conflicts(&all, &everything.agent, Mode::Write, &everything.patterns);
    let holders: std::collections::BTreeSet<_> = named.iter().map(|one| &one.holder).collect();
    assert_eq!(holders.len(), 11, "everybody is named");
}
