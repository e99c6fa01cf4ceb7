//! Child processes: what they print, what they are told, and their end.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::eventually;

/// How long a child may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// A running program. It is ended when this is dropped, politely first; if the test fails, what it has printed is
/// shown.
pub(crate) struct Process {
    name: String,
    child: std::process::Child,
    output: Arc<Mutex<String>>,
    errors: Arc<Mutex<String>>,
}

impl Process {
    /// Starts `command` with pipes for its three standard streams.
    pub(crate) fn start(name: &str, command: &mut Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!("{name}: cannot run {:?}: {error}", command.get_program());
        });
        let output = collect(child.stdout.take().expect("standard output is piped"));
        let errors = collect(child.stderr.take().expect("standard error is piped"));
        Self { name: name.to_owned(), child, output, errors }
    }

    /// What it has written to standard output so far.
    pub(crate) fn output(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it has written to standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether both streams have ended and all that was in them has been read.
    pub(crate) fn is_read(&self) -> bool {
        // The threads that collect have their share until then.
        [&self.output, &self.errors].into_iter().all(|text| Arc::strong_count(text) == 1)
    }

    /// Writes a line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("standard input is piped");
        writeln!(input, "{line}").and_then(|()| input.flush()).unwrap_or_else(|error| {
            panic!("{}: does not read its standard input: {error}", self.name);
        });
    }

    /// Waits until standard output contains `text`.
    pub(crate) async fn prints(&self, text: &str, limit: Duration) {
        let what = format!("{} prints {text:?}", self.name);
        eventually(limit, &what, || self.output().contains(text).then_some(())).await;
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits for its end.
    pub(crate) async fn end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let status = eventually(limit, &what, || self.ended()).await;
        // What it has written last is on its way. Children of its own may keep the pipes open.
        let patience = Instant::now() + GRACE;
        while !self.is_read() && Instant::now() < patience {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        status
    }

    /// Sends a signal by name: `TERM`, `HUP`, `STOP`, `KILL`.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill` needs no package.
        let command = format!("kill -{name} {}", self.child.id());
        let status = Command::new("sh").args(["-c", &command]).status();
        assert!(status.as_ref().is_ok_and(ExitStatus::success), "{}: {command}: {status:?}", self.name);
    }

    /// SIGTERM, and SIGKILL where that does not help.
    fn stop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        let command = format!("kill -TERM {}", self.child.id());
        // A process that is gone already is what is wanted.
        let _ = Command::new("sh").args(["-c", &command]).stderr(Stdio::null()).status();
        let end = Instant::now() + GRACE;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("---- {}: standard output ----\n{}", self.name, tail(&self.output()));
            eprintln!("---- {}: standard error ----\n{}", self.name, tail(&self.errors()));
        }
    }
}

/// Collects a pipe on a thread of its own, which ends with the pipe.
fn collect(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let sink = Arc::clone(&text);
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            sink.lock().unwrap_or_else(PoisonError::into_inner).push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}

/// The end of a long text, from a line's beginning.
pub(crate) fn tail(text: &str) -> &str {
    const KEPT: usize = 20_000;
    let start = text.len().saturating_sub(KEPT);
    let start = (start..text.len()).find(|place| text.is_char_boundary(*place)).unwrap_or(text.len());
    &text[start..]
}
