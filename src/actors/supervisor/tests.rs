//! Each actor is made to panic under traffic: what survives, what is lost, and who repairs it.

mod faults;
mod service;

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use self::faults::{Collapse, CollapseChildren, CollapseConnections, EndThread, WatchWithin, WhereListening};
pub(super) use self::faults::{Collapsible, Freeze};
use self::service::{Datagrams, Server, Service, Traffic, eventually, exchange, two_servers};
use super::{ChildId, Reload, Stop};
use crate::actors::listener::ListenerKind;

/// Longest that anything here may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn routers_that_panic_are_rebuilt_and_connections_log_ons_and_bindings_survive() {
    let service = Service::start("router");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    for _ in 0..2 {
        service.collapse(|child| matches!(child, ChildId::Router(_)));
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        assert!(exchange(&mut bob, &mut alice).contains("sip:alice@127.0.0.1"));
    }
    traffic.end();
}

#[test]
fn a_registrar_that_panics_finds_its_bindings_again() {
    let service = Service::start("registrar");
    let (mut alice, mut bob) = two_servers(&service);
    let mut phone = Datagrams::open(&service);
    phone.register("carol", Some(600));
    let mut gone = Server::connect(&service, "gone");
    gone.register();
    let traffic = Traffic::start(&service);
    for _ in 0..2 {
        service.collapse(|child| child == ChildId::Registrar);
        // It may die of that a moment later, and the next one finds what this one has kept.
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        assert_eq!(phone.register("carol", None).len(), 1);
    }
    // A connection that closes while nobody is there to be told is seen to be closed.
    service.collapse(|child| child == ChildId::Registrar);
    drop(gone);
    eventually(|| phone.register("gone", None).is_empty().then_some(()));
    traffic.end();
}

#[test]
fn a_journal_that_panics_is_told_everything_again() {
    let service = Service::start("journal");
    let (mut alice, mut bob) = two_servers(&service);
    let mut phone = Datagrams::open(&service);
    phone.register("carol", Some(600));
    let traffic = Traffic::start(&service);
    for user in ["dora", "emma"] {
        service.collapse(|child| child == ChildId::Journal);
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        assert_eq!(phone.register(user, Some(600)).len(), 1);
    }
    // What a Registrar then finds is what the new Journal has been told.
    service.collapse(|child| child == ChildId::Registrar);
    for user in ["carol", "dora", "emma"] {
        assert_eq!(phone.register(user, None).len(), 1, "{user}");
    }
    traffic.end();
}

#[test]
fn a_datagram_listener_that_panics_comes_back_on_its_port() {
    let service = Service::start("datagram");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    let is_datagram = |child| matches!(child, ChildId::Listener(_, ListenerKind::Datagram { .. }));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let answers = || {
        eventually(|| {
            let text = format!(
                "OPTIONS sip:{} SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKo;rport\r\nFrom: <sip:x@a.test>;tag=1\r\n\
                 To: <sip:a.test>\r\nCall-ID: o\r\nCSeq: 1 OPTIONS\r\n\r\n",
                service.address,
                socket.local_addr().unwrap()
            );
            socket.send_to(text.as_bytes(), service.address).unwrap();
            let mut buffer = [0; 2048];
            let length = socket.recv(&mut buffer).ok()?;
            buffer[..length].starts_with(b"SIP/2.0 200").then_some(())
        });
    };
    answers();
    service.collapse(is_datagram);
    answers();
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    traffic.end();
}

#[test]
fn a_federation_resolver_that_panics_is_built_anew_and_nobody_else_notices() {
    let service = Service::start("resolver");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    for _ in 0..2 {
        service.collapse(|child| child == ChildId::FederationResolver);
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    }
    traffic.end();
}

#[test]
fn a_stream_listener_that_panics_accepts_again_and_open_connections_go_on() {
    let service = Service::start("stream");
    let (mut alice, mut bob) = two_servers(&service);
    let traffic = Traffic::start(&service);
    service.collapse(|child| matches!(child, ChildId::Listener(_, ListenerKind::Stream)));
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    let mut carol = eventually(|| {
        let stream = TcpStream::connect(service.address).ok()?;
        drop(stream);
        Some(Server::connect(&service, "carol"))
    });
    carol.register();
    assert!(exchange(&mut alice, &mut carol).contains("sip:carol@127.0.0.1"));
    traffic.end();
}

#[test]
fn a_connection_that_panics_ends_and_takes_its_binding_with_it() {
    let service = Service::start("connection");
    let (mut alice, mut bob) = two_servers(&service);
    service.ask(CollapseConnections);
    eventually(|| (!alice.is_open() && !bob.is_open()).then_some(()));
    // Nothing is left of them: whoever comes anew finds nobody, at once.
    let mut carol = Server::connect(&service, "carol");
    carol.register();
    let text = carol.request("MESSAGE", "bob", "");
    assert!(carol.send(&text));
    assert!(eventually(|| carol.receive()).starts_with("SIP/2.0 480"));
    let mut bob = Server::connect(&service, "bob");
    bob.register();
    assert!(exchange(&mut carol, &mut bob).contains("sip:bob@127.0.0.1"));
}

#[test]
fn a_control_that_panics_answers_again_and_nobody_else_notices() {
    let service = Service::start("control");
    let (mut alice, mut bob) = two_servers(&service);
    let socket = service.directory.join("var/run/control.sock");
    let health = || {
        let mut stream = UnixStream::connect(&socket).ok()?;
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    };
    eventually(health);
    for _ in 0..2 {
        service.collapse(|child| child == ChildId::Control);
        assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
        eventually(health);
    }
}

#[test]
fn a_stun_that_panics_asks_anew() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let address = server.local_addr().unwrap();
    let service = Service::start_with("stun", &format!("[stun]\nservers = [\"{address}\"]\n"));
    let asked_from = || server.recv_from(&mut [0; 100]).unwrap().1;
    let first = asked_from();
    service.collapse(|child| child == ChildId::Stun);
    // Each question has a port of its own.
    eventually(|| (asked_from() != first).then_some(()));
}

#[test]
fn children_that_fail_again_and_again_end_the_process_with_70() {
    let service = Service::start("again");
    eventually(|| {
        service.supervisor.do_send(CollapseChildren(|child| child == ChildId::Registrar));
        (!service.supervisor.connected()).then_some(())
    });
    assert_eq!(service.exit_code(), 70);
}

#[test]
fn a_child_that_begins_anew_after_a_reload_has_what_is_in_force() {
    let service = Service::start("reload");
    let file = service.directory.join("sip-proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut server = Server::connect(&service, "alice");
    server.register();
    let status = |server: &mut Server| {
        eventually(|| {
            let text = server.request("MESSAGE", "bob", "").replace("bob@a.test", "bob@b.test");
            assert!(server.send(&text));
            server.receive_of(&format!("Call-ID: alice-{}\r\n", server.sent))
        })
    };
    assert!(status(&mut server).starts_with("SIP/2.0 404"));
    std::fs::write(&file, text.replace("[\"a.test\"]", "[\"a.test\", \"b.test\"]")).unwrap();
    let reloaded = service.ask(Reload);
    assert_eq!((reloaded.faults.len(), reloaded.changes.len()), (0, 1), "{reloaded:?}");
    assert_eq!(reloaded.changes[0].key, "service.presence_domains");
    assert_eq!(reloaded.changes[0].new.as_deref(), Some("[\"a.test\", \"b.test\"]"));
    assert!(status(&mut server).starts_with("SIP/2.0 480"));
    service.collapse(|child| matches!(child, ChildId::Router(_) | ChildId::Registrar));
    // Until both are back, it may be 500.
    eventually(|| status(&mut server).starts_with("SIP/2.0 480").then_some(()));
    // A fault has its place, its key and a text.
    std::fs::write(&file, format!("{text}[lan.nonsense]\n[dns]\ntimeout = \"0s\"\n")).unwrap();
    let refused = service.ask(Reload);
    let faults: Vec<_> = refused.faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!((faults, refused.changes.len()), (vec!["lan.nonsense", "dns.timeout"], 0));
    assert!(refused.faults[0].place.starts_with(&format!("{}:", file.display())), "{refused:?}");
}

#[test]
fn a_supervisor_that_panics_ends_the_process_with_70() {
    let service = Service::start("supervisor");
    service.supervisor.do_send(Collapse);
    assert_eq!(service.exit_code(), 70);
}

#[test]
fn a_thread_that_ends_ends_the_process_with_70() {
    let service = Service::start("thread");
    service.ask(EndThread);
    let lines = service.lines.clone();
    assert_eq!(service.exit_code(), 70);
    eventually(|| lines.have(&["giving_up", "a thread has ended"]).then_some(()));
}

#[test]
fn a_failure_and_the_repair_of_it_are_told() {
    let service = Service::start("told");
    service.collapse(|child| child == ChildId::Router(1));
    eventually(|| {
        service.lines.have(&["error supervisor actor_failed actor=router-1 panicked=true"]).then_some(())
    });
    eventually(|| service.lines.have(&["info supervisor actor_restarted actor=router-1"]).then_some(()));
}

#[test]
fn a_router_that_is_stuck_is_named_and_ends_the_process_with_70() {
    let service = Service::start("stuck");
    service.freeze_router(4.0);
    let lines = service.lines.clone();
    assert_eq!(service.exit_code(), 70);
    // The Listener and the connections on its thread are stuck with it.
    eventually(|| {
        lines.have(&["error supervisor actor_stuck", "router-0", "listener-0-udp-0"]).then_some(())
    });
    eventually(|| lines.have(&["giving_up", "an actor is stuck"]).then_some(()));
}

#[test]
fn a_router_that_is_stuck_for_less_than_the_limit_goes_on() {
    let service = Service::start("slow");
    let (mut alice, mut bob) = two_servers(&service);
    service.freeze_router(0.7);
    eventually(|| service.lines.have(&["info supervisor actor_recovered actor=router-0"]).then_some(()));
    exchange(&mut alice, &mut bob);
}

/// A MESSAGE of alice's for bob that bob has got and not answered; its Via and so on.
#[test]
fn a_listener_that_a_reload_has_closed_is_not_missed() {
    let service = Service::start("closed");
    let (mut alice, mut bob) = two_servers(&service);
    let file = service.directory.join("sip-proxy.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let more = "[[lan.network_interface]]\nport = 0\nprotocol = \"tcp\"\n[[lan.network_interface]]\nport = 0\nprotocol = \"udp\"\n";
    for text in [format!("{text}{more}"), text] {
        std::fs::write(&file, text).unwrap();
        let reloaded = service.ask(Reload);
        assert_eq!((reloaded.faults.len(), reloaded.changes.len()), (0, 2), "{reloaded:?}");
    }
    // Datagram Listeners go on for 64*T1.
    eventually(|| (service.ask(WhereListening).len() == 3).then_some(()));
    let limit = Duration::from_secs(2);
    service.ask(WatchWithin(limit));
    std::thread::sleep(2 * limit);
    assert!(exchange(&mut alice, &mut bob).contains("sip:bob@127.0.0.1"));
    assert!(!service.lines.have(&["actor_stuck"]) && !service.lines.have(&["actor_failed"]));
}

fn under_way(alice: &mut Server, bob: &mut Server) -> String {
    let text = alice.request("MESSAGE", "bob", "");
    assert!(alice.send(&text));
    let call_id = format!("Call-ID: alice-{}\r\n", alice.sent);
    eventually(|| bob.receive_of(&call_id))
}

fn answer_to(request: &str) -> String {
    let kept = request.lines().filter(|line| {
        ["Via", "From", "To", "Call-ID", "CSeq"].iter().any(|name| line.starts_with(&format!("{name}:")))
    });
    let rows: Vec<_> = kept.collect();
    format!("SIP/2.0 200 OK\r\n{}\r\nContent-Length: 0\r\n\r\n", rows.join("\r\n"))
}

#[test]
fn a_drain_waits_for_what_has_begun_past_the_time_that_a_stop_waits() {
    let service = Service::start_timed("drain", "400ms", "4s", "");
    let (mut alice, mut bob) = two_servers(&service);
    let request = under_way(&mut alice, &mut bob);
    service.ask(Stop { drain: true });
    // Actors that fail meanwhile are rebuilt, and say the same.
    service.collapse(|child| child == ChildId::Registrar);
    eventually(|| service.lines.have(&["draining left=1"]).then_some(()));
    std::thread::sleep(Duration::from_millis(700));
    let late = alice.request("MESSAGE", "bob", "");
    assert!(alice.send(&late));
    let refusal = eventually(|| alice.receive_of(&format!("Call-ID: alice-{}\r\n", alice.sent)));
    assert!(refusal.starts_with("SIP/2.0 503 ") && refusal.contains("\r\nRetry-After: "), "{refusal}");
    assert!(bob.send(&answer_to(&request)));
    let call_id = format!("Call-ID: alice-{}\r\n", alice.sent - 1);
    assert!(eventually(|| alice.receive_of(&call_id)).starts_with("SIP/2.0 200 "));
    assert_eq!(service.exit_code(), 0);
}

#[test]
fn a_stop_after_a_drain_sets_the_limit() {
    let service = Service::start_timed("stop", "400ms", "4s", "");
    let (mut alice, mut bob) = two_servers(&service);
    under_way(&mut alice, &mut bob);
    service.ask(Stop { drain: true });
    eventually(|| service.lines.have(&["draining left=1"]).then_some(()));
    service.ask(Stop { drain: false });
    let lines = service.lines.clone();
    assert_eq!(service.exit_code(), 0);
    eventually(|| lines.have(&["drain_incomplete left=1"]).then_some(()));
}
