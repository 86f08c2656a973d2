//! The bytes of requests, and their limits before a body is read.

use super::*;
use crate::testing::ECHO;
use libp2p::futures::{executor::block_on, io::Cursor};
use std::pin::Pin;
use std::task::{Context, Poll};

fn codec() -> RpcCodec {
    RpcCodec::new(Arc::new(BTreeMap::from([(ECHO.name, ECHO)])))
}

const NAME: StreamProtocol = StreamProtocol::new("/rpc");

fn read_request(bytes: &[u8]) -> io::Result<RpcRequest> {
    block_on(codec().read_request(&NAME, &mut Cursor::new(bytes)))
}

#[test]
fn golden_bytes_of_a_request_and_its_answer() {
    let request = RpcRequest { protocol: ECHO, body: Ok(b"abc".to_vec()) };
    let mut bytes = Cursor::new(Vec::new());
    let mut asking = codec();
    block_on(asking.write_request(&NAME, &mut bytes, request.clone())).unwrap();
    assert_eq!(bytes.get_ref(), b"\x01p\x00\x00\x00\x03abc");
    assert_eq!(read_request(bytes.get_ref()).unwrap(), request);

    let mut bytes = Cursor::new(Vec::new());
    block_on(codec().write_response(&NAME, &mut bytes, Ok(b"de".to_vec()))).unwrap();
    assert_eq!(bytes.get_ref(), b"\x00\x00\x00\x00\x02de");
    let answer = block_on(asking.read_response(&NAME, &mut Cursor::new(bytes.get_ref()))).unwrap();
    assert_eq!(answer, Ok(b"de".to_vec()));
}

#[test]
fn refusals_come_back_as_they_were() {
    for (code, refusal) in RpcRefusal::CODES {
        let mut bytes = Cursor::new(Vec::new());
        block_on(codec().write_response(&NAME, &mut bytes, Err(refusal))).unwrap();
        assert_eq!(bytes.get_ref(), &[code]);
        assert_eq!(
            block_on(codec().read_response(&NAME, &mut Cursor::new(bytes.get_ref()))).unwrap(),
            Err(refusal)
        );
    }
    assert!(block_on(codec().read_response(&NAME, &mut Cursor::new([200]))).is_err());
}

/// A stream that gives what it has and fails the test when it is read any further.
struct Guarded<'a>(&'a [u8]);

impl AsyncRead for Guarded<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        assert!(!self.0.is_empty(), "read beyond what the limits allow");
        let len = buf.len().min(self.0.len());
        buf[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        Poll::Ready(Ok(len))
    }
}

#[test]
fn sizes_are_judged_before_the_body_is_read() {
    let promised = [b"\x01p".as_slice(), &65u32.to_be_bytes()].concat();
    let request = block_on(codec().read_request(&NAME, &mut Guarded(&promised))).unwrap();
    assert_eq!(request, RpcRequest { protocol: ECHO, body: Err(RpcRefusal::RequestTooLarge) });
    let mut asking = codec();
    let sent = RpcRequest { protocol: ECHO, body: Ok(Vec::new()) };
    block_on(asking.write_request(&NAME, &mut Cursor::new(Vec::new()), sent)).unwrap();
    let promised = [[0].as_slice(), &65u32.to_be_bytes()].concat();
    let answer = block_on(asking.read_response(&NAME, &mut Guarded(&promised))).unwrap();
    assert_eq!(answer, Err(RpcRefusal::ResponseTooLarge));
}

#[test]
fn an_unknown_protocol_is_refused_by_its_name_alone() {
    let request = block_on(codec().read_request(&NAME, &mut Guarded(b"\x01q"))).unwrap();
    assert_eq!(request.body, Err(RpcRefusal::UnknownProtocol));
    assert!(block_on(codec().read_request(&NAME, &mut Guarded(&[33]))).is_err(), "no name is so long");
    let request = block_on(codec().read_request(&NAME, &mut Guarded(b"\x01\xff"))).unwrap();
    assert_eq!(request.body, Err(RpcRefusal::UnknownProtocol), "no name is so written");
}

#[test]
fn a_body_that_ends_early_is_an_error() {
    for cut in 0..9 {
        assert!(read_request(&b"\x01p\x00\x00\x00\x03abc"[..cut]).is_err(), "{cut}");
    }
}
