//! `govfs completions` and `govfs man`

use std::path::PathBuf;

use clap_complete::Shell;

use super::{Context, command};
use crate::app::failure::Failure;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  govfs completions bash > ~/.local/share/bash-completion/completions/govfs"
)]
pub(super) struct CompletionsArgs {
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual pages to a directory
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  govfs man /usr/local/share/man/man1")]
pub(super) struct ManArgs {
    dir: PathBuf,
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn completions(args: CompletionsArgs, context: &mut Context) {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "govfs", &mut script);
    if context.out.json {
        let shell = args.shell.to_string();
        let script = String::from_utf8_lossy(&script);
        let fields = serde_json::json!({ "shell": shell, "script": script });
        context.out.document("completions", fields);
    } else {
        context.out.bytes(&script);
    }
}

#[expect(clippy::needless_pass_by_value, reason = "every verb has this shape")]
pub(super) fn man(args: ManArgs, context: &mut Context) -> Result<(), Failure> {
    std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(command(), &args.dir))
        .map_err(|error| Failure::failed(format!("{}: {error}", args.dir.display())))?;
    if context.out.json {
        let dir = crate::domain::path::percent_encode(args.dir.as_os_str().as_encoded_bytes());
        context
            .out
            .document("man", serde_json::json!({ "dir": dir }));
    } else {
        context
            .out
            .line(format!("wrote the manual pages to {}", args.dir.display()));
    }
    Ok(())
}
