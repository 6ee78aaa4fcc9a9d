//! Differences between two texts, as people read them.
//!
//! Owns: what counts as binary (git's rule: a NUL in the first 8000 bytes) and
//! the unified form. Never reads objects.

use git2::{DiffOptions, Patch};

use super::Result;

/// As far as git looks for a NUL.
const LOOKED_AT: usize = 8000;

pub(super) fn is_binary(bytes: &[u8]) -> bool {
    bytes[..bytes.len().min(LOOKED_AT)].contains(&0)
}

/// Returns the unified difference, hunks only; empty for equal contents and
/// `None` where one is binary.
pub fn unified(old: &[u8], new: &[u8], context: u32) -> Result<Option<Vec<u8>>> {
    if is_binary(old) || is_binary(new) {
        return Ok(None);
    }
    let mut options = DiffOptions::new();
    options.context_lines(context).force_text(true);
    let mut patch = Patch::from_buffers(old, None, new, None, Some(&mut options))?;
    let mut out = Vec::new();
    patch.print(&mut |_, _, line| {
        match line.origin() {
            'F' => return true,
            origin @ ('+' | '-' | ' ') => {
                let mut buffer = [0; 4];
                out.extend_from_slice(origin.encode_utf8(&mut buffer).as_bytes());
            }
            _ => {}
        }
        out.extend_from_slice(line.content());
        true
    })?;
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn the_unified_form_is_gits() {
        let text = unified(b"a\nb\nc\n", b"a\nB\nc", 1).unwrap().unwrap();
        let text = String::from_utf8(text).unwrap();
        insta::assert_snapshot!(text, @r"
        @@ -1,3 +1,3 @@
         a
        -b
        -c
        +B
        +c
        \ No newline at end of file
        ");
        assert_eq!(unified(b"a", b"a", 3).unwrap(), Some(Vec::new()));
        assert_eq!(unified(b"a\0", b"a", 3).unwrap(), None);
    }
}
