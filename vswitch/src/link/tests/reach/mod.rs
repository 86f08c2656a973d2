//! Reach: links between hosts behind NATs of every kind, through relays, across failures and moves.

mod crowded;
mod failures;
mod hostile;
mod matrix;
mod relays;
mod roaming;
mod searches;
mod spoiled;
mod world;
