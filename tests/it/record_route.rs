//! What Record-Route holds and where it leads (RFC 3261 §16.6 step 4, RFC 5658), through spirals as well.

use std::collections::HashSet;
use std::net::SocketAddr;

use crate::common::agent::{Agent, unique};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::loopback;
use crate::common::sip::{Sip, host_port_of, parameter, uri_of};
use crate::invite::invitation;
use crate::support::{ALL, CERTIFIED, DOMAIN, Dialog, LIMIT, Site, final_response, open_house, relay, uri};

/// Pairs of interfaces: one socket, one transport, and two of them in both directions.
const PAIRS: [[Protocol; 2]; 7] = [
    [Protocol::Udp, Protocol::Udp],
    [Protocol::Tcp, Protocol::Tcp],
    [Protocol::Udp, Protocol::Tcp],
    [Protocol::Tcp, Protocol::Udp],
    [Protocol::Udp, Protocol::Mtls],
    [Protocol::Tls, Protocol::Tcp],
    [Protocol::Mtls, Protocol::Tls],
];

#[test]
fn what_forms_a_dialog_is_recorded_before_what_others_have_recorded() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &ALL).await;
        for [from, to] in PAIRS {
            let bob = format!("bob-{}", unique());
            let (mut a, mut b) = (site.connect(from).await, site.server(to, &bob).await);
            for method in ["INVITE", "SUBSCRIBE", "REFER", "MESSAGE", "PUBLISH"] {
                let others =
                    ["<sip:one.example.net;lr>", "<sip:two.example.net;lr>, <sip:three.example.net;lr>"];
                let request = a.request(method, &uri(&bob), &uri("alice"), &uri(&bob));
                let request = others.iter().fold(request, |request, row| request.with("Record-Route", *row));
                let (arrived, _) = relay(&request, &mut a, &mut b, 200).await;
                let rows = arrived.all("Record-Route");
                let (own, left) = rows.split_at(rows.len() - others.len());
                assert_eq!(left, others, "{method}:\n{arrived}");
                let expected = match method {
                    "MESSAGE" | "PUBLISH" => 0,
                    _ if from == Protocol::Udp && to == Protocol::Udp => 1,
                    _ => 2,
                };
                assert_eq!(own.len(), expected, "{method} from {from:?} to {to:?}:\n{arrived}");
                for value in own {
                    assert_eq!(parameter(uri_of(value), "lr"), Some(""), "a loose router's: {value}");
                }
            }
        }
    });
}

#[test]
fn each_recorded_uri_is_a_way_into_the_dialog() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &ALL).await;
        for [from, to] in PAIRS {
            let bob = format!("bob-{}", unique());
            let mut a = site.connect_from(loopback(), from).await;
            let mut b = site.connect_from(loopback(), to).await;
            b.register(DOMAIN, &bob, "nobody", "nothing").await;
            let request = a.request("SUBSCRIBE", &uri(&bob), &uri("alice"), &uri(&bob));
            a.send(&request).await;
            let arrived = b.receive_request("SUBSCRIBE").await;
            let accepted = b.response(&arrived, 200).with("Contact", b.contact("bob"));
            b.send(&accepted).await;
            let mut caller = Dialog::of_caller(&request, &a.receive_response(200).await);
            let mut callee = Dialog::of_callee(&arrived, &accepted);
            // The topmost one faces who was called, the last one who has called: each goes in by its own door, from
            // a port that the proxy has not seen before.
            let recorded = arrived.values("Record-Route");
            let mut door = enter(&site, &a, recorded.last().expect("it is recorded")).await;
            let refresh = caller.request(&door, "SUBSCRIBE").with("Event", "presence");
            relay(&refresh, &mut door, &mut b, 200).await;
            let mut door = enter(&site, &b, recorded[0]).await;
            let notify = callee.request(&door, "NOTIFY").with("Event", "presence");
            relay(&notify, &mut door, &mut a, 200).await;
        }
    });
}

/// A new port or connection of the machine of `end`, to where a recorded URI says.
async fn enter(site: &Site, end: &Agent, recorded: &str) -> Agent {
    let (uri, local) = (uri_of(recorded), end.local().ip());
    let address: SocketAddr = host_port_of(uri).parse().unwrap_or_else(|_| panic!("no address: {uri}"));
    match parameter(uri, "transport") {
        None => Agent::udp(local, address).await,
        Some("tcp") => Agent::tcp(local, address).await,
        Some("tls") => {
            let identity = site.authority.client(CERTIFIED);
            Agent::tls(local, address, site.authority.client_config(Some(&identity))).await
        }
        Some(other) => panic!("a transport {other}"),
    }
}

/// A UC server that forwards what comes to it back to the proxy, as a proxy of its own (RFC 3261 §16).
struct Spiral {
    agent: Agent,
    is_recorded: bool,
}

impl Spiral {
    /// The next request, its URI replaced where it is for a user of this server.
    async fn forward(&mut self, method: &str, new_uri: Option<&str>) -> Sip {
        let mut request = self.agent.receive_request(method).await;
        if let Some(uri) = new_uri {
            request.start_line = format!("{method} {uri} SIP/2.0");
        }
        let own = format!("<{};lr>", self.agent.contact("spiral").trim_matches(['<', '>']));
        if request.header("Route").is_some_and(|route| route.starts_with(&own)) {
            request.pop_front("Route");
        }
        if self.is_recorded && method == "INVITE" {
            request.push_front("Record-Route", own);
        }
        request.push_front("Via", self.agent.via());
        self.agent.send(&request).await;
        request
    }

    /// The next final response, without its own Via.
    async fn answer(&mut self) {
        let mut response = final_response(&mut self.agent).await;
        response.pop_front("Via").expect("its own Via");
        self.agent.send(&response).await;
    }
}

#[test]
fn a_spiral_is_no_loop_and_its_dialog_goes_all_the_way() {
    run(LIMIT, async {
        for (protocols, is_recorded) in [
            ([Protocol::Udp; 3], true),
            ([Protocol::Tcp; 3], true),
            ([Protocol::Udp, Protocol::Tls, Protocol::Tcp], true),
            ([Protocol::Udp; 3], false),
            ([Protocol::Tcp; 3], false),
        ] {
            let site = Site::open(open_house(), &[Protocol::Udp, Protocol::Tcp, Protocol::Tls]).await;
            let mut a = site.connect(protocols[0]).await;
            let agent = site.server(protocols[1], "team").await;
            let mut spiral = Spiral { agent, is_recorded };
            let mut b = site.server(protocols[2], "bob").await;

            let invite = invitation(&a, "team");
            a.send(&invite).await;
            let second_pass = spiral.forward("INVITE", Some(&uri("bob"))).await;
            let arrived = b.receive_request("INVITE").await;
            assert_passes_are_distinct(&arrived, &second_pass);
            b.answer(&arrived, 200).await;
            spiral.answer().await;
            let accepted = final_response(&mut a).await;
            assert_eq!(accepted.status(), 200, "{accepted}");

            let mut caller = Dialog::of_caller(&invite, &accepted);
            let mut callee = Dialog::of_callee(&arrived, &b.response(&arrived, 200));
            a.send(&caller.acknowledgement(&a)).await;
            if is_recorded {
                spiral.forward("ACK", None).await;
            }
            let ack = b.receive_request("ACK").await;
            assert_eq!(ack.all("Route").len(), 0, "all of the route is used up:\n{ack}");
            through(&mut spiral, (&mut a, &mut caller, "INFO"), &mut b).await;
            through(&mut spiral, (&mut b, &mut callee, "BYE"), &mut a).await;
        }
    });
}

/// `from` sends a request in its dialog, `to` gets it after both passes, and the answer comes all the way back.
async fn through(
    spiral: &mut Spiral,
    (from, dialog, method): (&mut Agent, &mut Dialog, &str),
    to: &mut Agent,
) {
    from.send(&dialog.request(from, method)).await;
    if spiral.is_recorded {
        spiral.forward(method, None).await;
    }
    let arrived = to.receive_request(method).await;
    let hops = if spiral.is_recorded { 4 } else { 2 };
    assert_eq!((arrived.all("Via").len(), arrived.all("Route").len()), (hops, 0), "{arrived}");
    to.answer(&arrived, 200).await;
    if spiral.is_recorded {
        spiral.answer().await;
    }
    from.receive_response(200).await;
}

/// What the second pass has put on top is none of what the first has left, and leaves that as it was.
fn assert_passes_are_distinct(arrived: &Sip, before: &Sip) {
    // The proxy adds to the Via below its own where the request came from.
    let branches = |message: &Sip| -> Vec<String> {
        let values = message.values("Via");
        values.into_iter().map(|via| parameter(via, "branch").expect("a branch").to_owned()).collect()
    };
    let recorded = |message: &Sip| -> Vec<String> {
        message.values("Record-Route").into_iter().map(str::to_owned).collect()
    };
    for (values, before, added) in
        [(branches(arrived), branches(before), 1), (recorded(arrived), recorded(before), 2)]
    {
        assert!(values.ends_with(&before), "{arrived}");
        assert!((before.len() + 1..=before.len() + added).contains(&values.len()), "{arrived}");
        assert_eq!(values.iter().collect::<HashSet<_>>().len(), values.len(), "one twice in:\n{arrived}");
    }
    assert_eq!(branches(arrived).len(), 4, "proxy, UC server, proxy, caller:\n{arrived}");
}
