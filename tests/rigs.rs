//! The scripts around the product can be read by what runs them, and say what they are for.

#![expect(clippy::unwrap_used, reason = "a test says what it found by failing")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::House;
use yaml_rust2::{Yaml, YamlLoader};

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")
}

/// Every script with the program that its first line names.
fn each() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for dir in [scripts(), scripts().join("rig")] {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let Ok(text) = fs::read_to_string(&path) else {
                continue;
            };
            let first = text.lines().next().unwrap_or_default().to_owned();
            let python = path.extension().is_some_and(|ending| ending == "py");
            if first.starts_with("#!") || python {
                let runner = if python || first.contains("python3") {
                    "python3"
                } else {
                    "bash"
                };
                found.push((path, runner.to_owned()));
            }
        }
    }
    assert!(found.len() > 8, "{found:?}");
    found
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn every_script_can_be_read_by_what_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    for (path, runner) in each() {
        let mut check = Command::new(&runner);
        if runner == "python3" {
            let compile = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)";
            check
                .args(["-c", compile])
                .arg(&path)
                .arg(dir.path().join("out"));
        } else {
            check.arg("-n").arg(&path);
        }
        let output = check.output().unwrap();
        assert!(
            output.status.success(),
            "{}: {}",
            path.display(),
            said(&output)
        );
    }
}

#[test]
fn the_rigs_say_how_they_are_called() {
    for (name, word) in [
        ("faults", "--rounds"),
        ("conformance", "--quick"),
        ("bench", "--quick"),
        ("release", "--clean"),
        ("test", "FILTER"),
    ] {
        let output = Command::new(scripts().join(name))
            .arg("--help")
            .output()
            .unwrap();
        let text = said(&output);
        assert!(output.status.success(), "{name}: {text}");
        assert!(text.contains(word), "{name}: {text}");
    }
}

#[test]
fn a_wrong_word_is_a_usage_error() {
    for (name, words) in [
        ("faults", ["--only", "no-such-fault"]),
        ("release", ["--no-such-option", ""]),
    ] {
        let output = Command::new(scripts().join(name))
            .args(words)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {}", said(&output));
    }
}

fn workflow(path: &str) -> Yaml {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let documents = YamlLoader::load_from_str(&text).unwrap();
    assert_eq!(documents.len(), 1, "{path}");
    documents[0].clone()
}

/// Returns the lines that a job's steps run.
fn steps(job: &Yaml) -> Vec<String> {
    let steps = job["steps"].as_vec().unwrap();
    let lines = steps.iter().filter_map(|step| step["run"].as_str());
    lines.map(str::to_owned).collect()
}

#[test]
fn workflows_and_containers_say_what_fuse_needs() {
    let ci = workflow(".github/workflows/ci.yml");
    let lines = steps(&ci["jobs"]["test"]).join("\n");
    assert!(
        lines.contains(".ci/run") && lines.contains("fuse"),
        "{lines}"
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".devcontainer/devcontainer.json");
    let text = fs::read_to_string(path).unwrap();
    let plain: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let container: serde_json::Value = serde_json::from_str(&plain.concat()).unwrap();
    let flags = container["runArgs"].to_string();
    assert!(
        flags.contains("/dev/fuse") && flags.contains("SYS_ADMIN"),
        "{flags}"
    );
}

#[test]
fn the_example_workflow_verifies_a_pull_request() {
    let house = House::with(&[("a.txt", "a\n")]);
    house.work("al", "a.txt", "echo b > a.txt");
    house.ok(&["merge", "al"]);
    house.ok(&["export", "--ref"]);
    // What a checkout of a pull request is: no branch of its own, its remote's, and a commit on top.
    let clone = house.path("clone");
    house.git(&["clone", "-q", "--no-local", ".", &clone.to_string_lossy()]);
    let there = |line: &str| {
        let path = std::env::var("PATH").unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_govfs")).parent().unwrap();
        let output = house
            .hermetic("sh", &clone)
            .args(["-ec", line])
            .env("PATH", format!("{}:{path}", program.display()))
            .output()
            .unwrap();
        (output.status.code().unwrap(), said(&output))
    };
    there(
        "git checkout -q --detach && git branch -qD main && git commit -q --allow-empty -m 'a request'",
    );
    let example = workflow(".github/examples/verify-pull-request.yml");
    let lines = steps(&example["jobs"]["verify"]);
    let own: Vec<&String> = lines
        .iter()
        .filter(|line| !line.contains("install"))
        .collect();
    for line in &own {
        let (status, text) = there(line);
        assert_eq!(status, 0, "{line}: {text}");
    }
    let (_, text) = there("govfs verify --ref");
    assert!(text.contains("1 merge commits state it"), "{text}");
    // A request that brings a trailer of its own making.
    let forged = format!("Govfs-Checkpoint: x 2 {}=", "A".repeat(43));
    there(&format!(
        "git commit -q --allow-empty -m 'a merge' -m '{forged}'"
    ));
    let (status, text) = there(own.last().unwrap());
    assert_eq!(status, 4, "{text}");
}
