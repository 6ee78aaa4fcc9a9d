//! Plans in the formats of others: what they all have in common.

mod dag_toml;
mod dgov;
mod exchange;
mod work_queue;

use proptest::prelude::*;

use super::exchange::{ExchangeError, QueueCommand, commands, decide, export};
use super::*;
use crate::domain::base::Oid;
use crate::domain::dag::{Graph, Member};
use crate::domain::plan::Check;
use crate::domain::queue::advice::World;
use crate::domain::queue::check::validate;
use crate::domain::queue::{Item, MergeFact, Queue};

fn read(file: &str, text: &str) -> Import {
    import(file, text).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn faults(file: &str, text: &str) -> Vec<String> {
    let errors = import(file, text).expect_err(text);
    errors.into_iter().map(|error| error.to_string()).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn what_is_none_of_these_formats_says_so() {
    assert!(faults("x.toml", "a = 1")[0].contains("neither a plan"));
    assert!(faults("x.toml", "a = ")[0].contains("not TOML"));
    assert_eq!(
        read("x.toml", "[plan]\nid = \"a\"\ntype = \"fix\"").format,
        Format::Plan
    );
}

proptest! {
    #[test]
    fn no_text_makes_an_import_fall_over(text in "[-a-c:\\[\\]{}&*!|>'\"# \n0-9.é]{0,60}") {
        let _ = import("q.yaml", &text);
        let _ = import("q.yaml", &format!("tasks:\n- id: a\n  {text}"));
        let _ = import("q.toml", &text);
        let _ = import("q.toml", &format!("[units.a]\nfiles_modify = []\n{text}"));
    }
}
