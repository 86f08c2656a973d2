//! The daemon and the commands as processes, on loopback, without privileges: what users and programs may rely on.

mod api;
mod one_line_errors;
mod support;
