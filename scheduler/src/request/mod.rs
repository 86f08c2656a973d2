mod advice;
pub use advice::Advice;
