//! The messages against the built binary: a UC server sends each, another one is asked for every user.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::common::agent::Agent;
use super::common::proxy::{Protocol, Proxy, Settings};
use super::common::run;
use super::common::sip::Sip;
use super::table::{self, Case, Verdict};
use super::wire::{PATIENCE, SILENCE, Sender, Stream};

/// How soon the proxy must answer an OPTIONS after whatever it was sent.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);

/// Where tests have their addresses. The 127.0.0.1 of a message may be anybody's: it must stay out of reach.
const LAN: &str = "[\"127.128.0.0/9\"]";

#[test]
fn messages_in_datagrams_are_treated_as_the_table_has_it() {
    run(Duration::from_secs(60), async {
        for round in rounds() {
            let mut bench = Bench::start().await;
            let mut sender = Sender::datagrams(bench.address, bench.proxy.at(Protocol::Udp)).await;
            for case in round {
                bench.check(case, case.datagram, &mut sender).await;
            }
        }
    });
}

#[test]
fn messages_on_streams_are_treated_as_the_table_has_it() {
    run(Duration::from_secs(60), async {
        for round in rounds() {
            let mut bench = Bench::start().await;
            for case in round {
                let mut sender = Sender::stream(bench.address, bench.proxy.at(Protocol::Tcp)).await;
                bench.check(case, case.stream, &mut sender).await;
            }
        }
    });
}

/// Many messages share branch and sent-by, as if they were one repeated: each round has them once. What registers
/// comes last, so that it does not draw what is sent to the same user.
fn rounds() -> Vec<Vec<&'static Case>> {
    let mut cases: Vec<_> = table::all().map(|case| (case, table::octets(case))).collect();
    cases.sort_by_key(|(_, octets)| octets.starts_with(b"REGISTER"));
    let mut rounds: Vec<(HashSet<_>, Vec<_>)> = Vec::new();
    for (case, octets) in cases {
        let transaction = transaction(&octets);
        let fitting = rounds.iter_mut().find(|(seen, _)| !seen.contains(&transaction));
        match fitting {
            Some((seen, cases)) => {
                seen.insert(transaction);
                cases.push(case);
            }
            None => rounds.push((HashSet::from([transaction]), vec![case])),
        }
    }
    rounds.into_iter().map(|(_, cases)| cases).collect()
}

/// Method and first Via row, as written.
fn transaction(octets: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let lines = lines(octets);
    let is_via = |line: &&Vec<u8>| is_row(line, "Via") || is_row(line, "v");
    let method = lines[0].split(|&octet| octet == b' ').next().unwrap_or_default();
    (method.to_vec(), lines.iter().find(is_via).cloned().unwrap_or_default())
}

/// The proxy, and the UC server that is asked.
struct Bench {
    proxy: Proxy,
    asked: Stream,
    address: IpAddr,
}

impl Bench {
    async fn start() -> Self {
        let settings = Settings::new(table::DOMAINS[0]).account("desk", "");
        let settings = table::DOMAINS[1..].iter().fold(settings, |settings, domain| settings.domain(domain));
        let settings = settings.listen(Protocol::Udp).listen(Protocol::Tcp);
        let proxy = settings.key("lan", "allowed_networks", LAN).start().await;
        let address = proxy.ip();
        let mut asked = Stream::connect(address, proxy.at(Protocol::Tcp)).await;
        log_on(&mut asked).await;
        Self { proxy, asked, address }
    }

    async fn check(&mut self, case: &Case, verdict: Verdict, sender: &mut Sender) {
        let octets = table::octets(case);
        sender.send(&octets).await;
        match verdict {
            Verdict::Forward => self.check_forwarded(case, &octets, sender).await,
            Verdict::Refuse(status, text) | Verdict::Answer(status, text) => {
                let response = sender.final_response(PATIENCE).await;
                let response = response.unwrap_or_else(|| panic!("{}: no answer", case.file));
                assert_eq!(response.status(), status, "{}: {}\n{response}", case.file, case.why);
                assert!(response.to_string().contains(text), "{}: no {text:?} in:\n{response}", case.file);
            }
            Verdict::Survive => {}
            Verdict::Discard => {
                let response = sender.final_response(SILENCE).await;
                assert_eq!(response, None, "{}: {}", case.file, case.why);
                let request = self.asked.receive(Duration::from_millis(1)).await;
                assert_eq!(request, None, "{}: {}", case.file, case.why);
            }
        }
        self.check_alive(case).await;
        // What else comes of it, as of a second request on the stream.
        while let Some(request) = self.asked.receive(Duration::from_millis(1)).await {
            self.answer(&request).await;
        }
    }

    async fn check_forwarded(&mut self, case: &Case, octets: &[u8], sender: &mut Sender) {
        let Some(received) = self.asked.receive(PATIENCE).await else {
            let response = sender.final_response(PATIENCE).await;
            panic!("{} is not forwarded: {}, {response:?}", case.file, case.why);
        };
        let sent_by = self.proxy.at(Protocol::Tcp);
        let came = without_ours(&received, sent_by, sender.local());
        let expected = with_hop_counted(octets);
        assert_eq!(
            came,
            expected,
            "{}: came as\n{}\nbut should be\n{}",
            case.file,
            String::from_utf8_lossy(&came),
            String::from_utf8_lossy(&expected)
        );
        self.answer(&received).await;
        let response = sender.final_response(PATIENCE).await;
        assert_eq!(
            response.map(|response| response.status()),
            Some(200),
            "{}: no answer comes back",
            case.file
        );
    }

    async fn answer(&mut self, request: &[u8]) {
        let request = Sip::parse(request).expect("a request");
        if request.is_request() && request.method() != "ACK" {
            self.asked.send(&Sip::response(&request, 200, "OK", "asked").to_bytes()).await;
        }
    }

    async fn check_alive(&self, case: &Case) {
        let peer = self.proxy.at(Protocol::Udp);
        let mut agent = Agent::udp(self.address, peer).await;
        let options = agent.request(
            "OPTIONS",
            &format!("sip:{peer}"),
            "sip:probe@example.com",
            "sip:probe@example.com",
        );
        let answer = tokio::time::timeout(ALIVE_WITHIN, agent.exchange(&options)).await;
        let answer =
            answer.unwrap_or_else(|_| panic!("no answer to OPTIONS within a second of {}", case.file));
        assert_eq!(answer.status(), 200, "after {}:\n{answer}", case.file);
    }
}

/// The UC server says that it is there; its address is enough.
async fn log_on(server: &mut Stream) {
    let register = Sip::request("REGISTER", "sip:example.com")
        .with("Via", format!("SIP/2.0/TCP {};branch=z9hG4bKlogon", server.local()))
        .with("Max-Forwards", "70")
        .with("From", "<sip:desk@example.com>;tag=asked")
        .with("To", "<sip:desk@example.com>")
        .with("Call-ID", "log-on")
        .with("CSeq", "1 REGISTER")
        .with("Contact", format!("<sip:desk@{};transport=tcp>", server.local()));
    server.send(&register.to_bytes()).await;
    let response = server.receive(PATIENCE).await.expect("an answer to the log-on");
    assert!(response.starts_with(b"SIP/2.0 200 "), "{}", response.escape_ascii());
}

/// What came, without what the proxy adds: Via, Record-Route, Max-Breadth, and `received` in the Via below.
fn without_ours(received: &[u8], sent_by: SocketAddr, sender: SocketAddr) -> Vec<u8> {
    let mut lines = lines(received);
    let via = lines.iter().position(|line| is_row(line, "Via")).expect("a Via");
    let own = lines.remove(via);
    assert!(own.starts_with(format!("Via: SIP/2.0/TCP {sent_by};branch=z9hG4bK").as_bytes()));
    let own_route = |line: &Vec<u8>| {
        let text = String::from_utf8_lossy(line).into_owned();
        is_row(line, "Record-Route") && text.contains(&format!("@{}:", sent_by.ip()))
    };
    let forms_dialog = received.starts_with(b"INVITE ") && !has_to_tag(&lines);
    assert_eq!(lines.iter().any(own_route), forms_dialog, "Record-Route is for what forms a dialog");
    lines.retain(|line| !own_route(line));
    // Every request that is forwarded has one (RFC 5393 §5.3.3); its share depends on who else is asked.
    let breadth = lines.iter().position(|line| is_row(line, "Max-Breadth")).expect("Max-Breadth");
    lines.remove(breadth);
    let octets = joined(&lines);
    let stamp = format!(";received={}", sender.ip());
    let at = octets.windows(stamp.len()).position(|part| part == stamp.as_bytes());
    let at = at.expect("the Via below says where the request came from");
    let mut octets = [&octets[..at], &octets[at + stamp.len()..]].concat();
    // Where the sender asked for it.
    let port = format!(";rport={}\r\n", sender.port());
    if let Some(at) = octets.windows(port.len()).position(|part| part == port.as_bytes()) {
        octets.drain(at + ";rport".len()..at + port.len() - 2);
    }
    octets
}

/// Whether To, which may be folded, has a tag.
fn has_to_tag(lines: &[Vec<u8>]) -> bool {
    let at = lines.iter().position(|line| is_row(line, "To") || is_row(line, "t")).expect("a To");
    let folded = lines[at + 1..].iter().take_while(|line| line.starts_with(b" "));
    let to: Vec<u8> = lines[at..=at].iter().chain(folded).flatten().copied().collect();
    String::from_utf8_lossy(&to).contains("tag")
}

/// What was sent, with what RFC 3261 §16.6 step 3 and §18.3 change.
fn with_hop_counted(octets: &[u8]) -> Vec<u8> {
    let mut lines = lines(octets);
    let end = lines.iter().position(Vec::is_empty).expect("an empty line");
    let body = joined(&lines[end + 1..]).len();
    let has_length = lines[..end].iter().any(|line| is_row(line, "Content-Length") || is_row(line, "l"));
    let hops = lines[..end].iter().position(|line| is_row(line, "Max-Forwards"));
    let mut added = Vec::new();
    match hops {
        Some(at) => {
            let text = String::from_utf8(lines[at].clone()).expect("a number");
            let (name, value) = text.split_once(':').expect("a row");
            let digits = value.trim_start();
            let count = digits.trim_end().parse::<u32>().expect("a number") - 1;
            let space = &value[..value.len() - digits.len()];
            lines[at] = format!("{name}:{space}{count}").into_bytes();
        }
        None => added.push(b"Max-Forwards: 70".to_vec()),
    }
    if !has_length {
        added.push(format!("Content-Length: {body}").into_bytes());
    }
    lines.splice(end..end, added);
    joined(&lines)
}

/// Pieces between CRLFs.
fn lines(octets: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = vec![Vec::new()];
    let mut rest = octets;
    while let Some((&octet, behind)) = rest.split_first() {
        if rest.starts_with(b"\r\n") {
            lines.push(Vec::new());
            rest = &rest[2..];
        } else {
            lines.last_mut().expect("there is always one").push(octet);
            rest = behind;
        }
    }
    lines
}

fn joined(lines: &[Vec<u8>]) -> Vec<u8> {
    lines.join(&b"\r\n"[..])
}

fn is_row(line: &[u8], name: &str) -> bool {
    let colon = line.iter().position(|&octet| octet == b':');
    colon.is_some_and(|colon| line[..colon].trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()))
}
