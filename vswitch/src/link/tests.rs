//! Links against each other over a simulated network.
