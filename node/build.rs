//! Links the program with its relocations packed (`DT_RELR`). Each is otherwise an entry of 24 bytes, 1.3 MiB together, which the loader reads at every
//! start, so that they are resident in every node. glibc reads the packed form since 2.36; with an older one, or another C library, nothing is asked of
//! the linker. A linker that does not know the option says so and goes on.

use std::process::Command;

const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is_gnu = std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "gnu");
    let is_native = std::env::var("TARGET").ok() == std::env::var("HOST").ok();
    if is_gnu && is_native && glibc().is_some_and(|version| version >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// As `getconf GNU_LIBC_VERSION` says: `glibc 2.36`.
fn glibc() -> Option<(u32, u32)> {
    let said = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?.stdout;
    let said = String::from_utf8(said).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
