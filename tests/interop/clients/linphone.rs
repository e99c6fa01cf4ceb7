//! linphonec, the console client of Debian's `linphone-cli`.

use std::path::PathBuf;
use std::process::Command;

use super::{Client, Subscriber};
use crate::common::process::Process;
use crate::common::scratch::free_port;
use crate::installed;
use crate::uc_server::Transport;

pub(crate) struct Linphone {
    process: Process,
    trace: PathBuf,
}

impl Client for Linphone {
    fn start(subscriber: &Subscriber<'_>) -> Self {
        let home = subscriber.directory.join(format!("linphone-{}", subscriber.user));
        for folder in [".local/share/linphone", ".config/linphone"] {
            std::fs::create_dir_all(home.join(folder)).expect("a directory below the test's own");
        }
        let (settings, trace) = (home.join("linphonerc"), home.join("trace.log"));
        std::fs::write(&settings, configuration(subscriber)).expect("a file below the test's own directory");
        std::fs::write(&trace, "").expect("a file below the test's own directory");
        let mut command = Command::new(installed("stdbuf"));
        command
            .arg("-oL")
            .arg(installed("linphonec"))
            .args(["-a", "-S", "-d", "6", "-l"])
            .arg(&trace)
            .arg("-c")
            .arg(&settings);
        command.env("HOME", &home).env("TERM", "dumb").env("LANG", "C.UTF-8").current_dir(&home);
        let process = Process::start(&format!("linphonec {}", subscriber.user), &mut command);
        Self { process, trace }
    }

    fn send_message(&mut self, uri: &str, text: &str) {
        self.process.tell(&format!("chat {uri} {text}"));
    }

    fn call(&mut self, uri: &str) {
        self.process.tell(&format!("call {uri}"));
    }

    fn hang_up(&mut self) {
        self.process.tell("terminate");
    }

    fn screen(&self) -> String {
        self.process.output()
    }

    fn trace(&self) -> String {
        let octets = std::fs::read(&self.trace).expect("the trace file is made before the client starts");
        String::from_utf8_lossy(&octets).into_owned()
    }

    fn shows_message(screen: &str, text: &str) -> bool {
        screen.lines().any(|line| line.contains("Message received from") && line.contains(text))
    }

    fn shows_call(screen: &str) -> bool {
        screen.contains("Media streams established")
            || screen.contains("answered")
            || screen.contains(" connected.")
    }

    fn shows_end(screen: &str) -> bool {
        screen.lines().any(|line| line.contains("Call") && line.contains("ended"))
    }
}

/// The configuration file: one account, no sound devices, no address but the one given.
///
/// The chain of the server's certificate is checked, its name is not: the client's TLS library does not read IP
/// addresses of a subject alternative name.
fn configuration(subscriber: &Subscriber<'_>) -> String {
    let Subscriber { user, domain, local, transport, buddy, .. } = subscriber;
    let port = |wanted: Transport| if *transport == wanted { i32::from(local.port()) } else { -1 };
    let (udp, tcp, tls) = (port(Transport::Udp), port(Transport::Tcp), port(Transport::Tls));
    let (ip, server, password) = (local.ip(), subscriber.server_uri(), subscriber.password());
    let authority = subscriber.authority.display();
    let media = free_port(ip);
    format!(
        "[sip]\n\
         sip_port={udp}\nsip_tcp_port={tcp}\nsip_tls_port={tls}\n\
         bind_address={ip}\nguess_hostname=0\ncontact=\"{user}\" <sip:{user}@{ip}>\nuse_ipv6=0\n\
         register_only_when_network_is_up=0\nmedia_encryption=none\n\
         verify_server_certs=1\nverify_server_cn=0\nroot_ca={authority}\ndefault_proxy=0\n\
         [net]\nmtu=1300\n\
         [rtp]\nbind_address={ip}\naudio_rtp_port={media}\n\
         [sound]\nplayback_dev_id=\n\
         [misc]\nhistory_max_size=0\nuuid=\nversion_check_url_root=\n\
         [proxy_0]\nreg_proxy=<{server}>\nreg_route=<{server};lr>\nreg_identity=\"{user}\" <sip:{user}@{domain}>\n\
         realm={domain}\nreg_expires=600\nreg_sendregister=1\npublish=0\ndial_escape_plus=0\n\
         [auth_info_0]\nusername={user}\npasswd={password}\nrealm={domain}\ndomain={domain}\n\
         [friend_0]\nurl=<{buddy}>\npol=accept\nsubscribe=1\n"
    )
}
