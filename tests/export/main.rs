//! Exports: verified, and tampered with in every way, by this program and by
//! `scripts/verify-export.py`, which shares nothing with it.

#![expect(
    clippy::unwrap_used,
    reason = "a helper that fails is a test that fails"
)]

mod flips;
mod tampering;

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use govfs::domain::checkpoint::{Checkpoint, Origin, PublicKey, SecretKey, signature_line};
use govfs::domain::digest::Digest;
use govfs::domain::entry::{Chain, Encoder, Head, Seal, encode, leaf};
use govfs::domain::export::{CHECKPOINT, KEY, LEDGER, README, charter_file, readme, session_file};
use govfs::domain::logop::{Actor, Bytes, LogOp};
use govfs::domain::path::RepoPath;
use govfs::domain::proof;
use govfs::domain::proof::Tree;
use govfs::domain::time::Timestamp;
use govfs::store::exported;

const NOW: Timestamp = Timestamp(1_795_156_200_000_000_000);

/// An export in memory: its files.
#[derive(Clone, Debug)]
struct Export {
    ledger: Vec<Vec<u8>>,
    sessions: Vec<(String, Vec<Vec<u8>>)>,
    note: Vec<u8>,
    key: Vec<u8>,
}

fn secret() -> SecretKey {
    SecretKey::of_bytes(&[7; 32])
}

fn origin() -> Origin {
    Origin::of_random([0xC0; 16])
}

/// A ledger that grows by the writer's own rules.
struct Ledger {
    lines: Vec<Vec<u8>>,
    chain: Chain,
}

impl Ledger {
    fn add(&mut self, op: &str, session: Option<&str>, body: &Value) -> Digest {
        let ts = self.chain.stamp(NOW);
        let head = Head {
            seq: self.chain.seq(),
            prev: self.chain.prev(),
            ts,
            op,
            agent: Some("alice"),
            session,
        };
        let body: Map<String, Value> = body.as_object().unwrap().clone();
        let line = encode(&head, &body).unwrap();
        self.chain.advance(leaf(&line), ts);
        self.lines.push(line);
        self.chain.prev()
    }
}

/// A session's log and the seals of its first `count` entries.
fn session_log(name: &str, first: Digest, count: u64) -> (Vec<Vec<u8>>, Vec<Seal>) {
    let mut encoder = Encoder::new(&"alice".parse().unwrap(), &name.parse().unwrap());
    let (mut chain, mut tree) = (Chain::new(first), Tree::new());
    let mut lines = Vec::new();
    let mut seals = Vec::new();
    for n in 0..=count {
        seals.push(Seal {
            count: n,
            head: chain.prev(),
            root: tree.root(),
        });
        let op = LogOp::Write {
            path: RepoPath::parse(format!("src/a b/é{n}.rs").as_bytes()).unwrap(),
            offset: n * 4096,
            len: 10,
            sha256: Digest::of(&n.to_be_bytes()),
            claim: 3,
            by: Actor {
                pid: 100,
                exe: (n == 0).then(|| Bytes(b"/bin/sh".to_vec())),
                start: (n == 0).then_some(5),
            },
        };
        let ts = chain.stamp(NOW);
        let entry = encoder.encode(n, &chain.prev(), ts, &op);
        if n < count {
            lines.push(entry.text[..entry.text.len() - 1].to_vec());
        }
        tree.push(entry.leaf);
        chain.advance(entry.leaf, ts);
    }
    (lines, seals)
}

/// A ledger of `entries` entries with two sessions; their last seals come last.
fn export(entries: u64, writes: u64) -> Export {
    let mut ledger = Ledger {
        lines: Vec::new(),
        chain: Chain::new(Digest::ZERO),
    };
    let charter = json!({"sha256": Digest::of(CHARTER).hex(), "text": "# Charté\n\u{7f}"});
    ledger.add("charter", None, &charter);
    let one = ledger.add("session", Some("alice-1"), &json!({"base": "00"}));
    let (first, first_seals) = session_log("alice-1", one, writes);
    let two = ledger.add("session", Some("alice-2"), &json!({"base": "00"}));
    let (second, second_seals) = session_log("alice-2", two, writes / 2);
    ledger.add("session", Some("empty-1"), &json!({}));
    let seal = |ledger: &mut Ledger, name: &str, seals: &[Seal], count: u64| {
        let seal = seals[usize::try_from(count).unwrap()];
        ledger.add("seal", Some(name), &serde_json::to_value(seal).unwrap());
    };
    seal(&mut ledger, "alice-1", &first_seals, 0);
    seal(&mut ledger, "alice-1", &first_seals, writes / 3);
    while ledger.chain.seq() < entries - 2 {
        let n = ledger.chain.seq();
        let claims = json!([{"id": n, "pattern": "src/**", "mode": "write", "generation": 1}]);
        ledger.add(
            "claim",
            None,
            &json!({"claims": claims, "decision": "allow"}),
        );
    }
    seal(&mut ledger, "alice-2", &second_seals, writes / 2);
    seal(&mut ledger, "alice-1", &first_seals, writes);
    let mut export = Export {
        ledger: ledger.lines,
        sessions: vec![("alice-1".into(), first), ("alice-2".into(), second)],
        note: Vec::new(),
        key: secret().public().der(),
    };
    export.sign();
    export
}

const CHARTER: &[u8] = b"# Charter\n";

impl Export {
    fn checkpoint(&self) -> Checkpoint {
        let leaves: Vec<Digest> = self.ledger.iter().map(|line| leaf(line)).collect();
        Checkpoint {
            origin: origin(),
            size: self.ledger.len() as u64,
            root: proof::root(&leaves),
        }
    }

    /// Signs the ledger as it is: what whoever holds the key can do.
    fn sign(&mut self) {
        self.note = self.checkpoint().sign(&secret()).into_bytes();
    }

    /// Chains the ledger's lines anew from `from` on: what anybody can do.
    fn relink(&mut self, from: usize) {
        for at in from.max(1)..self.ledger.len() {
            let prev = leaf(&self.ledger[at - 1]).hex();
            let line = String::from_utf8(self.ledger[at].clone()).unwrap();
            let start = line.find("\"prev\":\"").unwrap() + 8;
            let line = format!("{}{prev}{}", &line[..start], &line[start + 64..]);
            self.ledger[at] = line.into_bytes();
        }
    }

    fn edit(&mut self, at: usize, from: &str, to: &str) {
        let line = String::from_utf8(self.ledger[at].clone()).unwrap();
        assert!(line.contains(from), "{line}");
        self.ledger[at] = line.replacen(from, to, 1).into_bytes();
    }

    fn write(&self, dir: &Path) {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir.join("sessions")).unwrap();
        fs::create_dir(dir.join("charters")).unwrap();
        let text = |lines: &[Vec<u8>]| -> Vec<u8> {
            lines
                .iter()
                .flat_map(|line| [line, &b"\n"[..]].concat())
                .collect()
        };
        fs::write(dir.join(LEDGER), text(&self.ledger)).unwrap();
        for (name, lines) in &self.sessions {
            fs::write(dir.join(session_file(name)), text(lines)).unwrap();
        }
        fs::write(dir.join(CHECKPOINT), &self.note).unwrap();
        fs::write(dir.join(KEY), &self.key).unwrap();
        fs::write(dir.join(charter_file(CHARTER)), CHARTER).unwrap();
        fs::write(dir.join(README), readme(&self.checkpoint())).unwrap();
    }
}

/// The fault that this program finds, as text; `None` where all is well.
fn found(dir: &Path) -> Option<String> {
    let trusted = secret().public();
    exported::verify(dir, Some(&trusted), &[])
        .err()
        .map(|error| error.to_string())
}

fn script() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/verify-export.py")
}

/// Whether the other program is content with `dir`.
fn python_accepts(dir: &Path, key: &Path) -> bool {
    let output = Command::new("python3")
        .arg(script())
        .args([dir, key])
        .output()
        .unwrap();
    output.status.success()
}

fn python_key(dir: &tempfile::TempDir) -> std::path::PathBuf {
    let key = dir.path().join("trusted.pub");
    fs::write(&key, secret().public().der()).unwrap();
    key
}

/// The files of an export, one of each kind.
fn files() -> [String; 6] {
    let fixed = [README, CHECKPOINT, KEY, LEDGER, "sessions/alice-1.jsonl"].map(str::to_owned);
    let [readme, checkpoint, key, ledger, session] = fixed;
    [
        readme,
        checkpoint,
        key,
        ledger,
        charter_file(CHARTER),
        session,
    ]
}

#[test]
fn the_verifier_in_another_language_is_short() {
    let text = fs::read_to_string(script()).unwrap();
    assert!(text.lines().count() <= 40);
    let imports = text
        .lines()
        .find(|line| line.starts_with("import"))
        .unwrap();
    for module in ["cryptography", "nacl", "requests"] {
        assert!(!imports.contains(module));
    }
}

#[test]
fn good_exports_are_accepted_by_both() {
    let dir = tempfile::tempdir().unwrap();
    let key = python_key(&dir);
    let at = dir.path().join("export");
    let mut witnessed = export(12, 5);
    let line = signature_line(
        "witness.example",
        &SecretKey::of_bytes(&[9; 32]),
        &witnessed.checkpoint().text(),
    );
    witnessed.note.extend_from_slice(line.as_bytes());
    for (name, good) in [
        ("large", export(200, 40)),
        ("small", export(8, 3)),
        ("nothing written", export(9, 0)),
        ("witnessed", witnessed),
    ] {
        good.write(&at);
        assert_eq!(found(&at), None, "{name}");
        assert!(python_accepts(&at, &key), "{name}");
        let verified = exported::verify(&at, None, &[]).unwrap();
        assert_eq!(verified.sessions, 3, "{name}");
    }
}

#[test]
fn the_public_key_is_one_that_openssl_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key.pub");
    let key: PublicKey = secret().public();
    fs::write(&path, key.der()).unwrap();
    let output = Command::new("openssl")
        .args(["pkey", "-pubin", "-inform", "DER", "-noout", "-text", "-in"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("ED25519 Public-Key"));
}
