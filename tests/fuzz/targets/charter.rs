//! A charter is text that anybody may write: it parses or is refused, and what parses is explained.
#![no_main]

use govfs::domain::charter::Charter;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let fenced = format!("# prose\n\n```toml charter\n{text}\n```\n");
    for page in [text.as_ref(), &fenced] {
        match Charter::parse(page) {
            Ok(charter) => assert!(!charter.explain().is_empty(), "explained by nothing"),
            Err(errors) => assert!(!errors.is_empty(), "refused without a reason"),
        }
    }
});
