//! The page with the service that it belongs to.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use super::browser::Browser;
use super::common::agent::Agent;
use super::common::http::{HttpAnswer, ask_network};
use super::common::proxy::{Protocol, Settings};
use super::common::run;
use super::common::scratch::{free_port, loopback};

const LIMIT: Duration = Duration::from_secs(240);

/// A proxy with one UC server's account, and where its page is.
fn settings() -> (Settings, SocketAddr) {
    let settings = Settings::new("example.org").account("ucserver", "secret").listen(Protocol::Tcp);
    let page = SocketAddr::new(settings.ip(), free_port(settings.ip()));
    (settings.key("admin", "listen", &format!("\"{page}\"")), page)
}

#[test]
fn the_page_shows_what_the_service_does() {
    run(LIMIT, async {
        let taken = TcpListener::bind((loopback(), 0)).expect("a port of loopback");
        let place = taken.local_addr().expect("a bound socket has an address");
        let (settings, page) = settings();
        let row =
            format!("[{{ ip_address = \"{}\", port = {}, protocol = \"tcp\" }}]", place.ip(), place.port());
        let mut proxy = settings.key("wan", "network_interface", &row).start().await;
        let browser = Browser::open_with_data(page, "en").await;

        // An interface that does not listen, with the reason, where it is looked for first and where it belongs.
        browser.shows("#state", "Impaired").await;
        browser.shows("#attention", &format!("{place} TCP does not listen")).await;
        browser.shows("#interfaces-table", "in use").await;
        browser.shows("#service-facts", &page.to_string()).await;

        // A UC server logs on.
        browser.shows("#events-summary", "live").await;
        let mut server = Agent::tcp(proxy.ip(), proxy.at(Protocol::Tcp)).await;
        server.log_on("example.org", "ucserver", "secret").await;
        browser.shows("#events-list", "logged_on").await;
        browser.shows("#servers-table", &server.local().to_string()).await;
        browser.shows("#accounts-table", "1 connection").await;

        // What passes is counted.
        browser.waits_for("!document.querySelector('#rates').hidden").await;
        browser.shows("#plots", "All requests").await;

        // The log level changes at once.
        browser.choose("#log-module", "router");
        browser.choose("#log-value", "trace");
        browser.click("#log-level button");
        browser.shows("#log-level-answer", "The log level of router is now trace.").await;
        browser.shows("#diagnostics-facts", "router = trace").await;
        browser.is_content();

        // It ends, and is started again.
        assert!(proxy.terminate().await.success());
        browser.shows("#gone", "The service does not answer.").await;
        browser.shows("#gone", "What is shown is from").await;
        drop(taken);
        proxy.restart().await;
        browser.waits_for("document.querySelector('#gone').hidden").await;
        browser.shows("#state", "Ready").await;
        browser.shows("#attention", "Nothing needs attention.").await;
        browser.shows("#events-summary", "live").await;
        browser.is_confined();
    });
}

#[test]
fn with_a_token_the_page_is_there_and_nothing_on_it_before_that_is_shown() {
    run(LIMIT, async {
        let (settings, page) = settings();
        let settings = settings.file("token", "s3cret-t0ken\n").key("admin", "token_file", "\"token\"");
        let _proxy = settings.start().await;
        let browser = Browser::open(page, "de").await;
        browser.waits_for("document.body.dataset.phase === 'sign-in'").await;
        browser.enter("#token", "falsch\n");
        browser.shows("#sign-in-fault", "Dieses Token wird nicht angenommen.").await;
        assert!(!browser.text("body").contains("example.org"));
        browser.enter("#token", "s3cret-t0ken\n");
        browser.waits_for("document.body.dataset.phase === 'data'").await;
        browser.shows("#domains", "example.org").await;
        browser.shows("#events-summary", "laufend").await;
        browser.is_confined();
    });
}

/// A request with one header beside `Host`.
async fn ask(page: SocketAddr, method: &str, path: &str, row: (&str, &str)) -> HttpAnswer {
    ask_network(page, method, path, &[("Host", &page.to_string()), row], "").await
}

#[test]
fn files_of_the_page_are_kept_by_the_browser_and_guarded() {
    run(LIMIT, async {
        let (settings, page) = settings();
        let _proxy = settings.start().await;
        for (path, kind) in [
            ("/", "text/html; charset=utf-8"),
            ("/page/main.js", "text/javascript; charset=utf-8"),
            ("/page/style.css", "text/css; charset=utf-8"),
            ("/page/icon.svg", "image/svg+xml"),
        ] {
            let answer = ask(page, "GET", path, ("Accept", "*/*")).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
            assert!(!answer.body.is_empty(), "{path}");
            let policy = answer.header("content-security-policy").unwrap_or_default();
            assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{path}: {policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
            assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}");
            let tag = answer.header("etag").expect("files have a tag").to_owned();
            let tags = format!("\"other\", {tag}");
            let again = ask(page, "GET", path, ("If-None-Match", &tags)).await;
            assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
            assert_eq!(again.header("etag"), Some(tag.as_str()), "{path}");
            assert_eq!(ask(page, "GET", path, ("If-None-Match", "\"other\"")).await.status, 200, "{path}");
            let refused = ask(page, "POST", path, ("X-Sip-Proxy", "1")).await;
            assert_eq!((refused.status, refused.header("allow")), (405, Some("GET, HEAD")), "{path}");
        }
        assert_eq!(ask(page, "GET", "/page/mod.rs", ("Accept", "*/*")).await.status, 404);
        assert_eq!(ask(page, "GET", "/page/../status", ("Accept", "*/*")).await.status, 404);
    });
}
