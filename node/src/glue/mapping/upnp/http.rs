//! As much of HTTP/1.1 as a router's description and its actions need: a request as bytes, an answer out of bytes.
//!
//! One request for each connection, which the answer ends. The answer's body has a length, comes in chunks, or ends with the connection.

use super::search::Url;

/// The longest answer, head and all: descriptions have some kilobytes.
pub const BYTES_MAX: usize = 64 * 1024;
/// The longest head.
const HEAD_BYTES_MAX: usize = 8 * 1024;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// A request for a page.
#[must_use]
pub fn get(url: &Url) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", url.path, url.address).into_bytes()
}

/// A request that carries something.
#[must_use]
pub fn post(url: &Url, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}",
        url.path, url.address
    )
    .into_bytes()
}

/// How the end of a body is known.
enum Ending {
    After(usize),
    Chunks,
    WithTheConnection,
}

struct Head {
    status: u16,
    ending: Ending,
    /// Where the body begins.
    bytes: usize,
}

/// Whether nothing of an answer is missing, as far as that can be told before the connection ends; also where it can be told that it is none.
#[must_use]
pub fn is_whole(bytes: &[u8]) -> bool {
    match head(bytes) {
        Ok(None) => false,
        Ok(Some(head)) => match head.ending {
            Ending::After(length) => bytes.len() - head.bytes >= length,
            Ending::Chunks => !matches!(unchunk(&bytes[head.bytes..]), Ok(None)),
            Ending::WithTheConnection => false,
        },
        Err(_) => true,
    }
}

impl Answer {
    /// Reads an answer after the connection has ended, or is not needed any more.
    ///
    /// # Errors
    /// In words, if it is none, is not whole, or is too long.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("the router says more than {BYTES_MAX} bytes"));
        }
        let head = head(bytes)?.ok_or("the router breaks off in the head of its answer")?;
        let rest = &bytes[head.bytes..];
        let body = match head.ending {
            Ending::After(length) => {
                rest.get(..length).ok_or("the router breaks off in its answer")?.to_vec()
            }
            Ending::Chunks => unchunk(rest)?.ok_or("the router breaks off between chunks")?,
            Ending::WithTheConnection => rest.to_vec(),
        };
        let body = String::from_utf8(body).map_err(|_| "the router's answer is no text")?;
        Ok(Self { status: head.status, body })
    }

    /// The body, if all went well.
    ///
    /// # Errors
    /// In words: also where the router points elsewhere, which nobody follows.
    pub fn body_of_success(self) -> Result<String, String> {
        match self.status {
            200 => Ok(self.body),
            status => Err(format!("UPnP: the router answers with status {status}")),
        }
    }
}

/// The head, once it is whole.
fn head(bytes: &[u8]) -> Result<Option<Head>, String> {
    let window = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
    let Some(end) = window.windows(END_OF_HEAD.len()).position(|part| part == END_OF_HEAD) else {
        return match bytes.len() {
            0..HEAD_BYTES_MAX => Ok(None),
            _ => Err(format!("the head of the router's answer has more than {HEAD_BYTES_MAX} bytes")),
        };
    };
    let text =
        std::str::from_utf8(&bytes[..end]).map_err(|_| "the head of the router's answer is no text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(status).ok_or("the router's answer is no HTTP")?;
    let mut ending = Ending::WithTheConnection;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            ending = Ending::Chunks;
        } else if name.eq_ignore_ascii_case("content-length") && !matches!(ending, Ending::Chunks) {
            let length = value.parse().ok().filter(|length| *length <= BYTES_MAX);
            ending =
                Ending::After(length.ok_or_else(|| format!("the router announces `{value:.20}` bytes"))?);
        }
    }
    Ok(Some(Head { status, ending, bytes: end + END_OF_HEAD.len() }))
}

fn status(line: &str) -> Option<u16> {
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| rest.get(..3)?.parse().ok())?
}

/// The body out of its chunks; none while some are missing.
fn unchunk(mut rest: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(end) = rest.windows(2).position(|part| part == b"\r\n") else { return Ok(None) };
        let line = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).ok().filter(|length| *length <= BYTES_MAX);
        let length = length.ok_or("the router announces a chunk of no length")?;
        if length == 0 {
            return Ok(Some(body));
        }
        let Some(chunk) = rest.get(end + 2..end + 2 + length) else { return Ok(None) };
        body.extend_from_slice(chunk);
        let Some(after) = rest.get(end + 2 + length + 2..) else { return Ok(None) };
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Answer, String> {
        Answer::read(text.as_bytes())
    }

    #[test]
    fn a_body_ends_by_length_by_chunks_or_with_the_connection() {
        let ok = |body: &str| Ok(Answer { status: 200, body: body.to_owned() });
        for (text, body, whole) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcde", "abc", true),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n",
                "abc",
                true,
            ),
            ("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nabc", "abc", false),
        ] {
            assert_eq!(read(text), ok(body));
            assert_eq!(is_whole(text.as_bytes()), whole);
            let head = text.find("\r\n\r\n").unwrap();
            assert!((0..head + 4).all(|cut| !is_whole(&text.as_bytes()[..cut])));
        }
    }

    #[test]
    fn no_answer_grows_hangs_or_panics() {
        for bad in [
            "",
            "HTTP/1.1",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 2\r\n\r\n",
            "HTTP/1.1 \u{e4}\u{e4}\u{e4}\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_BYTES_MAX));
        assert!(is_whole(long.as_bytes()) && read(&long).is_err(), "a head without an end");
        assert!(read(&format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(BYTES_MAX))).is_err());
        assert!(
            read("HTTP/1.1 302 Found\r\nLocation: http://10.0.0.1/\r\n\r\n")
                .unwrap()
                .body_of_success()
                .is_err()
        );
    }
}
