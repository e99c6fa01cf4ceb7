//! Who may speak for whom, and whose credentials are whose (RFC 3261 §22; RFC 7616; RFC 8760).

use crate::common::agent::{Agent, acknowledgement, unique};
use crate::common::digest::{Challenge, Credentials};
use crate::common::proxy::{Protocol, Settings};
use crate::common::scratch::{free_port, loopback};
use crate::common::sip::Sip;
use crate::common::{eventually, run};
use crate::invite::invitation;
use crate::log_on::{RIGHT, guarded, register};
use crate::support::{
    DOMAIN, Dialog, LIMIT, SILENCE, Site, Wire, answers_options, cancellation, open_house, relay, uri,
};

#[test]
fn a_407_offers_each_algorithm_and_each_is_accepted() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        for (place, algorithm) in ["SHA-512-256", "SHA-256", "MD5"].into_iter().enumerate() {
            let request = a.message(&uri("alice"), &uri("bob"), algorithm);
            let challenged = a.exchange(&request).await;
            assert_eq!((challenged.status(), challenged.all("WWW-Authenticate").len()), (407, 0));
            let challenges = Challenge::all(&challenged);
            let algorithms: Vec<_> = challenges.iter().map(|challenge| &*challenge.algorithm).collect();
            // RFC 8760 §2.3: each once, the one that the server likes best first.
            assert_eq!(algorithms, ["SHA-512-256", "SHA-256", "MD5"]);
            assert!(challenges.iter().all(|challenge| challenge.realm == DOMAIN));
            let proof = challenges[place].answer("MESSAGE", request.uri(), RIGHT, 1);
            let retry =
                request.set("Via", a.via()).set("CSeq", "2 MESSAGE").with("Proxy-Authorization", proof);
            let (arrived, _) = relay(&retry, &mut a, &mut b, 200).await;
            assert_eq!((arrived.text(), arrived.all("Proxy-Authorization").len()), (algorithm, 0));
        }
    });
}

#[test]
fn what_cannot_be_challenged_is_dropped_if_a_stranger_sends_it() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut b = site.connect(Protocol::Tcp).await;
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            let mut stranger = site.connect(protocol).await;
            for to in [format!("<{}>", uri("bob")), format!("<{}>;tag=x", uri("bob"))] {
                let invite = invitation(&stranger, "bob").set("To", &to);
                let route = format!("<sip:{};transport=tcp;lr>", b.local());
                let ack = acknowledgement(&invite, &invite);
                for request in [ack.clone(), ack.with("Route", route), cancellation(&invite)] {
                    stranger.send(&request).await;
                }
            }
            // RFC 3261 §22.1.
            stranger.receive_nothing(SILENCE).await;
            b.receive_nothing(SILENCE).await;
        }
    });
}

/// Two UC servers with passwords, one for alice, one for bob.
async fn two_offices() -> (Site, Agent, Agent) {
    let account = |name: &str, user: &str| {
        format!("user_name = \"uc-{name}\"\npassword = \"{name}\"\nusers = [\"{user}@{DOMAIN}\"]\n")
    };
    let settings = Settings::new(DOMAIN).usual_timers();
    let settings = settings.account_rows(&account("east", "alice")).account_rows(&account("west", "bob"));
    let site = Site::open(settings, &[Protocol::Tcp]).await;
    let (mut east, mut west) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
    east.log_on(DOMAIN, "uc-east", "east").await;
    west.log_on(DOMAIN, "uc-west", "west").await;
    (site, east, west)
}

#[test]
fn no_server_speaks_for_the_users_of_another() {
    run(LIMIT, async {
        let (_site, mut east, mut west) = two_offices().await;
        // Its own users, whose names are not that of its account.
        relay(&east.message(&uri("alice"), &uri("bob"), "mine"), &mut east, &mut west, 200).await;
        relay(&west.message(&uri("bob"), &uri("alice"), "mine"), &mut west, &mut east, 200).await;
        for victim in ["bob", "alice"] {
            let (agent, other) =
                if victim == "bob" { (&mut east, &mut west) } else { (&mut west, &mut east) };
            let escaped = format!("sip:%{:x}{}@{DOMAIN}", victim.as_bytes()[0], &victim[1..]);
            for from in [uri(victim), escaped, uri(victim).replace(DOMAIN, "EXAMPLE.ORG;x=y"), uri("carol")] {
                let spoofed = agent.message(&from, &uri(victim), "not mine");
                assert_eq!(agent.exchange(&spoofed).await.status(), 403, "From {from}");
            }
            assert_eq!(agent.exchange(&register(agent, victim)).await.status(), 403, "{victim}");
            other.receive_nothing(SILENCE).await;
        }
    });
}

#[test]
fn no_server_speaks_for_the_other_end_of_its_dialogs() {
    run(LIMIT, async {
        let (_site, mut east, mut west) = two_offices().await;
        let request =
            east.request("SUBSCRIBE", &uri("bob"), &uri("alice"), &uri("bob")).with("Event", "presence");
        let (_, accepted) = relay(&request, &mut east, &mut west, 200).await;
        let mut dialog = Dialog::of_caller(&request, &accepted);
        relay(&dialog.request(&east, "SUBSCRIBE"), &mut east, &mut west, 200).await;
        let notify = dialog.request(&east, "NOTIFY");
        let (from, to) = (notify.need("To").to_owned(), notify.need("From").to_owned());
        let swapped = notify.set("From", from).set("To", to);
        assert_eq!(east.exchange(&swapped).await.status(), 403);
        west.receive_nothing(SILENCE).await;
    });
}

#[test]
fn an_empty_password_lets_nobody_in_by_an_interface_of_the_wan() {
    run(LIMIT, async {
        let ip = loopback();
        let port = free_port(ip);
        let interface = format!("[{{ ip_address = \"{ip}\", port = {port}, protocol = \"udp\" }}]");
        let settings = open_house().key("wan", "network_interface", &interface);
        let site = Site::open(settings, &[Protocol::Udp]).await;
        let outside = std::net::SocketAddr::new(ip, port);
        // From an address of the LAN: which interface it is decides.
        let mut strangers =
            [Agent::udp(site.proxy.ip(), outside).await, Agent::tcp(site.proxy.ip(), outside).await];
        for stranger in &mut strangers {
            answers_options(stranger).await;
            let invite = invitation(stranger, "bob");
            for request in [
                register(stranger, "alice"),
                register(stranger, "uc"),
                stranger.message(&uri("alice"), &uri("bob"), "hello"),
                invite,
            ] {
                let refused = stranger.exchange(&request).await;
                assert_eq!(refused.status(), 403, "{} by the WAN:\n{refused}", request.method());
            }
        }
        let mut inside = site.connect(Protocol::Udp).await;
        assert_eq!(inside.exchange(&register(&inside, "alice")).await.status(), 200);
        let warned = || site.proxy.log().contains("lan.password").then_some(());
        eventually(LIMIT, "a warning about the empty password at the start", warned).await;
    });
}

/// A challenge of somebody else's, written in a way of its own.
const FOREIGN: &str = "WWW-authenticate:Digest  realm=\"b.test\" ,nonce=\"MTIz,\\\"==\",\r\n \
     algorithm=SHA-256 , qop=\"auth,auth-int\",opaque=\"\" , x-odd\r\n";

#[test]
fn a_challenge_of_the_other_end_arrives_as_it_was_written() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Udp]).await;
        let (mut here, mut there) =
            (Wire::open(&site.proxy, Protocol::Udp).await, Wire::open(&site.proxy, Protocol::Udp).await);
        there.log_on("bob").await;
        for (status, challenge) in
            [(401, FOREIGN.to_owned()), (407, FOREIGN.replace("WWW-authenticate", "PROXY-Authenticate"))]
        {
            let number = unique();
            let local = here.local();
            let request = format!(
                "MESSAGE {bob} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK-f{number}\r\nMax-Forwards: 70\r\n\
                 From: <{alice}>;tag=1\r\nTo: <{bob}>\r\nCall-ID: f{number}\r\nCSeq: 1 MESSAGE\r\n\
                 Content-Length: 0\r\n\r\n",
                bob = uri("bob"),
                alice = uri("alice"),
            );
            here.send(request.as_bytes()).await;
            let arrived = Sip::parse(&there.receive().await).expect("it is a message");
            let response = Sip::response(&arrived, status, "Who are you?", "b").to_bytes();
            let response = String::from_utf8(response).expect("it is text");
            let response = response.replacen("From: ", &format!("{challenge}From: "), 1);
            there.send(response.as_bytes()).await;
            let answered = String::from_utf8(here.receive().await).expect("it is text");
            let (_, expected) = response.split_once(&challenge).expect("it was written");
            let (start, rest) = answered.split_once(&challenge).unwrap_or_else(|| panic!("in:\n{answered}"));
            assert!(start.starts_with(&format!("SIP/2.0 {status} Who are you?\r\n")), "{answered}");
            assert_eq!(rest, expected);
            assert_eq!(answered.to_lowercase().matches("authenticate").count(), 1, "ours is not added");
        }
    });
}

#[test]
fn two_realms_each_take_the_credentials_that_are_theirs() {
    run(LIMIT, async {
        let site = Site::open(guarded(), &[Protocol::Udp]).await;
        let (mut a, mut b) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Udp).await);
        b.log_on(DOMAIN, "uc-b", "secret b").await;
        let request = a.message(&uri("alice"), &uri("bob"), "hello");
        // First the proxy wants to know, then the server behind it.
        let ours = Challenge::first(&a.exchange(&request).await);
        let prove = |count| ours.answer("MESSAGE", request.uri(), RIGHT, count);
        let again = |a: &Agent, number: u32| {
            request.clone().set("Via", a.via()).set("CSeq", format!("{number} MESSAGE"))
        };
        a.send(&again(&a, 2).with("Proxy-Authorization", prove(1))).await;
        let arrived = b.receive_request("MESSAGE").await;
        let challenge = FOREIGN.split_once(':').expect("a header").1.replace("\r\n", "");
        b.send(&b.response(&arrived, 401).with("WWW-Authenticate", challenge)).await;
        let theirs = Challenge::first(&a.receive_response(401).await);
        assert_eq!(theirs.realm, "b.test");
        let stranger = Credentials { user: "alice", password: "quite another" };
        let theirs = theirs.answer("MESSAGE", request.uri(), stranger, 1);
        // Both as Authorization, in either order; and each in the field that its challenge asks for.
        for (number, retry) in [
            again(&a, 3).with("Authorization", &theirs).with("Authorization", prove(2)),
            again(&a, 4).with("Authorization", prove(3)).with("Authorization", &theirs),
            again(&a, 5).with("Proxy-Authorization", prove(4)).with("Authorization", &theirs),
        ]
        .into_iter()
        .enumerate()
        {
            let (arrived, _) = relay(&retry, &mut a, &mut b, 200).await;
            assert_eq!(arrived.all("Authorization"), [&theirs], "RFC 3261 §22.3, retry {number}:\n{arrived}");
            assert!(arrived.all("Proxy-Authorization").is_empty(), "{arrived}");
        }
    });
}
