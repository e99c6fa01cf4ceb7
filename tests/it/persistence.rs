//! Registrations outlive the process (product rule; statement J12): after kill -9 what was answered with 200 is there,
//! as far as there is a way to it.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::common::agent::Agent;
use crate::common::port::Port;
use crate::common::proxy::{Protocol, Proxy, Settings};
use crate::common::scratch::Directory;
use crate::common::sip::Sip;
use crate::common::{eventually, run};
use crate::support::{DOMAIN, LIMIT, SILENCE, Site, Wire, open_house, relay, uri};

const SERVER: (&str, &str) = ("uc-a", "secret a");

/// Somebody who may register, and is no UC server.
const PHONE: (&str, &str) = ("phone", "secret p");

/// A UC server, and somebody else who may register.
fn settings() -> Settings {
    let phone = format!("[[registrar.account]]\nuser_name = \"{}\"\npassword = \"{}\"\n", PHONE.0, PHONE.1);
    let phone = format!("\n{phone}users = [\"*@{DOMAIN}\"]\n");
    Settings::new(DOMAIN).usual_timers().account(SERVER.0, SERVER.1).text(&phone)
}

/// Registers a user with this Contact value, or with none asks for the contacts; the contacts of the answer.
async fn register(
    agent: &mut Agent,
    account: (&str, &str),
    user: &str,
    contact: Option<&str>,
) -> Vec<String> {
    let identity = uri(user);
    let request =
        agent.request("REGISTER", &format!("sip:{DOMAIN}"), &identity, &identity).without("Contact");
    let request = match contact {
        Some(contact) => request.with("Contact", contact).with("Expires", "600"),
        None => request,
    };
    let answer = agent.authorised_exchange(&request, account.0, account.1).await;
    assert_eq!(answer.status(), 200, "{answer}");
    let contacts = answer.values("Contact").into_iter();
    contacts.map(|value| value.split_inclusive('>').next().unwrap_or_default().to_owned()).collect()
}

/// The Contact of a UC server's user: where the server takes connections.
fn contact_at(port: &Port, user: &str) -> String {
    format!("<sip:{user}@{};transport=tcp>", port.local())
}

/// The segments of the store, the oldest first.
fn segments(proxy: &Proxy) -> Vec<PathBuf> {
    let entries = fs::read_dir(proxy.directory().path().join("var/lib/registrations")).expect("the store");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = paths.filter(|path| path.extension().is_some()).collect();
    segments.sort();
    segments
}

#[test]
fn j12_a_restart_brings_back_what_can_be_reached_and_drops_what_hung_on_connections() {
    run(LIMIT, async {
        let mut site = Site::open(settings(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut alice = site.connect(Protocol::Udp).await;
        let contact = alice.contact("alice");
        register(&mut alice, SERVER, "alice", Some(&contact)).await;
        // Of a UC server's users, one is where the server takes connections, the other on the connection alone.
        let (mut server, port) = (site.connect(Protocol::Tcp).await, Port::tcp(site.proxy.ip()).await);
        register(&mut server, SERVER, "bob", Some(&contact_at(&port, "bob"))).await;
        let contact = server.contact("carol");
        register(&mut server, SERVER, "carol", Some(&contact)).await;
        // Phones: one on a connection, one by datagrams.
        let (mut wired, mut loose) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Udp).await);
        register(&mut wired, PHONE, "dora", Some(&contact_at(&port, "dora"))).await;
        let contact = loose.contact("emil");
        register(&mut loose, PHONE, "emil", Some(&contact)).await;

        site.proxy.kill_and_restart().await;
        assert!(server.is_closed_by_peer().await && wired.is_closed_by_peer().await);
        site.proxy.logs(&["registrations_restored", "bindings=3", "dropped=2"]).await;
        assert_eq!(register(&mut alice, SERVER, "carol", None).await, [""; 0], "her connection is gone");
        assert_eq!(register(&mut alice, SERVER, "dora", None).await, [""; 0], "a phone is not dialled");
        // Both datagram flows stand as before: requests pass without credentials.
        let request = alice.message(&uri("alice"), &uri("emil"), "still there?");
        relay(&request, &mut alice, &mut loose, 200).await;
        let request = loose.message(&uri("emil"), &uri("alice"), "still there?");
        relay(&request, &mut loose, &mut alice, 200).await;
        // Bob is reached by a connection to his server.
        let request = alice.message(&uri("alice"), &uri("bob"), "still there?");
        alice.send(&request).await;
        let mut taken = port.accept().await;
        let arrived = taken.receive_request("MESSAGE").await;
        assert_eq!(format!("<{}>", arrived.uri()), contact_at(&port, "bob"));
        taken.answer(&arrived, 200).await;
        alice.receive_response(200).await;
        // The server comes back by itself, and its new connection is the way from then on.
        let mut back = site.connect(Protocol::Tcp).await;
        register(&mut back, SERVER, "bob", Some(&contact_at(&port, "bob"))).await;
        let request = alice.message(&uri("alice"), &uri("bob"), "and now?");
        relay(&request, &mut alice, &mut back, 200).await;
        taken.receive_nothing(SILENCE).await;
    });
}

#[test]
fn a_uc_server_that_had_registered_itself_is_asked_again_after_a_restart() {
    run(LIMIT, async {
        let mut site = Site::open(settings(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut asker = site.connect(Protocol::Udp).await;
        let contact = asker.contact("asker");
        register(&mut asker, PHONE, "asker", Some(&contact)).await;
        let (mut here, mut there) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Tcp).await);
        let (contact, port) = (here.contact(SERVER.0), Port::tcp(site.proxy.ip()).await);
        register(&mut here, SERVER, SERVER.0, Some(&contact)).await;
        register(&mut there, SERVER, SERVER.0, Some(&contact_at(&port, SERVER.0))).await;
        site.proxy.kill_and_restart().await;
        let request = asker.message(&uri("asker"), &uri("whoever"), "who has them?");
        asker.send(&request).await;
        let by_datagram = here.receive_request("MESSAGE").await;
        let mut taken = port.accept().await;
        let by_connection = taken.receive_request("MESSAGE").await;
        assert_eq!((by_datagram.uri(), by_connection.uri()), (&*uri("whoever"), &*uri("whoever")));
        here.answer(&by_datagram, 404).await;
        taken.answer(&by_connection, 200).await;
        asker.receive_response(200).await;
    });
}

#[test]
fn what_cannot_be_dialled_after_a_restart_is_gone_with_the_first_attempt() {
    run(LIMIT, async {
        let mut site = Site::open(settings(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut alice, mut server) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Tcp).await);
        let port = Port::tcp(site.proxy.ip()).await;
        let contact = alice.contact("alice");
        register(&mut alice, PHONE, "alice", Some(&contact)).await;
        for user in ["bob", "carol"] {
            register(&mut server, SERVER, user, Some(&contact_at(&port, user))).await;
        }
        drop(port);
        site.proxy.kill_and_restart().await;
        assert_eq!(register(&mut alice, SERVER, "carol", None).await.len(), 1);
        let request = alice.message(&uri("alice"), &uri("bob"), "still there?");
        let answer = alice.exchange(&request).await;
        assert!((400..600).contains(&answer.status()), "{answer}");
        site.proxy.logs(&["binding_removed", "aor=carol@", "reason=unreachable"]).await;
        for user in ["bob", "carol"] {
            assert_eq!(register(&mut alice, SERVER, user, None).await, [""; 0], "{user}");
        }
    });
}

#[test]
fn a_graceful_stop_keeps_what_a_crash_keeps() {
    run(LIMIT, async {
        let mut site = Site::open(settings(), &[Protocol::Udp, Protocol::Tcp]).await;
        let (mut alice, mut server) = (site.connect(Protocol::Udp).await, site.connect(Protocol::Tcp).await);
        let port = Port::tcp(site.proxy.ip()).await;
        let contact = alice.contact("alice");
        register(&mut alice, SERVER, "alice", Some(&contact)).await;
        register(&mut server, SERVER, "bob", Some(&contact_at(&port, "bob"))).await;
        for _ in 0..2 {
            // The proxy closes the server's connection, which is not the server's doing.
            assert!(site.proxy.terminate().await.success());
            site.proxy.restart().await;
            assert_eq!(register(&mut alice, SERVER, "alice", None).await, std::slice::from_ref(&contact));
            assert_eq!(register(&mut alice, SERVER, "bob", None).await, [contact_at(&port, "bob")]);
        }
        // A connection that the server closes is, stop or not.
        let mut server = site.connect(Protocol::Tcp).await;
        register(&mut server, SERVER, "bob", Some(&contact_at(&port, "bob"))).await;
        server.close().await;
        site.proxy.logs(&["binding_removed", "aor=bob@"]).await;
        assert!(site.proxy.terminate().await.success());
        site.proxy.restart().await;
        assert_eq!(register(&mut alice, SERVER, "bob", None).await, [""; 0]);
    });
}

#[test]
fn what_was_removed_stays_removed_and_what_expires_meanwhile_is_gone() {
    run(LIMIT, async {
        let settings = settings().key("registrar", "minimum_expires", "\"1s\"");
        let mut site = Site::open(settings, &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        let contact = agent.contact("x");
        for user in ["removed", "cleared", "brief", "stays"] {
            register(&mut agent, SERVER, user, Some(&contact)).await;
        }
        let expires = |seconds: u32| format!("{contact};expires={seconds}");
        register(&mut agent, SERVER, "removed", Some(&expires(0))).await;
        let identity = uri("cleared");
        let clear = agent.request("REGISTER", &format!("sip:{DOMAIN}"), &identity, &identity);
        let clear = clear.set("Contact", "*").with("Expires", "0");
        assert_eq!(agent.authorised_exchange(&clear, SERVER.0, SERVER.1).await.status(), 200);
        register(&mut agent, SERVER, "brief", Some(&expires(2))).await;
        let over = Instant::now() + Duration::from_secs(2);
        site.proxy.kill().await;
        // The time that the test is about.
        sleep_until(over).await;
        site.proxy.restart().await;
        site.proxy.logs(&["registrations_restored", "bindings=1", "expired=1"]).await;
        for (user, expected) in [("removed", 0), ("cleared", 0), ("brief", 0), ("stays", 1)] {
            assert_eq!(register(&mut agent, SERVER, user, None).await.len(), expected, "{user}");
        }
    });
}

/// A client that registers its users as fast as it is answered, so many at a time, and each of them twice.
struct Load {
    wire: Wire,
    prefix: &'static str,
    /// Where its users are.
    at: SocketAddr,
    users: usize,
    under_way: usize,
    /// Those that are to be registered again.
    again: VecDeque<String>,
    /// Which of a user's REGISTERs was answered last.
    answered: BTreeMap<String, u32>,
    /// How many were, for others to see.
    count: Arc<AtomicUsize>,
}

const AT_A_TIME: usize = 50;

/// REGISTERs of each load that are answered when the proxy is killed, or some more.
const ENOUGH: usize = 1000;

impl Load {
    fn new(wire: Wire, prefix: &'static str, at: SocketAddr) -> Self {
        Self {
            wire,
            prefix,
            at,
            users: 0,
            under_way: 0,
            again: VecDeque::new(),
            answered: BTreeMap::new(),
            count: Arc::default(),
        }
    }

    /// The Contact of a user's first or second REGISTER.
    fn contact(&self, user: &str, number: u32) -> String {
        format!("<sip:{user}@{};transport={}>;q=0.{number}", self.at, self.wire.transport().to_lowercase())
    }

    /// Until the proxy is gone.
    async fn run(mut self) -> BTreeMap<String, String> {
        loop {
            while self.under_way < AT_A_TIME {
                let (user, number) = match self.again.pop_front() {
                    Some(user) => (user, 2),
                    None => (format!("{}{}", self.prefix, self.users), 1),
                };
                let contact = self.contact(&user, number);
                if !self.wire.try_send(&bare_register(&self.wire, &user, number, Some(&contact))).await {
                    return self.registered();
                }
                self.users += usize::from(number == 1);
                self.under_way += 1;
            }
            match self.wire.try_receive(Duration::from_secs(2)).await {
                Some(octets) => {
                    let answer = Sip::parse(&octets).expect("what the proxy sends is SIP");
                    assert_eq!(answer.status(), 200, "{answer}");
                    let user = answer.need("Call-ID").to_owned();
                    let number = if answer.need("CSeq").starts_with('1') { 1 } else { 2 };
                    if number == 1 {
                        self.again.push_back(user.clone());
                    }
                    self.answered.insert(user, number);
                    self.under_way -= 1;
                    self.count.fetch_add(1, Ordering::Relaxed);
                }
                None => return self.registered(),
            }
        }
    }

    /// What is there, or what it at least begins with: the second REGISTER of a user may have been taken unanswered.
    fn registered(self) -> BTreeMap<String, String> {
        let contact = |user: &str, number: u32| match self.contact(user, number) {
            contact if number == 2 => contact,
            mut contact => {
                contact.pop();
                contact
            }
        };
        self.answered.iter().map(|(user, &number)| (user.clone(), contact(user, number))).collect()
    }
}

/// A REGISTER without credentials, whose Call-ID is the user's name.
fn bare_register(wire: &Wire, user: &str, number: u32, contact: Option<&str>) -> Vec<u8> {
    let (local, transport) = (wire.local(), wire.transport());
    let contact = contact.map(|contact| format!("Contact: {contact}\r\n")).unwrap_or_default();
    format!(
        "REGISTER sip:{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK-{user}-{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{DOMAIN}>;tag=l\r\nTo: <sip:{user}@{DOMAIN}>\r\nCall-ID: {user}\r\n\
         CSeq: {number} REGISTER\r\n{contact}Expires: 600\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// Checks that each user has exactly its contact.
async fn all_are_there(proxy: &Proxy, expected: &BTreeMap<String, String>) {
    let mut wire = Wire::open(proxy, Protocol::Tcp).await;
    for users in expected.iter().collect::<Vec<_>>().chunks(AT_A_TIME) {
        for (user, _) in users {
            wire.send(&bare_register(&wire, user, 3, None)).await;
        }
        for (user, contact) in users {
            let answer = Sip::parse(&wire.receive().await).expect("what the proxy sends is SIP");
            assert_eq!((answer.status(), answer.need("Call-ID")), (200, user.as_str()));
            let contacts = answer.values("Contact");
            assert!(contacts.len() == 1 && contacts[0].starts_with(contact.as_str()), "{user}: {contacts:?}");
        }
    }
}

#[test]
fn every_register_that_was_answered_before_a_kill_in_mid_load_is_there_after_it() {
    run(LIMIT * 2, async {
        let settings = open_house().key("diagnostics", "log_level", "\"info\"");
        let mut site = Site::open(settings, &[Protocol::Udp, Protocol::Tcp]).await;
        let port = Port::tcp(site.proxy.ip()).await;
        let mut expected = BTreeMap::new();
        for (durability, names) in [("disk", ["first-u", "first-t"]), ("process", ["second-u", "second-t"])] {
            site.proxy.change(&[("registrar", "durability", &format!("{durability:?}"))]).await;
            let datagrams = Wire::open(&site.proxy, Protocol::Udp).await;
            let own = datagrams.local();
            let connection = Wire::open(&site.proxy, Protocol::Tcp).await;
            let loads = [Load::new(datagrams, names[0], own), Load::new(connection, names[1], port.local())];
            let counts = [0, 1].map(|at: usize| Arc::clone(&loads[at].count));
            let running = loads.map(|load| tokio::spawn(load.run()));
            eventually(LIMIT, "both have registered enough users", || {
                counts.iter().all(|count| count.load(Ordering::Relaxed) > ENOUGH).then_some(())
            })
            .await;
            site.proxy.kill().await;
            for load in running {
                let registered = load.await.expect("a load ends by itself");
                let again = registered.values().filter(|contact| contact.ends_with(";q=0.2")).count();
                assert!(registered.len() + again > ENOUGH, "{again} of {} twice", registered.len());
                expected.extend(registered);
            }
            site.proxy.restart().await;
            all_are_there(&site.proxy, &expected).await;
        }
    });
}

#[test]
fn a_second_process_leaves_the_first_ones_registrations_alone() {
    run(LIMIT, async {
        let directory = Directory::new("shared-state");
        let path = format!("{:?}", directory.path());
        let open = |settings: Settings| {
            let settings = settings.key("service", "state_directory", &path);
            async move { Site::open(settings, &[Protocol::Udp]).await }
        };
        let mut first = open(settings()).await;
        let mut alice = first.connect(Protocol::Udp).await;
        let contact = alice.contact("alice");
        register(&mut alice, SERVER, "alice", Some(&contact)).await;
        let mut second = open(settings()).await;
        second.proxy.logs(&["warning journal registrations_not_kept", "in use by another process"]).await;
        let mut bob = second.connect(Protocol::Udp).await;
        let contact_of_bob = bob.contact("bob");
        assert_eq!(register(&mut bob, SERVER, "bob", Some(&contact_of_bob)).await.len(), 1, "from memory");
        assert_eq!(register(&mut bob, SERVER, "alice", None).await, [""; 0]);
        assert!(second.proxy.terminate().await.success());
        first.proxy.kill_and_restart().await;
        assert_eq!(register(&mut alice, SERVER, "alice", None).await, [contact]);
        assert_eq!(register(&mut alice, SERVER, "bob", None).await, [""; 0]);
    });
}

#[test]
fn a_store_that_cannot_be_opened_stops_nothing_and_is_used_when_it_can() {
    run(LIMIT, async {
        let directory = Directory::new("state");
        let in_the_way = directory.write("registrations", "not a directory");
        let settings = settings().key("service", "state_directory", &format!("{:?}", directory.path()));
        let mut site = Site::open(settings, &[Protocol::Udp]).await;
        site.proxy.logs(&["warning journal registrations_not_kept", "remedy="]).await;
        let mut alice = site.connect(Protocol::Udp).await;
        let contact = alice.contact("alice");
        register(&mut alice, SERVER, "alice", Some(&contact)).await;
        site.proxy.kill_and_restart().await;
        assert_eq!(register(&mut alice, SERVER, "alice", None).await, [""; 0], "it was in memory");
        register(&mut alice, SERVER, "alice", Some(&contact)).await;
        fs::remove_file(in_the_way).expect("the file is there");
        site.proxy.logs(&["info journal registrations_kept"]).await;
        site.proxy.kill_and_restart().await;
        assert_eq!(register(&mut alice, SERVER, "alice", None).await, [contact]);
    });
}

#[test]
fn a_disk_that_fills_up_stops_nothing_and_all_is_kept_when_there_is_room() {
    run(LIMIT, async {
        let mut site = Site::open(open_house().largest_file(40), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        let mut expected = BTreeMap::new();
        let mut number = 0;
        while !site.proxy.log().contains("registrations_not_kept") || expected.len() < 300 {
            let (user, contact) = (format!("user{number}"), format!("<sip:user{number}@{}>", wire.local()));
            wire.send(&bare_register(&wire, &user, 1, Some(&contact))).await;
            assert!(wire.receive().await.starts_with(b"SIP/2.0 200 "), "from memory, if need be");
            expected.insert(user, contact);
            number += 1;
            assert!(number < 3000, "20 kilobytes hold no such crowd");
        }
        site.proxy.logs(&["error journal registrations_not_kept", "remedy="]).await;
        site.proxy.lift_file_limit();
        site.proxy.logs(&["info journal registrations_kept"]).await;
        assert_eq!(site.proxy.log().matches("registrations_not_kept").count(), 1, "one line for one failure");
        site.proxy.kill_and_restart().await;
        all_are_there(&site.proxy, &expected).await;
    });
}

#[test]
fn a_damaged_store_costs_what_is_damaged_and_no_more() {
    run(LIMIT, async {
        let mut site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp]).await;
        let mut wire = Wire::open(&site.proxy, Protocol::Udp).await;
        let mut expected = BTreeMap::new();
        for number in 0..100 {
            let (user, contact) = (format!("user{number}"), format!("<sip:user{number}@{}>", wire.local()));
            wire.send(&bare_register(&wire, &user, 1, Some(&contact))).await;
            assert!(wire.receive().await.starts_with(b"SIP/2.0 200 "));
            expected.insert(user, contact);
        }
        site.proxy.kill().await;
        let segment = segments(&site.proxy).pop().expect("there is one");
        let mut octets = fs::read(&segment).expect("it can be read");
        let place = octets.windows(6).position(|octets| octets == b"user50").expect("it has the user");
        octets[place] ^= 1;
        fs::write(&segment, octets).expect("it can be written");
        fs::write(segment.with_file_name("00000000.segment"), "nothing of ours").expect("it can be written");
        expected.remove("user50");
        site.proxy.restart().await;
        site.proxy.logs(&["warning registrar registrations_damaged", "places=2"]).await;
        site.proxy.logs(&["registrations_restored", "bindings=99"]).await;
        all_are_there(&site.proxy, &expected).await;
        // What is left was written anew, whole.
        site.proxy.logs(&["registrations_kept"]).await;
        site.proxy.kill_and_restart().await;
        assert!(!site.proxy.log().contains("registrations_damaged"));
        all_are_there(&site.proxy, &expected).await;
    });
}

#[test]
fn a_configuration_that_has_changed_meanwhile_decides_what_comes_back() {
    run(LIMIT, async {
        let mut site = Site::open(settings(), &[Protocol::Udp]).await;
        let mut agent = site.connect(Protocol::Udp).await;
        let contact = agent.contact("x");
        register(&mut agent, SERVER, "alice", Some(&contact)).await;
        register(&mut agent, PHONE, "bob", Some(&contact)).await;
        site.proxy.kill().await;
        let file = site.proxy.directory().path().join("sip-proxy.toml");
        let text = fs::read_to_string(&file).expect("the configuration");
        assert!(text.contains("user_name = \"phone\""));
        fs::write(&file, text.replace("user_name = \"phone\"", "user_name = \"other\""))
            .expect("it can be written");
        site.proxy.restart().await;
        site.proxy.logs(&["registrations_restored", "bindings=1", "dropped=1"]).await;
        assert_eq!(register(&mut agent, SERVER, "bob", None).await, [""; 0]);
        assert_eq!(register(&mut agent, SERVER, "alice", None).await, [contact]);
    });
}
