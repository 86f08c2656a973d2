//! Links against each other over a simulated network.

mod channels;
mod hostile;
mod opening;
mod path;
mod reach;
mod rekeying;
mod upkeep;
mod world;
