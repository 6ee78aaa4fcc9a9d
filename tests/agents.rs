//! Real coding agents, sealed: each is installed from its registry, driven by a scripted model on the loopback
//! address, and works in the default charter's seal. What it claimed lands, what it did not is refused and
//! explained to it, and the merge promotes exactly the claimed changes. A registry that cannot be reached fails.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Ran, ran};
use serde_json::{Value, json};

/// An agent: what is installed, and how it is pointed at the endpoint and started.
struct Agent {
    name: &'static str,
    package: &'static str,
    /// The configuration below the home directory; `PORT` stands for the endpoint's.
    config: (&'static str, &'static str),
    env: &'static [&'static str],
    argv: &'static [&'static str],
}

const CODEX: Agent = Agent {
    name: "codex",
    package: "@openai/codex@0.169.0",
    config: (
        ".codex/config.toml",
        "model = \"scripted\"\nmodel_provider = \"local\"\n[model_providers.local]\nname = \"local\"\nbase_url = \"http://127.0.0.1:PORT/v1\"\nwire_api = \"responses\"\n",
    ),
    env: &[],
    argv: &[
        "codex",
        "exec",
        "--sandbox",
        "danger-full-access",
        "--skip-git-repo-check",
        "do it",
    ],
};

const OPENCODE: Agent = Agent {
    name: "opencode",
    package: "opencode-ai@1.18.33",
    config: (
        ".config/opencode/opencode.json",
        r#"{"model":"local/scripted","small_model":"local/scripted","autoupdate":false,"share":"disabled","provider":{"local":{"npm":"@ai-sdk/openai-compatible","name":"local","options":{"baseURL":"http://127.0.0.1:PORT/v1","apiKey":"x"},"models":{"scripted":{"name":"scripted","tool_call":true}}}}}"#,
    ),
    env: &[],
    argv: &["opencode", "run", "do it"],
};

const GEMINI: Agent = Agent {
    name: "gemini",
    package: "@google/gemini-cli@0.61.0",
    config: (
        ".gemini/settings.json",
        r#"{"security":{"auth":{"selectedType":"gemini-api-key"}},"privacy":{"usageStatisticsEnabled":false},"telemetry":{"enabled":false},"general":{"disableAutoUpdate":true,"enableAutoUpdate":false}}"#,
    ),
    env: &[
        "GEMINI_API_KEY=x",
        "GEMINI_CLI_TRUST_WORKSPACE=true",
        "GOOGLE_GEMINI_BASE_URL=http://127.0.0.1:PORT",
    ],
    argv: &["gemini", "-m", "scripted", "--yolo", "-p", "do it"],
};

const PI: Agent = Agent {
    name: "pi",
    package: "@mariozechner/pi-coding-agent@0.73.1",
    config: (
        ".pi/agent/models.json",
        r#"{"providers":{"local":{"baseUrl":"http://127.0.0.1:PORT/v1","api":"openai-completions","apiKey":"x","models":[{"id":"scripted"}]}}}"#,
    ),
    env: &[],
    argv: &[
        "pi",
        "--provider",
        "local",
        "--model",
        "scripted",
        "-p",
        "do it",
    ],
};

/// Agents of the registry that need more than the distribution's node get this one.
const NODE: &str = "node@22";
const NODE_MAJOR_MIN: u32 = 20;

/// What the scripted model does: two claimed changes, one that is not, a shell, the end.
fn steps() -> Value {
    json!([
        {"do": "write", "path": "docs/new.md", "text": "written\n"},
        {"do": "edit", "path": "src/a.txt", "old": "a", "new": "edited"},
        {"do": "edit", "path": "src/b.txt", "old": "b", "new": "evil"},
        {"do": "shell", "command": "echo shelled >> docs/new.md; echo evil > src/b.txt; govfs why src/b.txt; cat docs/new.md; pwd"},
        {"do": "say", "text": "finished"},
    ])
}

/// One agent's house: its home with the installation, which is kept, and a new repository.
struct Place {
    dir: PathBuf,
}

impl Place {
    fn new(agent: &Agent) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("agents")
            .join(agent.name);
        let place = Self { dir };
        place.install(agent);
        let _ = fs::remove_dir_all(place.root());
        // What an earlier run left in the home, all but the installation.
        for entry in fs::read_dir(place.home()).expect("a home").flatten() {
            if entry.file_name() != "app" {
                let path = entry.path();
                let gone = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
                gone.expect("removed");
            }
        }
        for (name, text) in [
            ("src/a.txt", "a\n"),
            ("src/b.txt", "b\n"),
            ("docs/guide.md", "guide\n"),
        ] {
            let path = place.root().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
            fs::write(path, text).expect("written");
        }
        place.git(&["init", "-q", "-b", "main"]);
        place.git(&["add", "-A"]);
        place.git(&["commit", "-q", "-m", "first"]);
        place.ok(&["init"]);
        place
    }

    fn home(&self) -> PathBuf {
        self.dir.join("home")
    }

    fn root(&self) -> PathBuf {
        self.dir.join("repo")
    }

    fn bin(&self) -> PathBuf {
        self.home().join("app/node_modules/.bin")
    }

    /// Installs the agent once; a later run finds it there.
    fn install(&self, agent: &Agent) {
        let app = self.home().join("app");
        let done = app.join("installed");
        if fs::read_to_string(&done).is_ok_and(|text| text == agent.package) {
            return;
        }
        fs::create_dir_all(&app).expect("a directory");
        let mut npm = Command::new("npm");
        npm.current_dir(&app)
            .env("npm_config_cache", self.dir.join("cache"))
            .args(["install", "--no-audit", "--no-fund", "--loglevel=error"])
            .arg("--prefix")
            .arg(&app)
            .arg(agent.package);
        if node_major() < NODE_MAJOR_MIN {
            npm.arg(NODE);
        }
        let installed = ran(npm.output().expect("npm starts"));
        assert_eq!(installed.status, 0, "{}: {installed:?}", agent.package);
        let _ = fs::remove_dir_all(self.dir.join("cache"));
        fs::write(done, agent.package).expect("written");
    }

    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .current_dir(self.root())
            .env_clear()
            .env("PATH", format!("{}:{path}", self.bin().display()))
            .env("HOME", self.home())
            .env("TERM", "xterm-256color")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .stdin(Stdio::null());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "op");
            command.env(format!("GIT_{who}_EMAIL"), "op@example.org");
        }
        command
    }

    fn govfs(&self, arguments: &[&str]) -> Ran {
        let mut command = self.command(env!("CARGO_BIN_EXE_govfs"));
        ran(command.args(arguments).output().expect("govfs starts"))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let ran = self.govfs(arguments);
        assert_eq!(ran.status, 0, "{arguments:?}: {ran:?}");
        ran.stdout
    }

    fn git(&self, arguments: &[&str]) -> String {
        let ran = ran(self
            .command("git")
            .args(arguments)
            .output()
            .expect("git starts"));
        assert_eq!(ran.status, 0, "git {arguments:?}: {ran:?}");
        ran.stdout
    }
}

/// Returns the distribution's node's major version; 0 where there is none.
fn node_major() -> u32 {
    let version = Command::new("node").arg("--version").output();
    let text = version.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let text = text.unwrap_or_default();
    let major = text.trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse().ok()).unwrap_or(0)
}

/// The scripted model, which ends with this value.
struct Endpoint {
    child: Child,
    port: String,
    log: PathBuf,
}

impl Endpoint {
    fn start(place: &Place) -> Self {
        let (script, log) = (place.dir.join("steps.json"), place.dir.join("log.jsonl"));
        fs::write(&script, steps().to_string()).expect("written");
        fs::write(&log, "").expect("written");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents/endpoint.py");
        let mut child = Command::new("python3")
            .arg(program)
            .args([&script, &log])
            .arg(place.root())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut port = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut port).expect("a port");
        let port = port.trim().to_owned();
        assert!(!port.is_empty(), "the endpoint did not start");
        Self { child, port, log }
    }

    /// Returns what the agent told the model after each step of the script.
    fn answers(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("a log");
        let lines = log
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line"));
        lines
            .filter(|line| !line["result"].is_null())
            .map(|line| {
                let result = &line["result"];
                result
                    .as_str()
                    .map_or_else(|| result.to_string(), str::to_owned)
            })
            .collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The whole way: install, run sealed, read what the model was told, merge.
fn works(agent: &Agent) {
    let place = Place::new(agent);
    let endpoint = Endpoint::start(&place);
    let (file, text) = agent.config;
    let config = place.home().join(file);
    fs::create_dir_all(config.parent().expect("a parent")).expect("a directory");
    fs::write(&config, text.replace("PORT", &endpoint.port)).expect("written");
    let report = place.dir.join("report.json");
    let report_text = report.display().to_string();

    let mut arguments = vec!["run", agent.name, "--claim", "docs", "--claim", "src/a.txt"];
    arguments.extend(["--report", &report_text]);
    let env: Vec<String> = agent
        .env
        .iter()
        .map(|one| one.replace("PORT", &endpoint.port))
        .collect();
    for one in &env {
        arguments.extend(["--env", one]);
    }
    arguments.push("--");
    arguments.extend(agent.argv);
    let run = place.govfs(&arguments);
    let answers = endpoint.answers();
    assert_eq!(run.status, 0, "{run:?}\n{answers:#?}");

    // The model was told that its third edit failed, and the shell and `govfs why` said why.
    assert_eq!(answers.len(), 4, "{answers:#?}");
    for (at, words) in [(0, "Success"), (1, "Success"), (2, "success")] {
        let positive = answers[at].contains(words) || answers[at].contains(&words.to_lowercase());
        assert_eq!(positive, at < 2, "step {at}: {answers:#?}");
    }
    let shell = &answers[3];
    for words in ["Permission denied", "src/b.txt", "claim", "shelled"] {
        assert!(shell.contains(words), "{words}: {shell}");
    }
    assert!(shell.contains(&*place.root().to_string_lossy()), "{shell}");

    // The report names what was changed and what was refused, and what would have allowed it.
    let report: Value =
        serde_json::from_slice(&fs::read(&report).expect("a report")).expect("a document");
    let changes = report["changes"].as_array().expect("changes");
    let changes: Vec<String> = changes
        .iter()
        .map(|one| format!("{} {}", one["status"], one["path"]).replace('"', ""))
        .collect();
    assert_eq!(changes, ["A docs/new.md", "M src/a.txt"], "{report:#}");
    let allowed = format!("govfs claim {} src/b.txt", agent.name);
    let denials = report["denials"].as_array().expect("denials");
    assert!(
        denials
            .iter()
            .any(|one| one["rule"] == "not-claimed" && one["command"] == allowed.as_str()),
        "{report:#}"
    );
    assert!(run.stderr.contains(&allowed), "{run:?}");

    // Nothing of the operator's moved; the merge promotes exactly the claimed changes.
    assert_eq!(place.git(&["status", "--porcelain"]), "");
    let before = place.git(&["rev-parse", "HEAD"]);
    place.ok(&["merge", agent.name]);
    let moved = place.git(&["diff", "--name-status", before.trim(), "main"]);
    assert_eq!(moved, "A\tdocs/new.md\nM\tsrc/a.txt\n");
    let show = |path: &str| place.git(&["show", &format!("main:{path}")]);
    assert_eq!(show("docs/new.md"), "written\nshelled\n");
    assert_eq!(show("src/a.txt"), "edited\n");
    assert_eq!(show("src/b.txt"), "b\n");
    place.ok(&["verify", "--deep"]);
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    assert!(!mounts.contains(&*place.root().to_string_lossy()));
}

#[test]
fn codex_works_sealed() {
    works(&CODEX);
}

#[test]
fn opencode_works_sealed() {
    works(&OPENCODE);
}

#[test]
fn gemini_works_sealed() {
    works(&GEMINI);
}

#[test]
fn pi_works_sealed() {
    works(&PI);
}
