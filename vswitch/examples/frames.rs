//! Prints what the core of the switch costs on this computer, each figure with its baseline: `cargo run --release -p consort-vswitch
//! --example frames`.

fn main() {
    for figure in consort_vswitch::bench::frames() {
        println!("{figure}");
    }
}
