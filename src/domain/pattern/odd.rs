//! Slips of the pen in patterns that are legal all the same.
//!
//! Owns: what is worth a warning. Never refuses anything.

/// Returns what may be a slip of the pen in a legal pattern.
pub(super) fn odd(source: &[u8]) -> Option<&'static str> {
    let escape_of_nothing = |two: &[u8]| two[0] == b'\\' && two[1].is_ascii_alphanumeric();
    let has = |byte: u8| source.contains(&byte);
    let spaced = |name: &[u8]| name.trim_ascii().len() != name.len();
    if source.split(|&b| b == b'/').any(spaced) {
        Some("a component begins or ends with white space")
    } else if source.iter().any(u8::is_ascii_control) {
        Some("it contains a control character")
    } else if std::str::from_utf8(source).is_err() {
        Some("it is not UTF-8")
    } else if source.windows(2).any(escape_of_nothing) {
        Some("`\\` before a letter or digit is dropped; components are separated by `/`")
    } else if has(b'[') && !has(b'\\') && !has(b'*') && !has(b'?') && !has(b'{') {
        Some("`[…]` is one byte of a class; write `\\[…\\]` for a name with brackets")
    } else {
        None
    }
}
