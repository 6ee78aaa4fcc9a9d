//! A plan file parses or is refused with its reasons, and what parses is said again by
//! its canonical text; so are the formats that are imported.
#![no_main]

use govfs::domain::import::import;
use govfs::domain::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    match Plan::parse("plan.toml", &text) {
        Ok(plan) => assert_eq!(Plan::parse("", &plan.canonical()).as_ref(), Ok(&plan)),
        Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
    }
    for file in ["queue.yaml", "dag.toml"] {
        match import(file, &text) {
            Ok(found) => {
                for plan in found.tasks.iter().map(|task| &task.plan) {
                    assert_eq!(Plan::parse("", &plan.canonical()).as_ref(), Ok(plan));
                }
            }
            Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
        }
    }
});
