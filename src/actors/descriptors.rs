//! The limit of open files.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use slog::{Logger, warn};

/// Descriptors beside those of connections: sockets that listen, files, event queues.
const OTHERS: u64 = 256;

/// Sees to it that so many connections can be open: each takes a descriptor, and the usual limit is far below
/// `limits.maximum_connections`. What is in the way, for people.
pub fn provide_for(connections: usize, log: &Logger) -> Option<String> {
    let wanted = connections as u64 + OTHERS;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let raised = wanted.clamp(soft, hard.max(soft));
    if raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_err() {
        warn!(log, "descriptors_not_raised"; "limit" => soft);
        return Some(format!("{wanted} open files are wanted, and the limit of {soft} cannot be raised"));
    }
    if raised < wanted {
        warn!(log, "descriptors_short"; "limit" => raised, "wanted" => wanted,
            "remedy" => "raise the limit of open files (LimitNOFILE) or lower limits.maximum_connections");
        return Some(format!("{wanted} open files are wanted, and the system allows {raised} (LimitNOFILE)"));
    }
    None
}
