//! What peers and users can choose is shown as it is, and does nothing.

use std::time::Duration;

use serde_json::json;

use super::browser::Browser;
use super::common::run;
use super::fixture::Fixture;
use super::reports::{busy, event, peer};

const IMAGE: &str = "<img src=x onerror=\"globalThis.owned = true\">";
const SCRIPT: &str = "</code><script>globalThis.owned = true</script>";

#[test]
fn markup_in_names_is_text() {
    run(Duration::from_secs(120), async {
        let mut status = busy();
        let mut hostile = peer(1);
        hostile.names = vec![IMAGE.to_owned(), SCRIPT.to_owned(), "javascript:alert(1)".to_owned()];
        hostile.route = Some(IMAGE.to_owned());
        hostile.direction = "__proto__".to_owned();
        status.peers = vec![hostile];
        status.servers[0].account = IMAGE.to_owned();
        status.servers[0].by = "constructor".to_owned();
        status.routes[1].reason = Some(SCRIPT.to_owned());
        status.routes[0].key = "\" onmouseover=\"globalThis.owned = true".to_owned();
        status.interfaces[1].reason = Some(IMAGE.to_owned());
        status.interfaces[0].status = "\u{202e}x{text}".to_owned();
        status.nat.nat_type = Some(IMAGE.to_owned());
        status.federation.records[1].text = SCRIPT.to_owned();
        status.presence_domains = vec![IMAGE.to_owned()];
        status.unanswered = vec![SCRIPT.to_owned()];
        status.settings.module_log_levels = [(IMAGE.to_owned(), SCRIPT.to_owned())].into();
        status.events =
            vec![event(1, "error", IMAGE, SCRIPT, IMAGE), event(2, "toString", "router", "x", SCRIPT)];
        let service = Fixture::start(status);
        service.state().traced = vec![json!({
            "time": IMAGE, "direction": "in", "transport": SCRIPT, "source": IMAGE, "destination": SCRIPT,
            "text": format!("MESSAGE {IMAGE} SIP/2.0\r\n\r\n{SCRIPT}"),
        })];
        service.state().metrics = Some(format!(
            "sip_proxy_requests_total{{method=\"{}\",direction=\"in\"}} 1\n",
            IMAGE.replace('"', "\\\"")
        ));
        let browser = Browser::open_with_data(service.address, "en").await;
        for place in ["#peers-table", "#servers-table", "#interfaces-table", "#nat", "#domains"] {
            assert!(browser.text(place).contains(IMAGE), "{place}:\n{}", browser.text(place));
        }
        browser.shows("#events-list", "onerror").await;
        browser.enter("#trace-value", IMAGE);
        browser.click("#trace-start");
        browser.shows("#trace-list", "onerror").await;
        // Made by nobody but the page: one picture, its own sign, and one script.
        assert_eq!(
            browser.value("[...document.images].map((image) => image.getAttribute('src'))"),
            json!(["page/icon.svg"])
        );
        assert_eq!(browser.value("document.scripts.length"), 1);
        assert_eq!(browser.value("document.querySelectorAll('[onerror],[onmouseover]').length"), 0);
        assert_eq!(browser.value("globalThis.owned ?? null"), json!(null));
        browser.is_content();
    });
}
