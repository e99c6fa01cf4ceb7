//! `trace`: SIP messages as they pass the running service, for people, for programs, for Wireshark.

mod capture;
mod packet;
mod print;

use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures_util::future::{self, select};

use self::capture::{Capture, Record};
use super::Exit;
use super::client::{Client, Failure, escape};
use super::table::Screen;
use crate::actors::control::trace::Traced;
use crate::actors::trace::{Criteria, Wanted};

/// What is traced, and how it is shown.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(super) struct Options {
    /// What has this Call-ID
    #[arg(long, value_name = "CALL-ID", group = "what")]
    call_id: Option<String>,
    /// Calls with this user in From, To or the Request-URI: what stands before the @
    #[arg(long, value_name = "USER", group = "what")]
    user: Option<String>,
    /// Calls with this domain in From, To or the Request-URI
    #[arg(long, value_name = "DOMAIN", group = "what")]
    domain: Option<String>,
    /// Calls with this peer: an IP address, or a network such as 192.0.2.0/24
    #[arg(long, value_name = "IP", group = "what")]
    peer: Option<String>,
    /// Everything
    #[arg(long, group = "what", conflicts_with_all = ["call_id", "user", "domain", "peer"])]
    all: bool,
    /// Show bodies, too: what people write to each other, and the keys of their calls
    #[arg(long)]
    bodies: bool,
    /// Print one line for each message
    #[arg(long, conflicts_with = "pcap")]
    short: bool,
    /// Write a capture that Wireshark reads, and print nothing; - is standard output
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// End after so many messages
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,
}

/// Ends with Ctrl-C, after `--count` or `--seconds`, when nobody reads, or with the service.
pub(super) fn trace(file: &Path, options: Options, as_json: bool) -> Exit {
    let path = match path(&options) {
        Ok(path) => path,
        Err(fault) => return refuse(&fault),
    };
    let form = match options.pcap {
        Some(_) if as_json => return refuse("--json prints, --pcap writes a file: allowed is one of them"),
        Some(file) if file == Path::new("-") && io::stdout().is_terminal() => {
            return refuse(
                "a capture is nothing for a terminal: give --pcap a file, or pipe it into Wireshark",
            );
        }
        Some(file) => Form::Capture { file, capture: Capture::default() },
        None if as_json => Form::Json,
        None if options.short => Form::Short(Screen::new()),
        None => Form::Whole(Screen::new()),
    };
    let client = match Client::new(file) {
        Ok(client) => client,
        Err(exit) => return exit,
    };
    let mut reader = Reader { form, out: None, left: options.count, seen: 0, missed: 0, fault: None };
    let until = async {
        let limit = async {
            match options.seconds {
                Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
                None => future::pending().await,
            }
        };
        // Without a handler the signal ends the process as it always did.
        let interrupted = async {
            if tokio::signal::ctrl_c().await.is_err() {
                future::pending::<()>().await;
            }
        };
        select(pin!(limit), pin!(interrupted)).await;
    };
    let followed = client.follow(&path, until, |line| reader.take(line));
    reader.end(followed)
}

fn refuse(fault: &str) -> Exit {
    eprintln!("error: {fault}");
    Exit::Usage
}

/// What the service is asked.
fn path(options: &Options) -> Result<String, String> {
    let Options { call_id, user, domain, peer, all, bodies, .. } = options;
    let wanted = Wanted {
        call_id: call_id.clone(),
        user: user.clone(),
        domain: domain.clone(),
        peer: peer.clone(),
        all: *all,
    };
    Criteria::new(wanted).map_err(|fault| fault.to_string())?;
    let texts = [("call_id", call_id), ("user", user), ("domain", domain), ("peer", peer)];
    let texts = texts.into_iter().filter_map(|(key, text)| Some(format!("{key}={}", escape(text.as_ref()?))));
    let switches = [("all", all), ("bodies", bodies)];
    let switches = switches.into_iter().filter(|(_, is_on)| **is_on).map(|(key, _)| format!("{key}=true"));
    Ok(format!("/trace?{}", texts.chain(switches).collect::<Vec<_>>().join("&")))
}

/// How messages are shown.
enum Form {
    Whole(Screen),
    Short(Screen),
    Json,
    Capture { file: PathBuf, capture: Capture },
}

/// Takes the lines of the service.
struct Reader {
    form: Form,
    /// Opened once the service has answered.
    out: Option<Box<dyn Write>>,
    /// Messages that are still wanted.
    left: Option<u64>,
    seen: u64,
    missed: u64,
    /// Why no more can be written.
    fault: Option<io::Error>,
}

impl Reader {
    /// Whether there shall be more.
    fn take(&mut self, line: &str) -> bool {
        if let Err(fault) = self.write(line) {
            self.fault = Some(fault);
        }
        self.fault.is_none() && self.left != Some(0)
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.out.is_none() {
            self.out = Some(self.form.open()?);
            eprintln!("tracing; Ctrl-C ends it");
        }
        if line.is_empty() {
            return Ok(());
        }
        let traced: Traced = serde_json::from_str(line)?;
        let octets = self.form.render(&traced, line)?;
        self.seen += 1;
        self.missed += traced.missed;
        self.left = self.left.map(|left| left - 1);
        if let Some(out) = &mut self.out {
            out.write_all(&octets)?;
            out.flush()?;
        }
        Ok(())
    }

    /// Says how many there were, and why there are no more.
    fn end(self, followed: Result<(), Failure>) -> Exit {
        let plural = if self.seen == 1 { "" } else { "s" };
        let missed = match self.missed {
            0 => String::new(),
            missed => format!(", {missed} missing"),
        };
        if self.out.is_some() {
            eprintln!("{} message{plural}{missed}", self.seen);
        }
        match (self.fault, followed) {
            // Nobody reads any more.
            (Some(fault), _) if fault.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            (Some(fault), _) => {
                eprintln!("error: {}{fault}", self.form.place());
                Exit::No
            }
            (None, Ok(())) => Exit::Done,
            (None, Err(failure)) => failure.tell(),
        }
    }
}

impl Form {
    /// Where it goes. A capture is its owner's alone.
    fn open(&self) -> io::Result<Box<dyn Write>> {
        let Self::Capture { file, .. } = self else { return Ok(Box::new(io::stdout())) };
        let mut out: Box<dyn Write> = if file == Path::new("-") {
            Box::new(io::stdout())
        } else {
            let mut options = OpenOptions::new();
            Box::new(options.write(true).create(true).truncate(true).mode(0o600).open(file)?)
        };
        out.write_all(&Capture::begin())?;
        out.flush()?;
        Ok(out)
    }

    fn place(&self) -> String {
        match self {
            Self::Capture { file, .. } => format!("{}: ", file.display()),
            Self::Whole(_) | Self::Short(_) | Self::Json => String::new(),
        }
    }

    fn render(&mut self, traced: &Traced, line: &str) -> io::Result<Vec<u8>> {
        let unknown = || io::Error::other("the service is of another version than this command");
        let octets = traced.to_octets().ok_or_else(unknown)?;
        Ok(match self {
            Self::Whole(screen) => print::whole(traced, &octets, *screen).into_bytes(),
            Self::Short(screen) => print::short(traced, &octets, *screen).into_bytes(),
            Self::Json => format!("{}\n", print::harmless_json(line)).into_bytes(),
            Self::Capture { capture, .. } => capture.write(&Record {
                time: humantime::parse_rfc3339(&traced.time).map_err(io::Error::other)?,
                is_incoming: traced.direction == "in",
                transport: &traced.transport,
                interface: &traced.interface,
                source: traced.source.parse().map_err(io::Error::other)?,
                destination: traced.destination.parse().map_err(io::Error::other)?,
                octets: &octets,
                missed: traced.missed,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, i32> {
        let parsed = Command::try_parse_from(std::iter::once("trace").chain(line.split_whitespace()));
        parsed.map(|command| command.options).map_err(|error| error.exit_code())
    }

    #[test]
    fn something_has_to_be_asked_for_and_all_leaves_nothing_else() {
        for line in ["", "--bodies", "--all --user a", "--user", "--all --count 0", "--all --pcap x --short"]
        {
            assert_eq!(parse(line).err(), Some(2), "{line}");
        }
        for line in ["--user alice@a.test", "--peer x", "--domain a..b", "--call-id="] {
            assert!(path(&parse(line).unwrap()).is_err(), "{line}");
        }
    }

    #[test]
    fn the_service_is_asked_for_what_was_asked_for() {
        let table = [
            ("--all", "/trace?all=true"),
            ("--all --bodies", "/trace?all=true&bodies=true"),
            ("--call-id a&b=c+d@e%f", "/trace?call_id=a%26b%3Dc%2Bd%40e%25f"),
            (
                "--user alice --domain a.test --peer 192.0.2.0/24",
                "/trace?user=alice&domain=a.test&peer=192.0.2.0%2F24",
            ),
        ];
        for (line, expected) in table {
            assert_eq!(path(&parse(line).unwrap()).unwrap(), expected);
        }
    }
}
