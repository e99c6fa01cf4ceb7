//! `run`: starts the proxy and stays until it is told to end.

use std::path::Path;
use std::sync::Arc;

use actix::System;
use slog::{error, warn};

use super::{Exit, load};
use crate::actors::supervisor::Supervisor;
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
    let log = logs.logger("config");
    for warning in &warnings {
        warn!(log, "configuration_doubtful"; "key" => &warning.key, "place" => %warning.place,
            "reason" => &warning.text);
    }
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
