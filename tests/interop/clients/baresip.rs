//! baresip, of Debian's `baresip-core`, driven over its `ctrl_tcp` module (JSON in netstrings).

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Client, STEP_LIMIT, Subscriber};
use crate::common::process::Process;
use crate::common::scratch::free_port;
use crate::{REMEDY, installed};

/// Modules in use: codec, files for sound, the control connection, presence.
const MODULES: [&str; 4] = ["g711.so", "aufile.so", "uuid.so", "stdio.so"];
const APPLICATIONS: [&str; 5] = ["account.so", "contact.so", "menu.so", "ctrl_tcp.so", "presence.so"];
/// Where Debian's releases put the modules.
const MODULE_DIRECTORIES: [&str; 2] =
    ["/usr/lib/baresip/modules", "/usr/lib/x86_64-linux-gnu/baresip/modules"];

pub(crate) struct Baresip {
    process: Process,
    control_address: SocketAddr,
    control: Option<TcpStream>,
}

impl Baresip {
    /// Sends one command. The connection is made at the first of them, when the client has long registered.
    fn command(&mut self, command: &str, parameters: &str) {
        let address = self.control_address;
        let control = self.control.get_or_insert_with(|| connect(address));
        let text = serde_json::json!({ "command": command, "params": parameters, "token": "t" }).to_string();
        let sent = control.write_all(format!("{}:{text},", text.len()).as_bytes());
        sent.unwrap_or_else(|error| panic!("baresip does not take {command}: {error}"));
    }
}

impl Client for Baresip {
    fn start(subscriber: &Subscriber<'_>) -> Self {
        let home = subscriber.directory.join(format!("baresip-{}", subscriber.user));
        std::fs::create_dir_all(&home).expect("a directory below the test's own");
        let control_address = SocketAddr::new(subscriber.local.ip(), free_port(subscriber.local.ip()));
        let write = |name: &str, content: &[u8]| {
            std::fs::write(home.join(name), content).expect("a file below the test's own directory");
        };
        write("config", configuration(subscriber, control_address, &home).as_bytes());
        write("accounts", account(subscriber).as_bytes());
        write("contacts", format!("\"buddy\" <{}>;presence=p2p\n", subscriber.buddy).as_bytes());
        write("silence.wav", &silence());
        let mut command = Command::new(installed("stdbuf"));
        // Until it is told that its user is online it notifies of a state that other clients refuse.
        command
            .arg("-oL")
            .arg(installed("baresip"))
            .args(["-4", "-s", "-v", "-e", "/presence_online", "-f"])
            .arg(&home);
        command.env("HOME", &home).env("TERM", "dumb").env("LANG", "C.UTF-8").current_dir(&home);
        let process = Process::start(&format!("baresip {}", subscriber.user), &mut command);
        Self { process, control_address, control: None }
    }

    fn send_message(&mut self, _uri: &str, text: &str) {
        // To the current contact, which is the only one.
        self.command("message", text);
    }

    fn call(&mut self, uri: &str) {
        self.command("dial", uri);
    }

    fn hang_up(&mut self) {
        self.command("hangup", "");
    }

    fn screen(&self) -> String {
        self.process.output()
    }

    fn trace(&self) -> String {
        self.process.output()
    }

    fn shows_message(screen: &str, text: &str) -> bool {
        screen.split("MESSAGE sip:").skip(1).any(|rest| rest.contains(text))
    }

    fn shows_call(screen: &str) -> bool {
        screen.contains("Call established")
    }

    fn shows_end(screen: &str) -> bool {
        screen.contains("CALL_CLOSED") || screen.contains("session closed") || screen.contains("terminated")
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let end = Instant::now() + STEP_LIMIT;
    loop {
        match TcpStream::connect(address) {
            Ok(stream) => return stream,
            Err(error) if Instant::now() > end => panic!("baresip's control port {address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn configuration(subscriber: &Subscriber<'_>, control: SocketAddr, home: &Path) -> String {
    let directory = MODULE_DIRECTORIES.iter().find(|directory| Path::new(directory).is_dir());
    let directory = directory.unwrap_or_else(|| panic!("baresip's modules are missing. {REMEDY}"));
    let (home, local) = (home.display(), subscriber.local);
    let mut text = format!(
        "sip_listen {local}\nsip_cafile {}\nsip_verify_server yes\ncall_max_calls 2\nnet_interface {}\n\
         audio_source aufile,{home}/silence.wav\naudio_player aufile,{home}/played.wav\n\
         audio_alert aufile,{home}/alert.wav\nrtp_ports 40000-49999\n\
         ctrl_tcp_listen {control}\nmodule_path {directory}\n",
        subscriber.authority.display(),
        local.ip()
    );
    text.extend(MODULES.map(|module| format!("module {module}\n")));
    text.extend(APPLICATIONS.map(|module| format!("module_app {module}\n")));
    text
}

fn account(subscriber: &Subscriber<'_>) -> String {
    let Subscriber { user, domain, transport, .. } = subscriber;
    format!(
        "<sip:{user}@{domain};transport={}>;auth_user={user};auth_pass={};outbound=\"{}\";regint=300;pubint=0;\
         answermode=auto\n",
        transport.parameter(),
        subscriber.password(),
        subscriber.server_uri()
    )
}

/// A minute of silence: RIFF WAVE, 16 bit, mono, 8,000 samples a second.
fn silence() -> Vec<u8> {
    const SAMPLES: u32 = 60 * 8_000;
    let mut file = Vec::new();
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + 2 * SAMPLES).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    file.extend_from_slice(&8_000_u32.to_le_bytes());
    file.extend_from_slice(&16_000_u32.to_le_bytes());
    file.extend_from_slice(b"\x02\0\x10\0data");
    file.extend_from_slice(&(2 * SAMPLES).to_le_bytes());
    file.resize(44 + 2 * SAMPLES as usize, 0);
    file
}
