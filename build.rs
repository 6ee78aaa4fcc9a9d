//! Links the stack unwinder into the program where the C compiler brings one: to load it as a library would cost
//! every command, and so every launch of an agent, a tenth of a millisecond and more.

use std::env;
use std::path::Path;
use std::process::Command;

const UNWINDER: &str = "libgcc_eh.a";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CC");
    let is_gnu = env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let is_native = env::var("HOST").ok() == env::var("TARGET").ok();
    if is_gnu && is_native && is_there() {
        println!("cargo:rustc-link-lib=dylib:+verbatim={UNWINDER}");
    }
}

/// Says whether the C compiler, which links the program, knows the library; it repeats the name of one that it does not.
fn is_there() -> bool {
    let compiler = env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let asked = Command::new(compiler)
        .arg(format!("-print-file-name={UNWINDER}"))
        .output();
    asked.is_ok_and(|said| {
        let path = String::from_utf8_lossy(&said.stdout).trim().to_owned();
        Path::new(&path).is_absolute() && Path::new(&path).exists()
    })
}
