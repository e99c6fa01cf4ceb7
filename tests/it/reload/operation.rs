//! What those see who run it: logs, the admin interface, the end.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;

use crate::common::http::ask_network;
use crate::common::proxy::Protocol;
use crate::common::scratch::free_port;
use crate::common::{eventually, run};
use crate::support::{LIMIT, Site, answers_options, open_house, uri};

/// How long a log file may take to have what it is to have.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn log_levels_change_at_once() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        site.proxy
            .replace("log_level = \"debug\"", "log_level = { default = \"info\", connection = \"error\" }");
        site.proxy.reload().await;
        let lines = || site.proxy.log().lines().filter(|line| line.contains("connection_opened")).count();
        let before = lines();
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        agent.close().await;
        assert_eq!(lines(), before);
        site.proxy.replace("connection = \"error\"", "connection = \"debug\"");
        site.proxy.reload().await;
        let mut agent = site.connect(Protocol::Tcp).await;
        answers_options(&mut agent).await;
        site.proxy.logs(&["connection_opened"]).await;
        assert!(lines() > before);
    });
}

#[test]
fn an_end_waits_as_long_as_the_file_has_it_now() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Tcp).await, site.server(Protocol::Tcp, "bob").await);
        a.send(&a.message(&uri("alice"), &uri("bob"), "hello")).await;
        b.receive_request("MESSAGE").await;
        // By default, 32 s; a test waits for ten.
        site.proxy.change(&[("service", "drain_timeout", "\"100ms\"")]).await;
        assert!(site.proxy.terminate().await.success());
    });
}

/// The text of a log file of a site whose logs are in `logs`.
fn file(site: &Site, name: &str) -> Option<String> {
    std::fs::read_to_string(site.proxy.directory().path().join("logs").join(name)).ok()
}

async fn has(site: &Site, name: &str, text: &str) {
    let what = format!("{name} has {text:?}");
    let is_there = || file(site, name).is_some_and(|content| content.contains(text)).then_some(());
    eventually(PATIENCE, &what, is_there).await;
}

/// Has something written to the log.
async fn write_much(site: &Site) {
    let mut agent = site.connect(Protocol::Tcp).await;
    let proxy = "sip:example.org";
    for _ in 0..300 {
        let options = agent.request("OPTIONS", proxy, &uri("alice"), proxy);
        agent.exchange(&options.body("text/plain", "x".repeat(2000))).await;
    }
    agent.close().await;
}

#[test]
fn log_files_come_move_and_have_the_form_size_and_number_that_the_file_says_now() {
    run(2 * LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let diagnostics = "diagnostics";
        // What goes to files does not go to standard error: what waits for a reload looks there.
        let reload = async |keys: &[(&str, &str)]| {
            let before = reloads(&site);
            for (key, value) in keys {
                site.proxy.set(diagnostics, key, value);
            }
            site.proxy.signal("HUP");
            eventually(PATIENCE, "the log says that it reloads", || (reloads(&site) > before).then_some(()))
                .await;
        };
        reload(&[("log_file_directory", "\"logs\"")]).await;
        has(&site, "sip-proxy.log", " reloaded ").await;
        reload(&[("format", "\"json\"")]).await;
        has(&site, "sip-proxy.log", "\"event\":\"reloaded\"").await;
        reload(&[("format", "\"text\""), ("log_level", "\"trace\"")]).await;
        // None of ten megabytes is full.
        write_much(&site).await;
        assert!(file(&site, "sip.log.1").is_none());
        reload(&[("maximum_log_file_size_mb", "1"), ("kept_log_files", "2")]).await;
        while file(&site, "sip.log.2").is_none() {
            write_much(&site).await;
        }
        let largest =
            [1, 2].map(|number| file(&site, &format!("sip.log.{number}")).map_or(0, |text| text.len()));
        assert!(largest.iter().all(|length| *length <= 1_000_000), "{largest:?}");
        reload(&[("kept_log_files", "0")]).await;
        while file(&site, "sip.log.1").is_some() {
            write_much(&site).await;
        }
        // Files of days before go at once.
        let old = site.proxy.directory().path().join("logs/security.log.1");
        std::fs::write(&old, "of last week\n").expect("a file");
        let written = std::fs::File::options().write(true).open(&old).expect("it is there");
        written.set_modified(SystemTime::now() - Duration::from_secs(7 * 86_400)).expect("its time is set");
        reload(&[("delete_log_files_daily", "true")]).await;
        eventually(PATIENCE, "what is old is deleted", || (!old.exists()).then_some(())).await;
    });
}

/// How often the logs have said that a reload is done.
fn reloads(site: &Site) -> usize {
    let texts = [site.proxy.log(), file(site, "sip-proxy.log").unwrap_or_default()];
    let count = |text: &String| text.matches(" reloaded ").count() + text.matches("\"reloaded\"").count();
    texts.iter().map(count).max().unwrap_or_default()
}

#[test]
fn the_admin_interface_opens_moves_and_asks_for_the_token_of_now() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp]).await;
        let ip = site.proxy.ip();
        let [first, second] = [0, 1].map(|_| SocketAddr::new(ip, free_port(ip)));
        let listen = |at: SocketAddr| format!("\"{at}\"");
        let status = async |at: SocketAddr, shown: &str| {
            let rows = [("Host", "proxy.test"), ("Authorization", shown)];
            ask_network(at, "GET", "/health", &rows, "").await.status
        };
        site.proxy.change(&[("admin", "listen", &listen(first))]).await;
        site.proxy.logs(&["admin_listening", &first.to_string()]).await;
        let host = [("Host", "localhost")];
        assert_eq!(ask_network(first, "GET", "/health", &host, "").await.status, 200);
        site.proxy.change(&[("admin", "listen", &listen(second))]).await;
        site.proxy.logs(&["admin_listening", &second.to_string()]).await;
        while TcpStream::connect(first).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        site.proxy.directory().write("token", "one\n");
        site.proxy.change(&[("admin", "token_file", "\"token\"")]).await;
        // It is taken within a second.
        while status(second, "Bearer none").await != 401 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status(second, "Bearer one").await, 200);
        let before = site.proxy.reloads();
        site.proxy.directory().write("token", "another\n");
        site.proxy.reloaded_after(before).await;
        while status(second, "Bearer another").await != 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(status(second, "Bearer one").await, 401);
        site.proxy.change(&[("admin", "token_file", "\"\""), ("admin", "listen", "\"\"")]).await;
        while TcpStream::connect(second).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        answers_options(&mut site.connect(Protocol::Tcp).await).await;
    });
}
