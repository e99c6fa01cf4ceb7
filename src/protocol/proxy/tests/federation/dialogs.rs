//! Dialogs with other domains: by their connection, and after its end by the domain.

use std::sync::Arc;

use super::super::bench::binding;
use super::super::network::Peer;
use super::super::text::{Dialog, answer, answer_with, request, values};
use super::{B, bench, dialled, from_outside, proof, server};
use crate::protocol::flow::Transport;
use crate::protocol::next_hop::Query;

#[test]
fn a_dialog_with_the_outside_goes_on_by_its_connection_and_else_by_its_domain() {
    let (mut bench, ucs) = bench();
    bench.receive(
        ucs,
        &request("INVITE", B, ucs, "c").replace("To: <sip:bob@a.test>", "To: <sip:bob@b.test>"),
    );
    let servers =
        || Ok(vec![server("one.b.test", &["127.0.0.9:5061"]), server("sip.b.test", &["127.0.0.9:5062"])]);
    bench.cut_off(Transport::Tls, "127.0.0.9:5061".parse().unwrap());
    bench.resolve(servers());
    let invite = bench.one(dialled(5062), "INVITE");
    assert_eq!(values(&invite, "Record-Route").len(), 2);
    let contact = "Contact: <sip:bob@192.0.2.77:5061;transport=tls>\r\n";
    bench.receive(Peer::outside(5062), &answer_with(&invite, 200, "bob", contact));
    let ok = bench.one(ucs, "200");
    let caller = Dialog::of_caller(ucs, &ok);
    bench.receive(ucs, &caller.request("ACK", 1));
    bench.resolve(servers());
    bench.one(dialled(5062), "ACK");
    bench.receive(ucs, &caller.request("BYE", 2));
    assert_eq!(bench.question(), Some(&Query::Federation(Arc::from("b.test"))));
    bench.resolve(servers());
    // The server of the dialog comes first, though another is named first.
    let bye = bench.one(dialled(5062), "BYE");
    bench.receive(Peer::outside(5062), &answer(&bye, 200));
    bench.one(ucs, "200");
}

#[test]
fn a_call_from_outside_is_answered_over_its_connection_and_after_that_by_its_domain() {
    let (mut bench, ucs) = bench();
    let peer = Peer::outside(7000);
    bench.bind_target("alice", binding("alice", ucs));
    bench.receive_proven(peer, proof(&["b.test"]), from_outside("INVITE", peer, B, "c").as_bytes());
    let invite = bench.one(ucs, "INVITE");
    let contact = format!("Contact: <{}>\r\n", ucs.contact("alice"));
    bench.receive(ucs, &answer_with(&invite, 200, "alice", &contact));
    let ok = bench.one(peer, "200");
    let (caller, callee) = (Dialog::of_caller(peer, &ok), Dialog::of_callee(ucs, &invite, "alice"));
    bench.receive_proven(peer, proof(&["b.test"]), caller.request("ACK", 1).as_bytes());
    bench.one(ucs, "ACK");
    bench.receive(ucs, &callee.request("INFO", 1));
    let info = bench.one(peer, "INFO");
    bench.receive(peer, &answer(&info, 200));
    bench.one(ucs, "200");
    bench.close(peer);
    bench.cut_off(Transport::Tls, peer.0.remote);
    bench.receive(ucs, &callee.request("BYE", 2));
    assert_eq!(bench.question(), Some(&Query::Federation(Arc::from("b.test"))));
    bench.resolve(Ok(vec![server("sip.b.test", &["127.0.0.9:5061"])]));
    let bye = bench.one(dialled(5061), "BYE");
    bench.receive(Peer::outside(5061), &answer(&bye, 200));
    bench.one(ucs, "200");
}
