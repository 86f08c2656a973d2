//! One entry per decoder that reads bytes from outside: for the fuzz targets in `/fuzz`, and run for a moment by this crate's own tests.
//!
//! The rules each entry holds its decoder to: any input is decoded or refused, without a panic; what was decoded encodes to the very bytes it
//! came from, so that nothing signed or hashed has two forms.

use crate::{
    document::Document,
    identity::{Key, OverlayKey},
    lan::Service,
    membership::{Chain, Revocation, Revocations},
    protocol::{
        documents,
        member::{Hello, decode_answer, decode_verdict, encode_answer, encode_verdict},
        news::News,
        revocations,
        rpc::{RpcCodec, RpcProtocol},
    },
    record::Unverified,
    ticket::Ticket,
    view::exchange::Exchange,
};
use libp2p::{
    StreamProtocol,
    futures::{executor::block_on, io::Cursor},
    request_response::Codec,
};
use std::{collections::BTreeMap, sync::Arc};

/// A membership chain.
pub fn chain(bytes: &[u8]) {
    if let Ok(chain) = Chain::decode(bytes) {
        assert_eq!(chain.encode(), bytes);
    }
}

/// A ticket, as text.
pub fn ticket(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(ticket) = text.parse::<Ticket>()
    {
        assert_eq!(ticket.to_string(), text.trim().to_ascii_lowercase());
    }
}

/// A host record.
pub fn record(bytes: &[u8]) {
    if let Ok(record) = Unverified::decode(bytes) {
        assert!(record.host().to_bytes().len() < bytes.len());
    }
}

/// A revocation, by itself, as news, and as an answer about revocations.
pub fn revocation(bytes: &[u8]) {
    if let Ok(revocation) = Revocation::decode(bytes) {
        assert_eq!(revocation.encode(), bytes);
    }
    if let Ok(news) = News::decode(bytes) {
        assert_eq!(news.encode(), bytes);
    }
    // Refused or not is all there is to see: the answer is not kept, and an empty set has nothing to answer with.
    revocations::decode_answer(bytes).ok();
    revocations::answer(&Revocations::default(), bytes).ok();
}

/// A document, by itself, and in a question and an answer about documents.
pub fn document(bytes: &[u8]) {
    if let Ok(document) = Document::decode(bytes) {
        assert_eq!(document.encode(), bytes);
    }
    if let Ok(question) = documents::Question::decode(bytes) {
        assert_eq!(question.encode(), bytes);
    }
    if let Ok(held) = documents::decode_answer(bytes) {
        let held: Vec<Arc<Document>> = held.into_iter().map(Arc::new).collect();
        assert_eq!(documents::encode_answer(&held), bytes);
    }
}

/// A packet of the local link.
pub fn link(bytes: &[u8]) {
    let service = Service::of(OverlayKey(Key::from_bytes([0; 32])));
    // Heard or not is all there is to see.
    drop(service.hear(bytes));
}

/// The three messages of the membership handshake.
pub fn member(bytes: &[u8]) {
    if let Ok(hello) = Hello::decode(bytes) {
        assert_eq!(hello.encode(), bytes);
    }
    if let Ok(answer) = decode_answer(bytes) {
        assert_eq!(encode_answer(&answer), bytes);
    }
    if let Ok(verdict) = decode_verdict(bytes) {
        assert_eq!(encode_verdict(verdict), bytes);
    }
}

/// An exchange of records.
pub fn exchange(bytes: &[u8]) {
    if let Ok(exchange) = Exchange::decode(bytes) {
        assert_eq!(exchange.encode(), bytes);
    }
}

/// A request and an answer.
pub fn rpc(bytes: &[u8]) {
    const BODY_MAX: usize = 64;
    let protocol = RpcProtocol {
        name: "p",
        request_bytes_max: BODY_MAX,
        response_bytes_max: BODY_MAX,
        rate: crate::Rate { per_second: 1, burst: 1 },
    };
    let mut codec = RpcCodec::new(Arc::new(BTreeMap::from([(protocol.name, protocol)])));
    let name = StreamProtocol::new("/rpc");
    if let Ok(request) = block_on(codec.read_request(&name, &mut Cursor::new(bytes)))
        && let Ok(body) = request.body
    {
        assert!(body.len() <= BODY_MAX);
    }
    if let Ok(Ok(body)) = block_on(codec.read_response(&name, &mut Cursor::new(bytes))) {
        assert!(body.len() <= BODY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{samples, seeded};
    use crate::view::below;
    use rand_core::Rng;

    /// Random, flipped and cut input, from a seed that a failure prints.
    #[test]
    fn every_decoder_survives_what_a_stranger_can_send() {
        for (entry, sample) in samples() {
            for seed in 0..200 {
                let mut rng = seeded(seed);
                let mut bytes = sample.clone();
                match seed % 4 {
                    0 => bytes.truncate(below(&mut rng, sample.len() + 1)),
                    1 => {
                        let at = below(&mut rng, bytes.len());
                        bytes[at] ^= 1 << below(&mut rng, 8);
                    }
                    2 => {
                        let len = below(&mut rng, 600);
                        bytes = vec![0; len];
                        rng.fill_bytes(&mut bytes);
                    }
                    _ => bytes.push(0),
                }
                entry(&bytes);
            }
            entry(&sample);
        }
    }
}
