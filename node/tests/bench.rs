//! `consort bench` as a program runs it: what it prints, and what it says of those who do not take part.

use std::process::{Command, Output};

use serde_json::Value;

/// No program of anybody else is found there.
const NOWHERE: &str = "/nonexistent";

fn bench(words: &str) -> Output {
    let program = env!("CARGO_BIN_EXE_consort");
    Command::new(program)
        .args(["bench", "--json"])
        .args(words.split(' '))
        .env("PATH", NOWHERE)
        .output()
        .unwrap()
}

/// What a run printed; nothing where emulated hosts are not to be had, which is said aloud.
fn document(words: &str) -> Option<Value> {
    let output = bench(words);
    let complaint = String::from_utf8_lossy(&output.stderr);
    if complaint.contains("there are no emulated hosts to be had here") {
        eprintln!("SKIPPED bench {words}: {complaint}");
        return None;
    }
    assert!(output.status.success(), "{complaint}");
    Some(serde_json::from_slice(&output.stdout).expect("one JSON document"))
}

fn names(contenders: &Value) -> Vec<&str> {
    contenders.as_array().unwrap().iter().map(|row| row["contender"].as_str().unwrap()).collect()
}

#[test]
fn links_measures_the_kernel_and_us_and_names_who_is_absent() {
    let Some(document) = document("links --rounds 1 --seconds 1 --only idle,tcp") else { return };
    assert_eq!(names(&document["contenders"]), ["bare wire", "kernel VXLAN", "plain tunnel", "consort"]);
    for row in document["contenders"].as_array().unwrap() {
        for figure in ["rtt_idle_p50_us", "tcp_one_gbit", "cpu_machine_s_per_gb"] {
            assert!(row["medians"][figure].as_f64().is_some_and(|value| value > 0.0), "{figure}: {row}");
        }
    }
    let ours = &document["contenders"][3];
    assert!(ours["resident_idle_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
    assert!(ours["of_reference"]["tcp_one_gbit"].as_f64().is_some_and(|ratio| ratio > 0.0));
    let absent = document["absent"].as_array().unwrap();
    assert!(absent.len() >= 8, "{absent:?}");
    assert!(
        absent
            .iter()
            .all(|row| row["reason"].as_str().is_some_and(|reason| reason.contains("not installed")))
    );
    assert!(document["bar"].as_array().is_some_and(|bar| !bar.is_empty()));
}

#[test]
fn links_measures_two_machines_on_one_host() {
    let Some(document) = document("links --same-host --rounds 1 --seconds 1 --only tcp") else { return };
    assert_eq!(names(&document["contenders"]), ["kernel bridge", "consort"]);
    assert!(document["contenders"][1]["medians"]["tcp_one_gbit"].as_f64().is_some_and(|rate| rate > 0.0));
}

#[test]
fn links_fails_where_a_program_asked_for_by_name_is_not_there() {
    let output = bench("links --rounds 1 --seconds 1 --only idle --peers fastd");
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("there are no emulated hosts to be had here") {
        eprintln!("SKIPPED: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("fastd is not installed"), "{said}");
}

#[test]
fn relay_shows_what_crossed_the_cables_beside_the_kernels_own_forwarding() {
    let Some(document) = document("relay --rounds 1 --seconds 1 --only throughput") else { return };
    let settings = document["throughput"].as_array().unwrap();
    let named: Vec<&str> = settings.iter().map(|row| row["setting"].as_str().unwrap()).collect();
    assert_eq!(named, ["leaves-cables", "hubs-cable", "processors"]);
    for setting in settings {
        let ways = setting["ways"].as_array().unwrap();
        let named: Vec<&str> = ways.iter().map(|row| row["way"].as_str().unwrap()).collect();
        assert_eq!(named, ["direct", "relayed", "kernel", "kernel-forwarded"]);
        for way in ways {
            let figure = |name: &str| way[name].as_f64().unwrap_or_else(|| panic!("{name}: {way}"));
            assert!(figure("mbit") > 0.0, "{way}");
            // Of a full frame of 1514 bytes 1448 are payload, but up to 6 MiB may have crossed before and waited at a busy receiver. A cable carries no more
            // than its rate.
            assert!((0.3..=1.3).contains(&figure("payload")), "{way}");
            assert!(way["filled"].is_null() || figure("filled") <= 1.03, "{way}");
        }
    }
    // The relay's cable is five times as wide at first, and then like the others: by a hair the fullest, or its sender's is.
    for way in settings[0]["ways"].as_array().unwrap() {
        assert_ne!(way["fullest"]["host"], "h0", "{way}");
    }
    for way in settings.iter().flat_map(|setting| setting["ways"].as_array().unwrap()) {
        let has_answers = way["answers"].as_f64().unwrap() > 0.0;
        assert_eq!(has_answers, way["fullest"]["host"] == "h0", "{way}");
    }
}

#[test]
fn options_that_make_no_sense_are_refused_with_the_remedy() {
    let output = bench("links --loss 80");
    assert_eq!(output.status.code(), Some(2));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let said = document["error"].to_string();
    assert!(said.contains("--loss") && said.contains("50"), "{said}");
}
