//! How the supervisor learns that a child has ended, and that anything of ours has panicked.

use std::panic::PanicHookInfo;
use std::time::Instant;

use actix::prelude::*;
use actix::{ArbiterHandle, fut::wrap_future};
use slog::{Logger, error};

use super::{ChildId, ChildStopped};
use crate::diagnostics::LogLimit;

/// Tells the supervisor of the end of what holds it.
///
/// The child's context holds it, and until there is one the closure that builds the child. So the end is told however
/// it comes: by a panic while the child is built, starts, handles a message, runs a future or stops; by its own will; or
/// with the thread that it lives on.
struct Lifeline {
    child: ChildId,
    supervisor: Recipient<ChildStopped>,
}

impl Lifeline {
    async fn hold(self) {
        std::future::pending::<()>().await;
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.supervisor.do_send(ChildStopped { child: self.child, panicked: std::thread::panicking() });
    }
}

/// Starts `child` on `arbiter`; `supervisor` is told of its end.
pub(super) fn start_on<A>(
    arbiter: &ArbiterHandle,
    child: ChildId,
    supervisor: Recipient<ChildStopped>,
    build: impl FnOnce() -> A + Send + 'static,
) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let lifeline = Lifeline { child, supervisor };
    A::start_in_arbiter(arbiter, move |ctx| {
        let actor = build();
        ctx.spawn(wrap_future(lifeline.hold()));
        actor
    })
}

/// From now on, a panic is a line of the log, with its place and its text; a few in a row, then a number.
///
/// Once per process. The standard's own hook would write to standard error, where no log has it.
pub(crate) fn report_panics(log: Logger) {
    let limit = LogLimit::default();
    std::panic::set_hook(Box::new(move |panic| report(panic, &log, &limit)));
}

fn report(panic: &PanicHookInfo<'_>, log: &Logger, limit: &LogLimit) {
    let Some(repeated) = limit.pass(Instant::now()) else { return };
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    error!(log, "panicked"; "reason" => panic.payload_as_str().unwrap_or_default(), "place" => place,
        "thread" => thread, "repeated" => repeated);
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::actors::testing::{Seen, here, probe};
    use crate::config::{Diagnostics as Settings, LogFormat, LogLevel};
    use crate::diagnostics::Diagnostics;

    /// Where a child fails.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Fault {
        WhileItIsBuilt,
        WhileItStarts,
        InAHandler,
        InAFuture,
        WhileItStops,
        /// No fault: it ends by itself.
        None,
    }

    struct Child(Fault);

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Go;

    impl Child {
        fn new(fault: Fault) -> Self {
            Self(fault).reach(Fault::WhileItIsBuilt)
        }

        fn reach(self, place: Fault) -> Self {
            assert_ne!(self.0, place, "made to panic by a test");
            self
        }
    }

    impl Actor for Child {
        type Context = Context<Self>;

        fn started(&mut self, _: &mut Context<Self>) {
            Self(self.0).reach(Fault::WhileItStarts);
        }

        fn stopped(&mut self, _: &mut Context<Self>) {
            Self(self.0).reach(Fault::WhileItStops);
        }
    }

    impl Handler<Go> for Child {
        type Result = ();

        fn handle(&mut self, _: Go, ctx: &mut Context<Self>) {
            match self.0 {
                Fault::InAFuture => {
                    let fault = self.0;
                    ctx.spawn(wrap_future(async move {
                        Self(fault).reach(Fault::InAFuture);
                    }));
                }
                Fault::WhileItStops | Fault::None => ctx.stop(),
                fault => {
                    Self(fault).reach(Fault::InAHandler);
                }
            }
        }
    }

    const CHILD: ChildId = ChildId::Router(7);

    async fn is_told_once(stopped: &mut Seen<ChildStopped>) -> bool {
        let told = stopped.next().await;
        assert_eq!(told.child, CHILD);
        stopped.nothing().await;
        told.panicked
    }

    #[actix::test]
    async fn the_end_of_a_child_is_told_once_wherever_it_comes() {
        let faults = [
            Fault::WhileItIsBuilt,
            Fault::WhileItStarts,
            Fault::InAHandler,
            Fault::InAFuture,
            Fault::WhileItStops,
            Fault::None,
        ];
        for fault in faults {
            let (supervisor, mut stopped) = probe();
            // Nobody has its address but this test, and it gives it away at once.
            start_on(&here(), CHILD, supervisor.clone(), move || Child::new(fault)).do_send(Go);
            assert_eq!(is_told_once(&mut stopped).await, fault != Fault::None, "{fault:?}");
        }
    }

    #[actix::test]
    async fn the_end_of_a_thread_is_the_end_of_its_children_and_of_those_that_come_later() {
        let (arbiter, (supervisor, mut stopped)) = (Arbiter::new(), probe());
        let child = start_on(&arbiter.handle(), CHILD, supervisor.clone(), || Child::new(Fault::None));
        arbiter.stop();
        assert!(!is_told_once(&mut stopped).await);
        assert!(!child.connected());
        while arbiter.alive() {
            tokio::task::yield_now().await;
        }
        start_on(&arbiter.handle(), CHILD, supervisor.clone(), || Child::new(Fault::None));
        assert!(!is_told_once(&mut stopped).await);
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_a_line_with_its_place_and_text_and_a_thousand_are_few() {
        let lines = Lines::default();
        let settings = Settings {
            log_level: LogLevel::Info,
            module_log_levels: std::collections::BTreeMap::new(),
            log_file_directory: None,
            maximum_log_file_size_mb: 1,
            kept_log_files: 0,
            delete_log_files_daily: false,
            format: LogFormat::Text,
        };
        let logs = Diagnostics::start(&settings, lines.clone());
        let (log, limit) = (logs.logger("supervisor"), LogLimit::default());
        let usual: Arc<dyn Fn(&PanicHookInfo<'_>) + Send + Sync> = std::panic::take_hook().into();
        let others = Arc::clone(&usual);
        std::panic::set_hook(Box::new(move |panic| {
            let is_ours = std::thread::current().name() == Some("clumsy");
            if is_ours { report(panic, &log, &limit) } else { others(panic) }
        }));
        let clumsy = std::thread::Builder::new().name("clumsy".to_owned()).spawn(|| {
            for number in 0..1_000 {
                std::panic::catch_unwind(|| panic!("slipped\n{number}")).unwrap_err();
            }
        });
        clumsy.unwrap().join().unwrap();
        std::panic::set_hook(Box::new(move |panic| usual(panic)));
        drop(logs);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 10, "{text}");
        let first = text.lines().next().unwrap();
        for part in ["error supervisor panicked", r#"reason="slipped\n0""#, "lifeline.rs:", "thread=clumsy"] {
            assert!(first.contains(part), "{part}: {first}");
        }
    }
}
