//! Slices over several hosts, from the request to the last trace.

use consort_lab::wide::Cable;
use consort_node::control::api::{Plan, Slice, SliceBody};
use consort_node::control::client::segment;
use consort_node::demo::stage::Stage;
use consort_node::failure::Kind;

use crate::support::{
    addresses, assert_all_free, assert_reaches, create, guest, in_lab, is_free, keepers, show, slice_file,
    status,
};

in_lab! {
    async fn a_slice_spans_hosts_its_machines_meet_and_its_end_leaves_nothing() {
        let mut stage = Stage::build(3, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        // Asked of a node that founded nothing: any node takes a request.
        let client = stage.hosts[1].client();
        let slice = create(&client, slice_file("mpi", 3)).await;
        assert_eq!(slice.state, "active");
        assert!(slice.machines.iter().all(|machine| machine.state == "running"), "{slice:?}");
        let hosts: std::collections::BTreeSet<_> = slice.machines.iter().map(|machine| &machine.host).collect();
        assert_eq!(hosts.len(), 3, "spread is the default");
        assert_reaches(&client, &slice).await;
        guest(&client, &slice, 2, &["ping", "-c", "1", &slice.machines[0].name]).await;
        let _: Slice = client.delete(&format!("/v1/slices/{}", segment("mpi"))).await.unwrap();
        assert_all_free(&stage).await;
    }
}

in_lab! {
    async fn two_slices_with_the_same_addresses_do_not_see_each_other() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let client = stage.hosts[0].client();
        let fixed = |name| format!("{}ipv4 = \"10.7.0.0/24\"\n", slice_file(name, 2));
        let red = create(&client, fixed("red")).await;
        let blue = create(&client, fixed("blue")).await;
        assert_eq!(addresses(&red, 1)[0], addresses(&blue, 1)[0]);
        assert_reaches(&client, &red).await;
        assert_reaches(&client, &blue).await;
        let _: Slice = client.delete("/v1/slices/red").await.unwrap();
        // What answered in red is gone; what answers in blue is blue's own.
        assert_reaches(&client, &blue).await;
    }
}

in_lab! {
    async fn a_plan_and_a_refusal_leave_everything_free() {
        let mut stage = Stage::build(2, Cable::default()).unwrap();
        stage.start_overlay().await.unwrap();
        let client = stage.hosts[0].client();
        let body = |file| SliceBody { file, wait: true };
        let plan: Plan = client.post("/v1/plan", &body(slice_file("planned", 4))).await.unwrap();
        assert!(plan.fits && plan.machines.len() == 4, "{plan:?}");
        let greedy = slice_file("greedy", 2).replace("cpus = 0.5", "cpus = 60");
        let plan: Plan = client.post("/v1/plan", &body(greedy.clone())).await.unwrap();
        assert!(plan.fits, "{plan:?}");
        let greedier = greedy.replace("count = 2", "count = 3");
        let failure = client.post::<Slice>("/v1/slices", &body(greedier)).await.unwrap_err();
        assert_eq!(failure.kind, Kind::Refused, "{failure}");
        assert_all_free(&stage).await;
        for host in &stage.hosts {
            assert!(is_free(&status(&host.client()).await));
        }
        assert!(keepers().is_empty());
        // What was refused took no name.
        create(&client, slice_file("greedy", 2)).await;
        assert_eq!(show(&client, "greedy").await.state, "active");
    }
}
