//! `run`: starts the proxy and stays until it is told to end.

use std::path::Path;
use std::sync::Arc;

use actix_rt::System;
use slog::{error, warn};
use tokio::signal::unix::{SignalKind, signal};

use super::Exit;
use crate::actors::descriptors;
use crate::actors::supervisor::{Supervisor, report_panics};
use crate::config::Source;
use crate::diagnostics::Diagnostics;

pub(super) fn run(file: &Path) -> Exit {
    let system = System::new();
    // From the first moment on, SIGHUP does not end the process.
    let _hangups = system.block_on(async { signal(SignalKind::hangup()) });
    let source = Source::of_process(file);
    let loaded = match source.load() {
        Ok(loaded) => loaded,
        Err(faults) => {
            eprintln!("{faults}");
            return Exit::Configuration;
        }
    };
    let mut logs = Diagnostics::start(&loaded.config.diagnostics, std::io::stderr());
    if let Err(fault) = logs.bridge_libraries() {
        warn!(logs.logger("service"), "library_logs_lost"; "reason" => %fault);
    }
    let logs = Arc::new(logs);
    report_panics(logs.logger("supervisor"));
    let log = logs.logger("config");
    for warning in &loaded.warnings {
        warn!(log, "configuration_doubtful"; "key" => &warning.key, "place" => %warning.place,
            "reason" => &warning.text);
    }
    descriptors::provide_for(loaded.config.limits.maximum_connections, &logs.logger("service"));
    let started = system.block_on(async { Supervisor::launch(loaded, source, &logs) });
    let exit = match started.map(|_| system.run_with_code()) {
        Ok(Ok(0)) => Exit::Done,
        Ok(_) => Exit::Internal,
        Err(fault) => {
            error!(logs.logger("supervisor"), "start_failed"; "reason" => %fault);
            Exit::Internal
        }
    };
    // Actors of other threads may hold the log a little longer.
    logs.finish();
    exit
}
