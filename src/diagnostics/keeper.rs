//! The thread that looks after the log files while nobody logs.

use std::io::Write;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::files::Now;
use super::output::Output;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// While it lives, the output gets its ticks. Dropping it lets the output say its last words.
pub(super) struct Keeper {
    /// `None` once it is to end.
    is_wanted: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(super) fn start<W: Write + Send + 'static>(output: Arc<Mutex<Output<W>>>) -> Self {
        let (is_wanted, end) = mpsc::channel();
        let keep = move || {
            while end.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                output.lock().unwrap_or_else(PoisonError::into_inner).tick(Now::read());
            }
            output.lock().unwrap_or_else(PoisonError::into_inner).finish(Now::read());
        };
        let thread = thread::Builder::new().name("log-keeper".to_owned()).spawn(keep);
        let thread = thread.expect("a process that starts may have another thread");
        Self { is_wanted: Some(is_wanted), thread: Some(thread) }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.is_wanted = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told by the panic hook.
            let _ = thread.join();
        }
    }
}
