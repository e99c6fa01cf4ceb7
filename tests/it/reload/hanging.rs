//! Files that cannot be read to an end: a FIFO stands for a file system that hangs, since opening it waits for a writer.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::common::http::{HttpAnswer, ask_socket};
use crate::common::proxy::{Protocol, Proxy};
use crate::common::{eventually, run};
use crate::support::{LIMIT, Site, answers_options, open_house};

/// A reload waits for ten seconds; here, some of them wait one after the other.
const LONG: Duration = Duration::from_secs(60);

async fn asked(proxy: &Proxy, method: &str, path: &str) -> HttpAnswer {
    ask_socket(&proxy.directory().path().join("var/run/control.sock"), method, path, "").await
}

/// Puts a FIFO in the place of a file. Returns what the file was.
pub(crate) fn block(file: &Path) -> String {
    let text = std::fs::read_to_string(file).expect("a text file");
    std::fs::remove_file(file).expect("it can be removed");
    let status = Command::new("mkfifo").arg(file).status();
    assert!(status.is_ok_and(|status| status.success()), "mkfifo {}", file.display());
    text
}

/// Puts the file back; whoever waits for the FIFO goes on waiting.
pub(crate) fn restore(file: &Path, text: &str) {
    std::fs::remove_file(file).expect("it can be removed");
    std::fs::write(file, text).expect("it can be written");
}

/// The only fault of a reload that was refused.
fn fault(answer: &HttpAnswer) -> Value {
    assert_eq!(answer.status, 422, "{}", answer.body);
    let mut faults = answer.json()["faults"].take();
    let faults = faults.as_array_mut().expect("faults");
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

/// Waits until a thread of the service waits for a file.
async fn reads(proxy: &Proxy, threads: usize) {
    eventually(LIMIT, "a thread reads", || (proxy.threads_named("configuration") == threads).then_some(()))
        .await;
}

#[test]
fn a_configuration_that_hangs_holds_up_nothing_and_is_read_when_it_is_back() {
    run(LONG, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let proxy = &site.proxy;
        let mut agent = site.server(Protocol::Tcp, "bob").await;
        let text = block(proxy.file());
        let meanwhile = async {
            reads(proxy, 1).await;
            assert_eq!(asked(proxy, "GET", "/status").await.json()["state"], "ready");
            assert_eq!(asked(proxy, "GET", "/health").await.status, 200);
            answers_options(&mut agent).await;
            site.is_well(Protocol::Udp).await;
            // One at a time. By signal it is another one, once this has come to its end, with the file of then.
            assert_eq!(asked(proxy, "POST", "/reload").await.status, 409);
            proxy.signal("HUP");
            restore(proxy.file(), &text.replace("t1 = \"500ms\"", "t1 = \"400ms\""));
            assert_eq!(proxy.reloads(), 0);
        };
        let (answer, ()) = tokio::join!(asked(proxy, "POST", "/reload"), meanwhile);
        let fault = fault(&answer);
        assert_eq!(fault["place"], proxy.file().display().to_string());
        assert!(fault["text"].as_str().is_some_and(|text| text.contains("10s")), "{fault}");
        proxy.logs(&["error", "configuration_faulty", "sip-proxy.toml", "10s"]).await;
        assert!(proxy.reloaded_after(1).await.contains(" reloaded "));
        proxy.logs(&["configuration_changed", "key=sip.t1", "400ms"]).await;
        answers_options(&mut agent).await;
        site.is_well(Protocol::Tcp).await;
    });
}

#[test]
fn a_certificate_that_hangs_is_named_and_is_read_by_itself_when_it_is_back() {
    run(LONG, async {
        let mut site = Site::open(open_house(), &[Protocol::Tls]).await;
        let file = site.proxy.directory().path().join("proxy.pem");
        let mut agent = site.server(Protocol::Tls, "bob").await;
        let text = block(&file);
        for thread in 1..=2 {
            let before = site.proxy.reloads();
            // The first comes by itself, since the file has changed; the other is asked for.
            if thread > 1 {
                site.proxy.signal("HUP");
            }
            reads(&site.proxy, thread).await;
            assert_eq!(asked(&site.proxy, "GET", "/health").await.status, 200);
            answers_options(&mut agent).await;
            let line = site.proxy.reloaded_after(before).await;
            assert!(line.contains("reload_refused"), "{line}");
        }
        site.proxy.logs(&["configuration_faulty", &format!("place={}", file.display()), "10s"]).await;
        // Whoever waits goes on as soon as the FIFO is written to, and what it reads counts for nothing.
        let fifo = file.with_extension("fifo");
        std::fs::rename(&file, &fifo).expect("a FIFO can be moved");
        let renewed = site.authority.server(&[&site.proxy.ip().to_string()]);
        std::fs::write(&file, &renewed.chain).expect("it can be written");
        site.proxy.directory().write("proxy.key", &renewed.private_key);
        let before = site.proxy.reloads();
        tokio::task::spawn_blocking(move || std::fs::write(fifo, text)).await.unwrap().unwrap();
        reads(&site.proxy, 0).await;
        let line = site.proxy.reloaded_after(before).await;
        assert!(line.contains(" reloaded ") && line.contains("cause=files_changed"), "{line}");
        answers_options(&mut agent).await;
        // A thread that waits does not hold up the end.
        block(&file);
        reads(&site.proxy, 1).await;
        assert!(site.proxy.terminate().await.success());
    });
}
