//! Rows of the elements of lists: interfaces, accounts and static routes.

use super::rows::{Rows, Section};
use super::value::{Value, authorities, list, quoted};
use crate::config::{Interface, Side, StaticRoute};
use crate::protocol::account::{Account, AccountKind, Secret};

/// An element of a list.
pub(super) struct Element {
    /// In one line.
    pub(super) said: String,
    pub(super) rows: Section,
}

impl Rows {
    fn element(&mut self, key: String, said: String, rows: Vec<(&'static str, Value)>) {
        // Two interfaces with port 0 may be alike.
        let mut unique = key;
        while self.elements.contains_key(&unique) {
            unique.push('\'');
        }
        let rows = rows.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.elements.insert(unique, Element { said, rows });
    }

    pub(super) fn interface(&mut self, interface: &Interface) {
        let Interface { id: _, side, ip_address, port, protocol, key } = interface;
        let said = format!("{protocol} {}", std::net::SocketAddr::new(*ip_address, *port));
        let list = key.split('[').next().unwrap_or_default();
        let facing = match side {
            Side::Lan => "LAN",
            Side::Wan => "WAN",
        };
        self.element(format!("{list}[{said}]"), format!("{said} ({facing})"), Vec::new());
    }

    pub(super) fn account(&mut self, account: &Account) {
        let Account { user_name, secret, scope, kind } = account;
        let (list, kind) = match kind {
            AccountKind::UcServer => ("lan.account", "UC server"),
            AccountKind::Registrant => ("registrar.account", "registrant"),
        };
        let mut rows = vec![("users", Value::from(self::list(scope.patterns())))];
        rows.extend(proofs(secret));
        let key = format!("{list}[{user_name}]");
        let proof = rows[1..].iter().map(|(key, _)| *key).collect::<Vec<_>>().join(", ");
        let proof = if proof.is_empty() { "address".to_owned() } else { proof };
        self.element(key, format!("{kind}, proven by {proof}"), rows);
    }

    pub(super) fn route(&mut self, route: &StaticRoute) {
        let StaticRoute {
            id: _,
            trusted,
            domain_name,
            access_server,
            port,
            transport_protocol,
            bind_to_ip_address,
            trusted_cas,
            key: _,
        } = route;
        let mut rows = vec![
            ("trusted", Value::from(trusted)),
            ("access_server", quoted(access_server).into()),
            ("port", port.into()),
            ("transport_protocol", quoted(transport_protocol).into()),
        ];
        rows.extend(bind_to_ip_address.map(|ip| ("bind_to_ip_address", quoted(ip).into())));
        rows.extend(trusted_cas.as_ref().map(|trusted| ("trusted_cas", authorities(trusted))));
        let said = format!("{transport_protocol} {access_server} port {port}");
        self.element(format!("static_routes.route[{domain_name}]"), said, rows);
    }
}

/// What proves an account, by key; nothing of what its address proves.
fn proofs(secret: &Secret) -> Vec<(&'static str, Value)> {
    match secret {
        Secret::Address => Vec::new(),
        Secret::Password(password) => vec![("password", Value::secret(password.as_bytes()))],
        Secret::Hashes { md5, sha256, sha512_256 } => {
            let all = [("ha1_md5", md5), ("ha1_sha256", sha256), ("ha1_sha512_256", sha512_256)];
            let given = all.into_iter().filter_map(|(key, hash)| Some((key, hash.as_ref()?)));
            given.map(|(key, hash)| (key, Value::secret(hash.as_bytes()))).collect()
        }
        Secret::Certificate(name) => vec![("certificate", quoted(name).into())],
    }
}
