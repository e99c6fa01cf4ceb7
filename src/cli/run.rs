//! `run`: starts the proxy and stays until it is told to end.

use std::path::Path;
use std::sync::Arc;

use actix_rt::System;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use slog::{Logger, error, warn};

use super::{Exit, load};
use crate::actors::supervisor::{Supervisor, report_panics};
use crate::diagnostics::Diagnostics;

pub(super) fn run(file: &Path) -> Exit {
    let (config, warnings) = match load(file) {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return Exit::Configuration;
        }
    };
    let mut logs = Diagnostics::start(&config.diagnostics, std::io::stderr());
    if let Err(fault) = logs.bridge_libraries() {
        warn!(logs.logger("service"), "library_logs_lost"; "reason" => %fault);
    }
    let logs = Arc::new(logs);
    report_panics(logs.logger("supervisor"));
    let log = logs.logger("config");
    for warning in &warnings {
        warn!(log, "configuration_doubtful"; "key" => &warning.key, "place" => %warning.place,
            "reason" => &warning.text);
    }
    raise_descriptor_limit(config.limits.maximum_connections, &logs.logger("service"));
    let system = System::new();
    let started = system.block_on(async { Supervisor::launch(Arc::new(config), &logs) });
    if let Err(fault) = started {
        error!(logs.logger("supervisor"), "start_failed"; "reason" => %fault);
        return Exit::Internal;
    }
    match system.run_with_code() {
        Ok(0) => Exit::Done,
        Ok(_) | Err(_) => Exit::Internal,
    }
}

/// Descriptors beside those of connections: sockets that listen, files, event queues.
const OTHER_DESCRIPTORS: u64 = 256;

/// Each connection takes a descriptor, and the usual limit is far below `limits.maximum_connections`.
fn raise_descriptor_limit(connections: usize, log: &Logger) {
    let wanted = connections as u64 + OTHER_DESCRIPTORS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let raised = wanted.clamp(soft, hard.max(soft));
    if raised > soft && setrlimit(Resource::RLIMIT_NOFILE, raised, hard).is_err() {
        warn!(log, "descriptors_not_raised"; "limit" => soft);
    } else if raised < wanted {
        warn!(log, "descriptors_short"; "limit" => raised, "wanted" => wanted,
            "remedy" => "raise the limit of open files (LimitNOFILE) or lower limits.maximum_connections");
    }
}
