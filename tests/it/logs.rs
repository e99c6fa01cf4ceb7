//! Log files: which line goes where, what is wrong with them, and what strangers can do to them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::common::form::{self, Line};
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::{eventually, run};
use crate::support::{DOMAIN, LIMIT, Site, Wire, open_house, relay, uri};

const FILES: [&str; 3] = ["sip-proxy.log", "sip.log", "security.log"];

/// How long a file may take to have what it is to have.
const PATIENCE: Duration = Duration::from_secs(20);

fn with_files(settings: Settings, level: &str) -> Settings {
    settings.key("diagnostics", "log_file_directory", "\"logs\"").key("diagnostics", "log_level", level)
}

fn path(proxy: &Proxy, name: &str) -> PathBuf {
    proxy.directory().path().join("logs").join(name)
}

/// The lines of a file, each of which has the form.
fn lines(proxy: &Proxy, name: &str) -> Vec<Line> {
    let text = fs::read_to_string(path(proxy, name)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "half a line at the end of {name}");
    text.lines().map(form::read).collect()
}

/// Waits for a line with this event.
async fn line(proxy: &Proxy, name: &str, event: &str) -> Line {
    let what = format!("{name} has {event}");
    eventually(PATIENCE, &what, || lines(proxy, name).into_iter().find(|line| line.event == event)).await
}

#[test]
fn each_line_goes_to_its_file_in_either_form() {
    run(LIMIT, async {
        for format in ["\"text\"", "\"json\""] {
            let settings = with_files(open_house(), "\"debug\"").key("diagnostics", "format", format);
            let mut site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
            let (mut a, mut b) =
                (site.server(Protocol::Tcp, "alice").await, site.server(Protocol::Udp, "bob").await);
            let request = a.message(&uri("alice"), &uri("bob"), "hello");
            let (_, answer) = relay(&request, &mut a, &mut b, 200).await;
            Wire::udp(site.proxy.at(Protocol::Udp)).await.send(b"no SIP at all").await;
            let mut knocking = Wire::tcp(site.proxy.at(Protocol::Tls)).await;
            knocking.send(b"MESSAGE sip:bob@example.org SIP/2.0\r\n").await;
            let failed = line(&site.proxy, "security.log", "tls_failed").await;
            assert_eq!((&*failed.fields["reason"], &*failed.fields["direction"]), ("not_tls", "in"));
            assert!(!failed.fields["remedy"].is_empty() && failed.fields.contains_key("sni"));
            assert_eq!(site.proxy.terminate().await.code(), Some(0));
            for name in FILES {
                let lines = lines(&site.proxy, name);
                assert!(!lines.is_empty(), "{name} is empty");
                lines.iter().for_each(|line| assert_eq!(form::file_of(&line.event), name, "{line:?}"));
            }
            let sip = lines(&site.proxy, "sip.log");
            let call_id = answer.need("Call-ID");
            let of_call: Vec<_> = sip
                .iter()
                .filter(|line| line.fields.get("call_id").is_some_and(|id| id == call_id))
                .collect();
            let events: Vec<_> = of_call.iter().map(|line| line.event.as_str()).collect();
            for (event, count) in [("message_received", 2), ("message_sent", 2), ("answered", 1)] {
                assert_eq!(
                    events.iter().filter(|known| **known == event).count(),
                    count,
                    "{event}: {events:?}"
                );
            }
            let answered = of_call.iter().find(|line| line.event == "answered").expect("it is there");
            for (key, value) in [
                ("method", "MESSAGE"),
                ("status", "200"),
                ("aor", &*uri("bob")),
                ("from", &uri("alice")),
                ("branches", "1"),
            ] {
                assert_eq!(answered.fields[key], value, "{key} of {answered:?}");
            }
            // What an administrator should see is on standard error as well, and nothing else is.
            let errors: Vec<_> = site.proxy.log().lines().map(form::read).collect();
            let is_there = |event: &str| errors.iter().any(|line| line.event == event);
            assert!(
                is_there("ready") && is_there("logged_on") && is_there("tls_failed") && is_there("stopping")
            );
            assert!(!is_there("answered") && !is_there("message_sent"));
        }
    });
}

#[test]
fn a_directory_that_goes_away_stops_nothing_and_all_is_well_when_it_is_back() {
    run(LIMIT, async {
        let site = Site::open(with_files(open_house(), "\"info\""), &[Protocol::Udp]).await;
        site.is_well(Protocol::Udp).await;
        line(&site.proxy, "sip.log", "answered").await;
        let directory = path(&site.proxy, "");
        // It stops root, too.
        fs::remove_dir_all(&directory).expect("it is there");
        fs::write(site.proxy.directory().path().join("logs"), "in the way").expect("the directory is gone");
        let failed = site.proxy.logs(&["error diagnostics log_failed", "reason=", "remedy="]).await;
        assert!(failed.contains("logs"), "{failed}");
        for _ in 0..5 {
            site.is_well(Protocol::Udp).await;
        }
        assert_eq!(site.proxy.log().matches("log_failed").count(), 1, "once: {}", site.proxy.log());
        fs::remove_file(site.proxy.directory().path().join("logs")).expect("it is there");
        let resumed = line(&site.proxy, "sip.log", "log_resumed").await;
        let lost = resumed.fields["lost"].parse::<u64>().expect("a number");
        assert!(lost >= 10, "each of five messages, and each of five log-ons: {lost}");
        site.is_well(Protocol::Udp).await;
        line(&site.proxy, "sip.log", "answered").await;
        line(&site.proxy, "sip-proxy.log", "logged_on").await;
        // Somebody deletes or moves a file: there is another one.
        fs::rename(path(&site.proxy, "sip.log"), path(&site.proxy, "moved")).expect("it is there");
        eventually(PATIENCE, "sip.log is there again", || {
            path(&site.proxy, "sip.log").exists().then_some(())
        })
        .await;
        site.is_well(Protocol::Udp).await;
        line(&site.proxy, "sip.log", "answered").await;
    });
}

#[test]
fn a_disk_that_fills_up_costs_lines_which_are_counted_and_no_half_ones_stay() {
    run(LIMIT, async {
        let settings = with_files(open_house(), "\"info\"").largest_file(8);
        let site = Site::open(settings, &[Protocol::Udp]).await;
        let mut count = 0;
        while !site.proxy.log().contains("log_failed file=sip.log") {
            site.is_well(Protocol::Udp).await;
            count += 1;
            assert!(count < 100, "4 kilobytes hold no 100 messages");
        }
        site.is_well(Protocol::Udp).await;
        site.proxy.lift_file_limit();
        let resumed = line(&site.proxy, "sip.log", "log_resumed").await;
        assert!(resumed.fields["lost"].parse::<u64>().is_ok_and(|lost| lost >= 2), "{resumed:?}");
        site.is_well(Protocol::Udp).await;
        let lines = lines(&site.proxy, "sip.log");
        assert!(lines.iter().filter(|line| line.event == "answered").count() > 5, "{lines:?}");
    });
}

#[test]
fn ten_thousand_bad_messages_are_no_flood_in_any_file() {
    run(LIMIT * 3, async {
        let settings = Settings::new(DOMAIN).account("uc", "secret");
        let site = Site::open(with_files(settings, "\"info\""), &[Protocol::Udp, Protocol::Tls]).await;
        let mut wire = Wire::udp(site.proxy.at(Protocol::Udp)).await;
        let local = wire.local();
        let message = |method: &str, number: usize, more: &str| {
            format!(
                "{method} sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-{number};rport\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:uc@{DOMAIN}>;tag={number}\r\nTo: <sip:uc@{DOMAIN}>\r\n\
                 Call-ID: {number}\r\nCSeq: 1 {method}\r\n{more}Content-Length: 0\r\n\r\n"
            )
        };
        let wrong = "Authorization: Digest username=\"uc\", realm=\"example.org\", nonce=\"0\", uri=\"sip:example.org\", response=\"00000000000000000000000000000000\"\r\n";
        for number in 0..10_000 {
            let text = match number % 5 {
                0 => message("REGISTER", number, wrong),
                1 => message("INVITE", number, ""),
                2 => message("MESSAGE", number, "Max-Forwards: many\r\n"),
                3 => message("OPTIONS", number, "Require: nonsense\r\n"),
                _ => "neither SIP nor anything else".to_owned(),
            };
            wire.send(text.as_bytes()).await;
            if number % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for _ in 0..50 {
            let mut stranger = Wire::tcp(site.proxy.at(Protocol::Tls)).await;
            stranger.send(b"no TLS\r\n\r\n").await;
        }
        line(&site.proxy, "sip.log", "dropped").await;
        line(&site.proxy, "security.log", "tls_failed").await;
        for name in FILES {
            let lines = lines(&site.proxy, name);
            assert!(lines.len() < 200, "{} lines in {name}, the last is {:?}", lines.len(), lines.last());
        }
        let errors = site.proxy.log().lines().count();
        assert!(errors < 400, "{errors} lines on standard error");
    });
}
