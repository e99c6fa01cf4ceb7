//! Admission: who may send what (product rule), decided by the flow that a request came in on and by digest
//! credentials, never by what its headers claim (RFC 3261 §22, RFC 7616, RFC 8760).

use super::account::{Account, AccountId, AccountKind, Secret};
use super::digest::{
    Credentials, CredentialsFault, Expected, NonceUse, NonceVerdict, Nonces, Refusal, Verified, challenge,
    verify,
};
use super::flow::Flow;
use super::interface::Side;
use super::location::Destination;
use super::message::name_addr::NameAddr;
use super::message::reply::Reply;
use super::message::uri::{Uri, UriFault, are_equivalent, unescape};
use super::message::{Message, Method, Name};
use super::proxy::settings::Settings;

/// So many rows of credentials are read, of Authorization and Proxy-Authorization together.
const CREDENTIALS_READ: usize = 8;

/// What is known of a request's sender before its headers are read.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The flow that it came in on.
    pub flow: &'a Flow,
    /// The side of that flow's interface.
    pub side: Side,
    /// The account that the connection's client certificate proves.
    pub certificate: Option<AccountId>,
    /// The account that this flow has logged on as before.
    pub standing: Option<AccountId>,
    /// A wrong answer of its host is still being punished: nothing more is verified for it meanwhile.
    pub is_suspect: bool,
    /// The account of the dialog that the request belongs to, by a token of ours that names this very flow.
    pub dialog: Option<AccountId>,
}

/// A request that may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Whose it is.
    pub account: AccountId,
    /// The flow has proven the account by this very request: the Registrar is to know.
    pub is_new_proof: bool,
    /// The use of a nonce that must not have been before.
    pub nonce_use: Option<NonceUse>,
}

/// A request that may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No credentials, or such as cannot be accepted: a challenge. `is_stale` if only the nonce was too old.
    Challenge {
        /// RFC 7616 §3.3.
        is_stale: bool,
        /// The log name of what was wrong, where credentials were there.
        fault: Option<&'static str>,
        /// The sender has answered a challenge that was sent to it, and wrongly: it may be guessing.
        is_guess: bool,
    },
    /// Nothing that it could prove would help.
    Forbidden(&'static str),
    /// The credentials are no credentials.
    Malformed(&'static str),
}

/// Decides who has sent `request`. `now_millis` is the clock of `nonces`.
pub fn identify(
    request: &Message,
    sender: &Sender<'_>,
    settings: &Settings,
    nonces: &Nonces,
    now_millis: u64,
) -> Result<Admitted, Denied> {
    let standing = sender.standing.filter(|_| counts(request, sender));
    let is_server = |id: &AccountId| {
        settings.accounts.get(*id).is_some_and(|account| account.kind == AccountKind::UcServer)
    };
    if let Some(account) = standing.filter(is_server) {
        return Ok(Admitted { account, is_new_proof: false, nonce_use: None });
    }
    if let Some(account) = sender.certificate {
        return Ok(Admitted { account, is_new_proof: true, nonce_use: None });
    }
    let by_credentials = by_credentials(request, sender, settings, nonces, now_millis);
    if let Err(Denied::Challenge { fault: None, .. }) = by_credentials {
        // Several registrants may share a connection: the one that has logged on speaks for itself, others by theirs.
        let speaks = |id: &AccountId| {
            let account = settings.accounts.get(*id);
            account.is_some_and(|account| check_scope(request, account, settings).is_ok())
        };
        if let Some(account) = standing.filter(speaks) {
            return Ok(Admitted { account, is_new_proof: false, nonce_use: None });
        }
        if let Some(account) = by_address(sender, settings) {
            return Ok(Admitted { account, is_new_proof: true, nonce_use: None });
        }
        if let Some(account) = sender.dialog.filter(|_| is_in_dialog(request)) {
            return Ok(Admitted { account, is_new_proof: false, nonce_use: None });
        }
        let can_answer = settings.accounts.list().iter().any(|account| {
            is_for(account, sender.side)
                && !matches!(account.secret, Secret::Address | Secret::Certificate(_))
        });
        if !can_answer {
            return Err(Denied::Forbidden("Not A Logged-On UC Server"));
        }
    }
    by_credentials
}

/// Whether a request shows credentials that are meant for us: those of another realm are for whoever asked for them
/// (RFC 3261 §22.3).
pub fn has_credentials(request: &Message, settings: &Settings) -> bool {
    let mut rows = request.rows(Name::ProxyAuthorization).take(CREDENTIALS_READ);
    rows.any(|row| Credentials::parse(row).is_ok_and(|credentials| is_ours(&credentials, settings)))
}

fn is_ours(credentials: &Credentials<'_>, settings: &Settings) -> bool {
    *credentials.realm == *settings.realm.as_bytes()
}

/// Whether the standing of the flow speaks for this request. The source of a datagram can be forged, so what changes
/// the bindings of a server is proven each time.
fn counts(request: &Message, sender: &Sender<'_>) -> bool {
    sender.flow.transport.is_reliable() || request.method() != Some(Method::Register)
}

/// Whether a token can speak for this request: it stands in the Route of what follows in a dialog, and everybody on
/// the dialog's path has read it. A registration belongs to none.
fn is_in_dialog(request: &Message) -> bool {
    request.method() != Some(Method::Register) && request.is_in_dialog()
}

/// UC servers log on at the LAN; who else may register does so anywhere.
const fn is_for(account: &Account, side: Side) -> bool {
    matches!((account.kind, side), (AccountKind::Registrant, _) | (AccountKind::UcServer, Side::Lan))
}

/// The account without password, for senders on the LAN's networks.
fn by_address(sender: &Sender<'_>, settings: &Settings) -> Option<AccountId> {
    let is_lan = sender.side == Side::Lan && settings.is_lan(sender.flow.remote.ip());
    let account = settings.accounts.find(|account| account.secret == Secret::Address)?;
    is_lan.then_some(account.0)
}

fn by_credentials(
    request: &Message,
    sender: &Sender<'_>,
    settings: &Settings,
    nonces: &Nonces,
    now_millis: u64,
) -> Result<Admitted, Denied> {
    let mut denied = Denied::Challenge { is_stale: false, fault: None, is_guess: false };
    // REGISTER answers a 401 and all else a 407, but peers mix the two up, and nobody gains by that.
    let rows = request.rows(Name::Authorization).chain(request.rows(Name::ProxyAuthorization));
    for row in rows.take(CREDENTIALS_READ) {
        let credentials = match Credentials::parse(row) {
            Ok(credentials) => credentials,
            // What we never offer is no answer to us: it may be for another realm.
            Err(
                CredentialsFault::OtherScheme
                | CredentialsFault::Unanswered
                | CredentialsFault::UnsupportedAlgorithm
                | CredentialsFault::UnsupportedQop,
            ) => continue,
            Err(_) => {
                denied = Denied::Malformed("Malformed Digest Credentials");
                continue;
            }
        };
        // Another realm's are for somebody behind us (§22.3).
        if !is_ours(&credentials, settings) {
            continue;
        }
        match check(&credentials, request, sender, settings, nonces, now_millis) {
            Ok(Some(admitted)) => return Ok(admitted),
            // Nor are those for a challenge of somebody else's by the same name.
            Ok(None) => {}
            Err(reason) => denied = reason,
        }
    }
    Err(denied)
}

/// `None`: the challenge that is answered was not ours.
fn check(
    credentials: &Credentials<'_>,
    request: &Message,
    sender: &Sender<'_>,
    settings: &Settings,
    nonces: &Nonces,
    now_millis: u64,
) -> Result<Option<Admitted>, Denied> {
    let refused = |fault, is_guess| Denied::Challenge { is_stale: false, fault: Some(fault), is_guess };
    let stale = |fault| Err(Denied::Challenge { is_stale: true, fault: Some(fault), is_guess: false });
    // The nonce first: what is not good for an answer is not worth the hashing.
    let (nonce, is_stale) = match nonces.check(&credentials.nonce, now_millis) {
        NonceVerdict::Forged => return Ok(None),
        NonceVerdict::Stale(nonce) => (nonce, true),
        NonceVerdict::Valid(nonce) => (nonce, false),
    };
    // Each host answers its own challenges: else one could guess at the cost of another, or have it blamed.
    if nonce.origin() != nonces.origin_of(sender.flow.remote.ip()) {
        return stale("nonce_of_another_host");
    }
    if sender.is_suspect {
        return stale("guessing");
    }
    let found = settings.accounts.by_user_name(&credentials.user_name);
    let (id, account) =
        found.filter(|(_, account)| is_for(account, sender.side)).ok_or(refused("unknown_user", true))?;
    let expected = Expected {
        user_name: &account.user_name,
        secret: &account.secret,
        realm: &settings.realm,
        method: request.method_token(),
        algorithms: &settings.digest_algorithms,
    };
    let verified = verify(credentials, &expected)
        .map_err(|refusal| refused(refusal.log_name(), refusal == Refusal::WrongResponse))?;
    let count = match verified {
        Verified::Counted(count) => Some(count),
        Verified::Uncounted if settings.accepts_digest_without_qop => None,
        Verified::Uncounted => return Err(refused("without_qop", false)),
    };
    let is_for_request = are_equivalent(&credentials.uri, request.request_uri());
    if !is_for_request && !settings.accepts_digest_for_other_uri {
        return Err(Denied::Malformed("Digest URI Is Not The Request-URI"));
    }
    // Only who knows the password learns that its nonce was merely too old.
    if is_stale {
        return stale("stale_nonce");
    }
    let nonce_use = Some(NonceUse { id: nonce, count });
    Ok(Some(Admitted { account: id, is_new_proof: true, nonce_use }))
}

/// Whether `account` may send `request`: the user of From, of REGISTER the one of To (third-party registration),
/// must be one for whom it speaks.
pub fn check_scope(request: &Message, account: &Account, settings: &Settings) -> Result<(), Reply> {
    let is_register = request.method() == Some(Method::Register);
    let header = if is_register { request.to() } else { request.from() };
    let (status, fault) = match header.map(|header| speaks_for(&header, account, settings)) {
        Some(Ok(())) => return Ok(()),
        // The To of a REGISTER is a SIP URI (RFC 3261 §10.3 step 5, RFC 4475 §3.3.4).
        Some(Err(Outside::Scheme)) if is_register => (400, "Address-Of-Record Is No SIP URI"),
        Some(Err(Outside::Domain)) if is_register => (404, "Address-Of-Record In No Domain Served Here"),
        Some(Err(Outside::Scope)) if is_register => (403, "Address-Of-Record Outside The Account's Scope"),
        Some(Err(Outside::Domain | Outside::Scheme)) => (403, "From In No Domain Served Here"),
        Some(Err(Outside::Scope)) => (403, "From Outside The Account's Scope"),
        None | Some(Err(Outside::Malformed)) => (400, "Malformed From Or To"),
    };
    Err(Reply::with_reason(status, fault))
}

/// Whether `account` may have answers to `request` sent to its Contact. A public GRUU of somebody for whom it does not
/// speak would turn others' traffic on that user (RFC 5627 §6.2, §10.2).
pub fn check_contact(request: &Message, account: &Account, settings: &Settings) -> Result<(), Reply> {
    if !request.method().is_some_and(Method::forms_dialog) {
        return Ok(());
    }
    let contact = request.row(Name::Contact).and_then(NameAddr::parse);
    let is_gruu = |contact: &NameAddr<'_>| {
        let uri = Uri::parse(contact.uri).ok().filter(|uri| settings.is_presence_domain(&uri.host));
        uri.is_some_and(|uri| matches!(Destination::of(&uri), Destination::Instance(..)))
    };
    match contact.filter(is_gruu).map(|contact| speaks_for(&contact, account, settings)) {
        Some(Err(_)) => Err(Reply::with_reason(403, "Contact Is Another User's GRUU")),
        Some(Ok(())) | None => Ok(()),
    }
}

enum Outside {
    Domain,
    Scheme,
    Scope,
    Malformed,
}

fn speaks_for(header: &NameAddr<'_>, account: &Account, settings: &Settings) -> Result<(), Outside> {
    let uri = match Uri::parse(header.uri) {
        Ok(uri) => uri,
        Err(UriFault::Scheme) => return Err(Outside::Scheme),
        Err(_) => return Err(Outside::Malformed),
    };
    // Registrants have domains of their own: the scope says which.
    if account.kind == AccountKind::UcServer && !settings.is_presence_domain(&uri.host) {
        return Err(Outside::Domain);
    }
    let user = uri.user.map(unescape).unwrap_or_default();
    // The server's own address-of-record, or the domain itself, is nobody's user.
    let is_itself = user.is_empty() || *user == *account.user_name.as_bytes();
    let is_own = account.kind == AccountKind::UcServer && is_itself;
    let in_scope = account.scope.contains(&user, &uri.host.to_lowercase());
    if is_own || in_scope { Ok(()) } else { Err(Outside::Scope) }
}

/// The challenge to a request: 401 to REGISTER, 407 to all else (RFC 3261 §22.2, §22.3; product rule).
pub fn challenge_reply(method: Method, settings: &Settings, nonce: &str, is_stale: bool) -> Reply {
    let (status, name) = match method {
        Method::Register => (401, Name::WwwAuthenticate),
        _ => (407, Name::ProxyAuthenticate),
    };
    challenge(&settings.realm, &settings.digest_algorithms, nonce, is_stale)
        .into_iter()
        .fold(Reply::new(status), |reply, value| reply.row(name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::protocol::account::{Accounts, Scope};
    use crate::protocol::digest::Algorithm;
    use crate::protocol::flow::{InterfaceId, Transport};
    use crate::protocol::message::{Carriage, MessageLimits};
    use crate::protocol::transaction::Timers;

    const NOBODY: Denied = Denied::Challenge { is_stale: false, fault: None, is_guess: false };

    fn account(user_name: &str, secret: Secret, kind: AccountKind, scope: &str) -> Account {
        Account { user_name: user_name.to_owned(), secret, scope: Scope::parse(&[scope]).unwrap(), kind }
    }

    fn settings(accounts: Vec<Account>) -> Settings {
        Settings {
            requests_per_second_per_address: 0,
            presence_domains: vec!["a.test".to_owned()],
            realm: "a.test".to_owned(),
            accounts: Arc::new(Accounts::new(accounts)),
            lan_networks: vec!["127.0.0.0/8".parse().unwrap()],
            digest_algorithms: vec![Algorithm::Sha256, Algorithm::Md5],
            nonce_lifetime: Duration::from_secs(60),
            federation: crate::protocol::federation::Federation::default(),
            dns_timeout: Duration::from_secs(4),
            tolerated_proxy_require: vec!["ms-benotify".to_owned(), "ms-piggyback-first-notify".to_owned()],
            keep_alive_timeout: Duration::from_secs(540),
            timers: Timers::default(),
            timer_c: Duration::from_secs(185),
            udp_mtu: 1300,
            follow_redirections: false,
            accepts_digest_without_qop: false,
            accepts_digest_for_other_uri: false,
            counts_guesses: true,
            maximum_transactions: 1,
        }
    }

    fn request(method: &str, from: &str, to: &str, row: &str) -> Message {
        request_to(method, from, &format!("<{to}>"), row)
    }

    fn request_to(method: &str, from: &str, to: &str, row: &str) -> Message {
        let text = format!("{method} sip:a.test SIP/2.0\r\nFrom: <{from}>;tag=1\r\nTo: {to}\r\n{row}\r\n");
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        Message::parse(Bytes::from(text), Carriage::Datagram, limits).unwrap()
    }

    fn flow(remote: &str) -> Flow {
        Flow {
            interface: InterfaceId(0),
            transport: Transport::Udp,
            local: "127.0.0.1:5060".parse().unwrap(),
            remote: remote.parse().unwrap(),
            connection: None,
        }
    }

    fn password() -> Secret {
        Secret::Password("pw".to_owned())
    }

    /// The account that a request without credentials is taken for.
    fn taken_for(
        settings: &Settings,
        side: Side,
        remote: &str,
        known: [Option<u16>; 2],
    ) -> Result<(u16, bool), Denied> {
        let [certificate, standing] = known.map(|known| known.map(AccountId));
        let sender =
            Sender { flow: &flow(remote), side, certificate, standing, is_suspect: false, dialog: None };
        let request = request("MESSAGE", "sip:x@a.test", "sip:y@a.test", "");
        let nonces = Nonces::new([1; 32], settings.nonce_lifetime);
        let admitted = identify(&request, &sender, settings, &nonces, 0)?;
        assert_eq!(admitted.nonce_use, None);
        Ok((admitted.account.0, admitted.is_new_proof))
    }

    #[test]
    fn what_is_known_already_comes_before_what_would_have_to_be_proven() {
        let open = settings(vec![
            account("ucs", password(), AccountKind::UcServer, "*"),
            account("open", Secret::Address, AccountKind::UcServer, "*"),
        ]);
        let lan = "127.0.0.2:1";
        let table = [
            (Side::Lan, lan, [Some(1), Some(0)], Ok((0, false))),
            (Side::Wan, lan, [Some(0), None], Ok((0, true))),
            (Side::Lan, lan, [None, None], Ok((1, true))),
            // The address counts on the LAN's side, and there from its networks.
            (Side::Lan, "192.0.2.1:1", [None, None], Err(NOBODY)),
            (Side::Wan, lan, [None, None], Err(Denied::Forbidden("Not A Logged-On UC Server"))),
        ];
        for (side, remote, known, expected) in table {
            assert_eq!(taken_for(&open, side, remote, known), expected, "{side:?} {remote} {known:?}");
        }
    }

    #[test]
    fn what_a_datagram_proves_by_its_source_does_not_go_for_everything() {
        let settings = settings(vec![account("ucs", password(), AccountKind::UcServer, "*")]);
        let nonces = Nonces::new([1; 32], settings.nonce_lifetime);
        let (flow, own, known) = (flow("127.0.0.2:1"), "sip:x@a.test", Some(AccountId(0)));
        let in_dialog = "<sip:y@a.test>;tag=2";
        let table = [
            ("MESSAGE", "<sip:y@a.test>", known, None, true),
            ("REGISTER", "<sip:x@a.test>", known, None, false),
            ("INFO", in_dialog, None, known, true),
            ("INFO", in_dialog, None, None, false),
            // Outside of a dialog a token says nothing.
            ("MESSAGE", "<sip:y@a.test>", None, known, false),
            ("REGISTER", in_dialog, known, known, false),
        ];
        for (method, to, standing, dialog, is_admitted) in table {
            let request = request_to(method, own, to, "");
            let sender = Sender {
                flow: &flow,
                side: Side::Lan,
                certificate: None,
                standing,
                is_suspect: false,
                dialog,
            };
            let outcome = identify(&request, &sender, &settings, &nonces, 0);
            assert_eq!(outcome.is_ok(), is_admitted, "{method} {to} {outcome:?}");
        }
    }

    #[test]
    fn only_who_could_answer_a_challenge_gets_one() {
        let certificate = Secret::Certificate("x".to_owned());
        let table = [
            (vec![], Side::Lan, false),
            (vec![account("ucs", certificate, AccountKind::UcServer, "*")], Side::Lan, false),
            (vec![account("ucs", password(), AccountKind::UcServer, "*")], Side::Lan, true),
            (vec![account("ucs", password(), AccountKind::UcServer, "*")], Side::Wan, false),
            (vec![account("p", password(), AccountKind::Registrant, "*@p.test")], Side::Wan, true),
        ];
        for (accounts, side, is_challenged) in table {
            let denied = taken_for(&settings(accounts), side, "192.0.2.1:1", [None, None]).unwrap_err();
            assert_eq!(denied == NOBODY, is_challenged, "{denied:?}");
        }
    }

    #[test]
    fn each_account_speaks_for_its_scope_and_for_itself() {
        let settings = settings(Vec::new());
        let server = account("ucs", password(), AccountKind::UcServer, "carol@a.test");
        let partner = account("p", password(), AccountKind::Registrant, "*@p.test");
        let table = [
            (&server, "sip:carol@a.test", 0, 0),
            (&server, "sips:%63arol@A.TEST.:5061", 0, 0),
            (&server, "sip:Carol@a.test", 403, 403),
            (&server, "sip:bob@a.test", 403, 403),
            (&server, "sip:ucs@a.test", 0, 0),
            (&server, "sip:a.test", 0, 0),
            (&server, "sip:carol@b.test", 403, 404),
            (&server, "tel:+4930", 403, 400),
            (&server, "nonsense", 400, 400),
            (&partner, "sip:anybody@p.test", 0, 0),
            (&partner, "sip:carol@a.test", 403, 403),
            (&partner, "sip:p@a.test", 403, 403),
        ];
        for (account, uri, by_from, by_to) in table {
            let status = |request: &Message| {
                check_scope(request, account, &settings).map_or_else(|no| no.status, |()| 0)
            };
            let own = "sip:carol@a.test";
            assert_eq!(
                status(&request("MESSAGE", uri, own, "")),
                by_from,
                "{} From {uri}",
                account.user_name
            );
            assert_eq!(status(&request("REGISTER", own, uri, "")), by_to, "{} To {uri}", account.user_name);
        }
    }

    #[test]
    fn nobody_has_answers_sent_to_another_users_gruu() {
        let settings = settings(Vec::new());
        let server = account("ucs", password(), AccountKind::UcServer, "alice@a.test");
        let table = [
            ("INVITE", "sip:alice@a.test;gr=urn:x:1", 0),
            ("INVITE", "sip:bob@a.test;gr=urn:x:1", 403),
            ("SUBSCRIBE", "sip:%62ob@A.test;gr=urn:x:1", 403),
            ("MESSAGE", "sip:bob@a.test;gr=urn:x:1", 0),
            ("INVITE", "sip:bob@a.test", 0),
            ("INVITE", "sip:bob@a.test;gr", 0),
            ("INVITE", "sip:bob@b.test;gr=urn:x:1", 0),
            ("INVITE", "sip:bob@192.0.2.1;gr=urn:x:1", 0),
        ];
        for (method, contact, status) in table {
            let row = format!("Contact: <{contact}>\r\n");
            let request = request(method, "sip:alice@a.test", "sip:carol@a.test", &row);
            let refused = check_contact(&request, &server, &settings).map_or_else(|no| no.status, |()| 0);
            assert_eq!(refused, status, "{method} {contact}");
        }
    }

    #[test]
    fn a_challenge_offers_every_algorithm_in_order() {
        let settings = settings(Vec::new());
        for (method, status, name) in
            [(Method::Register, 401, "WWW-Authenticate"), (Method::Other, 407, "Proxy-Authenticate")]
        {
            let reply = challenge_reply(method, &settings, "n", true);
            assert_eq!(reply.status, status);
            let offered: Vec<_> =
                reply.rows.iter().map(|(row, value)| (*row, value.contains("stale=true"))).collect();
            assert_eq!(offered, [(name, true); 2]);
            assert!(reply.rows[0].1.contains("SHA-256") && reply.rows[1].1.contains("MD5"));
        }
    }

    #[test]
    fn no_more_than_eight_credentials_are_looked_at() {
        let settings = settings(vec![account("ucs", password(), AccountKind::UcServer, "*")]);
        let theirs = "Proxy-Authorization: Basic x\r\n";
        let malformed = "Proxy-Authorization: Digest x\r\n";
        let nonces = Nonces::new([1; 32], settings.nonce_lifetime);
        let sender = Sender {
            flow: &flow("127.0.0.1:1"),
            side: Side::Lan,
            certificate: None,
            standing: None,
            is_suspect: false,
            dialog: None,
        };
        for (count, expected) in [(7, Denied::Malformed("Malformed Digest Credentials")), (8, NOBODY)] {
            let rows = theirs.repeat(count) + malformed;
            let request = request("MESSAGE", "sip:x@a.test", "sip:y@a.test", &rows);
            assert_eq!(identify(&request, &sender, &settings, &nonces, 0), Err(expected));
        }
    }
}
