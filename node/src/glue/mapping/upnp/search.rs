//! The search for a gateway device (SSDP), and where an answer points.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The group that devices listen to.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
/// And its port.
pub const PORT: u16 = 1900;
/// Hops a search lives: UPnP's own.
pub const HOPS: u32 = 2;
/// The longest answer that is read.
pub const BYTES_MAX: usize = 2_048;
/// What is searched for.
pub const TARGETS: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];
/// The longest path of a URL.
const PATH_BYTES_MAX: usize = 512;

/// A URL of the router's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Where it leads.
    pub address: SocketAddrV4,
    /// What is asked for there; begins with `/`, and has no byte that would end a line.
    pub path: String,
}

/// A search for `target`.
#[must_use]
pub fn message(target: &str) -> Vec<u8> {
    format!("M-SEARCH * HTTP/1.1\r\nHOST: {GROUP}:{PORT}\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n")
        .into_bytes()
}

/// Where an answer says the description is; none if it is no answer, or leads elsewhere than to `router`.
#[must_use]
pub fn location(answer: &[u8], router: Ipv4Addr) -> Option<Url> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.split("\r\n");
    let mut status = lines.next()?.split(' ');
    let is_answer = status.next()?.starts_with("HTTP/1.") && status.next()? == "200";
    let location =
        lines.filter_map(|line| line.split_once(':')).find(|(name, _)| name.eq_ignore_ascii_case("location"));
    is_answer.then(|| Url::parse(location?.1.trim(), router))?
}

impl Url {
    /// An absolute URL to `router`.
    #[must_use]
    pub fn parse(text: &str, router: Ipv4Addr) -> Option<Self> {
        // The scheme in any case, as some devices write it.
        let (scheme, rest) = text.split_at_checked("http://".len())?;
        let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let (ip, port) = host.split_once(':').unwrap_or((host, "80"));
        let address = SocketAddrV4::new(ip.parse().ok()?, port.parse().ok().filter(|port| *port != 0)?);
        let is_good = scheme.eq_ignore_ascii_case("http://") && *address.ip() == router && is_path(path);
        is_good.then(|| Self { address, path: path.to_owned() })
    }

    /// Another URL of the same device: absolute, or a path from its root or beside this one.
    #[must_use]
    pub fn join(&self, text: &str) -> Option<Self> {
        if text.contains("://") {
            return Self::parse(text, *self.address.ip());
        }
        let path = match text.strip_prefix('/') {
            Some(_) => text.to_owned(),
            None => {
                let directory = self.path.rfind('/').map_or("/", |end| &self.path[..=end]);
                format!("{directory}{text}")
            }
        };
        is_path(&path).then_some(Self { address: self.address, path })
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= PATH_BYTES_MAX && path.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 1);

    fn answer(location: &str) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nST: {}\r\nLocation: {location}\r\n\r\n", TARGETS[0]).into_bytes()
    }

    #[test]
    fn an_answer_points_to_the_router_or_nowhere() {
        let found = location(&answer("http://192.168.1.1:5000/rootDesc.xml"), ROUTER).unwrap();
        assert_eq!((found.address.port(), found.path.as_str()), (5000, "/rootDesc.xml"));
        assert_eq!(location(&answer("HTTP://192.168.1.1"), ROUTER).unwrap().path, "/");
        for elsewhere in [
            "http://192.168.1.2:5000/rootDesc.xml",
            "http://127.0.0.1:631/",
            "http://router.lan/",
            "http://192.168.1.1@10.0.0.1/",
            "http://10.0.0.1:80@192.168.1.1/",
            "https://192.168.1.1/",
            "file:///etc/passwd",
            "http://192.168.1.1:0/",
            "http://192.168.1.1:99999/",
            "http://192.168.1.1:80/a b",
            "http://192.168.1.1:80/\u{e4}",
            "",
            "h",
        ] {
            assert_eq!(location(&answer(elsewhere), ROUTER), None, "{elsewhere}");
        }
        let long = format!("http://192.168.1.1/{}", "x".repeat(PATH_BYTES_MAX));
        assert_eq!(location(&answer(&long), ROUTER), None);
        for other in [
            &b"NOTIFY * HTTP/1.1\r\nLocation: http://192.168.1.1/\r\n\r\n"[..],
            b"HTTP/1.1 404 x\r\nLocation: http://192.168.1.1/\r\n",
            b"",
            b"\xff",
        ] {
            assert_eq!(location(other, ROUTER), None);
        }
    }

    #[test]
    fn further_urls_stay_at_the_router() {
        let here = Url::parse("http://192.168.1.1:5000/igd/root.xml", ROUTER).unwrap();
        let path = |text: &str| here.join(text).map(|url| url.path);
        assert_eq!(path("/ctl"), Some("/ctl".into()));
        assert_eq!(path("ctl"), Some("/igd/ctl".into()));
        assert_eq!(here.join("http://192.168.1.1:80/x").unwrap().address.port(), 80);
        assert_eq!(path("http://192.168.1.7:80/x"), None);
        assert_eq!(path("/x\r\nHost: other"), None);
    }
}
