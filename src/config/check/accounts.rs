//! `[lan]`, `[[lan.account]]`, `[[registrar.account]]`: who may log on.

use std::collections::HashMap;
use std::path::Path;

use crate::config::load::read_bounded;
use crate::config::reader::{Entry, Section};
use crate::config::rules::{domain, file, list, non_empty, text};
use crate::config::{Interface, Protocol, Registrar, Service, Side};
use crate::protocol::account::{Account, AccountKind, Accounts, Scope, Secret};
use crate::protocol::digest::Algorithm;

/// What proves an account, in words.
const PROOFS: &str =
    "one of password, password_file, certificate, or hashes (ha1_sha512_256, ha1_sha256, ha1_md5)";

/// A password or token of this size is none.
const MAXIMUM_SECRET_BYTES: u64 = 4096;

/// Collects the accounts of one configuration.
pub(super) struct Reader<'a> {
    service: &'a Service,
    registrar: &'a Registrar,
    /// Whether a LAN interface asks for certificates.
    asks_certificates: bool,
    /// Whether a LAN interface takes WebSocket, and so what any web page has a browser of the LAN do.
    takes_web_sockets: bool,
    accounts: Vec<Account>,
    /// The account that has a user name, or a certificate, by its key path.
    owners: HashMap<String, String>,
}

/// An account as its section says it.
struct Candidate {
    user_name: String,
    secret: Secret,
    users: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Accounts of these domains and digest algorithms, logging on at these interfaces.
    pub(super) fn new(service: &'a Service, registrar: &'a Registrar, interfaces: &[Interface]) -> Self {
        let lan = || interfaces.iter().filter(|i| i.side == Side::Lan);
        Self {
            service,
            registrar,
            asks_certificates: lan().any(|i| i.protocol == Protocol::Mtls),
            takes_web_sockets: lan().any(|i| i.protocol.transport().is_web_socket()),
            accounts: Vec::new(),
            owners: HashMap::new(),
        }
    }

    /// All accounts: that of `[lan]` itself, the list below it, the list below `[registrar]`.
    pub(super) fn read(
        mut self,
        lan_enabled: bool,
        mut lan: Section<'_>,
        mut registrar: Section<'_>,
    ) -> Accounts {
        let own = read_candidate(&mut lan, Some("ucserver"));
        if let Some(own) = own.filter(|_| lan_enabled) {
            if own.secret == Secret::Address {
                let and_web_pages = if self.takes_web_sockets {
                    ", and so is every web page that a browser there shows"
                } else {
                    ""
                };
                let text = format!(
                    "is empty: whoever has an address of `lan.allowed_networks` is taken for `{}`{and_web_pages}",
                    own.user_name
                );
                lan.warn("password", text);
            }
            self.add(&lan, own, AccountKind::UcServer);
        }
        for mut section in lan.sections("account").unwrap_or_default() {
            if let Some(candidate) = read_candidate(&mut section, None) {
                self.add(&section, candidate, AccountKind::UcServer);
            }
        }
        for mut section in registrar.sections("account").unwrap_or_default() {
            if let Some(candidate) = read_candidate(&mut section, None) {
                self.add(&section, candidate, AccountKind::Registrant);
            }
        }
        if self.accounts.len() > usize::from(u16::MAX) {
            lan.fault(
                "account",
                format!("{} accounts are too many, allowed: {}", self.accounts.len(), u16::MAX),
            );
        }
        Accounts::new(self.accounts)
    }

    fn add(&mut self, section: &Section<'_>, candidate: Candidate, kind: AccountKind) {
        let Candidate { user_name, secret, users } = candidate;
        self.claim(section, "user_name", &user_name);
        if let Secret::Certificate(name) = &secret {
            self.claim(section, "certificate", name);
            if !self.asks_certificates {
                section.warn("certificate", "no LAN interface has protocol mtls: the account cannot log on");
            }
        }
        self.warn_of_hashes(section, &secret);
        if kind == AccountKind::UcServer {
            self.warn_of_users(section, &users);
        }
        if let Some(scope) = section.accept("users", Scope::parse(&users)) {
            self.accounts.push(Account { user_name, secret, scope, kind });
        }
    }

    /// Makes sure that no other account has the same value at the same key.
    fn claim(&mut self, section: &Section<'_>, key: &str, value: &str) {
        if let Some(other) = self.owners.insert(format!("{key} {value}"), section.path().to_owned()) {
            section.fault(key, format!("`{value}` belongs to `{other}` already, allowed: one account"));
        }
    }

    /// A hash answers only challenges of its own algorithm.
    fn warn_of_hashes(&self, section: &Section<'_>, secret: &Secret) {
        let Secret::Hashes { md5, sha256, sha512_256 } = secret else { return };
        let usable = self.registrar.digest_algorithms.iter().any(|algorithm| match algorithm {
            Algorithm::Md5 => md5.is_some(),
            Algorithm::Sha256 => sha256.is_some(),
            Algorithm::Sha512_256 => sha512_256.is_some(),
        });
        if !usable {
            section.warn(
                "user_name",
                "has no hash of the `registrar.digest_algorithms`: the account cannot log on",
            );
        }
    }

    /// A UC server speaks for users of the presence domains alone.
    fn warn_of_users(&self, section: &Section<'_>, users: &[String]) {
        for (index, pattern) in users.iter().enumerate() {
            let Some((_, domain)) = pattern.rsplit_once('@') else { continue };
            if !self.service.presence_domains.iter().any(|own| own.eq_ignore_ascii_case(domain)) {
                section.warn(&format!("users[{index}]"), format!("`{domain}` is no presence domain"));
            }
        }
    }
}

/// Reads an account; with a default name, the empty password means that its address proves it.
fn read_candidate(section: &mut Section<'_>, default_name: Option<&str>) -> Option<Candidate> {
    let user_name = match default_name {
        Some(name) => Some(section.get("user_name", user_name, name.to_owned())),
        None => section.required("user_name", user_name),
    };
    let secret = read_secret(section, default_name.is_some());
    let users = section.get("users", non_empty(list(pattern)), vec!["*".to_owned()]);
    Some(Candidate { user_name: user_name?, secret: secret?, users })
}

fn read_secret(section: &mut Section<'_>, may_be_empty: bool) -> Option<Secret> {
    let password =
        section.optional("password", text).filter(|password| !(may_be_empty && password.is_empty()));
    let from_file = section.optional("password_file", password_file);
    let md5 = section.optional("ha1_md5", hash(32));
    let sha256 = section.optional("ha1_sha256", hash(64));
    let sha512_256 = section.optional("ha1_sha512_256", hash(64));
    let certificate = section.optional("certificate", domain);
    if password.as_ref().is_some_and(String::is_empty) {
        return section.accept("password", Err("is empty, allowed: that in [lan] alone".to_owned()));
    }
    let hash_key = [("ha1_md5", &md5), ("ha1_sha256", &sha256), ("ha1_sha512_256", &sha512_256)]
        .into_iter()
        .find_map(|(key, hash)| hash.is_some().then_some(key));
    let hashes = hash_key.map(|key| (key, Secret::Hashes { md5, sha256, sha512_256 }));
    let mut given = [
        password.map(|password| ("password", Secret::Password(password))),
        from_file.map(|password| ("password_file", Secret::Password(password))),
        hashes,
        certificate.map(|name| ("certificate", Secret::Certificate(name))),
    ]
    .into_iter()
    .flatten();
    match (given.next(), given.next()) {
        (Some((_, secret)), None) => Some(secret),
        (Some((first, _)), Some((second, _))) => {
            section.accept(second, Err(format!("`{first}` is given, too, allowed: {PROOFS}")))
        }
        (None, _) if may_be_empty => Some(Secret::Address),
        (None, _) if section.is_sound() => {
            section.report().fault(section.path(), format!("has nothing that proves it, allowed: {PROOFS}"));
            None
        }
        (None, _) => None,
    }
}

/// A digest user name. A colon would make two names and realms look alike in the hash (RFC 7616 §3.4.2).
fn user_name(entry: &Entry<'_>) -> Option<String> {
    let allowed = "1 to 255 octets without colons, quotes, backslashes and control characters";
    let name = entry.text(allowed)?;
    let fits =
        (1..=255).contains(&name.len()) && !name.contains(|c: char| ":\"\\".contains(c) || c.is_control());
    if fits { Some(name.to_owned()) } else { entry.refuse("is no user name", allowed) }
}

/// One element of `users`.
fn pattern(entry: &Entry<'_>) -> Option<String> {
    let text = entry.text("`user@domain`, `*@domain` or `*`")?;
    match Scope::parse(&[text]) {
        Ok(_) => Some(text.to_owned()),
        Err(fault) => {
            entry.report().fault(entry.path(), fault);
            None
        }
    }
}

/// So many hexadecimal digits; lower case afterwards. The value is a secret: no fault shows it.
fn hash(digits: usize) -> impl Fn(&Entry<'_>) -> Option<String> {
    move |entry| {
        let allowed = format!("{digits} hexadecimal digits");
        let text = entry.text(&allowed)?;
        if text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Some(text.to_ascii_lowercase());
        }
        entry.refuse("is no such hash", &allowed)
    }
}

/// A file that holds a secret.
fn password_file(entry: &Entry<'_>) -> Option<String> {
    let path = file(entry)?;
    entry.accept(read_secret_file(&path), "a readable file with a password")
}

/// The text of a small file, without the line break that may end it.
pub(super) fn read_secret_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let octets = read_bounded(path, MAXIMUM_SECRET_BYTES)
        .map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let text = String::from_utf8(octets).map_err(|_| format!("{shown} is not UTF-8"))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    match line.strip_suffix('\r').unwrap_or(line) {
        "" => Err(format!("{shown} is empty")),
        secret => Ok(secret.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{Directory, assert_any, assert_only, config, faults, warnings};
    use crate::protocol::account::{AccountKind, Secret};

    fn account(keys: &str) -> String {
        format!("[[lan.account]]\nuser_name = \"a\"\n{keys}\n")
    }

    #[test]
    fn accounts_come_in_order_with_every_kind_of_secret() {
        let directory = Directory::new("accounts");
        let file = directory.write("password", "from file\r\n");
        let hash = "AB".repeat(32);
        let text = format!(
            "[lan]\npassword = \"own\"\n{}{}{}[[registrar.account]]\nuser_name = \"d\"\npassword = \"p\"\n\
             users = [\"*@partner.example\"]\n",
            account(&format!("password_file = \"{file}\"")),
            account(&format!("ha1_sha256 = \"{hash}\"")).replace("\"a\"", "\"b\""),
            account("certificate = \"C.example.org\"").replace("\"a\"", "\"c\""),
        );
        let accounts = config(&text).accounts.list().to_vec();
        let names: Vec<_> = accounts.iter().map(|a| a.user_name.as_str()).collect();
        assert_eq!(names, ["ucserver", "a", "b", "c", "d"]);
        let hashes = Secret::Hashes { md5: None, sha256: Some("ab".repeat(32)), sha512_256: None };
        for (account, secret) in accounts.iter().zip([
            Secret::Password("own".into()),
            Secret::Password("from file".into()),
            hashes,
            Secret::Certificate("c.example.org".into()),
            Secret::Password("p".into()),
        ]) {
            assert!(account.secret == secret, "{}", account.user_name);
        }
        assert_eq!(accounts[3].kind, AccountKind::UcServer);
        assert_eq!(accounts[4].kind, AccountKind::Registrant);
        assert!(accounts[4].scope.contains(b"x", b"partner.example"));
        assert!(!accounts[4].scope.contains(b"x", b"example.org"));
    }

    #[test]
    fn an_account_has_exactly_one_proof() {
        let hash = "ab".repeat(16);
        for (keys, part) in [
            ("", "1: lan.account[0]: has nothing that proves it, allowed: one of password"),
            ("password = \"\"", "3: lan.account[0].password: is empty"),
            (
                "password = \"a\"\ncertificate = \"b\"",
                "4: lan.account[0].certificate: `password` is given, too",
            ),
            ("password_file = \"/nowhere/x\"", "3: lan.account[0].password_file: /nowhere/x cannot be read"),
            ("ha1_md5 = \"abcd\"", "3: lan.account[0].ha1_md5: is no such hash, allowed: 32"),
            ("password = \"a\"\nusers = [\"nobody\"]", "4: lan.account[0].users[0]: `nobody` is none of"),
            ("password = \"a\"\nusers = []", "4: lan.account[0].users: is empty"),
            (
                &format!("password = \"a\"\nha1_md5 = \"{hash}\""),
                "4: lan.account[0].ha1_md5: `password` is given",
            ),
        ] {
            assert_only(&faults(&account(keys)), &[part]);
        }
    }

    #[test]
    fn the_empty_password_of_the_lan_gives_way_to_another_proof() {
        let (own, hash) = ("[lan]\npassword = \"\"\n", "ab".repeat(32));
        assert!(config(own).accounts.list()[0].secret == Secret::Address);
        assert_any(&warnings(own), &["2: lan.password: is empty"]);
        let web = "[[lan.network_interface]]\nport = 0\nprotocol = \"ws\"";
        assert_any(&warnings(&format!("{own}{web}")), &["2: lan.password: is empty", "every web page"]);
        assert!(!warnings(own).iter().any(|w| w.contains("web page")));
        let with_hash = config(&format!("{own}ha1_sha512_256 = \"{hash}\""));
        let secret = &with_hash.accounts.list()[0].secret;
        assert!(matches!(secret, Secret::Hashes { sha512_256: Some(_), md5: None, .. }));
        assert!(config("[lan]\nenabled = false").accounts.list().is_empty());
    }

    #[test]
    fn names_belong_to_one_account() {
        let text = "[lan]\nuser_name = \"a\"\n[[registrar.account]]\nuser_name = \"a\"\npassword = \"b\"";
        assert_only(&faults(text), &["4: registrar.account[0].user_name: `a` belongs to `lan` already"]);
        let text = format!(
            "{}{}",
            account("certificate = \"c.example\""),
            account("certificate = \"C.example\"").replace("\"a\"", "\"b\"")
        );
        assert_only(
            &faults(&text),
            &["6: lan.account[1].certificate: `c.example` belongs to `lan.account[0]`"],
        );
        assert_only(&faults("[lan]\nuser_name = \"a:b\""), &["2: lan.user_name: is no user name"]);
    }

    #[test]
    fn accounts_that_can_never_log_on_are_warnings() {
        let certificate = account("certificate = \"c.example\"");
        assert_any(&warnings(&certificate), &["3: lan.account[0].certificate: no LAN interface"]);
        let with_interface = format!("{certificate}[[lan.network_interface]]\nport = 0\nprotocol = \"mtls\"");
        assert!(!warnings(&with_interface).iter().any(|w| w.contains("certificate: no LAN")));
        let hash = account(&format!(
            "ha1_md5 = \"{}\"\n[registrar]\ndigest_algorithms = [\"SHA-256\"]",
            "ab".repeat(16)
        ));
        assert_any(&warnings(&hash), &["2: lan.account[0].user_name: has no hash"]);
        let users = format!(
            "[service]\npresence_domains = [\"example.org\"]\n{}",
            account("password = \"p\"\nusers = [\"*@Example.org\", \"*@exmaple.org\"]")
        );
        let found: Vec<_> = warnings(&users).into_iter().filter(|w| w.contains("users")).collect();
        assert_only(&found, &["6: lan.account[0].users[1]: `exmaple.org` is no presence domain"]);
    }
}
