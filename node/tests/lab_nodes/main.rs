//! Real node processes on emulated hosts, each test in a lab of its own. Where namespaces are not to be had, the tests say so aloud.
//!
//! One binary for all of them: linking the node is dear.

mod crash;
mod demo;
mod follow;
mod local_link;
mod mapping;
mod meet;
mod net;
mod overlay;
mod rates;
mod reach;
mod slice;
mod support;
mod topology;
mod underlay;
mod upheaval;
mod ways;
mod why;
