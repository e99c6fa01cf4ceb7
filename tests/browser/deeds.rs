//! What may be done from the page: reload, drain, log level, trace.

use std::time::Duration;

use serde_json::json;
use sip_proxy::actors::control::report::{Change, Fault, Reloaded};

use super::browser::Browser;
use super::common::run;
use super::fixture::Fixture;
use super::reports::{busy, event};

const LIMIT: Duration = Duration::from_secs(180);

fn fault(key: &str, text: &str) -> Fault {
    Fault { place: "sip-proxy.toml:76".to_owned(), key: key.to_owned(), text: text.to_owned() }
}

#[test]
fn reload_shows_differences_or_every_fault() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let change = Change {
            key: "static_routes.route[c.example].port".to_owned(),
            kind: "changed".to_owned(),
            old: Some("5061".to_owned()),
            new: Some("5062".to_owned()),
        };
        let warnings = vec![fault("lan.password", "is empty: whoever comes from the LAN may log on")];
        service.state().reloaded = Reloaded { changes: vec![change], warnings, faults: Vec::new() };
        let browser = Browser::open_with_data(service.address, "en").await;
        browser.click("#reload");
        browser.shows("#result", "1 change is in force.").await;
        let shown = browser.text("#result");
        for part in ["static_routes.route[c.example].port", "5061", "5062", "lan.password", "is empty"] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        browser.click("#result-close");
        browser.is_content();
        let faults = vec![fault("lan.port", "70000 is too large"), fault("sip.t3", "unknown key")];
        service.state().reloaded = Reloaded { changes: Vec::new(), warnings: Vec::new(), faults };
        browser.click("#reload");
        browser.shows("#result", "Nothing was changed: the file has 2 faults.").await;
        let shown = browser.text("#result");
        for part in ["sip-proxy.toml:76", "lan.port", "70000 is too large", "sip.t3", "unknown key"] {
            assert!(shown.contains(part), "{part} is not in\n{shown}");
        }
        browser.is_confined();
        assert_eq!(service.state().asked, ["POST /reload", "POST /reload"]);
    });
}

#[test]
fn drain_asks_first() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "en").await;
        browser.click("#drain");
        browser.shows("#confirm", "Drain and end the service?").await;
        assert_eq!(browser.value("document.activeElement.id"), "confirm-no", "Enter does no harm");
        browser.click("#confirm-no");
        browser.waits_for("!document.querySelector('#confirm').open").await;
        assert!(service.state().asked.is_empty());
        browser.click("#drain");
        browser.click("#confirm-yes");
        browser.waits_for("!document.querySelector('#confirm').open").await;
        assert_eq!(service.state().asked, ["POST /drain"]);
        browser.is_content();
    });
}

#[test]
fn the_log_level_is_set_for_all_or_for_a_module() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "en").await;
        assert_eq!(browser.value("document.querySelector('#log-value').value"), "info");
        browser.choose("#log-module", "router");
        assert_eq!(browser.value("document.querySelector('#log-value').value"), "debug", "as it is now");
        browser.choose("#log-value", "trace");
        browser.click("#log-level button");
        browser.shows("#log-level-answer", "The log level of router is now trace.").await;
        browser.choose("#log-module", "");
        browser.choose("#log-value", "error");
        browser.click("#log-level button");
        browser.shows("#log-level-answer", "The log level is now error.").await;
        let asked = service.state().asked.clone();
        assert_eq!(
            asked,
            [
                r#"PUT /log-level {"module":"router","level":"trace"}"#,
                r#"PUT /log-level {"module":null,"level":"error"}"#,
            ]
        );
        browser.is_content();
    });
}

#[test]
fn events_come_by_themselves_the_latest_first() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "en").await;
        browser.shows("#events-summary", "live").await;
        service.state().events.push(event(4, "error", "supervisor", "actor_failed", "actor=listener"));
        browser.shows("#events-list li:first-child", "actor_failed").await;
        assert_eq!(browser.value("document.querySelectorAll('#events-list li').length"), 4);
        browser.choose("#events-level", "warning");
        assert_eq!(browser.value("document.querySelectorAll('#events-list li').length"), 2);
        browser.click("#events-pause");
        service.state().events.push(event(5, "error", "supervisor", "actor_failed", "actor=router"));
        browser.shows("#events-pause", "Go on (1 new)").await;
        assert!(!browser.text("#events-list").contains("actor=router"));
        browser.click("#events-pause");
        browser.shows("#events-list li:first-child", "actor=router").await;
        browser.is_content();
    });
}

#[test]
fn traced_messages_come_by_themselves_until_it_is_stopped() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let message = |text: &str| {
            json!({ "time": "2026-01-31T09:15:02.090Z", "direction": "in", "transport": "tls",
                "source": "10.0.0.2:35220", "destination": "10.0.0.1:5061", "text": text })
        };
        let browser = Browser::open_with_data(service.address, "en").await;
        browser.choose("#trace-by", "user");
        browser.enter("#trace-value", "bob@example.org\n");
        browser.shows("#trace-summary", "Tracing.").await;
        service.state().traced.push(message("MESSAGE sip:bob@example.org SIP/2.0\r\nCall-ID: a1\r\n\r\n"));
        browser.shows("#trace-list", "TLS 10.0.0.2:35220 → 10.0.0.1:5061").await;
        browser.click("#trace-list summary");
        browser.shows("#trace-list pre", "Call-ID: a1").await;
        browser.click("#trace-stop");
        browser.shows("#trace-summary", "1 message").await;
        service.state().traced.push(message("BYE sip:bob@example.org SIP/2.0\r\n\r\n"));
        browser.click("#reload");
        browser.shows("#result", "Nothing to change").await;
        assert!(!browser.text("#trace-list").contains("BYE"));
        assert_eq!(service.state().asked, ["GET /trace?user=bob%40example.org", "POST /reload"]);
        browser.is_content();
    });
}
