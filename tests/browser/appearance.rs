//! What stands on the page, in which language, and that it can be read on any screen and without one.

use std::time::Duration;

use serde_json::json;

use super::browser::Browser;
use super::common::run;
use super::fixture::Fixture;
use super::reports::{busy, peer};

const LIMIT: Duration = Duration::from_secs(180);

/// Each section with its title in both languages and something that stands in it.
const SECTIONS: [(&str, &str, &str, &str); 11] = [
    ("service", "Service", "Dienst", "/etc/sip-proxy/sip-proxy.toml"),
    ("interfaces", "Network interfaces", "Netzwerkschnittstellen", "this machine has no such address"),
    ("certificate", "Certificate", "Zertifikat", "CN=Example CA R3,O=Example Trust,C=DE"),
    ("lan", "LAN", "LAN", "ucserver-wien"),
    ("federation", "Open federation", "Offene Föderation", "203.0.113.1"),
    ("peers", "Federation peers", "Föderationspartner", "partner3.example"),
    ("nat", "NAT and public address", "NAT und öffentliche Adresse", "Restricted Port Cone"),
    ("routes", "Static routes", "Statische Routen", "nobody can be reached there"),
    ("diagnostics", "Diagnostics", "Diagnose", "/var/log/sip-proxy"),
    ("events", "Events", "Ereignisse", "route_failed"),
    ("trace", "Trace", "Nachrichten verfolgen", "Call-ID"),
];

#[test]
fn every_section_stands_there_in_the_language_of_the_browser() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        for (language, state) in [("en", "Impaired"), ("de", "Eingeschränkt")] {
            let browser = Browser::open_with_data(service.address, language).await;
            browser.shows("#events-list", "route_failed").await;
            assert_eq!(browser.value("document.documentElement.lang"), language);
            for (section, english, german, content) in SECTIONS {
                let title = if language == "en" { english } else { german };
                assert_eq!(browser.text(&format!("#{section} h2")), title);
                let text = browser.text(&format!("#{section}"));
                assert!(text.contains(content), "{section} lacks {content}:\n{text}");
            }
            assert!(browser.text("#state").contains(state));
            browser.is_content();
        }
    });
}

#[test]
fn the_language_is_changed_by_a_button_and_remembered() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "fr").await;
        assert_eq!(browser.text("#interfaces h2"), "Network interfaces", "there is no French: English");
        browser.click("[data-language=de]");
        assert_eq!(browser.text("#interfaces h2"), "Netzwerkschnittstellen");
        assert!(browser.text("#interfaces-table").contains("nicht aktiv"));
        assert_eq!(browser.value("document.querySelector('[data-language=de]').ariaPressed"), "true");
        browser.visit();
        browser.waits_for("document.body.dataset.phase === 'data'").await;
        assert_eq!(browser.text("#interfaces h2"), "Netzwerkschnittstellen");
        browser.is_content();
    });
}

#[test]
fn what_is_wrong_stands_first_with_a_way_to_it() {
    run(LIMIT, async {
        let mut status = busy();
        status.settings.log_fault = Some("/var/log/sip-proxy: no space left".to_owned());
        status.settings.log_lines_dropped = 1500;
        let service = Fixture::start(status);
        let browser = Browser::open_with_data(service.address, "en").await;
        let troubles = browser.text("#attention");
        for trouble in [
            "192.0.2.10:5061 MTLS does not listen",
            "this machine has no such address",
            "The access server for d.example is not reached",
            "The DNS record of berlin.example.org",
            "The certificate expires in 12 days",
            "no space left",
            "1,500 log lines were dropped",
        ] {
            assert!(troubles.contains(trouble), "{trouble} is not among\n{troubles}");
        }
        assert_eq!(
            browser.value("document.querySelector('#attention a').getAttribute('href')"),
            "#interfaces"
        );
        assert!(browser.text("#tiles").contains("2 of 3"));
        browser.is_content();
    });
}

#[test]
fn nothing_runs_over_the_edge_of_a_phone_or_a_large_screen_in_light_and_dark() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "de").await;
        let mut grounds = Vec::new();
        for (width, height) in [(360, 740), (820, 1100), (1024, 768), (1440, 900), (1920, 1080)] {
            browser.resize(width, height);
            for scheme in ["light", "dark"] {
                let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                browser.devtools("Emulation.setEmulatedMedia", &scheme);
                assert_eq!(browser.value("document.documentElement.scrollWidth - innerWidth"), 0, "{width}");
                grounds.push(browser.value("getComputedStyle(document.body).backgroundColor"));
            }
        }
        assert_ne!(grounds[0], grounds[1]);
        let motion = json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
        browser.devtools("Emulation.setEmulatedMedia", &motion);
        assert_eq!(browser.value("getComputedStyle(document.documentElement).scrollBehavior"), "auto");
        browser.is_content();
    });
}

#[test]
fn who_cannot_see_it_is_told_what_is_what() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "en").await;
        browser.shows("#events-list", "route_failed").await;
        // As the browser tells it to a screen reader: role and name of everything.
        let tree = browser.devtools("Accessibility.getFullAXTree", &json!({}));
        let nodes = tree["nodes"].as_array().expect("the tree has nodes");
        let has = |role: &str, name: &str| {
            nodes.iter().any(|node| node["role"]["value"] == role && node["name"]["value"] == name)
        };
        for (role, name) in [
            ("banner", ""),
            ("navigation", "Contents"),
            ("main", ""),
            ("region", "Network interfaces"),
            ("region", "Service"),
            ("table", "Network interfaces"),
            ("columnheader", "IP address"),
            ("rowheader", "10.0.0.1"),
            ("log", "Events"),
            ("button", "Reload configuration"),
            ("button", "Deutsch"),
            ("combobox", "Module"),
            ("textbox", "Which"),
        ] {
            assert!(has(role, name), "nothing is {role} {name:?}");
        }
        // Controls without a name are of no use.
        let nameless = nodes.iter().filter(|node| {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let is_control = ["button", "link", "textbox", "searchbox", "combobox"].contains(&role);
            is_control
                && node["ignored"] != true
                && node["name"]["value"].as_str().unwrap_or_default().is_empty()
        });
        assert_eq!(nameless.count(), 0);
        // The same with a small screen, where tables are shown as lists.
        browser.resize(360, 740);
        let tree = browser.devtools("Accessibility.getFullAXTree", &json!({})).to_string();
        assert!(tree.contains("\"columnheader\"") && tree.contains("\"rowheader\""));
        browser.is_content();
    });
}

#[test]
fn long_lists_have_pages_and_a_filter() {
    run(LIMIT, async {
        let mut status = busy();
        status.peers = (1..=60).map(peer).collect();
        let service = Fixture::start(status);
        let browser = Browser::open_with_data(service.address, "en").await;
        let rows = "document.querySelectorAll('#peers-table tbody tr').length";
        assert_eq!(browser.value(rows), 12);
        assert!(browser.text("#peers-table .pager").contains("1–12 of 60"));
        for _ in 0..4 {
            browser.click("#peers-table .pager button:last-child");
        }
        assert!(browser.text("#peers-table .pager").contains("49–60 of 60"));
        assert!(browser.text("#peers-table tbody").contains("partner60.example"));
        assert_eq!(
            browser.value("document.querySelector('#peers-table .pager button:last-child').disabled"),
            true
        );
        browser.enter("#peers-table .pager input", "Partner5.");
        assert_eq!(browser.value(rows), 1);
        assert!(browser.text("#peers-table .pager").contains("1–1 of 1"));
        browser.enter("#peers-table .pager input", "nobody");
        assert!(browser.text("#peers-table").contains("No row has that."));
        browser.is_content();
    });
}

#[test]
fn message_rates_are_drawn_from_the_counters() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let counters = |count: u64| {
            format!(
                "# TYPE sip_proxy_requests_total counter\n\
                 sip_proxy_requests_total{{method=\"MESSAGE\",direction=\"in\"}} {count}\n\
                 sip_proxy_requests_total{{method=\"MESSAGE\",direction=\"out\"}} {count}\n\
                 sip_proxy_responses_total{{class=\"2xx\",direction=\"in\"}} {count}\n\
                 other_total{{method=\"MESSAGE\"}} 7\n"
            )
        };
        let browser = Browser::open_with_data(service.address, "en").await;
        assert_eq!(browser.value("document.querySelector('#rates').hidden"), true, "no counters, no plots");
        service.state().metrics = Some(counters(0));
        browser.waits_for("!document.querySelector('#rates').hidden").await;
        service.state().metrics = Some(counters(100_000));
        browser.waits_for("document.querySelectorAll('#plots figure').length === 3").await;
        let titles =
            browser.value("[...document.querySelectorAll('#plots figcaption')].map((it) => it.textContent)");
        assert_eq!(titles, json!(["All requests", "MESSAGE", "Responses 2xx"]));
        let label = browser.value("document.querySelector('#plots svg').getAttribute('aria-label')");
        assert!(label.as_str().is_some_and(|label| label.contains("received and")), "{label}");
        browser.waits_for("document.querySelector('#plots .in').getAttribute('d').includes('L')").await;
        browser.is_content();
    });
}
