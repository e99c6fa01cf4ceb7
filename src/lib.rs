//! t
pub mod protocol;
