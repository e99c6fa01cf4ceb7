//! SIPp as UC servers on both sides: one that calls, one that has logged on and answers.
//!
//! Debian's SIPp is built without TLS, so these run over UDP and TCP; TLS is for the other clients.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::process::Process;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::scratch::{Directory, free_port, loopback};
use crate::common::{eventually, run};
use crate::installed;

const DOMAIN: &str = "example.org";
const TEST_LIMIT: Duration = Duration::from_secs(60);
/// For the calls of one test to end; SIPp gives up by itself a little earlier.
const CALLS_LIMIT: Duration = Duration::from_secs(40);
/// How many calls a test makes, and how many a second.
const CALLS: u32 = 20;
const RATE: u32 = 50;

/// How the answering side is known to the proxy.
#[derive(Clone, Copy, Debug)]
enum LogOn {
    /// One REGISTER for the server: a candidate for every user.
    Server,
    /// A REGISTER for the user, authenticated as the server.
    User,
}

#[test]
fn message_over_udp_is_challenged_and_delivered() {
    run(TEST_LIMIT, calls("message", Protocol::Udp, LogOn::Server));
}

#[test]
fn message_over_tcp_is_challenged_and_delivered() {
    run(TEST_LIMIT, calls("message", Protocol::Tcp, LogOn::User));
}

#[test]
fn subscription_over_udp_is_notified_in_its_dialog() {
    run(TEST_LIMIT, calls("subscribe", Protocol::Udp, LogOn::User));
}

#[test]
fn subscription_over_tcp_is_notified_in_its_dialog() {
    run(TEST_LIMIT, calls("subscribe", Protocol::Tcp, LogOn::Server));
}

#[test]
fn invite_over_udp_makes_a_dialog_that_bye_ends() {
    run(TEST_LIMIT, calls("invite", Protocol::Udp, LogOn::Server));
}

#[test]
fn invite_over_tcp_makes_a_dialog_that_bye_ends() {
    run(TEST_LIMIT, calls("invite", Protocol::Tcp, LogOn::User));
}

#[test]
fn cancel_over_udp_ends_a_ringing_invite() {
    run(TEST_LIMIT, calls("cancel", Protocol::Udp, LogOn::User));
}

#[test]
fn cancel_over_tcp_ends_a_ringing_invite() {
    run(TEST_LIMIT, calls("cancel", Protocol::Tcp, LogOn::Server));
}

/// Runs `uac_NAME.xml` against `uas_NAME.xml`: every call must succeed.
async fn calls(name: &str, protocol: Protocol, log_on: LogOn) {
    let directory = Directory::new("sipp");
    let proxy = Settings::new(DOMAIN)
        .usual_timers()
        .account("berlin", "secret of berlin")
        .account("hamburg", "secret of hamburg")
        // The only algorithm that this SIPp knows.
        .key("registrar", "digest_algorithms", "[\"MD5\"]")
        // It signs the address that it sends to, instead of the Request-URI.
        .key("registrar", "accept_digest_for_other_uri", "true")
        .listen(protocol)
        .start()
        .await;
    let identity = match log_on {
        LogOn::Server => "hamburg",
        LogOn::User => "bob",
    };
    let answering = Sipp::new("answering", &directory, &proxy, protocol, ("hamburg", identity));
    let served = scenario(&format!("uas_{name}.xml"));
    let mut answering = answering.answer(&served).await;
    let calling = Sipp::new("calling", &directory, &proxy, protocol, ("berlin", "berlin"));
    calling.call(&scenario(&format!("uac_{name}.xml"))).await;
    assert!(answering.ended().is_none(), "the answering side has given up");
}

fn scenario(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/sipp").join(name)
}

/// A SIPp that is about to start.
struct Sipp {
    name: &'static str,
    command: Command,
    /// What is sent and received, and what goes wrong.
    messages: PathBuf,
    errors: PathBuf,
}

impl Sipp {
    /// With the options that both sides share; `account` is who authenticates and who is registered.
    fn new(
        name: &'static str,
        directory: &Directory,
        proxy: &Proxy,
        protocol: Protocol,
        account: (&str, &str),
    ) -> Self {
        let ip: IpAddr = loopback();
        let to: SocketAddr = proxy.at(protocol);
        let file = |kind: &str| directory.path().join(format!("{name}.{kind}"));
        let (messages, errors) = (file("messages"), file("errors"));
        let mut command = Command::new(installed("sipp"));
        command.arg(to.to_string()).args(["-i", &ip.to_string(), "-p", &free_port(ip).to_string()]);
        command.args(["-t", if protocol == Protocol::Udp { "u1" } else { "t1" }]);
        command.args(["-au", account.0, "-ap", &format!("secret of {}", account.0)]);
        command.args(["-key", "domain", DOMAIN, "-key", "identity", account.1, "-key", "peer", "bob"]);
        command.args(["-nostdin", "-skip_rlimit", "-trace_msg", "-message_file"]).arg(&messages);
        command.args(["-trace_err", "-error_file"]).arg(&errors);
        command.current_dir(directory.path()).env("TERM", "dumb");
        Self { name, command, messages, errors }
    }

    /// Registers, stays, and serves what comes in. Returns when it has registered.
    async fn answer(mut self, served: &Path) -> Process {
        self.command.arg("-sf").arg(scenario("register.xml")).arg("-oocsf").arg(served);
        let stay = TEST_LIMIT.as_millis().to_string();
        self.command.args(["-m", "1", "-d", &stay]);
        let mut process = self.start();
        eventually(Duration::from_secs(10), "SIPp registers", || {
            assert!(process.ended().is_none(), "SIPp ends instead:\n{}", self.faults());
            read(&self.messages).contains("SIP/2.0 200 ").then_some(())
        })
        .await;
        process
    }

    /// Makes the calls and checks that all of them succeed.
    async fn call(mut self, scenario: &Path) {
        let give_up = (CALLS_LIMIT - Duration::from_secs(5)).as_secs().to_string();
        self.command.arg("-sf").arg(scenario).args(["-m", &CALLS.to_string(), "-r", &RATE.to_string()]);
        self.command.args(["-timeout", &give_up, "-timeout_error"]);
        let status = self.start().end(CALLS_LIMIT).await;
        assert!(status.success(), "SIPp ends with {status}:\n{}", self.faults());
    }

    fn start(&mut self) -> Process {
        Process::start(&format!("sipp, {}", self.name), &mut self.command)
    }

    fn faults(&self) -> String {
        format!("{}\n{}", read(&self.errors), crate::common::process::tail(&read(&self.messages)))
    }
}

/// A file that SIPp writes when it first has something to say.
fn read(path: &Path) -> String {
    std::fs::read(path).map(|octets| String::from_utf8_lossy(&octets).into_owned()).unwrap_or_default()
}
