//! JSON strings for output, names for addresses, and the arguments of a command.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use crate::tool::Failure;

/// A JSON string with its quotes.
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A JSON list of things already in JSON.
#[must_use]
pub fn json_list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// The address of a name: an address as written, or a line of `/etc/hosts` (IPv4 first, as that file has it).
///
/// # Errors
/// The name is in neither form.
pub fn resolve(name: &str) -> Result<IpAddr, Failure> {
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse() {
        return Ok(address);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").map_err(Failure::at("read /etc/hosts"))?;
    lookup(&hosts, name)
        .ok_or_else(|| Failure::Failed(format!("{name} is neither an address nor a name in /etc/hosts")))
}

fn lookup(hosts: &str, name: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word == name).then_some(address)
    })
}

/// The socket address of `HOST:PORT`, `[V6]:PORT` or a host alone.
///
/// # Errors
/// The host has no address, or there is neither a port nor a default for it.
pub fn resolve_port(text: &str, default: Option<u16>) -> Result<SocketAddr, Failure> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && let Ok(port) = port.parse()
        && (!host.contains(':') || host.starts_with('['))
    {
        return Ok(SocketAddr::new(resolve(host)?, port));
    }
    let port = default.ok_or_else(|| Failure::Usage(format!("{text} names no port")))?;
    Ok(SocketAddr::new(resolve(text)?, port))
}

/// The arguments of a command: options with their values first, then what is left.
#[derive(Debug)]
pub struct Arguments(VecDeque<String>);

impl Arguments {
    /// Takes the words after the command.
    #[must_use]
    pub fn new(words: Vec<String>) -> Self {
        Self(words.into())
    }

    /// The next option, if the next word is one; `--` ends them.
    pub fn option(&mut self) -> Option<String> {
        if !self.0.front()?.starts_with('-') {
            return None;
        }
        self.0.pop_front().filter(|word| word != "--")
    }

    /// The value of an option, read as what it must be.
    ///
    /// # Errors
    /// It is missing, or something else.
    pub fn value<T: FromStr>(&mut self, option: &str) -> Result<T, Failure> {
        let word = self.0.pop_front().ok_or_else(|| Failure::Usage(format!("{option} needs a value")))?;
        word.parse().map_err(|_| Failure::Usage(format!("{option} {word}: not a value it can have")))
    }

    /// The next word.
    ///
    /// # Errors
    /// There is none.
    pub fn word(&mut self, what: &str) -> Result<String, Failure> {
        self.0.pop_front().ok_or_else(|| Failure::Usage(format!("{what} is missing")))
    }

    /// The words that are left.
    #[must_use]
    pub fn rest(self) -> Vec<String> {
        self.0.into()
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// Something is.
    pub fn end(self) -> Result<(), Failure> {
        match self.0.front() {
            None => Ok(()),
            Some(word) => Err(Failure::Usage(format!("{word}: one word too many"))),
        }
    }
}

/// For an option that a command does not have.
#[must_use]
pub fn unknown(option: &str) -> Failure {
    Failure::Usage(format!("{option}: no such option here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_escapes_what_must_be_escaped() {
        assert_eq!(json("a\"b\\c\n\u{1}é"), "\"a\\\"b\\\\c\\u000a\\u0001é\"");
    }

    #[test]
    fn hosts_are_found_by_any_of_their_names() {
        let hosts =
            "# comment\n127.0.0.1 localhost\n10.7.0.3 worker-1.lan worker-1 # mine\nfd00::3 worker-1\n";
        assert_eq!(lookup(hosts, "worker-1"), Some("10.7.0.3".parse().unwrap()));
        assert_eq!(lookup(hosts, "mine"), None);
    }

    #[test]
    fn ports_are_read_in_every_usual_form() {
        for (text, expected) in [
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[fd00::1]:80", "[fd00::1]:80"),
            ("10.0.0.1", "10.0.0.1:7"),
            ("fd00::1", "[fd00::1]:7"),
            ("[fd00::1]", "[fd00::1]:7"),
        ] {
            assert_eq!(resolve_port(text, Some(7)).unwrap(), expected.parse().unwrap(), "{text}");
        }
        assert!(resolve_port("10.0.0.1", None).is_err());
    }
}
