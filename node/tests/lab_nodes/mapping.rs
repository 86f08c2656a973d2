//! Ports at routers, by each protocol, asked of the lab's gateways; and what they are good for.

use std::net::SocketAddr;

use consort_lab::case::{Case, World};
use consort_node::bench::reach::crew::Crew;
use consort_node::bench::reach::pair::{self, Patience};
use consort_node::control::api::Reach;
use consort_node::demo::stage::{DEADLINE, awaited};
use consort_node::glue::mapping::{Gateway, Lease, Method, obtain_by_datagram, obtain_by_upnp};
use consort_node::why::Path;

use crate::support::in_lab;

const PORT: u16 = 7_441;
const METHODS: [(&str, Method); 3] =
    [("pcp", Method::Pcp), ("nat-pmp", Method::NatPmp), ("upnp", Method::Upnp)];

/// A home whose router speaks one protocol, its NAT the hardest there is; so many hosts in it.
fn home(protocol: &str, hosts: &[&str]) -> String {
    let site = format!("[site.{protocol}]\nnat = \"symmetric-random\"\nport-mapping = [\"{protocol}\"]\n");
    let hosts = hosts.iter().map(|host| format!("[host.{protocol}-{host}]\nsite = \"{protocol}\"\n"));
    site + &hosts.collect::<String>()
}

/// Does it in a host's network: sockets belong to the thread's.
fn on<T: Send>(world: &mut World, host: &str, act: impl AsyncFnOnce() -> T + Send) -> T {
    let netns = world.host(host).unwrap().host.netns();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            netns.enter(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(act())
            })
        });
        thread.join().unwrap().unwrap()
    })
}

in_lab! {
    async fn each_protocol_gives_a_port_renews_it_and_takes_it_back() {
        let homes: String = METHODS.iter().map(|(protocol, _)| home(protocol, &["a", "b"])).collect();
        let mut world = World::build(&Case::parse(&homes).unwrap()).unwrap();
        for (protocol, method) in METHODS {
            let gateway = world.gateway(protocol).unwrap();
            let (router, outside) = (gateway.inside().ipv4.unwrap().0, gateway.outside());
            let obtain = async || -> Result<Lease, String> {
                let gateway = Gateway::towards(router)?;
                match method {
                    Method::Upnp => obtain_by_upnp(gateway, PORT).await,
                    Method::Pcp | Method::NatPmp => obtain_by_datagram(gateway, PORT).await,
                }
            };
            let wanted = SocketAddr::from((outside, PORT));
            on(&mut world, &format!("{protocol}-a"), async || {
                let mut lease = obtain().await.unwrap();
                assert_eq!((lease.method(), lease.address()), (method, wanted));
                lease.renew().await.unwrap();
                assert_eq!(lease.address(), wanted, "{protocol}");
                // While it is held the next host gets another; it is the same router that says so.
                lease.give_back().await;
            });
            // Only one that was given back can be another host's.
            on(&mut world, &format!("{protocol}-b"), async || {
                let lease = obtain().await.unwrap();
                assert_eq!(lease.address(), wanted, "{protocol}: the first host's was not taken back");
            });
            on(&mut world, &format!("{protocol}-a"), async || {
                let lease = obtain().await.unwrap();
                assert_ne!(lease.address(), wanted, "{protocol}: it is the other host's now");
            });
        }
    }
}

in_lab! {
    async fn a_router_that_speaks_none_is_found_out_within_its_time() {
        let case = "[site.home]\nnat = \"port-cone\"\n[host.a]\nsite = \"home\"\n";
        let mut world = World::build(&Case::parse(case).unwrap()).unwrap();
        let router = world.gateway("home").unwrap().inside().ipv4.unwrap().0;
        on(&mut world, "a", async || {
            let gateway = Gateway::towards(router).unwrap();
            obtain_by_datagram(gateway, PORT).await.unwrap_err();
            let why = obtain_by_upnp(gateway, PORT).await.unwrap_err();
            assert_eq!(why, "UPnP: the router is no gateway device");
        });
    }
}

in_lab! {
    /// Two symmetric NATs have no direct path, unless one of the routers gives a port.
    async fn a_port_at_the_router_makes_a_hard_pair_direct() {
        let homes: String = METHODS.iter().map(|(protocol, _)| home(protocol, &["host"])).collect();
        let case = format!(
            "[host.founder]\n{homes}[site.office]\nnat = \"symmetric-random\"\nlan = \"192.168.2.0/24\"\n[host.office]\nsite = \"office\"\n"
        );
        let mut crew = Crew::new(World::build(&Case::parse(&case).unwrap()).unwrap());
        crew.start_overlay().await.unwrap();
        for (protocol, _) in METHODS {
            let name = format!("{protocol}-host");
            let outside = crew.world().gateway(protocol).unwrap().outside();
            let client = crew.client(&name).unwrap();
            let mapped = awaited(&format!("{name} has a port"), async || {
                Ok(client.get::<Reach>("/v1/reach").await?.mapped)
            })
            .await
            .unwrap();
            assert_eq!(mapped.parse::<SocketAddr>().unwrap().ip(), outside);
            let patience = Patience { first: DEADLINE, direct: DEADLINE };
            let measured = pair::measure(&mut crew, &name, "office", patience).await.unwrap();
            assert_eq!(measured.way, Path::Direct, "{protocol}: {}", measured.in_words());
        }
    }
}
