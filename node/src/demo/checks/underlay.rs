//! The underlay shows nothing of what machines say.
//!
//! All frames that hosts send are searched for what is known to have been said inside: a token that exists nowhere else, the words of every
//! HTTP answer, the pattern in every ping. A control is sent in the open and must be found, so that silence means secrecy and not
//! deafness; and what was captured is compared with what the links counted.

use std::net::UdpSocket;

use consort_lab::capture::{Capture, CaptureOptions};
use serde_json::json;

use crate::demo::report::Check;
use crate::demo::stage::{Stage, awaited, lab_failure};
use crate::failure::Failure;

/// A port where nothing listens.
const DISCARD_PORT: u16 = 9;
/// The first word of every HTTP answer inside.
const HTTP_ANSWER: &[u8] = b"HTTP/1.1 ";
/// What pings carry with sequence numbers 0 and 1: as the guest's `ping` fills its payload.
const PING_PATTERN_BYTES: u8 = 32;

/// The capture, and what it looks for.
#[derive(Debug)]
pub(in crate::demo) struct Watch {
    capture: Capture,
    control: String,
    /// To be said inside, and nowhere else.
    pub(in crate::demo) token: String,
}

impl Watch {
    /// Begins to look, at all links of the router.
    pub(in crate::demo) fn start(stage: &Stage) -> Result<Self, Failure> {
        let (control, token) = (random_word("control")?, random_word("token")?);
        let pattern = |number: u8| (0..PING_PATTERN_BYTES).map(|index| index ^ number).collect::<Vec<_>>();
        let options = CaptureOptions {
            links: stage.hosts.iter().map(|host| host.place.router_link.clone()).collect(),
            markers: vec![
                control.clone().into_bytes(),
                token.clone().into_bytes(),
                HTTP_ANSWER.to_vec(),
                pattern(0),
                pattern(1),
            ],
            ..CaptureOptions::default()
        };
        Ok(Self { capture: Capture::start(options).map_err(lab_failure)?, control, token })
    }

    /// Sends the control, ends the capture, and says what it saw.
    pub(in crate::demo) async fn finish(self, stage: &Stage) -> Result<Check, Failure> {
        self.send_control(stage).await?;
        let captured = self.capture.finish().map_err(lab_failure)?;
        let leaked: u64 = captured.marked[1..].iter().sum();
        let counters = captured.counters;
        let missed = captured.received_by_links.saturating_sub(counters.frames);
        let passed = leaked == 0 && captured.marked[0] > 0 && counters.udp > 1;
        let detail = format!(
            "{} frames searched, {missed} missed: {leaked} with plaintext, the control found {} times",
            counters.frames, captured.marked[0]
        );
        let figures = json!({
            "frames": counters.frames, "bytes": counters.bytes, "missed": missed, "udp": counters.udp, "tcp": counters.tcp,
            "icmp": counters.icmp, "neighbour": counters.neighbour, "other": counters.other,
            "control_seen": captured.marked[0], "plaintext_seen": leaked,
        });
        Ok(Check::promised("no plaintext on the underlay", passed, detail, figures))
    }

    /// Says the control in the open, from one host to another, until the capture has it.
    async fn send_control(&self, stage: &Stage) -> Result<(), Failure> {
        let (first, last) = (&stage.hosts[0], &stage.hosts[stage.hosts.len() - 1]);
        // With one host, towards the router.
        let to =
            if stage.hosts.len() > 1 { last.place.ipv4 } else { (u32::from(first.place.ipv4) - 1).into() };
        let socket = first.host.netns().enter(|| UdpSocket::bind((first.place.ipv4, 0)));
        let socket = socket.map_err(lab_failure)?.map_err(lab_failure)?;
        awaited("the capture sees the control", async || {
            // A refusal of an earlier one may be reported here; the next goes out all the same.
            let _ = socket.send_to(self.control.as_bytes(), (to, DISCARD_PORT));
            Ok((self.capture.marked()[0] > 0).then_some(()))
        })
        .await
    }
}

fn random_word(kind: &str) -> Result<String, Failure> {
    let mut bytes = [0; 16];
    crate::state::keys::fill_random(&mut bytes)?;
    Ok(format!("consort-demo-{kind}-{}", blake3::hash(&bytes).to_hex()))
}
