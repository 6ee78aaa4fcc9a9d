//! What holds where a charter says nothing.
//!
//! Owns: the lists. They let a newcomer work at once and keep an agent away from
//! what runs by itself (CI, hooks, other agents' instructions) and from secrets.

/// Changed by accident or by malice, these run programs or steer agents and reviewers.
pub(super) const SENSITIVE: &[&str] = &[
    "**/.gitmodules",
    "**/.gitattributes",
    "**/.lfsconfig",
    ".github/**",
    ".gitlab-ci.yml",
    ".gitlab/**",
    ".circleci/**",
    ".buildkite/**",
    ".forgejo/**",
    ".gitea/**",
    ".woodpecker{.yml,.yaml,/**}",
    ".drone.yml",
    ".travis.yml",
    ".cirrus.yml",
    ".ci/**",
    "Jenkinsfile",
    "azure-pipelines.yml",
    "bitbucket-pipelines.yml",
    ".pre-commit-config.yaml",
    ".husky/**",
    ".lefthook.yml",
    "lefthook.yml",
    ".envrc",
    ".mise.toml",
    ".devcontainer/**",
    ".vscode/**",
    ".idea/**",
    ".cargo/config{,.toml}",
    ".npmrc",
    ".mcp.json",
    "CODEOWNERS",
    "docs/CODEOWNERS",
    "**/CLAUDE{,.local}.md",
    "**/AGENTS{,.override}.md",
    "**/GEMINI.md",
    "**/.claude/**",
    "**/.codex/**",
    "**/.gemini/**",
    "**/.cursor/**",
    ".cursorrules",
    ".windsurfrules",
    ".windsurf/**",
    ".clinerules{,/**}",
    ".roo{,/**}",
    ".opencode/**",
    "opencode.json{,c}",
    ".aider.conf.yml",
    ".goosehints",
    ".junie/**",
];

/// Never worth merging, in any repository, ignored or not.
pub(super) const SCRATCH: &[&str] = &[
    "**/node_modules/**",
    "**/.venv/**",
    "**/__pycache__/**",
    ".aider*/**",
];

/// Where known agents keep their state and logins.
pub(super) const STATES: &[&str] = &[
    "~/.aider",
    "~/.augment",
    "~/.cache/opencode",
    "~/.claude",
    "~/.claude.json",
    "~/.cline",
    "~/.codex",
    "~/.config/amp",
    "~/.config/crush",
    "~/.config/cursor",
    "~/.config/goose",
    "~/.config/mini-swe-agent",
    "~/.config/opencode",
    "~/.continue",
    "~/.copilot",
    "~/.cursor",
    "~/.factory",
    "~/.gemini",
    "~/.kimi",
    "~/.local/share/amp",
    "~/.local/share/crush",
    "~/.local/share/goose",
    "~/.local/share/opencode",
    "~/.local/state/goose",
    "~/.local/state/opencode",
    "~/.openhands",
    "~/.pi",
    "~/.qwen",
    "~/.vibe",
];

/// Caches that tools write and that other programs trust.
pub(super) const COPIED: &[&str] = &[
    "~/.bun",
    "~/.cache",
    "~/.cargo/git",
    "~/.cargo/registry",
    "~/.gradle",
    "~/.m2",
    "~/.npm",
    "~/go/pkg",
];

pub(super) const HIDDEN: &[&str] = &[
    "~/.aws",
    "~/.azure",
    "~/.bash_history",
    "~/.cargo/credentials",
    "~/.cargo/credentials.toml",
    "~/.config/chromium",
    "~/.config/doctl",
    "~/.config/gcloud",
    "~/.config/gh",
    "~/.config/git/credentials",
    "~/.config/glab-cli",
    "~/.config/google-chrome",
    "~/.config/hub",
    "~/.config/op",
    "~/.config/sops",
    "~/.docker",
    "~/.git-credentials",
    "~/.gnupg",
    "~/.kube",
    "~/.local/share/keyrings",
    "~/.local/share/kwalletd",
    "~/.mozilla",
    "~/.my.cnf",
    "~/.netrc",
    "~/.npmrc",
    "~/.oci",
    "~/.password-store",
    "~/.pgpass",
    "~/.pypirc",
    "~/.ssh",
    "~/.terraform.d",
    "~/.vault-token",
    "~/.zsh_history",
];

/// What every program needs to find its way; passed whatever the charter lists.
pub(super) const ALWAYS: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_*",
    "TERM",
    "COLORTERM",
    "TZ",
    "EDITOR",
    "NO_COLOR",
];

/// The keys and end points of known agents by name, where tools are installed, and how to
/// reach the network. No sockets, and no keys of other services.
pub(super) const ENVIRONMENT: &[&str] = &[
    "ALL_PROXY",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_MODEL",
    "CARGO_HOME",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CONFIG_DIR",
    "CODEX_API_KEY",
    "CODEX_HOME",
    "DEEPSEEK_API_KEY",
    "GEMINI_API_KEY",
    "GEMINI_MODEL",
    "GOOGLE_API_KEY",
    "GOOGLE_GEMINI_BASE_URL",
    "GOPATH",
    "GROQ_API_KEY",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "JAVA_HOME",
    "MISTRAL_API_KEY",
    "MSWEA_CONFIGURED",
    "MSWEA_GLOBAL_CONFIG_DIR",
    "MSWEA_MODEL_NAME",
    "NODE_EXTRA_CA_CERTS",
    "NO_PROXY",
    "NVM_DIR",
    "OLLAMA_API_BASE",
    "OLLAMA_HOST",
    "OPENAI_API_BASE",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENCODE_CONFIG",
    "OPENROUTER_API_KEY",
    "PYENV_ROOT",
    "REQUESTS_CA_BUNDLE",
    "RUSTUP_HOME",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "VIRTUAL_ENV",
    "XAI_API_KEY",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_STATE_HOME",
    "all_proxy",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Which files are tests, by the customs of many languages.
pub(super) const TEST_FILES: &[&str] = &[
    "**/test{,s}/**",
    "**/__tests__/**",
    "**/spec/**",
    "**/test_*.py",
    "**/*_test.{py,go,rs,rb,c,cc,cpp,dart,exs}",
    "**/*_spec.rb",
    "**/*.{test,spec}.{js,jsx,ts,tsx,mjs,cjs}",
    "**/*{Test,Tests,IT,Spec}.{java,kt,scala,cs,swift,php}",
];

/// The validators of the plan types that are known from the start.
pub(super) const VALIDATORS: &[(&str, &[&str])] = &[
    ("docs", &["no-overlap"]),
    ("feature", &["no-overlap"]),
    ("fix", &["no-overlap"]),
    ("migration", &["no-overlap", "migration-order"]),
    ("refactor", &["no-overlap"]),
    ("test", &["no-overlap"]),
];

pub(super) const ROLE: &str = "agent";
pub(super) const TARGET: &str = "main";
pub(super) const TTL_MS: u64 = 8 * 3_600_000;
pub(super) const CHECK_MS: u64 = 10 * 60_000;
pub(super) const VALIDATOR_MS: u64 = 30_000;
pub(super) const FACT_MS: u64 = 10 * 60_000;
pub(super) const KEEP_MS: u64 = 90 * 86_400_000;
pub(super) const SEAL_ENTRIES: u32 = 1000;
pub(super) const SEAL_MS: u64 = 60_000;
