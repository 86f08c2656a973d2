//! One rule: its text, and what it matches.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{RULES_MAX, Rules};
use crate::packet::{Transport, View};

/// Ports named in one rule.
const PORTS_MAX: usize = 16;

/// A line of a firewall makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseRuleError {
    /// A word that stands where another was expected.
    #[error("`{found}` is not {expected}")]
    Word {
        /// What stands there.
        found: String,
        /// What may.
        expected: &'static str,
    },
    /// Too many rules, or ports in a rule.
    #[error("more than {0} of them")]
    TooMany(usize),
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
}

/// Seen from inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From outside.
    In,
    /// To the outside.
    Out,
}

/// Which packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocols {
    /// All.
    Any,
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// All of ICMP.
    Icmp,
    /// What routers say of packets they did not pass on.
    IcmpErrors,
}

/// What a packet must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matches {
    /// Its protocol.
    pub protocols: Protocols,
    /// One of its ends has one of these ports; none named: any.
    pub ports: Vec<u16>,
    /// Its end outside.
    pub with: Option<IpAddr>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What is done.
    pub action: Action,
    /// In which direction.
    pub direction: Direction,
    /// With which packets.
    pub matches: Matches,
}

impl Rules {
    /// Reads rules, and the word `stateful` among them.
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, ParseRuleError> {
        let mut parsed = Self::default();
        for line in lines {
            if line.trim() == "stateful" {
                parsed.stateful = true;
                continue;
            }
            if parsed.rules.len() >= RULES_MAX {
                return Err(ParseRuleError::TooMany(RULES_MAX));
            }
            parsed.rules.push(Rule::parse(line)?);
        }
        Ok(parsed)
    }
}

impl Rule {
    fn parse(line: &str) -> Result<Self, ParseRuleError> {
        let mut words = line.split_whitespace().peekable();
        let action = match words.next() {
            Some("allow") => Action::Allow,
            Some("deny") => Action::Deny,
            other => return Err(wrong(other, "`allow`, `deny` or `stateful`")),
        };
        let direction = match words.next() {
            Some("in") => Direction::In,
            Some("out") => Direction::Out,
            other => return Err(wrong(other, "`in` or `out`")),
        };
        let mut matches = Matches { protocols: Protocols::Any, ports: Vec::new(), with: None };
        if let Some(word) = words.next_if(|word| *word != "with") {
            matches.protocols = match word {
                "udp" => Protocols::Udp,
                "tcp" => Protocols::Tcp,
                "icmp" => Protocols::Icmp,
                "icmp-errors" => Protocols::IcmpErrors,
                "any" => Protocols::Any,
                other => return Err(wrong(Some(other), "`udp`, `tcp`, `icmp`, `icmp-errors` or `any`")),
            };
        }
        if let Some(ports) = words.next_if(|word| *word != "with") {
            for port in ports.split(',') {
                let port = port.parse().map_err(|_| wrong(Some(port), "a port"))?;
                matches.ports.push(port);
            }
            if matches.ports.len() > PORTS_MAX {
                return Err(ParseRuleError::TooMany(PORTS_MAX));
            }
        }
        match words.next() {
            None => {}
            Some("with") => {
                let word = words.next();
                let address = word.and_then(|word| word.parse().ok());
                matches.with = Some(address.ok_or_else(|| wrong(word, "an address after `with`"))?);
            }
            other => return Err(wrong(other, "`with`, or the end of the rule")),
        }
        match words.next() {
            None => Ok(Self { action, direction, matches }),
            more => Err(wrong(more, "the end of the rule")),
        }
    }

    pub(super) fn matches(&self, direction: Direction, view: &View) -> bool {
        let outside = match direction {
            Direction::In => view.source,
            Direction::Out => view.destination,
        };
        self.direction == direction
            && self.matches.protocols.contain(view.transport)
            && self.matches.with.is_none_or(|with| with == outside)
            && (self.matches.ports.is_empty()
                || ports(view).iter().any(|port| self.matches.ports.contains(port)))
    }
}

impl Protocols {
    fn contain(self, transport: Transport) -> bool {
        let is_icmp = matches!(
            transport,
            Transport::EchoRequest { .. }
                | Transport::EchoReply { .. }
                | Transport::IcmpError
                | Transport::OtherIcmp
        );
        match self {
            Self::Any => true,
            Self::Udp => matches!(transport, Transport::Udp { .. }),
            Self::Tcp => matches!(transport, Transport::Tcp { .. }),
            Self::Icmp => is_icmp,
            Self::IcmpErrors => transport == Transport::IcmpError,
        }
    }
}

fn ports(view: &View) -> [u16; 2] {
    match view.transport {
        Transport::Udp { source, destination } | Transport::Tcp { source, destination, .. } => {
            [source, destination]
        }
        // Port 0 is nobody's, and no rule names it to any use.
        _ => [0; 2],
    }
}

fn wrong(found: Option<&str>, expected: &'static str) -> ParseRuleError {
    ParseRuleError::Word { found: found.unwrap_or_default().to_owned(), expected }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_says_what_it_says() {
        let rules = Rules::parse(["stateful", "deny out udp 53,7441 with 2001:db8::1"]).unwrap();
        assert!(rules.stateful);
        assert_eq!(
            rules.rules,
            [Rule {
                action: Action::Deny,
                direction: Direction::Out,
                matches: Matches {
                    protocols: Protocols::Udp,
                    ports: vec![53, 7441],
                    with: Some("2001:db8::1".parse().unwrap()),
                },
            }]
        );
    }

    #[test]
    fn a_wrong_word_is_named() {
        for (line, found) in [
            ("block out udp", "block"),
            ("deny up", "up"),
            ("deny out quic", "quic"),
            ("deny out udp 70000", "70000"),
            ("deny in udp 1 from 10.0.0.1", "from"),
            ("deny in with", ""),
            ("deny in udp 1 with 10.0.0.1 too", "too"),
        ] {
            let error = Rules::parse([line]).unwrap_err();
            assert!(matches!(&error, ParseRuleError::Word { found: word, .. } if word == found), "{error}");
        }
    }
}
