//! What the page does while there is nothing to show, or nobody answers, or not to everybody.

use std::time::Duration;

use serde_json::json;
use sip_proxy::actors::control::report::State;

use super::browser::Browser;
use super::common::run;
use super::fixture::Fixture;
use super::reports::{busy, event, idle};

const LIMIT: Duration = Duration::from_secs(180);

#[test]
fn empty_tables_say_what_to_do_and_unanswered_ones_do_not() {
    run(LIMIT, async {
        let service = Fixture::start(idle());
        let browser = Browser::open_with_data(service.address, "en").await;
        assert_eq!(browser.text("#attention"), "Nothing needs attention.");
        for (section, remedy) in [
            ("interfaces", "[[wan.network_interface]]"),
            ("lan", "No UC server is logged on."),
            ("peers", "sip-proxy lookup DOMAIN"),
            ("routes", "[[static_routes.route]]"),
            ("certificate", "certificate.private_key"),
            ("nat", "stun.servers"),
            ("events", "No event of this level"),
        ] {
            let text = browser.text(&format!("#{section}"));
            assert!(text.contains(remedy), "{section}:\n{text}");
        }
        service.state().status.unanswered = vec!["registrar".to_owned()];
        browser.shows("#servers-table", "Not known: registrar did not answer in time.").await;
        browser.shows("#attention", "registrar has not answered in time").await;
        browser.is_content();
    });
}

#[test]
fn a_service_that_is_gone_is_said_to_be_and_found_again() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        let browser = Browser::open_with_data(service.address, "en").await;
        browser.shows("#events-summary", "live").await;
        browser.is_content();
        service.state().is_gone = true;
        browser.shows("#gone", "The service does not answer.").await;
        browser.shows("#gone", "What is shown is from").await;
        browser.shows("#events-summary", "interrupted").await;
        assert!(browser.text("#interfaces-table").contains("10.0.0.1"), "the last report stays");
        service.state().events.push(event(9, "warning", "stun", "public_address_unknown", "reason=x"));
        service.state().status.state = State::Draining;
        service.state().is_gone = false;
        browser.waits_for("document.querySelector('#gone').hidden").await;
        browser.shows("#state", "Draining").await;
        browser.shows("#events-list", "public_address_unknown").await;
        browser.shows("#events-summary", "live").await;
        assert_eq!(browser.value("document.querySelectorAll('#events-list li').length"), 4, "none twice");
        browser.is_confined();
    });
}

#[test]
fn a_token_is_asked_for_and_kept_for_this_tab_alone() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        service.state().token = Some("s3cret");
        let browser = Browser::open(service.address, "en").await;
        browser.waits_for("document.body.dataset.phase === 'sign-in'").await;
        assert_eq!(browser.value("document.activeElement.id"), "token");
        assert_eq!(browser.value("document.querySelector('#interfaces').offsetParent"), json!(null));
        browser.enter("#token", "wrong\n");
        browser.shows("#sign-in-fault", "This token is not accepted.").await;
        browser.enter("#token", "s3cret\n");
        browser.waits_for("document.body.dataset.phase === 'data'").await;
        browser.shows("#events-list", "route_failed").await;
        browser.click("#reload");
        browser.shows("#result", "Nothing to change").await;
        browser.click("#result-close");
        assert_eq!(browser.value("JSON.stringify(localStorage).includes('s3cret')"), false);
        assert_eq!(browser.value("document.cookie"), "");
        browser.visit();
        browser.waits_for("document.body.dataset.phase === 'data'").await;
        browser.click("#sign-out");
        browser.waits_for("document.body.dataset.phase === 'sign-in'").await;
        assert_eq!(browser.value("JSON.stringify(sessionStorage).includes('s3cret')"), false);
        browser.is_confined();
    });
}

#[test]
fn a_service_without_metrics_is_shown_without_plots() {
    run(LIMIT, async {
        let service = Fixture::start(busy());
        service.state().metrics = None;
        let browser = Browser::open_with_data(service.address, "de").await;
        assert_eq!(browser.value("document.querySelector('#rates').hidden"), true);
        assert_eq!(browser.value("document.querySelector('[data-for=rates]').hidden"), true);
        browser.is_confined();
    });
}
