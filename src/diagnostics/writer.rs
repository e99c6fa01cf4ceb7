//! The last station of a record, in the thread of the log.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use slog::{Drain, Never, OwnedKVList, Record};

use super::files::Now;
use super::line::Line;
use super::output::Output;

/// Hands each record to the output, which the keeper's thread shares.
pub(super) struct Writer<W>(pub(super) Arc<Mutex<Output<W>>>);

impl<W: Write> Drain for Writer<W> {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, values: &OwnedKVList) -> Result<(), Never> {
        let line = Line::read(record, values);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Now::read(), &line);
        Ok(())
    }
}
