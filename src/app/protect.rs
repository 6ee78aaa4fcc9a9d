//! The protected branch: a hook in the operator's repository, and its verdict.
//!
//! Owns: installing git's `reference-transaction` hook beside one that is there,
//! removing it again, and the judgement that the hook asks for. Git runs the hook
//! before any reference moves, and a non-zero status stops the move. The hook
//! fails closed for the branches that it names and never looks at others.
//! govfs moves its branches without the git program, so it never asks itself.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::app::failure::Failure;
use crate::app::merge;
use crate::app::merge::candidate::git_failure;
use crate::app::plan::{current, no_law};
use crate::app::queue::has_leave;
use crate::app::site::Site;
use crate::domain::base::Oid;
use crate::domain::charter::Charter;
use crate::domain::command::Need;
use crate::domain::event::{Draft, Event, Protected};
use crate::domain::queue::protect::{MoveVerdict, Place, RefUpdate, judge, updates};
use crate::domain::state::{Kind, State};
use crate::git::repo::Repo;

const HOOK: &str = "reference-transaction";
/// Where a hook that was there before is kept, and still run.
const KEPT: &str = "reference-transaction.before-govfs";
/// The line by which our own hook is known.
const MARK: &str = "# made by `govfs protect`, removed by `govfs protect --off`";
/// The state of a transaction in which it can still be refused.
const PREPARED: &str = "prepared";

/// What `protect` did.
#[derive(Debug)]
pub struct Report {
    pub branch: String,
    pub on: bool,
    pub hook: PathBuf,
    /// A hook was there before, and runs after ours.
    pub beside: bool,
    pub changed: bool,
}

/// Protects `branch` (the merge target, where none is named), or no longer.
pub fn protect(site: &mut Site, branch: Option<&str>, on: bool) -> Result<Report, Failure> {
    let state = current(site, &[Need::All(Kind::Protect)])?;
    let branch = match branch {
        Some(branch) => branch
            .strip_prefix("refs/heads/")
            .unwrap_or(branch)
            .to_owned(),
        None => Site::target(&state)?,
    };
    if on && site.repo.tip(&branch)?.is_none() {
        return Err(Failure::missing(format!("there is no branch {branch}")));
    }
    if on {
        refuse_alias(site, &branch)?;
    }
    let was = state.protects.get(&branch).is_some_and(|row| row.on);
    if !on && !was {
        return Err(Failure::missing(format!("{branch} is not protected")));
    }
    let mut branches = protected(&state);
    branches.retain(|other| *other != branch);
    if on {
        branches.push(branch.clone());
    }
    let dir = hooks(site)?;
    // The entry comes first when protection ends, and last when it begins: what
    // the ledger says is protected has its hook.
    let place = if on {
        let place = install(&dir, &branches)?;
        record(site, &branch, on, was)?;
        place
    } else {
        record(site, &branch, on, was)?;
        if branches.is_empty() {
            uninstall(&dir)?
        } else {
            install(&dir, &branches)?
        }
    };
    Ok(Report {
        branch,
        on,
        hook: dir.join(HOOK),
        beside: place,
        changed: was != on,
    })
}

fn protected(state: &State) -> Vec<String> {
    let on = state.protects.iter().filter(|(_, row)| row.on);
    on.map(|(branch, _)| branch.clone()).collect()
}

fn record(site: &mut Site, branch: &str, on: bool, was: bool) -> Result<(), Failure> {
    if was == on {
        return Ok(());
    }
    let body = Protected {
        branch: branch.to_owned(),
        on,
        person: None,
        from: None,
        commit: None,
    };
    let draft = Draft::new(Event::Protect(body));
    site.act(|turn| turn.append(&draft).map(|_| ()).map_err(Failure::from))?;
    Ok(())
}

/// What moves is the branch that a symbolic ref names, and the hook hears of that one alone.
fn refuse_alias(site: &Site, branch: &str) -> Result<(), Failure> {
    let target = merge::open(site)?.target(branch).map_err(git_failure)?;
    match target.refname.strip_prefix("refs/heads/") {
        Some(name) if name == branch => Ok(()),
        name => {
            let name = name.unwrap_or(&target.refname);
            let failure = Failure::refused(format!("{branch} is another name of {name}"));
            Err(failure.hint(format!("govfs protect {name}")))
        }
    }
}

/// Returns the directory in which git looks for this repository's hooks.
fn hooks(site: &Site) -> Result<PathBuf, Failure> {
    let common = site.repo.common_dir();
    let Some(path) = site.repo.config("core.hooksPath") else {
        return Ok(common.join("hooks"));
    };
    // Git takes a relative one from where hooks run: the worktree's root, or the bare directory.
    let dir = site.repo.root().join(&path);
    let known = fs::canonicalize(&dir).unwrap_or_else(|_| dir.clone());
    let root = fs::canonicalize(site.repo.root()).unwrap_or_default();
    if known.starts_with(common) || known.starts_with(&root) {
        return Ok(dir);
    }
    Err(Failure::refused(format!(
        "core.hooksPath is {path}, outside of this repository: a hook there would be every repository's"
    ))
    .hint("set core.hooksPath for this repository alone, then protect it"))
}

fn fault(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    let shown = path.display().to_string();
    move |error| Failure::failed(format!("{shown}: {error}"))
}

fn is_ours(path: &Path) -> bool {
    fs::read(path).is_ok_and(|text| {
        String::from_utf8_lossy(&text)
            .lines()
            .nth(1)
            .is_some_and(|line| line == MARK)
    })
}

/// Writes the hook, and says whether another one runs beside it.
fn install(dir: &Path, branches: &[String]) -> Result<bool, Failure> {
    let (hook, kept) = (dir.join(HOOK), dir.join(KEPT));
    fs::create_dir_all(dir).map_err(fault(dir))?;
    let there = fs::symlink_metadata(&hook).is_ok();
    if there && !is_ours(&hook) {
        if fs::symlink_metadata(&kept).is_ok() {
            return Err(Failure::refused(format!(
                "both {} and {} are there, and neither is ours",
                hook.display(),
                kept.display()
            ))
            .hint("put one of them away"));
        }
        fs::rename(&hook, &kept).map_err(fault(&hook))?;
    }
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let text = script(&program, branches);
    // Renamed into place: git never sees half a hook.
    let part = dir.join(format!("{HOOK}.new-{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o755)
        .open(&part)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.set_permissions(fs::Permissions::from_mode(0o755))?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&part, &hook));
    if let Err(error) = written {
        // Nothing is left behind, and the hook that was there comes back.
        let _ = fs::remove_file(&part);
        if there && !is_ours(&hook) && fs::symlink_metadata(&hook).is_err() {
            let _ = fs::rename(&kept, &hook);
        }
        return Err(fault(&hook)(error));
    }
    Ok(fs::symlink_metadata(&kept).is_ok())
}

/// Removes our hook, and puts back the one that was there.
fn uninstall(dir: &Path) -> Result<bool, Failure> {
    let (hook, kept) = (dir.join(HOOK), dir.join(KEPT));
    let beside = fs::symlink_metadata(&kept).is_ok();
    if fs::symlink_metadata(&hook).is_ok() && !is_ours(&hook) {
        return Ok(beside); // somebody put another one in its place
    }
    if beside {
        fs::rename(&kept, &hook).map_err(fault(&hook))?;
    } else if let Err(error) = fs::remove_file(&hook)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(fault(&hook)(error));
    }
    Ok(beside)
}

/// The hook. What it reads is judged only where a protected branch is named in it.
fn script(program: &Path, branches: &[String]) -> String {
    let program = quoted(&program.to_string_lossy());
    let cases: Vec<String> = branches
        .iter()
        .map(|branch| format!("*\" refs/heads/\"{}\"$end\"*", quoted(branch)))
        .collect();
    let cases = cases.join(" | ");
    format!(
        r#"#!/bin/sh
{MARK}
end='
'
input=$(cat; printf x)
input=${{input%x}}
if [ "$1" = {PREPARED} ]; then
    case "$input" in
    {cases})
        who=$(git var GIT_COMMITTER_IDENT 2>/dev/null)
        if ! printf %s "$input" | {program} protect-check "$1" "$who"; then
            exit 1
        fi
        ;;
    esac
fi
before=${{0%/*}}/{KEPT}
if [ -x "$before" ]; then
    printf %s "$input" | "$before" "$@" || exit
fi
exit 0
"#
    )
}

/// Quotes a word for the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Judges the transaction that git tells on standard input, and records what a
/// person may do with the charter's leave.
pub fn check(site: &mut Site, input: &str, committer: &str) -> Result<(), Failure> {
    let refuse = |what: &dyn std::fmt::Display| Failure::refused(what);
    let moves = updates(input).map_err(|error| refuse(&error))?;
    let state = current(
        site,
        &[
            Need::All(Kind::Protect),
            Need::All(Kind::Intent),
            Need::All(Kind::Merge),
        ],
    )?;
    let law = state.law.clone().ok_or_else(no_law)?;
    let mut reasons = Vec::new();
    let mut leaves = Vec::new();
    for branch in protected(&state) {
        let announced = announced(&state, &branch);
        let person = person(&law, committer);
        let place = Place {
            tip: site.repo.tip(&branch)?,
            packed: packed(&site.repo, &branch),
        };
        for update in &moves {
            match judge(update, &branch, place, &announced, person.is_some()) {
                MoveVerdict::Allowed => {}
                MoveVerdict::Refused(reason) => reasons.push(reason),
                MoveVerdict::Leave => {
                    leaves.push(leave(site, &branch, update, person.clone())?);
                }
            }
        }
    }
    if !reasons.is_empty() {
        return Err(refuse(&reasons.join("\n")));
    }
    if leaves.is_empty() {
        return Ok(());
    }
    site.act(|turn| {
        for draft in &leaves {
            turn.append(draft)?;
        }
        Ok(())
    })?;
    Ok(())
}

/// Returns what the packed references say of a branch.
fn packed(repo: &Repo, branch: &str) -> Option<Oid> {
    let text = fs::read_to_string(repo.common_dir().join("packed-refs")).ok()?;
    let name = format!("refs/heads/{branch}");
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let (oid, _) = lines.into_iter().find(|(_, known)| *known == name)?;
    oid.parse().ok()
}

/// The commits that entries say the branch goes to: merges that are about to be, and those that were.
fn announced(state: &State, branch: &str) -> Vec<Oid> {
    let intents = state.intents.values().filter(|row| row.branch == branch);
    intents.map(|row| row.commit).collect()
}

/// Returns whom the charter gives leave, if that is who runs git: by the system's
/// name for the user, or by the identity that git commits with.
fn person(law: &Charter, committer: &str) -> Option<String> {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid());
    let user = user.ok().flatten().map(|user| user.name);
    if let Some(user) = user.filter(|user| has_leave(law, user)) {
        return Some(user);
    }
    // `Name <mail> seconds zone`
    let who = committer
        .rfind('>')
        .map_or(committer, |end| &committer[..=end]);
    has_leave(law, who).then(|| who.to_owned())
}

fn leave(
    site: &Site,
    branch: &str,
    update: &RefUpdate,
    person: Option<String>,
) -> Result<Draft, Failure> {
    let real = |text: &str| text.parse::<Oid>().ok().filter(|oid| oid.0 != [0; 20]);
    // Git says zeros for "whatever it is" too, so where it comes from is looked up.
    let from = match real(&update.old) {
        Some(from) => Some(from),
        None => site.repo.tip(branch)?,
    };
    Ok(Draft::new(Event::Protect(Protected {
        branch: branch.to_owned(),
        on: true,
        person,
        from,
        commit: real(&update.new),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_quotes_what_it_names() {
        let text = script(
            Path::new("/opt/it's/govfs"),
            &["main".to_owned(), "rel/1".to_owned()],
        );
        assert!(
            text.contains(r"'/opt/it'\''s/govfs' protect-check"),
            "{text}"
        );
        assert!(
            text.contains(r#"*" refs/heads/"'main'"$end"* | *" refs/heads/"'rel/1'"$end"*)"#),
            "{text}"
        );
        assert_eq!(text.lines().nth(1), Some(MARK));
    }
}
