//! The proxy under test: the built binary with a configuration of the test's own.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use super::certificates::{Authority, Identity};
use super::process::Process;
use super::scratch::{Directory, free_port, loopback};
use super::{eventually, form};

/// How long the proxy may take to say that it is ready.
const START_LIMIT: Duration = Duration::from_secs(10);
/// How long it may take to end after SIGTERM, transactions in flight included.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The protocol of an interface, as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Udp,
    Tcp,
    Tls,
    Mtls,
    Ws,
    Wss,
}

impl Protocol {
    fn key(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Mtls => "mtls",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }
}

/// What the proxy is configured with. All LAN interfaces are on one loopback address of the test's own.
pub(crate) struct Settings {
    domains: Vec<String>,
    /// The rows of each account's table.
    accounts: Vec<String>,
    interfaces: Vec<Protocol>,
    /// Certificate, key, and the authority that others are checked with.
    certificate: Option<(String, String, String)>,
    /// Of all LAN interfaces.
    address: IpAddr,
    /// `section`, `key = value`.
    keys: Vec<(String, String)>,
    /// WAN interfaces; they share an address of their own.
    outside: Vec<(Protocol, SocketAddr)>,
    /// Files beside the configuration: name and content.
    files: Vec<(String, String)>,
    /// Appended to the file as it stands.
    text: String,
    /// Files that the proxy writes may not be larger, in units of 512 octets.
    largest_file: Option<u32>,
    /// Variables of its environment.
    environment: Vec<(String, String)>,
}

impl Settings {
    /// One presence domain, no account, no interface; timers at a tenth of the usual, so that tests need not wait.
    pub(crate) fn new(domain: &str) -> Self {
        let settings = Self {
            domains: vec![domain.to_owned()],
            accounts: Vec::new(),
            interfaces: Vec::new(),
            certificate: None,
            address: loopback(),
            keys: Vec::new(),
            outside: Vec::new(),
            files: Vec::new(),
            text: String::new(),
            largest_file: None,
            environment: Vec::new(),
        };
        settings
            .key("sip", "t1", "\"50ms\"")
            .key("sip", "t2", "\"400ms\"")
            .key("sip", "t4", "\"500ms\"")
            .key("service", "worker_threads", "2")
            .key("diagnostics", "log_level", "\"debug\"")
            .key("diagnostics", "log_file_directory", "\"\"")
    }

    /// The timers of RFC 3261 instead: for ends that are real programs, which take their time.
    pub(crate) fn usual_timers(self) -> Self {
        self.key("sip", "t1", "\"500ms\"").key("sip", "t2", "\"4s\"").key("sip", "t4", "\"5s\"")
    }

    /// Serves one more domain.
    pub(crate) fn domain(mut self, domain: &str) -> Self {
        self.domains.push(domain.to_owned());
        self
    }

    /// A UC server that logs on with a password.
    pub(crate) fn account(self, user_name: &str, password: &str) -> Self {
        self.account_rows(&format!("user_name = \"{user_name}\"\npassword = \"{password}\"\n"))
    }

    /// A UC server that logs on by other means or has a scope: the rows of its table.
    pub(crate) fn account_rows(mut self, rows: &str) -> Self {
        self.accounts.push(rows.to_owned());
        self
    }

    /// A LAN interface on a free port.
    pub(crate) fn listen(mut self, protocol: Protocol) -> Self {
        self.interfaces.push(protocol);
        self
    }

    /// A WAN interface on a free port.
    pub(crate) fn listen_outside(mut self, protocol: Protocol) -> Self {
        let address = self.outside.first().map_or_else(loopback, |(_, first)| first.ip());
        self.outside.push((protocol, SocketAddr::new(address, free_port(address))));
        let row = |(protocol, address): &(Protocol, SocketAddr)| {
            let (ip, port, protocol) = (address.ip(), address.port(), protocol.key());
            format!("{{ ip_address = \"{ip}\", port = {port}, protocol = \"{protocol}\" }}")
        };
        let rows: Vec<_> = self.outside.iter().map(row).collect();
        self.key("wan", "network_interface", &format!("[{}]", rows.join(", ")))
    }

    /// Where it will listen on the WAN with this protocol.
    pub(crate) fn outside_at(&self, protocol: Protocol) -> SocketAddr {
        found(&self.outside, protocol)
    }

    /// The address that all its LAN interfaces will share.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address
    }

    /// A file beside the configuration.
    pub(crate) fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// The certificate for TLS and MTLS, and who may sign those of others.
    pub(crate) fn certificate(mut self, identity: &Identity, authority: &Authority) -> Self {
        self.certificate = Some((identity.chain.clone(), identity.private_key.clone(), authority.pem()));
        self
    }

    /// A certificate of `authority` for the address that the proxy listens on.
    pub(crate) fn tls(self, authority: &Authority) -> Self {
        let identity = authority.server(&[&self.address.to_string()]);
        self.certificate(&identity, authority)
    }

    /// Sets one key, replacing an earlier value; `value` is TOML.
    pub(crate) fn key(mut self, section: &str, key: &str, value: &str) -> Self {
        let start = format!("{key} = ");
        self.keys.retain(|(known, row)| known != section || !row.starts_with(&start));
        self.keys.push((section.to_owned(), format!("{start}{value}")));
        self
    }

    /// Appends tables to the file.
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.text.push_str(text);
        self
    }

    /// Writing fails where a file would become larger than so many blocks of 512 octets, as it does on a full disk.
    pub(crate) fn largest_file(mut self, blocks: u32) -> Self {
        self.largest_file = Some(blocks);
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts the proxy and waits until it is ready.
    pub(crate) async fn start(self) -> Proxy {
        let (directory, address) = (Directory::new("proxy"), self.address);
        let addresses: Vec<(Protocol, SocketAddr)> = self
            .interfaces
            .iter()
            .map(|protocol| (*protocol, SocketAddr::new(address, free_port(address))))
            .collect();
        for (name, content) in &self.files {
            directory.write(name, content);
        }
        let file = directory.write("sip-proxy.toml", self.render(&directory, &addresses));
        let process = launch(&file, self.largest_file, &self.environment);
        let outside = self.outside;
        let mut proxy = Proxy { process, file, addresses, outside, address, directory };
        proxy.wait_until_ready().await;
        proxy
    }

    fn render(&self, directory: &Directory, addresses: &[(Protocol, SocketAddr)]) -> String {
        let mut file = String::new();
        let mut keys = self.keys.clone();
        keys.push(("service".to_owned(), format!("presence_domains = {:?}", self.domains)));
        if let Some((chain, key, authority)) = &self.certificate {
            for (name, pem, row) in [
                ("proxy.pem", chain, "chain"),
                ("proxy.key", key, "private_key"),
                ("authority.pem", authority, "trusted_cas"),
            ] {
                directory.write(name, pem);
                keys.push(("certificate".to_owned(), format!("{row} = {name:?}")));
            }
        }
        // Not the interface on the WAN that stands in the built-in configuration.
        if !keys.iter().any(|(section, row)| section == "wan" && row.starts_with("network_interface = ")) {
            keys.push(("wan".to_owned(), "network_interface = []".to_owned()));
        }
        let (first, others) = addresses.split_first().expect("a test has the proxy listen somewhere");
        let (account, accounts) = self.accounts.split_first().expect("a test has an account");
        keys.push(("lan".to_owned(), account.trim_end().to_owned()));
        keys.push(("lan".to_owned(), interface_rows("bind_to_ip_address", "transport_protocol", first)));
        keys.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut section = "";
        for (name, row) in &keys {
            if name != section {
                writeln!(file, "\n[{name}]").expect("writing to a string does not fail");
                section = name;
            }
            writeln!(file, "{row}").expect("writing to a string does not fail");
        }
        for interface in others {
            file.push_str("\n[[lan.network_interface]]\n");
            file.push_str(&interface_rows("ip_address", "protocol", interface));
            file.push('\n');
        }
        for account in accounts {
            file.push_str("\n[[lan.account]]\n");
            file.push_str(account);
        }
        file.push_str(&self.text);
        file
    }
}

fn interface_rows(address_key: &str, protocol_key: &str, interface: &(Protocol, SocketAddr)) -> String {
    let (protocol, address) = interface;
    format!(
        "{address_key} = \"{}\"\nport = {}\n{protocol_key} = \"{}\"",
        address.ip(),
        address.port(),
        protocol.key()
    )
}

fn is_end_of_reload(line: &str) -> bool {
    [" reloaded ", " reload_refused "].iter().any(|event| line.contains(event))
}

fn launch(file: &std::path::Path, largest_file: Option<u32>, environment: &[(String, String)]) -> Process {
    let program = env!("CARGO_BIN_EXE_sip-proxy");
    let mut command = match largest_file {
        None => Command::new(program),
        Some(blocks) => {
            let mut shell = Command::new("sh");
            // The limit that can be lifted again; and an error where there would be a signal.
            let script = format!("trap '' XFSZ; ulimit -S -f {blocks}; exec \"$0\" \"$@\"");
            shell.args(["-c", &script, program]);
            shell
        }
    };
    command.arg("--config").arg(file).arg("run");
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start("sip-proxy", &mut command)
}

/// A running proxy. Its end comes with the test's; if the test fails, its log is shown.
pub(crate) struct Proxy {
    // Dropped before the directory that it works in.
    process: Process,
    file: PathBuf,
    addresses: Vec<(Protocol, SocketAddr)>,
    outside: Vec<(Protocol, SocketAddr)>,
    address: IpAddr,
    directory: Directory,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check_log();
        }
    }
}

fn found(addresses: &[(Protocol, SocketAddr)], protocol: Protocol) -> SocketAddr {
    let found = addresses.iter().find(|(known, _)| *known == protocol);
    found.unwrap_or_else(|| panic!("the test has no interface with {protocol:?}")).1
}

impl Proxy {
    /// Where it listens with this protocol on the LAN.
    pub(crate) fn at(&self, protocol: Protocol) -> SocketAddr {
        found(&self.addresses, protocol)
    }

    /// Where it listens with this protocol on the WAN.
    pub(crate) fn outside_at(&self, protocol: Protocol) -> SocketAddr {
        found(&self.outside, protocol)
    }

    /// The address that all its LAN interfaces share.
    pub(crate) fn ip(&self) -> IpAddr {
        self.address
    }

    /// What it has logged to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.process.errors()
    }

    /// Its configuration.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The directory that its relative paths begin from.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Sends it a signal by name: `HUP`, `STOP`, `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// The memory that it has.
    pub(crate) fn resident_kilobytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let row = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = row.and_then(|row| row.split_whitespace().next()?.parse().ok());
        number.expect("the system says how much memory a process has")
    }

    /// How many of its threads have this name, of which the system keeps fifteen octets.
    pub(crate) fn threads_named(&self, name: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        // One may end between the two.
        let name_of = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(name_of).filter(|known| known.trim_end() == name).count()
    }

    /// From now on, files may grow again.
    pub(crate) fn lift_file_limit(&self) {
        let limit = format!("--pid={}", self.process.id());
        let status = Command::new("prlimit").args([&limit, "--fsize=unlimited:"]).status();
        assert!(status.as_ref().is_ok_and(ExitStatus::success), "prlimit: {status:?}");
    }

    /// Edits its configuration, which it does not notice by itself.
    pub(crate) fn edit(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(&self.file).expect("the configuration is there");
        std::fs::write(&self.file, edit(text)).expect("the configuration can be written");
    }

    /// Edits its configuration by replacing what must be there.
    pub(crate) fn replace(&self, old: &str, new: &str) {
        self.edit(|text| {
            assert!(text.contains(old), "{old:?} is not in the configuration:\n{text}");
            text.replacen(old, new, 1)
        });
    }

    /// Sets one key of its configuration; `value` is TOML.
    pub(crate) fn set(&self, section: &str, key: &str, value: &str) {
        let (header, row) = (format!("[{section}]"), format!("{key} = {value}"));
        self.edit(|text| {
            let mut lines: Vec<_> = text.lines().collect();
            let Some(start) = lines.iter().position(|line| *line == header) else {
                return format!("{text}\n{header}\n{row}\n");
            };
            let end = lines[start + 1..].iter().position(|line| line.starts_with('['));
            let end = end.map_or(lines.len(), |end| start + 1 + end);
            let beginning = format!("{key} = ");
            match (start..end).find(|place| lines[*place].starts_with(&beginning)) {
                Some(place) => lines[place] = &row,
                None => lines.insert(start + 1, &row),
            }
            lines.join("\n") + "\n"
        });
    }

    /// Sets keys and has it read them; each reload must be done, and change something. The line of its log.
    pub(crate) async fn change(&self, keys: &[(&str, &str, &str)]) -> String {
        for (section, key, value) in keys {
            self.set(section, key, value);
        }
        let line = self.reload().await;
        assert!(line.contains(" reloaded ") && !line.contains("changes=0"), "{keys:?}: {line}");
        line
    }

    /// Has it read its configuration again by SIGHUP, and waits until it says what has come of that.
    pub(crate) async fn reload(&self) -> String {
        let before = self.reloads();
        self.signal("HUP");
        self.reloaded_after(before).await
    }

    /// How often it has reloaded, or refused to.
    pub(crate) fn reloads(&self) -> usize {
        self.log().lines().filter(|line| is_end_of_reload(line)).count()
    }

    /// Waits for one more than so many reloads; the line of its log.
    pub(crate) async fn reloaded_after(&self, before: usize) -> String {
        eventually(START_LIMIT, "the proxy reloads", || {
            self.log().lines().filter(|line| is_end_of_reload(line)).nth(before).map(str::to_owned)
        })
        .await
    }

    /// Ends it by SIGTERM.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.end(STOP_LIMIT).await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ends(&mut self) -> ExitStatus {
        self.process.end(STOP_LIMIT).await
    }

    /// Ends it without warning.
    pub(crate) async fn kill(&mut self) {
        self.process.signal("KILL");
        self.process.end(STOP_LIMIT).await;
    }

    /// Starts it anew once it has ended, with the same file and ports.
    pub(crate) async fn restart(&mut self) {
        self.check_log();
        self.process = launch(&self.file, None, &[]);
        self.wait_until_ready().await;
    }

    /// Ends it without warning and starts it anew.
    pub(crate) async fn kill_and_restart(&mut self) {
        self.kill().await;
        self.restart().await;
    }

    /// Each line that it has logged has the form of the contract.
    fn check_log(&self) {
        self.log().lines().for_each(|line| drop(form::read(line)));
    }

    /// Waits for a line of its log that has all of `parts`.
    pub(crate) async fn logs(&self, parts: &[&str]) -> String {
        let what = format!("the proxy logs {parts:?}");
        eventually(START_LIMIT, &what, || {
            let log = self.log();
            log.lines().find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
        .await
    }

    /// Waits until every interface listens, as the line on standard output has it.
    async fn wait_until_ready(&mut self) {
        let wanted = self.addresses.len() + self.outside.len();
        let ready = eventually(START_LIMIT, "the proxy says that it is ready", || {
            if let Some(status) = self.process.ended() {
                panic!("the proxy ends with {status} before it is ready");
            }
            let output = self.process.output();
            output.lines().find(|line| line.starts_with("ready: ")).map(str::to_owned)
        })
        .await;
        let count = ready.split(' ').nth(1).and_then(|number| number.parse::<usize>().ok());
        assert!(count.is_some_and(|count| count >= wanted), "{wanted} interfaces wanted: {ready}");
    }
}
