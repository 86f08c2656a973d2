//! Builds the guest program, linked statically, with a cargo of its own, and hands its path to `image/store.rs`.
//!
//! It has its own target directory under `OUT_DIR`, because the outer cargo holds the lock of the usual one; it is always optimised for
//! size, because every machine maps it; and the outer cargo's variables are cleared, because lints' wrappers and flags meant for
//! the outer build would end up in it.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let guest = manifest.parent().expect("the crate is in the workspace").join("guest");
    println!("cargo::rerun-if-changed={}", guest.join("src").display());
    println!("cargo::rerun-if-changed={}", guest.join("Cargo.toml").display());
    println!("cargo::rerun-if-changed={}", guest.with_file_name("Cargo.lock").display());
    println!("cargo::rerun-if-changed=build.rs");
    let target = env::var("TARGET").expect("cargo sets it");
    let directory = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("guest");
    build(&guest.join("Cargo.toml"), &target, &directory);
    let program = directory.join(&target).join("release/consort-guest");
    assert!(program.is_file(), "cargo built no {}", program.display());
    println!("cargo::rustc-env=CONSORT_GUEST={}", program.display());
}

fn build(manifest: &Path, target: &str, directory: &Path) {
    let mut cargo = Command::new(env::var_os("CARGO").expect("cargo sets it"));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let keep = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "CARGO_HTTP_CAINFO"]
            .contains(&text.as_ref());
        if !keep
            && (text.starts_with("CARGO")
                || text.starts_with("RUSTC")
                || text.starts_with("RUSTDOC")
                || text == "RUSTFLAGS")
        {
            cargo.env_remove(&name);
        }
    }
    cargo
        .args([
            "build",
            "--release",
            "--package",
            "consort-guest",
            "--bin",
            "consort-guest",
            "--target",
            target,
        ])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(directory)
        .args(["--config", "profile.release.opt-level=\"s\"", "--config", "profile.release.panic=\"abort\""])
        .args(["--config", "profile.release.lto=\"fat\"", "--config", "profile.release.codegen-units=1"])
        .args(["--config", "profile.release.strip=\"symbols\""])
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let output = cargo.output().expect("the cargo that runs this script can be started");
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let remedy = if words.contains("-lc") || words.contains("crt1.o") || words.contains("libc.a") {
            "\nthe static C library is missing: install libc6-dev (Debian, Ubuntu), glibc-static (Fedora) or glibc (Arch)"
        } else {
            ""
        };
        panic!("the guest program could not be built for {target}:\n{words}{remedy}");
    }
}
