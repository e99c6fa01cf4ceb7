//! The command line (`docs/operations.md`): one file per group of commands.

mod act;
mod check;
mod client;
mod generate;
mod lookup;
mod run;
mod show;
mod stun;
mod table;
mod trace;
mod visit;

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::actors::control::report;
use crate::config::{Config, Faults, HostPort, Places, Source, Warning, parse_name};

/// Exit statuses; the numbers beyond 2 are those of sysexits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// The answer is no.
    No = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The service does not answer.
    Unavailable = 69,
    /// The proxy itself has failed.
    Internal = 70,
    /// The configuration is not usable.
    Configuration = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Where the configuration is looked for when none is named.
const DEFAULT_FILES: [&str; 2] = ["etc/sip-proxy.toml", "/etc/sip-proxy/sip-proxy.toml"];

/// SIP federation proxy: joins UC servers in one SIP presence domain.
#[derive(Debug, Parser)]
#[command(name = "sip-proxy", version)]
struct Arguments {
    /// The configuration file [default: etc/sip-proxy.toml, then /etc/sip-proxy/sip-proxy.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print tables as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the proxy (the default)
    Run,
    /// Check without starting; prints all faults at once
    Check {
        /// What to check [default: everything]
        #[command(subcommand)]
        subject: Option<check::Subject>,
    },
    /// Say what the proxy would do for a domain, and try it: route, records, servers, certificates
    Lookup {
        /// The domain
        #[arg(value_name = "DOMAIN", value_parser = domain)]
        domain: String,
    },
    /// Say how the running service is: interfaces, routes, UC servers, peers, NAT, certificate, events
    Status,
    /// The network interfaces, and whether they listen
    Interfaces,
    /// The static routes, and whether they work
    Routes,
    /// The connections with somebody outside of the LAN
    Peers,
    /// Who is registered where
    Registrations {
        /// One address-of-record, as sip:user@domain [default: all]
        #[arg(value_name = "AOR")]
        address_of_record: Option<String>,
    },
    /// The server certificate, and how long it is valid
    Certificate,
    /// The last events
    Events {
        /// Go on with those that come
        #[arg(long)]
        follow: bool,
        /// So many of the last ones
        #[arg(long, value_name = "NUMBER", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=1000))]
        limit: u16,
    },
    /// Read the configuration again and apply what has changed, or say every fault and change nothing
    Reload,
    /// End the service, and wait until it has: what has begun is answered first, for service.drain_timeout at most
    Stop,
    /// End the service, and wait until it has: what has begun is answered first, however long that takes
    Drain,
    /// Change how much is logged, until the next start or a reload that changes [diagnostics]
    LogLevel {
        /// error, warning, info, debug or trace; of one module, or of all that have no level of their own
        #[arg(value_name = "[MODULE=]LEVEL", value_parser = act::level)]
        level: report::LogLevel,
    },
    /// Show SIP messages as they pass, decrypted
    Trace(trace::Options),
    /// Find the public address and the NAT type; takes up to 40 s, as long as silence is waited for
    Stun {
        /// The server to ask [default: those of stun.servers]
        #[arg(long, value_name = "HOST:PORT")]
        server: Option<HostPort>,
    },
    /// Print what completes commands in a shell
    Completions {
        /// Which shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, or print the first one
    Man {
        /// Where they go
        #[arg(value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let is_default = arguments.config.is_none();
    let file = arguments.config.unwrap_or_else(default_file);
    let exit = match arguments.command.unwrap_or(Command::Run) {
        Command::Run => run::run(&file),
        Command::Check { subject } => check::check(&file, subject.as_ref(), arguments.json),
        Command::Lookup { domain } => lookup::lookup(&file, &domain, arguments.json),
        Command::Status => show::status(&file, arguments.json),
        Command::Interfaces => show::interfaces(&file, arguments.json),
        Command::Routes => show::routes(&file, arguments.json),
        Command::Peers => show::peers(&file, arguments.json),
        Command::Registrations { address_of_record } => {
            show::registrations(&file, address_of_record.as_deref(), arguments.json)
        }
        Command::Certificate => show::certificate(&file, arguments.json),
        Command::Events { follow, limit } => show::events(&file, follow, limit, arguments.json),
        Command::Reload => act::reload(&file, arguments.json),
        Command::Stop => act::end(&file, false),
        Command::Drain => act::end(&file, true),
        Command::LogLevel { level } => act::set_log_level(&file, &level),
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { directory } => generate::manual(directory.as_deref()),
        Command::Trace(options) => trace::trace(&file, options, arguments.json),
        Command::Stun { server } => stun::stun(&file, is_default, server, arguments.json),
    };
    exit.into()
}

/// The first of [`DEFAULT_FILES`] that exists; else the first, for the fault to name.
fn default_file() -> PathBuf {
    let existing = DEFAULT_FILES.iter().find(|file| Path::new(file).exists());
    PathBuf::from(existing.unwrap_or(&DEFAULT_FILES[0]))
}

fn load(file: &Path) -> Result<(Config, Vec<Warning>), Faults> {
    load_with_places(file).map(|(config, warnings, _)| (config, warnings))
}

fn load_with_places(file: &Path) -> Result<(Config, Vec<Warning>, Places), Faults> {
    Source::of_process(file).load().map(|loaded| (loaded.config, loaded.warnings, loaded.places))
}

/// A variable that is no UTF-8 cannot be one of ours: they hold names, numbers and addresses.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// A domain of the command line.
fn domain(text: &str) -> Result<String, &'static str> {
    parse_name(text).ok_or("no domain name, allowed: labels of letters, digits and inner hyphens")
}

/// Runs a command that asks the network. What it has given up is not waited for.
fn block_on<T>(command: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let output = runtime.block_on(command);
    runtime.shutdown_background();
    Ok(output)
}

/// Prints to standard output. Whoever has closed the other end does not want to read.
fn say(text: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout(), "{text}");
}
