//! Programs that bring a sandbox of their own, and the switch that turns it off.
//!
//! Such a sandbox cannot be set up inside the seal (no namespaces, no mounts), or
//! takes away what the mount gives. Pure: words in, words out.

use std::ffi::OsString;
use std::path::Path;

/// One known program.
struct Engine {
    name: &'static str,
    /// Arguments that show that it is off already (or was never on).
    off: &'static [&'static str],
    advice: &'static str,
}

const ENGINES: [Engine; 8] = [
    Engine {
        name: "codex",
        off: &[
            "danger-full-access",
            "--dangerously-bypass-approvals-and-sandbox",
            "--yolo",
        ],
        advice: "turn it off with --sandbox danger-full-access (or sandbox_mode = \"danger-full-access\" in ~/.codex/config.toml)",
    },
    Engine {
        name: "claude",
        off: &[],
        advice: "if its sandbox is on, turn it off with /sandbox or --settings '{\"sandbox\":{\"enabled\":false}}'",
    },
    Engine {
        name: "gemini",
        off: &["--sandbox=false", "--no-sandbox"],
        advice: "if its sandbox is on, turn it off with --sandbox=false or GEMINI_SANDBOX=false",
    },
    Engine {
        name: "bwrap",
        off: &[],
        advice: "run the program without bwrap: the seal is around it already",
    },
    Engine {
        name: "srt",
        off: &[],
        advice: "run the program without srt: the seal is around it already",
    },
    Engine {
        name: "firejail",
        off: &[],
        advice: "run the program without firejail: the seal is around it already",
    },
    Engine {
        name: "flatpak",
        off: &[],
        advice: "run the program without flatpak: the seal is around it already",
    },
    Engine {
        name: "nsjail",
        off: &[],
        advice: "run the program without nsjail: the seal is around it already",
    },
];

/// Says which switch turns off the sandbox that the program brings, if it brings one.
pub fn own_sandbox(argv: &[OsString]) -> Option<String> {
    let engine = ENGINES
        .iter()
        .find(|engine| is_started(engine.name, argv))?;
    let is_off = argv.iter().any(|arg| {
        let arg = arg.to_string_lossy();
        engine.off.iter().any(|off| arg.contains(off))
    });
    (!is_off).then(|| {
        format!(
            "{} can bring a sandbox of its own, which does not work in this one: {}",
            engine.name, engine.advice
        )
    })
}

/// Programs that start the one that is named after them.
const STARTERS: [&str; 8] = [
    "env", "node", "npx", "bunx", "pnpx", "nice", "timeout", "time",
];

fn is_started(name: &str, argv: &[OsString]) -> bool {
    for (at, arg) in argv.iter().enumerate() {
        let file = Path::new(arg).file_name().unwrap_or_default();
        let file = file.to_string_lossy();
        let stem = file.split_once('.').map_or(&*file, |(stem, _)| stem);
        let stem = stem.split_once('@').map_or(stem, |(stem, _)| stem);
        if stem == name {
            return true;
        }
        let passes = STARTERS.contains(&stem)
            || (at > 0
                && (stem.starts_with('-') || stem.contains('=') || stem.parse::<f64>().is_ok()));
        if !passes {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::own_sandbox;
    use std::ffi::OsString;

    #[test]
    fn a_program_with_a_sandbox_is_known_however_it_is_started() {
        let cases = [
            ("codex exec hello", true),
            ("/usr/local/bin/codex", true),
            ("npx -y @openai/codex exec", true),
            ("env A=b timeout 5 codex", true),
            ("node /x/bin/codex.js exec", true),
            ("codex exec --sandbox danger-full-access hi", false),
            ("claude -p hi", true),
            ("bwrap --ro-bind / / sh", true),
            ("sh -c codex", false),
            ("vim codex", false),
            ("codexy", false),
        ];
        for (line, known) in cases {
            let argv: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(own_sandbox(&argv).is_some(), known, "{line}");
        }
    }
}
