//! Each command of the guide is run, or there is a reason why not.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::common::dns::NameServer;
use crate::common::run;
use crate::common::scratch::{Directory, loopback};
use crate::common::stun_server::{Filter, Mapping, Speech, StunServer};
use crate::session::Session;
use crate::{Kind, LANGUAGES, chapter, chapters};

/// The guide's public STUN server.
const STUN: &str = "stun.example.net:3478";

/// Commands that no test runs, by how they begin, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("# apt install ./sip-proxy", "root; the package is installed by the tests of packages"),
    ("# apt install --allow-downgrades", "root, and a version that is to come"),
    ("# apt install certbot", "root and the internet"),
    ("# apt remove sip-proxy", "root; by the tests of packages"),
    ("# apt purge sip-proxy", "root; by the tests of packages"),
    ("# certbot certonly", "root, and a public authority"),
    ("# systemctl ", "root, and systemd"),
    ("$ systemctl status", "systemd"),
    ("$ systemd-analyze security", "systemd"),
    ("# journalctl", "systemd"),
    ("# tar --create", "root; the same is run in the trial"),
    ("# chmod 600 /root/", "root"),
    ("$ cargo build", "the program that the tests use has been built so"),
    ("$ export PATH=", "the tests have the program on their path"),
    ("$ target/release/sip-proxy", "the same is run in the trial"),
    ("# install -m 755 target/release/", "root"),
    ("# mv /usr/bin/sip-proxy.new", "root"),
    ("$ dig ", "a public name server; `check dns` asks the same"),
    ("$ openssl s_client -connect sip.example.org", "another machine"),
    ("$ nmap ", "another machine"),
    ("$ ssh ", "another machine"),
];

/// Text that is neither a command nor what one prints: how many in each chapter, and what they are.
const PICTURES: &[(&str, usize, &str)] = &[
    ("introduction.md", 1, "a drawing"),
    ("certificates.md", 1, "a script for certbot, which runs it as root"),
    ("dns.md", 1, "a zone file"),
    ("wan-and-nat.md", 1, "rules of a firewall"),
    ("diagnostics.md", 1, "log lines"),
    ("check-messages.md", 1, "the form of a line"),
];

fn follow(language: &str) {
    run(Duration::from_secs(600), async {
        let ip = loopback().to_string();
        let records = format!(
            "_sipfederationtls._tcp.example.org 60 SRV 0 0 5061 sip.example.org\nsip.example.org 60 A {ip}"
        );
        let name_server = NameServer::start(loopback(), &records).await;
        let stun = StunServer::start(Speech::Rfc5780, Mapping::One, Filter::Anybody).await;
        let instead = vec![("127.0.0.1".to_owned(), ip), (STUN.to_owned(), stun.address().to_string())];
        let mut session = Session::new("guide", &name_server.address().to_string(), instead);
        for chapter in chapters(language) {
            session.follow(&chapter).await;
        }
    });
}

#[test]
fn every_command_of_the_english_guide_does_what_it_says() {
    follow("en");
}

#[test]
fn every_command_of_the_german_guide_does_what_it_says() {
    follow("de");
}

#[test]
fn whatever_is_not_run_has_a_reason() {
    let mut used = BTreeSet::new();
    for chapter in LANGUAGES.iter().flat_map(|language| chapters(language)) {
        for block in chapter.blocks.iter().filter(|block| block.kind == Kind::Console) {
            for line in block.text.lines() {
                let known = NOT_RUN.iter().find(|(command, _)| line.starts_with(command));
                let (command, _) = known.unwrap_or_else(|| panic!("{}: {line}", chapter.path.display()));
                used.insert(*command);
            }
        }
        let pictures = chapter.blocks.iter().filter(|block| block.kind == Kind::Picture).count();
        let known =
            PICTURES.iter().find(|(name, ..)| *name == chapter.name()).map_or(0, |(_, count, _)| *count);
        assert_eq!(pictures, known, "{}: text that no command has printed", chapter.path.display());
    }
    let unused: Vec<_> = NOT_RUN.iter().filter(|(command, _)| !used.contains(command)).collect();
    assert!(unused.is_empty(), "{unused:?}");
    for (name, ..) in PICTURES {
        let _ = chapter("en", name);
    }
}

#[test]
fn every_part_of_a_configuration_is_one() {
    let directory = Directory::new("guide-toml");
    for chapter in chapters("en") {
        for block in chapter.blocks.iter().filter(|block| block.kind == Kind::Toml) {
            let file = directory.write("part.toml", &block.text);
            let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
            let output = command.arg("--config").arg(&file).args(["check", "config"]).output();
            let printed =
                String::from_utf8_lossy(&output.expect("Cargo has built the binary").stdout).into_owned();
            let is_lacking =
                |line: &&str| line.contains(" cannot be read: ") || line.contains(": this machine has no ");
            let is_fault =
                |line: &&str| line.starts_with(&*file.to_string_lossy()) && !line.ends_with("is valid");
            let faults: Vec<&str> =
                printed.lines().filter(is_fault).filter(|line| !is_lacking(line)).collect();
            assert!(faults.is_empty(), "{}:{}: {faults:?}", chapter.path.display(), block.line);
        }
    }
}
