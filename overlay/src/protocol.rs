//! What members say to each other, one file per protocol: its bytes, its limits, its refusals. No protocol here touches a socket.
//!
//! | protocol | carried by | file |
//! |---|---|---|
//! | `/consort/member/1` | the first stream of each connection, before the swarm sees it | [`member`] |
//! | `/consort/<overlay>/rpc/1` | libp2p request-response | [`rpc`] |
//! | `/consort/<overlay>/stream/<name>/1` | [`streams`](crate::streams) | no bytes of its own |
//! | `/consort/<overlay>/kad/1` | libp2p Kademlia | no bytes of its own |
//! | `/consort/<overlay>/news/1` | gossipsub | [`news`] |
//! | `_c…._udp.local` | multicast DNS on the local link | [`packet`](crate::lan::packet) |
//! | `overlay/exchange`, `overlay/revocations`, `overlay/documents` | rpc | [`exchange`](crate::view::exchange), [`revocations`], [`documents`] |

pub(crate) mod documents;
pub(crate) mod member;
pub(crate) mod news;
pub(crate) mod revocations;
pub(crate) mod rpc;
