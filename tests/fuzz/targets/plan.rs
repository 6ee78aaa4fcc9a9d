//! A plan file parses or is refused with its reasons.
#![no_main]

use govfs::domain::plan::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Err(errors) = Plan::parse("plan.toml", &text) {
        assert!(!errors.is_empty(), "refused without a reason");
    }
});
