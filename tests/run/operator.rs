//! What the operator reads of a run, and afterwards: nothing that an agent wrote does anything to the screen.

use crate::common::sealed::each;

/// No line of its own, no colour, no title, no turned order.
const HOSTILE: &str = r"fine\n99     bob              write docs/\033[31mRED\033[0m \033]0;owned\007\342\200\256\302\233";

#[test]
fn what_an_agent_says_forges_no_row_and_drives_no_terminal() {
    each(|world| {
        let script = format!("govfs submit -m \"$(printf '{HOSTILE}')\"");
        let ran = world.sh(&[], &script);
        assert_eq!(ran.status, 0, "{ran:?}");
        let rows = world.ok(&["requests"]);
        assert_eq!(rows.lines().count(), 1, "{rows}");
        let number = rows.split(' ').next().expect("a number");
        for arguments in [
            &["requests"][..],
            &["--color", "always", "requests"],
            &["show", number],
            &["--color", "always", "log"],
            &["status"],
        ] {
            let text = world.ok(arguments);
            let ours = ["\u{1b}[1m", "\u{1b}[2m", "\u{1b}[0m"];
            let text = ours.iter().fold(text, |text, ours| text.replace(ours, ""));
            let harmful = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
            assert!(!text.contains(harmful), "{arguments:?}: {text:?}");
            assert!(!text.lines().any(|line| line.starts_with("99 ")), "{text}");
        }
        // A script reads what was said.
        let json: serde_json::Value =
            serde_json::from_str(&world.ok(&["requests", "--json"])).expect("a document");
        let reason = json["requests"][0]["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("fine\n99 ") && reason.contains("\u{1b}[31mRED"));
    });
}

#[test]
fn a_name_that_turns_the_order_of_letters_is_spelled_out() {
    each(|world| {
        let ran = world.sh(
            &[],
            "touch \"docs/$(printf '\\342\\200\\256')gpj.sh\"; true",
        );
        let next = "next: govfs claim alice $'docs/\\342\\200\\256gpj.sh'";
        assert!(ran.stderr.contains(next), "{ran:?}");
        assert!(!ran.stderr.contains('\u{202e}'), "{ran:?}");
        let log = world.ok(&["log", "--denied"]);
        assert!(log.contains("docs/%E2%80%AEgpj.sh"), "{log}");
    });
}
