//! The control socket, `[admin] listen`, and the commands that ask the running service.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::common::http::{HttpAnswer, ask_socket};
use crate::common::proxy::{Protocol, Proxy};
use crate::common::run;
use crate::support::{LIMIT, Site, open_house};

impl Proxy {
    /// Where the service is asked: the default.
    fn control_socket(&self) -> PathBuf {
        self.directory().path().join("var/run/control.sock")
    }

    async fn asked(&self, method: &str, path: &str, body: &str) -> HttpAnswer {
        ask_socket(&self.control_socket(), method, path, body).await
    }

    /// `GET path`, which must be there.
    async fn resource(&self, path: &str) -> Value {
        let answer = self.asked("GET", path, "").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// Runs a command of ours with its configuration.
    async fn command(&self, arguments: &[&str]) -> Output {
        command(&self.directory().path().join("sip-proxy.toml"), arguments).await
    }
}

async fn command(file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sip-proxy"));
    command.arg("--config").arg(file).args(arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    output.expect("Cargo has built the binary")
}

/// What a command has printed, where it ends with `status`.
#[track_caller]
fn printed(output: &Output, status: i32) -> String {
    let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{text}\n{errors}");
    text.into_owned()
}

#[test]
fn the_service_says_how_it_is() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let status = site.proxy.resource("/status").await;
        assert_eq!(status["state"], "ready", "{status:#}");
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(status["presence_domains"][0], "example.org");
        let lan = &status["interfaces"][0];
        assert_eq!((&lan["key"], &lan["status"]), (&"lan".into(), &"listening".into()), "{lan}");
        assert_eq!(lan["port"], site.proxy.at(Protocol::Tcp).port());
        let health = site.proxy.asked("GET", "/health", "").await;
        assert_eq!((health.status, &*health.body), (200, "ok"));
        let output = site.proxy.command(&["status"]).await;
        let text = printed(&output, 0);
        assert!(text.contains("ready for") && text.contains("listening"), "{text}");
        assert!(!text.contains('\x1b'), "no colour but on a terminal: {text:?}");
        let json: Value =
            serde_json::from_str(&printed(&site.proxy.command(&["status", "--json"]).await, 0)).unwrap();
        assert_eq!(json["interfaces"], status["interfaces"]);
    });
}

#[test]
fn a_service_that_does_not_run_does_not_answer() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy.kill().await;
        let output = site.proxy.command(&["status"]).await;
        printed(&output, 69);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("the service does not answer on") && said.contains("is it running?"), "{said}");
    });
}
