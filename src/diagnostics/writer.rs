//! The last station of a record, in the thread of the log.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use slog::{Drain, Never, OwnedKVList, Record};

use super::files::Now;
use super::line::Line;
use super::output::Output;
use super::shared::Shared;

/// Hands each record to the output, which the keeper's thread shares.
pub(super) struct Writer<W> {
    pub(super) output: Arc<Mutex<Output<W>>>,
    pub(super) shared: Arc<Shared>,
}

impl<W: Write> Drain for Writer<W> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        self.shared.waiting.remove(1);
        let line = Line::read(record, values);
        self.output.lock().unwrap_or_else(PoisonError::into_inner).take(Now::read(), &line);
        Ok(())
    }
}
