//! Accounts come, go, and prove themselves otherwise.

use sha2::{Digest, Sha256, Sha512_256};

use crate::common::agent::Agent;
use crate::common::digest::{Challenge, Credentials};
use crate::common::proxy::{Protocol, Settings};
use crate::common::run;
use crate::support::{CERTIFIED, DOMAIN, LIMIT, Site, open_house, relay, uri};

#[test]
fn an_account_that_went_takes_its_bindings_and_log_ons_with_it() {
    run(LIMIT, async {
        let settings =
            Settings::new(DOMAIN).account("first", "one").account("second", "two").account("third", "three");
        let site = Site::open(settings, &[Protocol::Tcp]).await;
        let mut first = site.connect(Protocol::Tcp).await;
        let mut second = site.connect(Protocol::Tcp).await;
        let mut third = site.connect(Protocol::Tcp).await;
        first.register(DOMAIN, "alice", "first", "one").await;
        second.register(DOMAIN, "bob", "second", "two").await;
        third.register(DOMAIN, "carol", "third", "three").await;
        let to_bob = first.message(&uri("alice"), &uri("bob"), "hello");
        relay(&to_bob, &mut first, &mut second, 200).await;
        site.proxy.replace("\n[[lan.account]]\nuser_name = \"second\"\npassword = \"two\"\n", "");
        assert!(site.proxy.reload().await.contains("changes=1"));
        site.proxy.logs(&["logged_off", "account_removed"]).await;
        // Bob is searched for at the third, who has not been disturbed, and has kept its name.
        let again = first.message(&uri("alice"), &uri("bob"), "hello");
        relay(&again, &mut first, &mut third, 404).await;
        let to_carol = first.message(&uri("alice"), &uri("carol"), "hello");
        relay(&to_carol, &mut first, &mut third, 200).await;
        let refused = second.message(&uri("bob"), &uri("alice"), "hello");
        assert_eq!(second.exchange(&refused).await.status(), 407);
        // It comes back as a new one.
        site.proxy
            .edit(|text| format!("{text}\n[[lan.account]]\nuser_name = \"second\"\npassword = \"two\"\n"));
        site.proxy.reload().await;
        second.register(DOMAIN, "bob", "second", "two").await;
        let to_bob = first.message(&uri("alice"), &uri("bob"), "hello");
        relay(&to_bob, &mut first, &mut second, 200).await;
    });
}

#[test]
fn whose_password_is_changed_proves_the_new_one() {
    run(LIMIT, async {
        let site = Site::open(Settings::new(DOMAIN).account("uc", "old"), &[Protocol::Tcp]).await;
        let mut server = site.connect(Protocol::Tcp).await;
        server.register(DOMAIN, "alice", "uc", "old").await;
        site.proxy.replace("password = \"old\"", "password = \"new\"");
        let line = site.proxy.reload().await;
        assert!(line.contains("changes=1"), "{line}");
        let told = site.proxy.logs(&["configuration_changed", "lan.account[uc].password"]).await;
        assert!(told.contains("***") && !told.contains("\"new\""), "{told}");
        let message = server.message(&uri("alice"), &uri("bob"), "hello");
        assert_eq!(server.exchange(&message).await.status(), 407);
        server.register(DOMAIN, "alice", "uc", "new").await;
    });
}

/// The hash that stands for a password in the realm of these tests.
fn hash<D: Digest>(user_name: &str, password: &str) -> String {
    let octets = D::digest(format!("{user_name}:{DOMAIN}:{password}"));
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The best status that a REGISTER of the account's user gets on a new connection, by any of the algorithms.
async fn status_of_log_on(site: &Site, protocol: Protocol, password: &str) -> u16 {
    let mut agent = site.connect(protocol).await;
    let identity = uri("dora");
    let request = agent
        .request("REGISTER", &format!("sip:{DOMAIN}"), &identity, &identity)
        .set("Contact", agent.contact("dora"))
        .with("Expires", "600");
    let challenged = agent.exchange(&request).await;
    let mut best = challenged.status();
    for (challenge, number) in Challenge::all(&challenged).into_iter().zip(2..) {
        let credentials = Credentials { user: "uc", password };
        let answer = challenge.answer("REGISTER", request.uri(), credentials, 1);
        let retry = request.clone().set("Via", agent.via()).set("CSeq", format!("{number} REGISTER"));
        best = best.min(agent.exchange(&retry.with("Authorization", answer)).await.status());
    }
    agent.close().await;
    best
}

/// An account, to be replaced.
const FIRST: &str = "user_name = \"first\"\npassword = \"first\"\n";

/// An account of this list is renamed, and given one proof after the other, each of which holds and the one before does not.
async fn is_proven_in_each_way(beginning: Settings, list: &str) {
    let settings = beginning.file("secret", "of a file\n").key("registrar", "failed_log_ons", "0");
    let site = Site::open(settings, &[Protocol::Tcp, Protocol::Mtls]).await;
    let scope = format!("users = [\"{}\"]", uri("dora").replace("sip:", ""));
    let row = |proof: &str| format!("user_name = \"uc\"\n{proof}\n{scope}\n");
    let table = [
        ("password = \"given\"".to_owned(), "given"),
        ("password_file = \"secret\"".to_owned(), "of a file"),
        (format!("ha1_md5 = \"{}\"", hash::<md5::Md5>("uc", "of md5")), "of md5"),
        (format!("ha1_sha256 = \"{}\"", hash::<Sha256>("uc", "of sha256")), "of sha256"),
        (format!("ha1_sha512_256 = \"{}\"", hash::<Sha512_256>("uc", "of sha512")), "of sha512"),
    ];
    let mut before = (FIRST.to_owned(), "first");
    for (proof, password) in table {
        let rows = row(&proof);
        site.proxy.replace(&before.0, &rows);
        let line = site.proxy.reload().await;
        assert!(line.contains(" reloaded "), "{list} {proof}: {line}");
        assert_eq!(status_of_log_on(&site, Protocol::Tcp, password).await, 200, "{list} {proof}");
        assert_eq!(status_of_log_on(&site, Protocol::Tcp, before.1).await, 401, "{list} {proof}");
        before = (rows, password);
    }
    let certified = row(&format!("certificate = \"{CERTIFIED}\""));
    site.proxy.replace(&before.0, &certified);
    assert!(site.proxy.reload().await.contains(" reloaded "));
    assert_eq!(status_of_log_on(&site, Protocol::Mtls, "").await, 200, "{list}");
    // Where no account of the LAN has a password, nobody is asked for one.
    assert!([401, 403].contains(&status_of_log_on(&site, Protocol::Tcp, before.1).await), "{list}");
}

#[test]
fn an_account_of_any_list_is_proven_in_each_way_that_it_is_given() {
    // password_file, ha1_md5, ha1_sha256, ha1_sha512_256, certificate
    run(2 * LIMIT, async {
        for list in ["lan.account", "registrar.account"] {
            let first = format!("\n[[{list}]]\n{FIRST}");
            is_proven_in_each_way(Settings::new(DOMAIN).account("somebody", "else").text(&first), list).await;
        }
        is_proven_in_each_way(Settings::new(DOMAIN).account_rows(FIRST), "lan").await;
    });
}

#[test]
fn whose_scope_is_changed_speaks_for_those_of_now() {
    run(LIMIT, async {
        let account =
            |users: &str| format!("user_name = \"uc-s\"\npassword = \"s\"\nusers = [\"{users}\"]\n");
        // The first account stands in `[lan]`.
        for is_first in [true, false] {
            let (rows, settings) = (account("alice@example.org"), Settings::new(DOMAIN));
            let settings = if is_first {
                settings.account_rows(&rows).account("uc-b", "b")
            } else {
                settings.account("uc-b", "b").account_rows(&rows)
            };
            let site = Site::open(settings, &[Protocol::Tcp]).await;
            let (mut s, mut b) = (site.connect(Protocol::Tcp).await, site.connect(Protocol::Tcp).await);
            b.register(DOMAIN, "bob", "uc-b", "b").await;
            s.register(DOMAIN, "alice", "uc-s", "s").await;
            let from = |s: &Agent, user: &str| s.message(&uri(user), &uri("bob"), "hello");
            assert_eq!(s.exchange(&from(&s, "carol")).await.status(), 403);
            for (old, new, speaks, silent) in [
                ("alice@example.org", "carol@example.org", "carol", "alice"),
                ("carol@example.org", "*@example.org", "alice", ""),
                ("*@example.org", "alice@example.org", "alice", "carol"),
            ] {
                site.proxy.replace(&account(old), &account(new));
                assert!(site.proxy.reload().await.contains("changes=1"));
                site.proxy.logs(&["configuration_changed", "lan.account[uc-s].users", new]).await;
                relay(&from(&s, speaks), &mut s, &mut b, 200).await;
                if new == "carol@example.org" {
                    // Nobody is reached by it who is not one of its users.
                    site.proxy.logs(&["binding_removed", "aor=alice@example.org", "account_changed"]).await;
                    let to_alice = b.message(&uri("bob"), &uri("alice"), "hello");
                    assert_eq!(b.exchange(&to_alice).await.status(), 480);
                }
                if !silent.is_empty() {
                    assert_eq!(s.exchange(&from(&s, silent)).await.status(), 403, "{new}");
                }
            }
        }
    });
}

#[test]
fn a_registrant_comes_has_another_scope_and_goes() {
    run(LIMIT, async {
        let site = Site::open(Settings::new(DOMAIN).account("uc", "secret"), &[Protocol::Tcp]).await;
        let table = |user: &str| {
            let users = format!("users = [\"{user}@partner.example\"]");
            format!("\n[[registrar.account]]\nuser_name = \"p\"\npassword = \"secret p\"\n{users}\n")
        };
        let register = |agent: &Agent, user: &str| {
            let identity = format!("sip:{user}@partner.example");
            agent.request("REGISTER", &format!("sip:{DOMAIN}"), &identity, &identity)
        };
        let mut phone = site.connect(Protocol::Tcp).await;
        let status = async |phone: &mut Agent, user: &str| {
            phone.authorised_exchange(&register(phone, user), "p", "secret p").await.status()
        };
        assert_eq!(status(&mut phone, "p").await, 401);
        site.proxy.edit(|text| text + &table("p"));
        assert!(site.proxy.reload().await.contains("changes=1"));
        assert_eq!([status(&mut phone, "p").await, status(&mut phone, "q").await], [200, 403]);
        site.proxy.replace(&table("p"), &table("q"));
        assert!(site.proxy.reload().await.contains("changes=1"));
        assert_eq!([status(&mut phone, "p").await, status(&mut phone, "q").await], [403, 200]);
        site.proxy.replace(&table("q"), "");
        assert!(site.proxy.reload().await.contains("changes=1"));
        assert_eq!(status(&mut phone, "q").await, 401);
    });
}

#[test]
fn what_counts_as_the_lan_changes_for_those_who_are_connected() {
    run(LIMIT, async {
        let site = Site::open(open_house(), &[Protocol::Tcp, Protocol::Udp]).await;
        let networks = |networks: &str| format!("[\"{networks}\"]");
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let (mut a, mut bob) = (site.connect(protocol).await, site.server(protocol, "bob").await);
            let message = |a: &Agent| a.message(&uri("alice"), &uri("bob"), "hello");
            relay(&message(&a), &mut a, &mut bob, 200).await;
            site.proxy.change(&[("lan", "allowed_networks", &networks("10.0.0.0/8"))]).await;
            assert_eq!(a.exchange(&message(&a)).await.status(), 403, "{protocol:?}");
            let own = format!("{}/32", site.proxy.ip());
            site.proxy.change(&[("lan", "allowed_networks", &networks(&own))]).await;
            bob.register(DOMAIN, "bob", "nobody", "nothing").await;
            relay(&message(&a), &mut a, &mut bob, 200).await;
            bob.close().await;
        }
    });
}
