//! A headless Chromium of the test's own, and what one does with it.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::eventually;
use super::common::process::Process;
use super::common::scratch::Directory;
use super::http::exchange;

/// How long something on a page may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long ChromeDriver may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// What to do where something is missing.
const REMEDY: &str = "Install what the tests of the status page need: \
                      apt-get install --no-install-recommends $(cat tests/packages.txt)";

/// Speaks to nobody but the page: no updates, no synchronisation, nothing kept from one test to the next.
const OPTIONS: [&str; 13] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    // Else a click may meet what a smooth scroll has not yet moved away.
    "--force-prefers-reduced-motion",
    "--window-size=1280,900",
];

/// Runs before anything of the page: notes what the content policy has refused.
const WATCH: &str = "globalThis.violations = []; addEventListener('securitypolicyviolation', (violation) => \
                     violations.push(`${violation.effectiveDirective} ${violation.blockedURI}`));";

pub(super) struct Browser {
    server: SocketAddr,
    session: String,
    /// Where the page is.
    page: SocketAddr,
    // Dropped after the session has ended.
    _driver: Process,
    _profile: Directory,
}

impl Browser {
    /// A browser whose user reads `language`, at the page of `page`.
    pub(super) async fn open(page: SocketAddr, language: &str) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0");
        let is_there = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .any(|directory| directory.join("chromedriver").is_file());
        assert!(is_there, "chromedriver is not on the path. {REMEDY}");
        let driver = Process::start("chromedriver", &mut command);
        let port = eventually(START_LIMIT, "chromedriver tells its port", || {
            let output = driver.output();
            let (_, rest) = output.split_once("successfully on port ")?;
            rest.split_once('.')?.0.parse().ok()
        })
        .await;
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let profile = Directory::new("chromium");
        let session = begin(server, profile.path(), language);
        let browser = Self { server, session, page, _driver: driver, _profile: profile };
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": WATCH }));
        // Leaves the browser's own first page, and forgets what that has asked for.
        browser.command("POST", "/url", &json!({ "url": "about:blank" }));
        browser.requests();
        browser.visit();
        browser
    }

    /// Opens the page, or opens it anew.
    pub(super) fn visit(&self) {
        self.command("POST", "/url", &json!({ "url": format!("http://{}/", self.page) }));
    }

    /// Opens the page and waits until it shows a report.
    pub(super) async fn open_with_data(page: SocketAddr, language: &str) -> Self {
        let browser = Self::open(page, language).await;
        browser.waits_for("document.body.dataset.phase === 'data'").await;
        browser
    }

    fn command(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = exchange(self.server, method, &format!("/session/{}{path}", self.session), body);
        let value = answer["value"].clone();
        assert!(value.get("error").is_none(), "{method} {path}: {value}");
        value
    }

    /// A command of the browser's own protocol.
    pub(super) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.command("POST", "/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// The value of an expression in the page.
    pub(super) fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.command("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What an element says, as it is seen.
    pub(super) fn text(&self, selector: &str) -> String {
        let found = self.value(&format!("document.querySelector({selector:?})?.innerText ?? null"));
        found.as_str().unwrap_or_else(|| panic!("the page has no {selector}")).to_owned()
    }

    /// Waits until an expression in the page is true.
    pub(super) async fn waits_for(&self, expression: &str) {
        let what = format!("{expression} comes true");
        eventually(PATIENCE, &what, || (self.value(expression) == json!(true)).then_some(())).await;
    }

    /// Waits until an element says this, among other things.
    pub(super) async fn shows(&self, selector: &str, text: &str) {
        let mut last = String::new();
        let end = std::time::Instant::now() + PATIENCE;
        while std::time::Instant::now() < end {
            last = self.value(&format!("document.querySelector({selector:?})?.innerText ?? ''")).to_string();
            if last.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{selector} does not show {text:?} but {last}");
    }

    /// Presses a button as a person does: it must be there to be seen, and not covered.
    pub(super) fn click(&self, selector: &str) {
        // Not below the head of the page, which stays in its place.
        self.value(&format!("document.querySelector({selector:?})?.scrollIntoView({{ block: 'center' }})"));
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/click"), &json!({}));
    }

    /// Types into a field.
    pub(super) fn enter(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.command("POST", &format!("/element/{element}/value"), &json!({ "text": text }));
    }

    fn element(&self, selector: &str) -> String {
        let found = self.command("POST", "/element", &json!({ "using": "css selector", "value": selector }));
        let found = found.as_object().and_then(|found| found.values().next()).and_then(Value::as_str);
        found.expect("an element has an identity").to_owned()
    }

    /// Chooses from a list.
    pub(super) fn choose(&self, selector: &str, value: &str) {
        self.click(&format!("{selector} option[value={value:?}]"));
    }

    /// Makes the window so large.
    pub(super) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Errors and warnings of the console since the last call.
    pub(super) fn complaints(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "browser" }));
        let rows = log.as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| row["message"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The addresses of all that was asked for since the last call.
    fn requests(&self) -> Vec<String> {
        let log = self.command("POST", "/se/log", &json!({ "type": "performance" }));
        let rows = log.as_array().cloned().unwrap_or_default();
        let event = |row: &Value| serde_json::from_str::<Value>(row["message"].as_str()?).ok();
        let events = rows.iter().filter_map(event).map(|event| event["message"].clone());
        events
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| event["params"]["request"]["url"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Checks that the page is as it should be in silence: no error, no violation of its policy, no foreign origin.
    pub(super) fn is_content(&self) {
        assert_eq!(self.complaints(), Vec::<String>::new());
        self.is_confined();
    }

    /// The part of it that holds while the service is away, too.
    pub(super) fn is_confined(&self) {
        assert_eq!(self.value("violations"), json!([]));
        let (requests, origin) = (self.requests(), format!("http://{}/", self.page));
        assert!(!requests.is_empty(), "the page has asked for nothing");
        let foreign: Vec<_> = requests.iter().filter(|url| !url.starts_with(&origin)).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver alone would leave it behind.
        let end = || exchange(self.server, "DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(end));
    }
}

fn begin(server: SocketAddr, profile: &std::path::Path, language: &str) -> String {
    let mut options: Vec<String> = OPTIONS.map(str::to_owned).into();
    options.push(format!("--user-data-dir={}", profile.display()));
    options.extend([format!("--lang={language}"), format!("--accept-lang={language}")]);
    let wanted = json!({ "capabilities": { "alwaysMatch": {
        "browserName": "chrome",
        "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        "goog:chromeOptions": { "args": options, "prefs": { "intl.accept_languages": language } },
    } } });
    let answer = exchange(server, "POST", "/session", &wanted);
    let session = answer["value"]["sessionId"].as_str();
    session.unwrap_or_else(|| panic!("no browser: {answer}. {REMEDY}")).to_owned()
}
