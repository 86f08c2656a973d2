//! A firewall: rules, first match wins, and behind them an optional memory of who spoke first. Pure; for both IP versions.
//!
//! Owns: what passes. Refuses to know addresses being translated (it stands inside of the NAT) and how packets come and go. A packet that no
//! rule names passes on its way out; on its way in it passes unless the firewall is stateful and nobody inside has spoken to its sender.
//!
//! | rule | meaning |
//! |---|---|
//! | `deny out udp` | no UDP to the outside |
//! | `allow out tcp 443,53` | TCP of which either end has one of these ports |
//! | `deny in udp 7441` | also what answers: rules come before the memory |
//! | `deny out with 198.51.100.2` | anything to this address outside |
//! | `deny in icmp-errors` | routers' complaints: what makes a hole of a small MTU |
//! | `stateful` | what comes in must answer something, within [`UDP_MEMORY`] or [`TCP_MEMORY`] |

mod rule;
mod states;

pub use rule::{Action, Direction, Matches, ParseRuleError, Protocols, Rule};
pub use states::{TCP_MEMORY, UDP_MEMORY};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::packet::{Transport, View};
use states::States;

/// Rules in one firewall: a case is told in a handful.
pub const RULES_MAX: usize = 64;

/// What a firewall is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The first that matches decides.
    pub rules: Vec<Rule>,
    /// Whether what comes in must answer something.
    pub stateful: bool,
}

/// A firewall with its memory. Times are counted from any fixed point.
#[derive(Debug, Default)]
pub(crate) struct Firewall {
    rules: Rules,
    states: States,
}

impl Firewall {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, states: States::default() }
    }

    /// Decides by other rules from now on; who has spoken is remembered.
    pub(crate) fn change(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Whether a packet passes in this direction.
    pub(crate) fn passes(&mut self, now: Duration, direction: Direction, view: &View) -> bool {
        let decided =
            self.rules.rules.iter().find(|rule| rule.matches(direction, view)).map(|rule| rule.action);
        match (decided, direction) {
            (Some(Action::Deny), _) => false,
            (_, Direction::Out) => {
                if self.rules.stateful {
                    self.states.remember(now, view);
                }
                true
            }
            (Some(Action::Allow), Direction::In) => true,
            // Complaints belong to conversations, and later parts to packets; who checks them is the NAT or the host.
            (None, Direction::In) => {
                let follows = matches!(view.transport, Transport::IcmpError | Transport::Later);
                !self.rules.stateful || follows || self.states.answers(now, view)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::udp_packet;

    const SECOND: Duration = Duration::from_secs(1);

    fn firewall(text: &[&str]) -> Firewall {
        Firewall::new(Rules::parse(text.iter().copied()).unwrap())
    }

    fn passes(firewall: &mut Firewall, now: Duration, direction: Direction, from: &str, to: &str) -> bool {
        let packet = udp_packet(from.parse().unwrap(), to.parse().unwrap(), b"x");
        firewall.passes(now, direction, &View::of(&packet).unwrap())
    }

    const INSIDE: &str = "192.168.1.10:7441";
    const OUTSIDE: &str = "198.51.100.2:7441";

    #[test]
    fn a_stateful_one_lets_answers_in_and_nothing_else() {
        let mut firewall = firewall(&["stateful"]);
        assert!(!passes(&mut firewall, SECOND, Direction::In, OUTSIDE, INSIDE));
        assert!(passes(&mut firewall, SECOND, Direction::Out, INSIDE, OUTSIDE));
        assert!(passes(&mut firewall, SECOND, Direction::In, OUTSIDE, INSIDE));
        assert!(!passes(&mut firewall, SECOND, Direction::In, "198.51.100.2:53", INSIDE));
        assert!(!passes(&mut firewall, UDP_MEMORY + SECOND, Direction::In, OUTSIDE, INSIDE));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let mut firewall = firewall(&["allow out udp 53", "deny out udp", "deny in udp"]);
        assert!(passes(&mut firewall, SECOND, Direction::Out, INSIDE, "198.51.100.2:53"));
        assert!(!passes(&mut firewall, SECOND, Direction::Out, INSIDE, OUTSIDE));
        assert!(!passes(&mut firewall, SECOND, Direction::In, OUTSIDE, INSIDE));
    }

    #[test]
    fn a_rule_may_name_the_other_end() {
        let mut firewall = firewall(&["deny out with 198.51.100.2", "deny in udp with 198.51.100.6"]);
        assert!(!passes(&mut firewall, SECOND, Direction::Out, INSIDE, OUTSIDE));
        assert!(passes(&mut firewall, SECOND, Direction::Out, INSIDE, "198.51.100.6:1"));
        assert!(!passes(&mut firewall, SECOND, Direction::In, "198.51.100.6:1", INSIDE));
        assert!(passes(&mut firewall, SECOND, Direction::In, OUTSIDE, INSIDE));
    }
}
