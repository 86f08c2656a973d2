//! Nodes that end and come again, and a network in two halves: a small part of `consort bench reach --upheaval`.

use std::time::Duration;

use consort_node::bench::reach::upheaval;

use crate::support::in_lab;

in_lab! {
    async fn a_network_outlives_its_nodes_and_a_partition_and_no_tcp_connection_in_it_ends() {
        let upheavals = upheaval::measure(4, Duration::from_secs(2)).await.unwrap();
        assert_eq!(upheavals.upheavals.len(), 4);
        assert!(upheavals.all_well(), "{upheavals:?}");
    }
}
