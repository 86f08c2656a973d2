//! Who gets in, who stays, who does not.

use consort_lab::wide::Cable;
use consort_node::control::api::{Member, Peer};
use consort_node::demo::stage::{Stage, awaited};

use crate::support::{in_lab, status};

in_lab! {
    async fn nodes_join_by_ticket_and_list_each_other() {
        let mut stage = Stage::build(3, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let overlay = status(&stage.hosts[0].client()).await.overlay;
        for host in &stage.hosts {
            let client = host.client();
            assert_eq!(status(&client).await.overlay, overlay);
            let members: Vec<Member> = awaited("all members are known", async || {
                let members: Vec<Member> = client.get("/v1/overlay/members").await?;
                Ok((members.len() == 3).then_some(members))
            })
            .await
            .unwrap();
            assert_eq!(members.iter().filter(|member| member.here).count(), 1);
            let peers: Vec<Peer> = client.get("/v1/peers").await.unwrap();
            assert!(peers.iter().filter(|peer| peer.connected).count() == 2, "{peers:?}");
        }
    }
}

in_lab! {
    async fn a_ticket_of_another_overlay_than_the_pinned_one_gets_nowhere() {
        let mut stage = Stage::build(3, Cable::default()).unwrap();
        for founder in &mut stage.hosts[..2] {
            founder.start_node(&[]).unwrap();
            founder.ready().await.unwrap();
        }
        let pinned = status(&stage.hosts[0].client()).await.overlay;
        let ticket = stage.hosts[1].invite().await.unwrap();
        let newcomer = &mut stage.hosts[2];
        std::fs::write(newcomer.config(), format!("[overlay]\nkey = \"{pinned}\"\n")).unwrap();
        newcomer.start_node(&["--join", &ticket]).unwrap();
        assert_ne!(newcomer.wait_for_node().unwrap(), Some(0));
        let log = std::fs::read_to_string(newcomer.log()).unwrap();
        assert!(log.contains("overlay"), "{log}");
        for founder in &stage.hosts[..2] {
            assert_eq!(status(&founder.client()).await.peers_connected, 0);
        }
    }
}

in_lab! {
    async fn a_port_in_use_ends_the_node_with_one_line_that_names_it() {
        let mut stage = Stage::build(1, Cable::default()).unwrap();
        let address = stage.hosts[0].control_address().to_string();
        stage.hosts[0].start_node(&[]).unwrap();
        stage.hosts[0].ready().await.unwrap();
        let other = stage.hosts[0].host.state().join("other");
        let output = stage.hosts[0]
            .host
            .command(env!("CARGO_BIN_EXE_consort"))
            .args(["node", "--listen", &address, "--log", "error", "--state-dir"])
            .arg(other)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&address) && said.trim().lines().count() == 1, "{said}");
    }
}

in_lab! {
    async fn a_killed_node_comes_back_with_its_identity_and_its_membership() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let before = status(&stage.hosts[1].client()).await;
        stage.hosts[1].kill_node().unwrap();
        stage.hosts[1].start_node(&[]).unwrap();
        let after = stage.hosts[1].ready().await.unwrap();
        assert_eq!((before.host, before.overlay), (after.host, after.overlay));
        stage.settled().await.unwrap();
        assert_eq!(stage.hosts[1].stop_node().unwrap(), Some(0), "SIGTERM ends a node cleanly");
    }
}
