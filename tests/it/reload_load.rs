//! Reloads one after the other under load: not one transaction is lost, and no memory.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::agent::{Agent, unique};
use crate::common::proxy::Protocol;
use crate::common::run;
use crate::common::scratch::free_port;
use crate::support::{Site, open_house, uri};

/// How many reloads; `RELOADS` asks for another number.
const RELOADS: usize = 200;

/// How long they may take, each of them, on a machine that does much else.
const LIMIT_OF_EACH: Duration = Duration::from_secs(2);

/// How much more memory there may be after the last reload than after two fifths of them, in kilobytes.
const GROWTH: u64 = 16 << 10;

/// Messages of one pair that are under way together.
const BATCH: usize = 8;

/// Two UC servers that exchange messages until `is_over`. How many were answered; each has to be.
async fn exchange(
    mut from: Agent,
    mut to: Agent,
    user: String,
    is_over: Arc<AtomicBool>,
    sum: Arc<AtomicUsize>,
) {
    let mut known = HashSet::new();
    while !is_over.load(Ordering::Relaxed) {
        for number in 0..BATCH {
            let message = from.message(&uri("load"), &uri(&user), &format!("{number}"));
            from.send(&message).await;
        }
        // On a busy machine an answer over UDP may come too late to keep the proxy from asking again.
        let all = known.len() + BATCH;
        while known.len() < all {
            let arrived = to.receive_request("MESSAGE").await;
            to.answer(&arrived, 200).await;
            known.insert(arrived.need("Call-ID").to_owned());
        }
        for _ in 0..BATCH {
            from.receive_response(200).await;
        }
        sum.fetch_add(BATCH, Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

/// What changes with each reload, whichever is in force: routes, accounts, limits, an interface, the level of a log.
fn variable_part(number: usize, address: SocketAddr) -> String {
    let odd = number % 2 == 1;
    let interface = format!(
        "\n[[lan.network_interface]]\nip_address = \"{}\"\nport = {}\nprotocol = \"{}\"\n",
        address.ip(),
        address.port(),
        if number % 4 == 1 { "udp" } else { "tcp" }
    );
    let account = format!("\n[[lan.account]]\nuser_name = \"guest-{number}\"\npassword = \"p{number}\"\n");
    let route = format!(
        "\n[[static_routes.route]]\ndomain_name = \"p{number}.test\"\naccess_server = \"127.9.9.9\"\ntransport_protocol = \"tcp\"\n"
    );
    let limits = format!(
        "\n[limits]\nmaximum_connections = {}\nmaximum_message_bytes = {}\nrequests_per_second_per_address = {}\n\
         [registrar]\nmaximum_contacts = {}\n[federation_guard]\nusers = {}\n",
        10_000 + number,
        60_000 + number,
        1_000_000 - number,
        10 + number % 5,
        500 + number
    );
    format!("{}{account}{route}{limits}", if odd { interface } else { String::new() })
}

#[test]
fn reloads_under_load_lose_no_transaction_and_no_memory() {
    let reloads = std::env::var("RELOADS").ok().and_then(|number| number.parse().ok()).unwrap_or(RELOADS);
    let limit = LIMIT_OF_EACH * u32::try_from(reloads).expect("some thousand at most");
    run(limit, async move {
        let settings = open_house().key("diagnostics", "log_level", "\"info\"");
        let site = Site::open(settings, &[Protocol::Tcp, Protocol::Tls, Protocol::Udp]).await;
        let (is_over, sum) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut pairs = Vec::new();
        for protocol in [Protocol::Tcp, Protocol::Tls, Protocol::Udp] {
            let user = format!("load-{}", unique());
            let to = site.server(protocol, &user).await;
            let from = site.connect(protocol).await;
            pairs.push(tokio::spawn(exchange(from, to, user, Arc::clone(&is_over), Arc::clone(&sum))));
        }
        let identities = [0, 1].map(|_| site.authority.server(&[&site.proxy.ip().to_string()]));
        let address = SocketAddr::new(site.proxy.ip(), free_port(site.proxy.ip()));
        let mut file = String::new();
        site.proxy.edit(|text| {
            file.clone_from(&text);
            text
        });
        let mut settled = 0;
        for number in 0..reloads {
            let identity = &identities[number % 2];
            site.proxy.directory().write("proxy.pem", &identity.chain);
            site.proxy.directory().write("proxy.key", &identity.private_key);
            site.proxy.edit(|_| format!("{file}{}", variable_part(number, address)));
            let line = site.proxy.reload().await;
            assert!(line.contains(" reloaded "), "{line}");
            // By then the transactions of datagrams are kept that are kept for 32 s, if there are enough reloads.
            if number == reloads * 2 / 5 {
                settled = site.proxy.resident_kilobytes();
            }
        }
        is_over.store(true, Ordering::Relaxed);
        for pair in pairs {
            pair.await.expect("every message of this pair is answered");
        }
        let (exchanged, after) = (sum.load(Ordering::Relaxed), site.proxy.resident_kilobytes());
        println!(
            "{reloads} reloads, {exchanged} messages, {settled} kB after two fifths, {after} kB at the end"
        );
        assert!(exchanged >= reloads, "{exchanged} messages are no load");
        assert!(after <= settled + GROWTH, "{after} kB, {settled} kB after two fifths of the reloads");
        site.is_well(Protocol::Tcp).await;
    });
}
