//! Reach: links between hosts behind NATs of every kind, through relays, across failures and moves.

mod failures;
mod hostile;
mod matrix;
mod relays;
mod searches;
mod spoiled;
mod world;
