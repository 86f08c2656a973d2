//! Datagrams and meetings on their way: NATs, delays, losses, and what hosts do with what comes.

use super::*;

impl World {
    pub(in super::super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    fn send(&mut self, host: usize, via: &Via, hops: Option<u8>, datagram: Vec<u8>) {
        let SocketAddr::V4(to) = via.address else { return };
        let me = &self.hosts[host];
        let port =
            if via.socket == SocketId::MAIN { Some(PORT) } else { me.sockets.get(&via.socket).copied() };
        let Some(port) = port else { return };
        let from = SocketAddrV4::new(me.ip, port);
        let site = me.site;
        self.sent.push(Sent {
            at: self.now,
            host,
            socket: via.socket,
            to: via.address,
            bytes: datagram.len(),
        });
        if datagram.len() > self.mtu {
            return;
        }
        let near = |other: &Host| other.site == site && other.ip == *to.ip();
        let beside = self.hosts.iter().position(near).filter(|_| self.sites[site].nat.is_some());
        if let Some(beside) = beside {
            return self.put(NEAR, Item::Datagram { from, to, inside: Some(beside), datagram });
        }
        if self.sites[site].cut {
            return;
        }
        let now = self.elapsed();
        let mut flow = Flow { protocol: Protocol::Udp, source: from, destination: to };
        if let Some(nat) = &mut self.sites[site].nat {
            match nat.outbound(now, flow, Signal::Data) {
                Ok((Side::Outside, outside)) => flow = outside,
                Ok((Side::Inside, inside)) => {
                    let meant = |other: &Host| other.site == site && other.ip == *inside.destination.ip();
                    let Some(other) = self.hosts.iter().position(meant) else { return };
                    let (from, to) = (inside.source, inside.destination);
                    return self.put(NEAR * 2, Item::Datagram { from, to, inside: Some(other), datagram });
                }
                Err(_) => return,
            }
        }
        if let Some(spoken_to) = &mut self.sites[site].firewall {
            spoken_to.insert((port, to));
        }
        // Few hops: past the router at home, not as far as another's.
        if hops.is_none() {
            self.put(FAR, Item::Datagram { from: flow.source, to: flow.destination, inside: None, datagram });
        }
    }

    pub(super) fn put(&mut self, delay: Duration, item: Item) {
        // The control plane is reliable.
        let meeting = matches!(item, Item::Meeting { .. });
        if !meeting && self.entropy.below(100) < self.loss {
            return;
        }
        let copies = 1 + u32::from(!meeting && self.entropy.below(100) < self.duplicates);
        for _ in 0..copies {
            let jitter = self.entropy.below(u32::try_from(self.jitter.as_micros()).unwrap() + 1);
            self.serial += 1;
            let at = self.now + delay + Duration::from_micros(jitter.into());
            let what = Happening { at: std::cmp::Reverse((at, self.serial)), item: item.clone() };
            self.events.push(what);
        }
    }

    pub(super) fn happen(&mut self, item: Item) {
        match item {
            Item::Meeting { who, of, answer } => {
                let peer = self.hosts[of].peer;
                let local = self.hosts[of].links.own_paths();
                self.name(who, of);
                self.hosts[who].links.set_candidates(self.now, peer, &local.candidates(), Some(local.nat));
                self.hosts[who].met += 1;
                if answer {
                    self.meet(of, who, false);
                }
            }
            Item::Datagram { from, to, inside: Some(host), datagram } => {
                self.deliver(host, from, to, datagram)
            }
            Item::Datagram { from, to, inside: None, datagram } => {
                let Some(site) = self.sites.iter().position(|site| site.outside == *to.ip()) else { return };
                if self.sites[site].cut {
                    return;
                }
                let firewall = self.sites[site].firewall.as_ref();
                if firewall.is_some_and(|spoken_to| !spoken_to.contains(&(to.port(), from))) {
                    return;
                }
                let now = self.elapsed();
                let mut to = to;
                if let Some(nat) = &mut self.sites[site].nat {
                    let flow = Flow { protocol: Protocol::Udp, source: from, destination: to };
                    match nat.inbound(now, flow, Signal::Data) {
                        Ok(inside) => to = inside.destination,
                        Err(_) => return,
                    }
                }
                let meant = |host: &Host| host.site == site && host.ip == *to.ip();
                if let Some(host) = self.hosts.iter().position(meant) {
                    self.deliver(host, from, to, datagram);
                }
            }
        }
    }

    fn deliver(&mut self, host: usize, from: SocketAddrV4, to: SocketAddrV4, datagram: Vec<u8>) {
        let me = &self.hosts[host];
        let socket = if to.port() == PORT {
            Some(SocketId::MAIN)
        } else {
            me.sockets.iter().find(|(_, port)| **port == to.port()).map(|(id, _)| *id)
        };
        if let Some(socket) = socket {
            self.arrive(host, Origin { socket, address: from.into(), token: None }, datagram);
        }
    }

    /// A datagram comes to a host's socket.
    pub(in super::super) fn arrive(&mut self, number: usize, origin: Origin, mut datagram: Vec<u8>) {
        let now = self.time();
        let host = &mut self.hosts[number];
        let stride = datagram.len();
        let (links, received) = (&mut host.links, &mut host.received);
        let mut onward = Vec::new();
        host.ingress.receive(now.at, &host.routes, origin, &mut datagram, stride, |arrived| match arrived {
            Arrived::Frame { frame, .. } | Arrived::Joined { frame, .. } => {
                received.push((now.at, frame.to_vec()))
            }
            Arrived::Handshake { origin, datagram } => links.handle_datagram(now, origin, datagram),
            Arrived::Probe { peer, origin, datagram } => links.handle_probe(now.at, peer, origin, datagram),
            Arrived::Relayed { run, stride } => {
                if let Some((via, _)) = host.routes.relay.forward(now.at, &origin, run, stride, &host.relayed)
                {
                    onward.push((via, run.to_vec()));
                }
            }
            Arrived::Control { peer, body } => links.handle_control(now, peer, body),
            Arrived::Touched { peer, index, origin, newest } => {
                links.handle_touched(now, peer, index, origin, newest);
            }
            Arrived::UnknownChannel { peer, channel } => links.handle_unknown_channel(now.at, peer, channel),
        });
        for (via, datagram) in onward {
            self.send(number, &via, None, datagram);
        }
        self.serve(number);
    }

    /// Lets one host do what is due and say what it has to say.
    pub(super) fn serve(&mut self, number: usize) {
        let now = self.time();
        self.hosts[number].links.handle_timeout(now);
        loop {
            let host = &mut self.hosts[number];
            if let Some(routes) = host.links.take_routes() {
                host.routes = routes;
            }
            let Some(output) = host.links.poll_output() else { break };
            match output {
                Output::Send { via, hops, datagram } => self.send(number, &via, hops, datagram),
                Output::Release { peer, network, frames } => {
                    for frame in frames {
                        self.frame_to(number, peer, network, &frame);
                    }
                }
                Output::OpenSocket(id) => {
                    host.sockets.insert(id, host.next_port);
                    // As kernels do, none beside the last: a NAT that finds a port spoiled may give the one beside it.
                    host.next_port = 40_000 + (host.next_port - 40_000 + 7_919) % 20_000;
                }
                Output::CloseSocket(id) => {
                    assert!(host.sockets.remove(&id).is_some(), "closed twice");
                }
                Output::Tell(event) => self.tell(number, event),
            }
        }
    }

    fn tell(&mut self, number: usize, event: Event) {
        match &event {
            Event::ChannelRequested { request, .. } => {
                let answer = Ok(Duration::from_secs(3600));
                self.hosts[number].links.answer(self.now, request, answer);
            }
            Event::MeetWanted { peer } if self.meetings => {
                if let Some(other) = self.hosts.iter().position(|host| host.id == *peer) {
                    self.meet(other, number, true);
                }
            }
            Event::CandidatesChanged if self.meetings => {
                // Node tells all that it has links with.
                let is_wanted =
                    |link: &LinkSnapshot| matches!(link.state, LinkState::Connecting | LinkState::Up);
                let links = self.hosts[number].links.snapshot(self.now);
                let concerned: Vec<HostId> =
                    links.iter().filter(|link| is_wanted(link)).map(|link| link.peer).collect();
                for other in 0..self.hosts.len() {
                    if concerned.contains(&self.hosts[other].id) {
                        self.meet(other, number, true);
                    }
                }
            }
            _ => {}
        }
        self.hosts[number].events.push((self.now, event));
    }

    /// `who` will be told where `of` is.
    fn meet(&mut self, who: usize, of: usize, answer: bool) {
        self.put(CONTROL + self.hosts[who].told_late, Item::Meeting { who, of, answer });
    }

    pub(super) fn frame_to(&mut self, number: usize, peer: PeerIndex, network: NetworkId, frame: &[u8]) {
        let (now, host) = (self.now, &mut self.hosts[number]);
        let mut wire = Wire::default();
        let Some(route) = host.routes.peers.get(&peer).map(Arc::clone) else { return };
        let sent = host.egress.send(now, &route, network, frame, &mut wire);
        host.egress.flush(&mut wire);
        let woken = host.egress.take_reports().any(|(_, report)| report == Report::Woken);
        if woken {
            host.links.handle_woken(now, peer);
        }
        if sent == Err(NotSent::Waiting) {
            host.links.handle_frame(now, peer, network, frame.to_vec());
        }
        for (via, datagram) in wire.0 {
            self.send(number, &via, None, datagram);
        }
        self.serve(number);
    }

    /// A machine of one host sends to one of another.
    pub(in super::super) fn frame(&mut self, from: usize, to: usize, frame: &[u8]) {
        self.frame_to(from, self.hosts[to].peer, NETWORK, frame);
    }
}
