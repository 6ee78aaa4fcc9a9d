//! Which programs a command line starts, by their names.
//!
//! Owns: looking through programs that only start another one (`env`, `npx`, `timeout`, a shell with a script). A word
//! counts only where a program's name stands: what is said to a program, a prompt say, names none.
//! Invariant: never fails; what it cannot follow starts nothing that it knows of.

/// A program that starts the one its line goes on with, and its options that take a word.
const LAUNCHERS: &[(&str, &[&str])] = &[
    ("bun", &[]),
    ("bunx", &["-p", "--package"]),
    ("chrt", &[]),
    ("command", &[]),
    ("corepack", &[]),
    ("deno", &[]),
    ("env", &["-u", "--unset", "-C", "--chdir"]),
    ("exec", &["-a"]),
    ("ionice", &["-c", "-n"]),
    ("nice", &["-n"]),
    ("node", &["-r", "--require", "--import", "--env-file"]),
    ("nohup", &[]),
    ("npm", &["-p", "--package"]),
    ("npx", &["-p", "--package"]),
    ("pipx", &["--spec"]),
    ("pnpm", &["--package"]),
    ("pnpx", &[]),
    ("setsid", &[]),
    ("stdbuf", &["-i", "-o", "-e"]),
    ("taskset", &[]),
    ("time", &["-f", "-o"]),
    ("timeout", &["-k", "-s"]),
    ("tsx", &[]),
    ("uv", &["--from", "--with", "-p", "--python"]),
    ("uvx", &["--from", "--with", "-p", "--python"]),
    ("xargs", &["-I", "-n", "-P", "-d"]),
    ("yarn", &[]),
];

/// What launchers are told to do with the program that follows.
const ORDERS: [&str; 5] = ["dlx", "exec", "run", "tool", "x"];

const SHELLS: [&str; 7] = ["ash", "bash", "dash", "fish", "ksh", "sh", "zsh"];

/// Words of a shell's own before a command.
const BEFORE: [&str; 9] = [
    "!", "do", "elif", "else", "if", "then", "until", "while", "{",
];

/// No deeper than anybody writes.
const DEPTH_MAX: usize = 8;

/// Returns the names of the programs that a command line starts, without directory, version and `.js`, outermost first.
pub fn started(argv: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    follow(argv, DEPTH_MAX, &mut found);
    found
}

fn follow(argv: &[String], depth: usize, found: &mut Vec<String>) {
    let assigns = |word: &&String| is_assignment(word) || BEFORE.contains(&word.as_str());
    let argv = &argv[argv.iter().take_while(assigns).count()..];
    let Some((program, rest)) = argv.split_first().filter(|_| depth > 0) else {
        return;
    };
    let name = name(program);
    if let Some((_, takes_word)) = LAUNCHERS.iter().find(|(known, _)| *known == name) {
        follow(&rest[launched(rest, takes_word)..], depth - 1, found);
    } else if SHELLS.contains(&name) {
        shell(rest, depth - 1, found);
    } else if name.starts_with("python") {
        python(rest, found);
    } else if name == "script" {
        let script = option_with(rest, 'c').into_iter();
        script.for_each(|script| in_script(script, depth - 1, found));
    }
    found.insert(0, name.to_owned());
}

/// Returns where the program begins in what a launcher is told.
fn launched(rest: &[String], takes_word: &[&str]) -> usize {
    let mut at = 0;
    while let Some(word) = rest.get(at) {
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        if takes_word.contains(&word.as_str()) {
            at += 2;
        } else if word.starts_with('-')
            || is_number
            || ORDERS.contains(&word.as_str())
            || is_assignment(word)
        {
            at += 1;
        } else {
            break;
        }
    }
    at.min(rest.len())
}

fn shell(rest: &[String], depth: usize, found: &mut Vec<String>) {
    match option_with(rest, 'c') {
        Some(script) => in_script(script, depth, found),
        // A script's file is a program, too.
        None => found.extend(
            rest.iter()
                .find(|word| !word.starts_with('-'))
                .map(|word| name(word).to_owned()),
        ),
    }
}

fn python(rest: &[String], found: &mut Vec<String>) {
    let module = option_with(rest, 'm').or_else(|| rest.iter().find(|word| !word.starts_with('-')));
    found.extend(module.map(|module| name(module).to_owned()));
}

/// Returns the word after the first option that holds this letter, before any word that is no option.
fn option_with(rest: &[String], letter: char) -> Option<&String> {
    let mut options = rest
        .iter()
        .enumerate()
        .take_while(|(_, word)| word.starts_with('-'));
    let has = |word: &str| !word.starts_with("--") && word.contains(letter);
    let (at, _) = options.find(|(_, word)| has(word))?;
    rest.get(at + 1)
}

fn in_script(script: &str, depth: usize, found: &mut Vec<String>) {
    for command in commands(script) {
        let mut inner = Vec::new();
        follow(&command, depth, &mut inner);
        found.append(&mut inner);
    }
}

/// Splits a shell's script into commands, and them into words. A substitution within quotes is a command as well.
fn commands(script: &str) -> Vec<Vec<String>> {
    let mut all = vec![Vec::new()];
    let mut word = String::new();
    let mut quotes = Vec::new(); // what is open: a quote, or a substitution in one
    let mut rest = script.chars().peekable();
    while let Some(c) = rest.next() {
        let quote = quotes.last().copied();
        match c {
            '\'' if quote == Some('\'') => drop(quotes.pop()),
            _ if quote == Some('\'') => word.push(c),
            '\\' => word.extend(rest.next()),
            '"' if quote == Some('"') => drop(quotes.pop()),
            '$' if quote == Some('"') && rest.peek() == Some(&'(') => {
                rest.next();
                quotes.push('(');
                end_command(&mut all, &mut word);
            }
            ')' if quote == Some('(') => {
                quotes.pop();
                end_command(&mut all, &mut word);
            }
            _ if quote == Some('"') => word.push(c),
            '"' | '\'' => quotes.push(c),
            ';' | '|' | '&' | '(' | ')' | '`' | '\n' => end_command(&mut all, &mut word),
            c if c.is_whitespace() => end_word(&mut all, &mut word),
            c => word.push(c),
        }
    }
    end_command(&mut all, &mut word);
    all
}

fn end_word(all: &mut [Vec<String>], word: &mut String) {
    if let Some(last) = all.last_mut().filter(|_| !word.is_empty()) {
        last.push(std::mem::take(word));
    }
}

fn end_command(all: &mut Vec<Vec<String>>, word: &mut String) {
    end_word(all, word);
    all.push(Vec::new());
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// The name of a program: `codex` of `/opt/bin/codex` and `@openai/codex@latest`, `gemini` of `gemini.js`.
fn name(word: &str) -> &str {
    let name = word.rsplit('/').next().unwrap_or(word);
    let name = name
        .split('@')
        .find(|part| !part.is_empty())
        .unwrap_or(name);
    name.strip_suffix(".js").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &[&str]) -> String {
        let line: Vec<String> = line.iter().map(ToString::to_string).collect();
        started(&line).join(" ")
    }

    #[test]
    fn a_program_is_found_where_its_name_stands() {
        for (line, found) in [
            (&["codex", "exec", "what did claude do"][..], "codex"),
            (&["/usr/local/bin/claude", "-p", "fix the cursor"], "claude"),
            (&["git", "log", "--grep", "cursor"], "git"),
            (&["npx", "-y", "@openai/codex@latest", "exec"], "npx codex"),
            (&["npx", "-p", "other", "claude-code"], "npx claude-code"),
            (
                &["uv", "tool", "run", "--from", "mistral-vibe", "vibe"],
                "uv vibe",
            ),
            (
                &["env", "-u", "X", "A=b", "nice", "-n", "5", "codex"],
                "env nice codex",
            ),
            (&["timeout", "-k", "5", "60s", "pi"], "timeout pi"),
            (
                &["stdbuf", "-oL", "node", "--no-warnings", "/opt/gemini.js"],
                "stdbuf node gemini",
            ),
            (&["python3", "-m", "aider"], "python3 aider"),
            (&["python3", "agent.py"], "python3 agent.py"),
            (
                &["script", "-qc", "codex 'a b'", "/dev/null"],
                "script codex",
            ),
            (&["A=b", "mini"], "mini"),
            (&["pip", "install", "pi"], "pip"),
            (&["env"], "env"),
            (&[], ""),
        ] {
            assert_eq!(of(line), found, "{line:?}");
        }
    }

    #[test]
    fn a_shells_script_is_looked_through() {
        for (script, found) in [
            ("cd src; claude -p 'the cursor; codex'", "sh cd claude"),
            ("echo claude >~/.claude/settings.json", "sh echo"),
            ("for x in *; do continue; done", "sh for continue done"),
            ("if true; then exec ~/bin/pi; fi", "sh true exec pi fi"),
            (
                "A=b codex | tee log && timeout 5 goose run",
                "sh codex tee timeout goose",
            ),
            ("echo \"$(claude -p 'x')\" \\; amp", "sh echo claude ;"),
            ("(crush)\nvibe &", "sh crush vibe"),
            ("bash -lc 'copilot -p x'", "sh bash copilot"),
            ("echo 'unclosed", "sh echo"),
        ] {
            assert_eq!(of(&["sh", "-c", script]), found, "{script}");
        }
        assert_eq!(of(&["bash", "/opt/bin/codex", "x"]), "bash codex");
        let deep = "sh -c ".repeat(20) + "codex";
        assert!(!of(&["sh", "-c", &deep]).is_empty());
    }
}
