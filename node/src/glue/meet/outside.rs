//! The address of the NAT before this host: one that changes while this host's own do not leaves the control plane with connections that are dead.
//!
//! Owns: what was known of it last. Refuses to know what follows.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use consort_vswitch::path::LocalPaths;

/// Between two news: a NAT that shows one address today and another tomorrow is not one that has several by turns, before which connections are not dead.
const PAUSE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outside {
    local: Vec<SocketAddr>,
    known: Option<IpAddr>,
    told_at: Option<Instant>,
}

impl Outside {
    /// Takes what the data plane knows now; true if the NAT has another address than before. Of a host that is on another network itself that is no news.
    pub(super) fn changed(&mut self, now: Instant, paths: &LocalPaths) -> bool {
        if self.local != paths.local {
            (self.local, self.known) = (paths.local.clone(), None);
        }
        let Some(outside) = paths.outside else { return false };
        let is_news = self.known.replace(outside).is_some_and(|before| before != outside)
            && self.told_at.is_none_or(|told| now >= told + PAUSE);
        if is_news {
            self.told_at = Some(now);
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_address_of_the_same_networks_nat_is_news() {
        let paths = |local: &str, outside: Option<&str>| LocalPaths {
            local: vec![local.parse().unwrap()],
            outside: outside.map(|outside| outside.parse().unwrap()),
            ..LocalPaths::default()
        };
        let mut outside = Outside::default();
        let begin = Instant::now();
        for (second, local, seen, is_news) in [
            (0, "10.0.0.2:7", None, false),
            (1, "10.0.0.2:7", Some("198.51.100.1"), false),
            (2, "10.0.0.2:7", None, false),
            (3, "10.0.0.2:7", Some("198.51.100.1"), false),
            (4, "10.0.0.2:7", Some("198.51.100.2"), true),
            (5, "10.0.0.2:7", Some("198.51.100.2"), false),
            (6, "10.0.0.2:7", Some("198.51.100.1"), false),
            (99, "10.0.1.2:7", Some("198.51.100.3"), false),
            (100, "10.0.1.2:7", Some("198.51.100.4"), true),
        ] {
            let now = begin + Duration::from_secs(second);
            assert_eq!(outside.changed(now, &paths(local, seen)), is_news, "{second} {local} {seen:?}");
        }
    }
}
