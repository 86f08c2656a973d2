//! Standing in the overlay: how this host came in, whom it lets in and puts out, and the state to write down.

use super::{Driver, STATE_PAUSE, StartError};
use crate::{
    bytes::ADDRESSES_MAX,
    clock::UnixSeconds,
    config::OverlayConfig,
    counters::count,
    event::Event,
    gate::{Door, ISSUED_MAX, TICKETS_MAX},
    handle::{InviteError, InviteOptions, Member, RevokeError},
    identity::{HostId, Key, OverlayKey, pair_from_seed},
    membership::{
        Chain, LinkSecret, Membership, Revocation, RevocationRefusal, Revocations, Seed, Standing, Taken,
    },
    peers::FailureReason,
    protocol::{member::Refusal, news::News, revocations::decode_answer},
    state::{KNOWN_PEERS_MAX, KnownPeer, OverlayState},
    ticket::Ticket,
};
use libp2p::gossipsub::{self, MessageAcceptance};
use rand_core::Rng;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What a host starts with.
pub(super) struct Origin {
    pub(super) membership: Option<Membership>,
    pub(super) tickets: Vec<Ticket>,
    pub(super) revocations: Revocations,
    pub(super) issued: Vec<Chain>,
    /// Whether the membership is new and must be written down.
    pub(super) founded: bool,
}

/// A kept membership comes first, then a ticket, then a new overlay.
pub(super) fn origin(config: &OverlayConfig, rng: &mut impl Rng) -> Result<Origin, StartError> {
    let (own, now) = (Key::of(&config.keypair), config.clock.unix());
    if config.bootstrap.len() > TICKETS_MAX {
        return Err(StartError::TooManyTickets);
    }
    let allowed = |found: OverlayKey| match config.pinned {
        Some(pinned) if pinned != found => Err(StartError::OtherThanPinned { found, pinned }),
        _ => Ok(()),
    };
    if let Some(membership) = &config.state.membership {
        if membership.chain.holder() != own || membership.chain.verify_signatures(membership.overlay).is_err()
        {
            return Err(StartError::ForeignState);
        }
        allowed(membership.overlay)?;
        return Ok(Origin {
            membership: Some(membership.clone()),
            tickets: Vec::new(),
            revocations: Revocations::restore(membership.overlay, config.state.revocations.clone()),
            issued: config.state.issued.iter().take(ISSUED_MAX).cloned().collect(),
            founded: false,
        });
    }
    let mut origin = Origin {
        membership: None,
        tickets: Vec::new(),
        revocations: Revocations::default(),
        issued: Vec::new(),
        founded: false,
    };
    if config.bootstrap.is_empty() {
        if let Some(pinned) = config.pinned {
            return Err(StartError::PinnedWithoutTicket(pinned));
        }
        origin.membership = Some(found(own, now, rng));
        origin.founded = true;
        return Ok(origin);
    }
    for ticket in &config.bootstrap {
        ticket.verify(now)?;
        allowed(ticket.overlay())?;
    }
    origin.tickets.clone_from(&config.bootstrap);
    Ok(origin)
}

fn found(founder: Key, now: UnixSeconds, rng: &mut impl Rng) -> Membership {
    let mut draw = || {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut bytes[..]);
        bytes
    };
    let seed = Seed(draw());
    let pair = pair_from_seed(&seed.0);
    Membership {
        overlay: OverlayKey(Key::of(&pair)),
        chain: Chain::found(&pair, founder, now),
        link_secret: LinkSecret::new(*draw()),
        overlay_seed: Some(seed),
    }
}

impl Origin {
    /// From now on the door opens.
    pub(super) fn open(self, door: &mut Door) {
        door.membership = self.membership;
        door.tickets = self.tickets;
        door.revocations = self.revocations;
        door.issued = self.issued.into();
    }
}

impl Driver {
    /// Whether nobody else was ever in this host's overlay, so that leaving it leaves nobody behind.
    pub(super) fn is_alone(&self) -> bool {
        let door = self.door.lock();
        let founder = door.membership.as_ref().is_none_or(|membership| membership.overlay_seed.is_some());
        let admitted = door.issued.iter().any(|chain| chain.last().standing != Standing::Invitation);
        founder && !admitted && self.peers.connected() == 0 && self.view.len() == 0
    }

    pub(super) fn invite(&mut self, options: InviteOptions) -> Result<Ticket, InviteError> {
        if options.addresses.len() > ADDRESSES_MAX {
            return Err(InviteError::TooManyAddresses);
        }
        let addresses = if options.addresses.is_empty() { self.own_addresses() } else { options.addresses };
        let now = self.clock.unix();
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let mut door = self.door.lock();
        let membership = door.membership.as_ref().ok_or(InviteError::NotAMember)?;
        let until = now.after(options.valid_for);
        let ticket =
            Ticket::issue(door.pair(), membership.overlay, &membership.chain, seed, now, until, addresses)?;
        // An invitation that has ended needs no evidence for putting it out.
        door.issued.retain(|chain| chain.last().until.is_none_or(|until| until > now));
        if door.issued.len() >= ISSUED_MAX {
            door.issued.pop_front();
        }
        door.issued.push_back(ticket.chain().clone());
        drop(door);
        self.state_changed = true;
        Ok(ticket)
    }

    /// The chains this host knows of, those it showed or was shown itself first.
    fn chains(&self) -> Vec<Chain> {
        let door = self.door.lock();
        let own = door.membership.iter().map(|membership| membership.chain.clone());
        let issued = door.issued.iter().cloned();
        let shown = self.peers.chains().map(|(_, chain)| chain.clone());
        own.chain(shown).chain(self.view.iter().map(|record| record.chain.clone())).chain(issued).collect()
    }

    pub(super) fn members(&self) -> Vec<Member> {
        let local = *self.swarm.local_peer_id();
        let mut members = BTreeMap::new();
        let chains = self.chains();
        let door = self.door.lock();
        for chain in chains {
            let (Some(host), Standing::Member { invitation }) =
                (chain.holder().host(), chain.last().standing)
            else {
                continue;
            };
            if chain.revoked_by(&door.revocations).is_some() {
                continue;
            }
            members.entry(host).or_insert_with(|| Member {
                host,
                admitted_by: chain.voucher().and_then(|key| key.host()),
                invitation,
                since: chain.last().issued,
                last_record: self.seen_at(&host),
                connected: self.peers.is_up(&host),
                local: host == local,
            });
        }
        members.into_values().collect()
    }

    pub(super) fn revoke(&mut self, target: Key) -> Result<(), RevokeError> {
        let evidence = self.chains().into_iter().find(|chain| chain.holder() == target);
        let door = self.door.lock();
        let membership = door.membership.as_ref().ok_or(RevokeError::NotAMember)?;
        let evidence = evidence.ok_or(RevokeError::Unknown(target))?;
        let overlay = membership.overlay;
        let overlay_pair = membership.overlay_seed.as_ref().map(|seed| pair_from_seed(&seed.0));
        let signer = [Some(door.pair().clone()), overlay_pair]
            .into_iter()
            .flatten()
            .find(|pair| Revocation::has_authority(Key::of(pair), overlay, &evidence));
        let Some(signer) = signer else {
            let subjects = evidence.certificates().iter().map(|certificate| certificate.subject);
            let ancestors = subjects.filter_map(|key| key.host()).collect();
            return Err(RevokeError::NotAbove { target, ancestors });
        };
        drop(door);
        let revocation = Revocation::issue(&signer, overlay, evidence, self.clock.unix());
        match self.take_revocation(revocation) {
            Ok(_) => Ok(()),
            Err(RevocationRefusal::Full) => Err(RevokeError::Full),
            Err(refusal) => unreachable!("a revocation made here with authority verifies: {refusal}"),
        }
    }

    /// Takes in a revocation from whereever it came; what is new is acted on and passed on.
    fn take_revocation(&mut self, revocation: Revocation) -> Result<Taken, RevocationRefusal> {
        let news = News::Revocation(revocation.clone());
        let target = revocation.target();
        let mut door = self.door.lock();
        // Between overlays there is nothing to put anyone out of.
        let Some(overlay) = door.overlay() else { return Ok(Taken::Known) };
        let taken = door.revocations.take(overlay, revocation);
        drop(door);
        match taken {
            Ok(Taken::New) => {
                tracing::info!(%target, "a key was put out");
                self.counters.revocations_taken += 1;
                self.put_out(target);
                let topic = crate::behaviour::news_topic(self.overlay.map(|key| key.id()));
                // Nobody to tell now: exchanges will.
                self.swarm.behaviour_mut().gossip.publish(topic, news.encode()).ok();
            }
            Ok(Taken::Known) => {}
            Err(refusal) => count(&mut self.counters.revocations_refused, refusal_name(refusal)),
        }
        taken
    }

    /// Disconnects and forgets all whose chains lead through `target`.
    fn put_out(&mut self, target: Key) {
        let door = self.door.clone();
        let door = door.lock();
        let out: Vec<HostId> = self
            .peers
            .chains()
            .filter(|(_, chain)| chain.revoked_by(&door.revocations).is_some())
            .map(|(host, _)| host)
            .collect();
        let gone = self.view.remove_if(|record| record.chain.revoked_by(&door.revocations).is_some());
        drop(door);
        for host in &gone {
            self.announce(Event::RecordChanged(*host));
        }
        let reason = FailureReason::RefusedHere { refusal: Refusal::Revoked };
        for host in out.iter().chain(&gone) {
            self.swarm.behaviour_mut().kad.remove_peer(host);
            self.close_peer(host, &reason);
            self.peers.bar(host, &reason, self.clock.unix());
        }
        self.announce(Event::Revoked(target));
        self.void_documents();
        self.save_state();
    }

    pub(super) fn on_revocations_answer(&mut self, peer: HostId, body: &[u8]) {
        let Ok(revocations) = decode_answer(body) else {
            count(&mut self.counters.revocations_refused, "malformed");
            tracing::debug!(%peer, "an answer about revocations was malformed");
            return;
        };
        for revocation in revocations {
            if let Err(refusal) = self.take_revocation(revocation) {
                tracing::debug!(%peer, %refusal, "a revocation was refused");
            }
        }
    }

    pub(super) fn on_gossip_event(&mut self, event: gossipsub::Event) {
        let gossipsub::Event::Message { propagation_source, message_id, message } = event else { return };
        let acceptance = match News::decode(&message.data) {
            Ok(News::Revocation(revocation)) => match self.take_revocation(revocation) {
                Ok(Taken::New) => MessageAcceptance::Accept,
                Ok(Taken::Known) | Err(RevocationRefusal::Full) => MessageAcceptance::Ignore,
                Err(_) => MessageAcceptance::Reject,
            },
            Err(_) => {
                self.counters.news_malformed += 1;
                MessageAcceptance::Reject
            }
        };
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        gossip.report_message_validation_result(&message_id, &propagation_source, acceptance);
    }

    pub(super) fn state(&self) -> OverlayState {
        let known = self.peers.worth_keeping(KNOWN_PEERS_MAX);
        let door = self.door.lock();
        OverlayState {
            membership: door.membership.clone(),
            revocations: door.revocations.iter().cloned().collect(),
            documents: self.documents.iter().map(|document| (**document).clone()).collect(),
            issued: door.issued.iter().cloned().collect(),
            known: known
                .into_iter()
                .map(|(host, addresses, last_seen)| KnownPeer { host, addresses, last_seen })
                .collect(),
            sequence: self.record_sequence,
        }
    }

    pub(super) fn save_state(&mut self) {
        self.state_changed = false;
        self.state_saved_at = self.now();
        let state = self.state();
        self.known_saved = state.known.iter().map(|known| (known.host, known.addresses.clone())).collect();
        self.announce(Event::StateChanged(Box::new(state)));
    }

    /// What changed must be written down at once if it is standing, in a while if it is only whom this host met.
    pub(super) fn upkeep_state(&mut self) {
        if self.state_changed {
            return self.save_state();
        }
        if self.now() < self.state_saved_at + STATE_PAUSE {
            return;
        }
        self.state_saved_at = self.now();
        let known = self.peers.worth_keeping(KNOWN_PEERS_MAX);
        if known.into_iter().map(|(host, addresses, _)| (host, addresses)).collect::<BTreeMap<_, _>>()
            != self.known_saved
        {
            self.save_state();
        }
    }
}

fn refusal_name(refusal: RevocationRefusal) -> &'static str {
    match refusal {
        RevocationRefusal::Evidence => "evidence",
        RevocationRefusal::Authority => "authority",
        RevocationRefusal::Signature => "signature",
        RevocationRefusal::Full => "full",
    }
}
