//! Dialogs through the proxy: Record-Route, tokens, what follows in both directions (§16.4, §16.6 step 4; RFC 5658).

use super::bench::{Bench, binding};
use super::network::{PARTNER, Peer, UCS};
use super::text::{Dialog, answer, answer_with, enlarged, request, uri, value, values, with};
use crate::protocol::flow::{Flow, Transport};
use crate::protocol::location::Target;
use crate::protocol::proxy::DropReason;

/// An INVITE of `a`'s that `b` accepts: both ends of the dialog.
fn call(bench: &mut Bench, a: Peer, b: Peer, id: &str) -> (Dialog, Dialog) {
    bench.receive(a, &request("INVITE", "sip:bob@a.test", a, id));
    let invite = bench.one(b, "INVITE");
    bench.receive(b, &answer(&invite, 180));
    bench.one(a, "180");
    let contact = format!("Contact: <{}>\r\n", b.contact("bob"));
    bench.receive(b, &answer_with(&invite, 200, "bob", &contact));
    let ok = bench.one(a, "200");
    assert_eq!(values(&ok, "Record-Route"), values(&invite, "Record-Route"));
    (Dialog::of_caller(a, &ok), Dialog::of_callee(b, &invite, "bob"))
}

/// A request in the dialog that goes through and is answered.
fn exchange(bench: &mut Bench, from: Peer, to: Peer, text: &str, method: &str) -> String {
    bench.receive(from, text);
    let forwarded = bench.one(to, method);
    assert_eq!(values(&forwarded, "Route"), Vec::<&str>::new());
    assert_eq!(uri(&forwarded), uri(text));
    bench.receive(to, &answer(&forwarded, 200));
    bench.one(from, "200");
    bench.nothing_more();
    forwarded
}

#[test]
fn a_call_goes_through_in_both_directions_over_any_two_transports() {
    let ends = [
        Peer::udp(5070),
        Peer::udp(5072),
        Peer::tcp(5074),
        Peer::tcp(5076),
        Peer::tls(5078),
        Peer::ws(5080),
        Peer::ws(5082),
        Peer::wss(5084),
    ];
    for a in ends {
        for b in ends.into_iter().filter(|&b| b != a) {
            let mut bench = Bench::new();
            bench.log_on_all(&[a, b]);
            let (caller, callee) = call(&mut bench, a, b, "c");
            bench.receive(a, &caller.request("ACK", 1));
            let ack = bench.one(b, "ACK");
            assert_eq!((values(&ack, "Route").len(), values(&ack, "Record-Route").len()), (0, 0));
            assert_eq!(uri(&ack), b.contact("bob"));
            exchange(&mut bench, b, a, &callee.request("INFO", 1), "INFO");
            exchange(&mut bench, a, b, &caller.request("UPDATE", 2), "UPDATE");
            exchange(&mut bench, b, a, &callee.request("BYE", 2), "BYE");
            assert_eq!(bench.drops(), []);
        }
    }
}

/// §18.1.1 wants TCP, which a NAT does not let in. The contact of somebody behind one has an address of the other side.
#[test]
fn what_is_too_large_for_udp_stays_on_it_in_a_dialog_with_somebody_behind_a_nat() {
    let table = [
        (Some(PARTNER), "192.168.7.9:5060", "", Transport::Udp),
        (None, "192.168.7.9:5060", "", Transport::Udp),
        (Some(PARTNER), "127.0.0.1:5072", "", Transport::Tcp),
        (Some(PARTNER), "phone.a.test", "", Transport::Tcp),
        // The address is another proxy's to know.
        (Some(PARTNER), "192.168.7.9:5060", "Record-Route: <sip:127.0.0.1:5072;lr>\r\n", Transport::Tcp),
        // Whose user is elsewhere, and who is not behind a NAT.
        (Some(UCS), "192.168.7.9:5060", "", Transport::Tcp),
    ];
    for (account, host, route, transport) in table {
        let (a, b) = (Peer::udp(5070), Peer::udp(5072));
        let mut bench = Bench::new();
        bench.log_on(a, UCS);
        bench.proxy.handle_standing(&b.0, account);
        bench.bind("bob", b, 1000);
        bench.receive(a, &request("INVITE", "sip:bob@a.test", a, "c"));
        let invite = bench.one(b, "INVITE");
        let ok = answer_with(&invite, 200, "bob", &format!("Contact: <sip:bob@{host}>\r\n"));
        bench.receive(b, &ok.replacen("Record-Route:", &format!("{route}Record-Route:"), 1));
        let caller = Dialog::of_caller(a, &bench.one(a, "200"));
        bench.receive(a, &enlarged(&caller.request("INFO", 2)));
        let forwarded = bench.one(Peer(Flow { transport, ..b.0 }), "INFO");
        assert_eq!(uri(&forwarded), format!("sip:bob@{host}"));
        assert!(value(&forwarded, "Via").starts_with(&format!("SIP/2.0/{} ", transport.via_token())));
    }
}

/// Two users of one UC server, behind one flow: what follows in their dialog comes back over it, whatever their
/// contacts say.
#[test]
fn a_call_between_two_behind_one_flow_goes_through_in_both_directions() {
    for peer in [Peer::udp(5070), Peer::tcp(5072), Peer::outside(5074)] {
        let mut bench = Bench::new();
        bench.proxy.handle_standing(&peer.0, Some(UCS));
        bench.bind("bob", peer, 1000);
        let (caller, callee) = call(&mut bench, peer, peer, "c");
        let requests = [caller.request("UPDATE", 2), callee.request("INFO", 1), callee.request("BYE", 2)];
        for (text, method) in requests.iter().zip(["UPDATE", "INFO", "BYE"]) {
            exchange(&mut bench, peer, peer, text, method);
        }
    }
}

#[test]
fn one_udp_socket_is_recorded_once_and_two_sockets_twice() {
    let table = [
        (Peer::udp(5070), Peer::udp(5072), vec!["@127.0.0.1:5060;lr>"]),
        (Peer::udp(5070), Peer::tcp(5072), vec!["@127.0.0.1:5060;transport=tcp;lr>", "@127.0.0.1:5060;lr>"]),
        (
            Peer::tls(5070),
            Peer::tcp(5072),
            vec!["@127.0.0.1:5060;transport=tcp;lr>", "@127.0.0.1:5061;transport=tls;lr>"],
        ),
        (
            Peer::ws(5070),
            Peer::wss(5072),
            vec!["@127.0.0.1:8443;transport=ws;lr>", "@127.0.0.1:8080;transport=ws;lr>"],
        ),
    ];
    for (a, b, endings) in table {
        let mut bench = Bench::new();
        bench.log_on_all(&[a, b]);
        let own = with(&request("INVITE", "sip:bob@a.test", a, "c"), "Record-Route: <sip:earlier;lr>");
        bench.receive(a, &own);
        let invite = bench.one(b, "INVITE");
        let recorded = values(&invite, "Record-Route");
        assert_eq!(recorded.len(), endings.len() + 1);
        assert_eq!(recorded.last(), Some(&"<sip:earlier;lr>"));
        for (value, ending) in recorded.iter().zip(endings) {
            assert!(value.starts_with("<sip:") && value.ends_with(ending), "{value}");
        }
        bench.receive(b, &answer(&invite, 603));
        bench.take(b);
        bench.take(a);
    }
}

#[test]
fn what_forms_no_dialog_is_not_recorded() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let table = [
        ("INVITE", 1),
        ("SUBSCRIBE", 1),
        ("REFER", 1),
        ("MESSAGE", 0),
        ("NOTIFY", 0),
        ("PUBLISH", 0),
        ("OPTIONS", 0),
        ("FOO", 0),
    ];
    for (method, count) in table {
        let mut bench = Bench::new();
        bench.log_on_all(&[a, b]);
        bench.receive(a, &request(method, "sip:bob@a.test", a, "c"));
        let forwarded = bench.one(b, method);
        assert_eq!(values(&forwarded, "Record-Route").len(), count, "{method}");
        bench.receive(b, &answer(&forwarded, 404));
    }
}

#[test]
fn a_notify_in_a_recorded_subscription_is_recorded_too() {
    for (a, b, count) in [(Peer::udp(5070), Peer::udp(5072), 1), (Peer::udp(5070), Peer::tcp(5072), 2)] {
        let mut bench = Bench::new();
        bench.log_on_all(&[a, b]);
        bench.receive(a, &request("SUBSCRIBE", "sip:bob@a.test", a, "c"));
        let subscribe = bench.one(b, "SUBSCRIBE");
        // It may come before the 200 (RFC 6665 §4.4.1).
        let notifier = Dialog::of_callee(b, &subscribe, "bob");
        let notify = exchange(&mut bench, b, a, &notifier.request("NOTIFY", 1), "NOTIFY");
        assert_eq!(values(&notify, "Record-Route").len(), count);
        let contact = format!("Contact: <{}>\r\n", b.contact("bob"));
        bench.receive(b, &answer_with(&subscribe, 202, "bob", &contact));
        let subscriber = Dialog::of_caller(a, &bench.one(a, "202"));
        exchange(&mut bench, a, b, &subscriber.request("SUBSCRIBE", 2), "SUBSCRIBE");
        // By way of what the NOTIFY has recorded it goes the same.
        let by_notify = Dialog::of_callee(a, &notify, "alice");
        exchange(&mut bench, a, b, &by_notify.request("SUBSCRIBE", 3), "SUBSCRIBE");
    }
}

#[test]
fn a_token_lets_in_what_follows_in_its_dialog_and_nothing_else() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    let (caller, callee) = call(&mut bench, a, b, "c");
    for peer in [a, b] {
        bench.proxy.handle_standing(&peer.0, None);
    }
    exchange(&mut bench, a, b, &caller.request("INFO", 2), "INFO");
    exchange(&mut bench, b, a, &callee.request("INFO", 1), "INFO");
    // Both ends have read the token, so neither may use it in the other's name.
    let route = format!("Route: {}", value(&caller.request("BYE", 3), "Route"));
    bench.receive(a, &with(&request("REGISTER", "sip:a.test", a, "d"), &route));
    bench.one(a, "401");
    bench.receive(a, &with(&request("MESSAGE", "sip:bob@a.test", a, "e"), &route));
    bench.one(a, "407");
    bench.nothing_more();
}

#[test]
fn two_calls_between_the_same_ends_do_not_mix() {
    let (a, b, c) = (Peer::udp(5070), Peer::udp(5072), Peer::tcp(5074));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b, c]);
    bench.bind("bob", b, 1000);
    let (_, first) = call(&mut bench, a, b, "one");
    let (second, _) = call(&mut bench, c, b, "two");
    exchange(&mut bench, b, a, &first.request("BYE", 1), "BYE");
    exchange(&mut bench, c, b, &second.request("BYE", 2), "BYE");
}

#[test]
fn a_dialog_goes_on_over_the_new_connection_of_its_uc_server() {
    let (a, b, again) = (Peer::udp(5070), Peer::tcp(5072), Peer::tcp(5082));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    let (caller, callee) = call(&mut bench, a, b, "c");
    bench.close(b);
    bench.log_on(again, UCS);
    // What it does by datagrams besides is no connection.
    bench.proxy.handle_standing(&Peer::udp(5092).0, Some(UCS));
    exchange(&mut bench, a, again, &caller.request("INFO", 2), "INFO");
    exchange(&mut bench, again, a, &callee.request("BYE", 1), "BYE");
}

/// Its token was written when the connection was not there yet.
#[test]
fn a_callee_that_was_dialled_is_known_as_an_end_of_its_dialog() {
    let (a, b) = (Peer::udp(5070), Peer::tcp(5072));
    let mut bench = Bench::new();
    bench.log_on(a, UCS);
    bench.bind_target("bob", Target { flow: Peer::udp(5073).0, ..binding("bob", b) });
    let (_, callee) = call(&mut bench, a, b, "c");
    bench.receive(b, &callee.request("INVITE", 1));
    let invite = bench.one(a, "INVITE");
    bench.receive(a, &answer(&invite, 200));
    bench.one(b, "200");
    bench.receive(b, &callee.request("ACK", 1));
    bench.one(a, "ACK");
    assert_eq!(bench.drops(), []);
}

#[test]
fn a_request_over_a_connection_that_has_ended_is_answered_480() {
    for b in [Peer::tcp(5072), Peer::ws(5072), Peer::wss(5072)] {
        let a = Peer::udp(5070);
        let mut bench = Bench::new();
        bench.log_on_all(&[a, b]);
        let (caller, _) = call(&mut bench, a, b, "c");
        bench.close(b);
        bench.cut_off(b.0.transport, b.0.remote);
        bench.receive(a, &caller.request("BYE", 2));
        bench.one(a, "480");
        bench.nothing_more();
    }
}

#[test]
fn a_forged_or_foreign_route_is_followed_like_any_other() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    let (caller, _) = call(&mut bench, a, b, "c");
    let bye = caller.request("BYE", 2);
    // A user part that is no token of ours: the URI names us all the same, and the Request-URI decides.
    let token = value(&bye, "Route").split_once("sip:").unwrap().1.split_once('@').unwrap().0.to_owned();
    let forged = bye.replacen(&token, &"A".repeat(token.len()), 1);
    bench.receive(a, &forged);
    let forwarded = bench.one(b, "BYE");
    assert!(values(&forwarded, "Route").is_empty());
    bench.receive(b, &answer(&forwarded, 481));
    bench.one(a, "481");
    // Behind our own value stands another: it is the next hop and stays.
    let next = with(&caller.request("INFO", 3).replacen(&token, "x", 1), "Route: <sip:127.0.0.1:5072;lr>");
    bench.receive(a, &next);
    let forwarded = bench.one(b, "INFO");
    assert_eq!(values(&forwarded, "Route"), ["<sip:127.0.0.1:5072;lr>"]);
    bench.receive(b, &answer(&forwarded, 200));
    bench.one(a, "200");
}

#[test]
fn a_route_that_names_the_domain_names_us() {
    let (a, b) = (Peer::udp(5070), Peer::udp(5072));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    bench.receive(a, &with(&request("MESSAGE", "sip:bob@a.test", a, "c"), "Route: <sip:A.test;lr>"));
    let forwarded = bench.one(b, "MESSAGE");
    assert!(values(&forwarded, "Route").is_empty());
}

#[test]
fn a_binding_is_reached_by_its_path() {
    let (a, b) = (Peer::udp(5070), Peer::tcp(5072));
    let mut bench = Bench::new();
    bench.log_on(a, UCS);
    let path = vec!["<sip:p1.test;lr>".into(), "<sip:p2.test;lr>".into()];
    let target = Target { uri: "sip:bob@10.1.1.1:9?subject=x".into(), path, ..binding("bob", b) };
    bench.bind_target("bob", target);
    bench.receive(a, &with(&request("INVITE", "sip:bob@a.test", a, "c"), "Route: <sip:127.0.0.1:5060;lr>"));
    let invite = bench.one(b, "INVITE");
    // Headers have no place in a Request-URI (§19.1.1).
    assert_eq!(uri(&invite), "sip:bob@10.1.1.1:9");
    assert_eq!(values(&invite, "Route"), ["<sip:p1.test;lr>", "<sip:p2.test;lr>"]);
    bench.receive(b, &answer(&invite, 486));
    let ack = bench.one(b, "ACK");
    assert_eq!(values(&ack, "Route"), values(&invite, "Route"));
}

#[test]
fn an_ack_to_a_200_needs_a_way_and_a_sender() {
    let (a, b, stranger) = (Peer::udp(5070), Peer::udp(5072), Peer::udp(5999));
    let mut bench = Bench::new();
    bench.log_on_all(&[a, b]);
    let (caller, _) = call(&mut bench, a, b, "c");
    // Without a route it goes to the contact.
    let ack = caller.request("ACK", 1);
    let direct = ack.replacen("Route", "X-Route", 1);
    bench.receive(a, &direct);
    bench.one(b, "ACK");
    // A stranger's goes nowhere, unless it is in the dialog.
    let stranger_via = direct.replacen("127.0.0.1:5070", "127.0.0.1:5999", 1);
    bench.receive(stranger, &stranger_via);
    bench.nothing_more();
    assert_eq!(bench.drops(), [DropReason::StrayAck]);
    bench.receive(a, &ack.replacen("Max-Forwards: 70", "Max-Forwards: 0", 1));
    assert_eq!(bench.drops(), [DropReason::StrayAck]);
    // To a user, it asks where that is.
    bench.bind("bob", b, 1000);
    bench.receive(a, &direct.replacen(&b.contact("bob"), "sip:bob@a.test", 1));
    bench.one(b, "ACK");
}
