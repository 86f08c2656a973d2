//! Nodes and hosts that die at the worst time.

use std::time::Duration;

use consort_lab::wide::Cable;
use consort_node::control::api::{Slice, SliceBody};
use consort_node::control::client::segment;
use consort_node::demo::stage::{Stage, awaited};
use consort_node::failure::Failure;

use crate::support::{assert_all_free, assert_reaches, create, in_lab, is_free, keepers, show, slice_file};

in_lab! {
    async fn machines_outlive_their_node_and_are_found_again() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let client = stage.hosts[0].client();
        // A lease that a debug build's restart fits into.
        let slice = create(&client, slice_file("mpi", 2).replace("4s", "20s")).await;
        assert_reaches(&client, &slice).await;
        let before = keepers();
        assert_eq!(before.len(), 2);
        stage.hosts[1].kill_node().unwrap();
        stage.hosts[1].start_node(&[]).unwrap();
        stage.hosts[1].ready().await.unwrap();
        stage.settled().await.unwrap();
        assert_reaches(&client, &slice).await;
        assert_eq!(keepers(), before, "the same machines, not new ones");
        assert_eq!(show(&client, "mpi").await.state, "active");
    }
}

in_lab! {
    async fn a_dead_hosts_machines_are_said_to_be_lost() {
        let mut stage = Stage::build(4, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let client = stage.hosts[0].client();
        let slice = create(&client, slice_file("mpi", 4)).await;
        let victim = crate::support::status(&stage.hosts[3].client()).await.host;
        stage.hosts[3].kill().unwrap();
        let after = awaited("the loss is said", async || {
            let now: Slice = client.get("/v1/slices/mpi").await?;
            Ok(now.machines.iter().any(|machine| machine.state == "lost").then_some(now))
        })
        .await
        .unwrap();
        assert_eq!(after.state, "active");
        for machine in &after.machines {
            assert_eq!(machine.state == "lost", machine.host == victim, "{after:?}");
        }
        assert_eq!(slice.machines.len(), after.machines.len());
    }
}

in_lab! {
    /// Whatever the moment: the slice stands, or everything is free again; never something between.
    async fn a_coordinator_may_die_at_any_moment() {
        let mut stage = Stage::build(4, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        for (round, wait_ms) in [0, 15, 60, 250].into_iter().enumerate() {
            let name = format!("round-{round}");
            let client = stage.hosts[0].client();
            let body = SliceBody { file: slice_file(&name, 3), wait: false };
            let asking = tokio::spawn(async move { client.post::<Slice>("/v1/slices", &body).await });
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            stage.hosts[0].kill_node().unwrap();
            let _ = asking.await.unwrap();
            stage.hosts[0].start_node(&[]).unwrap();
            stage.hosts[0].ready().await.unwrap();
            stage.settled().await.unwrap();
            let stands = awaited("the slice stands or everything is free", async || settled(&stage, &name).await);
            if stands.await.unwrap() {
                let client = stage.hosts[0].client();
                let slice = show(&client, &name).await;
                assert_eq!(slice.machines.len(), 3);
                assert_reaches(&client, &slice).await;
                let _: Slice = client.delete(&format!("/v1/slices/{}", segment(&name))).await.unwrap();
            }
            assert_all_free(&stage).await;
        }
    }
}

/// Whether the slice stands, as any host sees it, or everything is free; nothing while it is neither.
async fn settled(stage: &Stage, name: &str) -> Result<Option<bool>, Failure> {
    let (mut found, mut free) = (None, true);
    for host in &stage.hosts {
        let slices: Vec<Slice> = host.client().get("/v1/slices").await?;
        let lives =
            |slice: &Slice| slice.name == name && ["active", "forming"].contains(&slice.state.as_str());
        found = found.or(slices.into_iter().find(lives));
        free &= is_free(&host.client().get("/v1/status").await?);
    }
    Ok(match found {
        Some(slice) => {
            let runs = slice.machines.iter().all(|machine| machine.state == "running");
            (slice.state == "active" && runs).then_some(true)
        }
        None => free.then_some(false),
    })
}
