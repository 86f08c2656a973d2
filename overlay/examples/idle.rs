//! What an idle member costs, and how soon many find each other: the figures in the README come from here.
//!
//! `cargo run --release -p consort-overlay --example idle -- [MEMBERS=1] [SECONDS=30]` starts so many members in this process on loopback, joined by ticket
//! to the first, and prints time to a settled overlay, memory, CPU time and control traffic per member. The baseline is the same process before
//! the members start.

use consort_overlay::{Event, InviteOptions, Keypair, Overlay, OverlayConfig, start};
use std::time::{Duration, Instant};

#[tokio::main]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let members: usize = arguments.next().as_deref().unwrap_or("1").parse()?;
    let seconds: u64 = arguments.next().as_deref().unwrap_or("30").parse()?;
    let before = Usage::read()?;
    let began = Instant::now();
    let first = member(None).await?;
    let mut all = vec![first.clone()];
    for _ in 1..members {
        let ticket = first.invite(InviteOptions::default()).await?;
        all.push(member(Some(ticket)).await?);
    }
    println!("all started: {:.2} s", began.elapsed().as_secs_f64());
    let wanted = (members - 1).min(consort_overlay::VIEW_MAX);
    loop {
        let mut held = Vec::new();
        for overlay in &all {
            held.push(overlay.view().await?.len());
        }
        let least = held.iter().min().copied().unwrap_or_default();
        if least >= wanted || began.elapsed() > Duration::from_secs(600) {
            println!(
                "settled: {:.2} s; every view holds {least} of {wanted} others at least",
                began.elapsed().as_secs_f64()
            );
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What joining set off (path probes, first searches of the routing table) dies away first.
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let settled = Usage::read()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = Usage::read()?;
    let count = u32::try_from(members)?;
    let mut connections = 0;
    for overlay in &all {
        connections += overlay.status().await?.connected;
    }
    println!("connections: {:.1} per member", f64::from(u32::try_from(connections)?) / f64::from(count));
    println!(
        "memory before: {} KiB; after: {} KiB; per member: {} KiB",
        before.resident_kib,
        after.resident_kib,
        (after.resident_kib - before.resident_kib) / u64::from(count)
    );
    let busy = after.cpu.saturating_sub(settled.cpu).as_secs_f64() / f64::from(u32::try_from(seconds)?)
        * 100.0
        / f64::from(count);
    println!("CPU while idle: {busy:.3} % of a core per member");
    let bytes = after.loopback_bytes.saturating_sub(settled.loopback_bytes);
    println!(
        "traffic while idle: {} B/s sent per member (whole loopback)",
        bytes / seconds / u64::from(count)
    );
    Ok(())
}

async fn member(ticket: Option<consort_overlay::Ticket>) -> Result<Overlay, Box<dyn std::error::Error>> {
    let config = OverlayConfig {
        bootstrap: ticket.into_iter().collect(),
        ..OverlayConfig::new(Keypair::generate(), vec!["127.0.0.1:0".parse()?])
    };
    let (overlay, mut events) = start(config).await?;
    overlay.publish_record(vec![7; 200]).await?;
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            drop::<Event>(event)
        }
    });
    Ok(overlay)
}

/// What this process has used, and what crossed loopback.
struct Usage {
    resident_kib: u64,
    cpu: Duration,
    loopback_bytes: u64,
}

impl Usage {
    fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        let stat = std::fs::read_to_string("/proc/self/stat")?;
        let fields: Vec<&str> = stat.rsplit(')').next().ok_or("no stat")?.split_whitespace().collect();
        // Fields 14 and 15 of proc(5), in hundredths of a second; the first two were cut off.
        let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
        let devices = std::fs::read_to_string("/proc/self/net/dev")?;
        let loopback = devices.lines().find_map(|line| line.trim().strip_prefix("lo:")).ok_or("no lo")?;
        Ok(Self {
            resident_kib: resident.trim().trim_end_matches(" kB").parse()?,
            cpu: Duration::from_millis(ticks * 10),
            loopback_bytes: loopback.split_whitespace().nth(8).ok_or("no bytes")?.parse()?,
        })
    }
}
