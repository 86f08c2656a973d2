mod api;
pub(crate) mod context;
pub use api::*;
