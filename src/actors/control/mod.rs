//! The service as its administrator sees it while it runs: the control socket and `[admin] listen`.

pub mod metrics;
pub mod page;
pub mod report;
