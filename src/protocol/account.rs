//! Accounts: who may log on, by which proof, and for which users it may speak.

use std::fmt;

/// An account. It keeps its identifier as long as it is configured, whatever else is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccountId(pub u16);

/// What proves an account.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Nothing but the address: an empty password, allowed from the LAN's networks alone.
    Address,
    /// The password in the clear; every digest algorithm can be answered for it.
    Password(String),
    /// `H(user:realm:password)` in lower-case hexadecimal, for the algorithms whose hash is configured.
    Hashes {
        /// MD5, 32 digits.
        md5: Option<String>,
        /// SHA-256, 64 digits.
        sha256: Option<String>,
        /// SHA-512/256, 64 digits.
        sha512_256: Option<String>,
    },
    /// A name in the client certificate of an MTLS connection; no digest.
    Certificate(String),
}

/// Written by hand so that no log line can show a password.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "Address",
            Self::Password(_) => "Password(..)",
            Self::Hashes { .. } => "Hashes(..)",
            Self::Certificate(_) => "Certificate(..)",
        })
    }
}

/// What an account is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountKind {
    /// A UC server of ours (`[lan]`, `[[lan.account]]`): sends for its users, is asked where users live.
    UcServer,
    /// Somebody else who may register (`[[registrar.account]]`).
    Registrant,
}

/// One account of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The digest user name.
    pub user_name: String,
    /// What proves it.
    pub secret: Secret,
    /// The users it may speak for.
    pub scope: Scope,
    /// What it is for.
    pub kind: AccountKind,
}

/// The users that an account may speak for: `user@domain`, `*@domain`, or `*` for all of the presence domains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    user: Option<String>,
    domain: Option<String>,
}

impl Scope {
    /// Everybody in the presence domains.
    pub fn everybody() -> Self {
        Self(vec![Pattern { user: None, domain: None }])
    }

    /// Reads `user@domain`, `*@domain` or `*`; the domain is compared without case, the user with it
    /// (RFC 3261 §19.1.4). The error says what is allowed.
    pub fn parse<S: AsRef<str>>(patterns: &[S]) -> Result<Self, String> {
        patterns.iter().map(|p| Pattern::parse(p.as_ref())).collect::<Result<_, _>>().map(Self)
    }

    /// Each of its patterns, as the configuration writes it.
    pub fn patterns(&self) -> impl Iterator<Item = impl fmt::Display> {
        self.0.iter()
    }

    /// Whether `user@domain` is among them. `domain` is lower case already.
    pub fn contains(&self, user: &[u8], domain: &[u8]) -> bool {
        self.0.iter().any(|p| {
            p.user.as_ref().is_none_or(|u| u.as_bytes() == user)
                && p.domain.as_ref().is_none_or(|d| d.as_bytes() == domain)
        })
    }
}

/// As the configuration writes it.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.user.as_deref().unwrap_or("*"))?;
        self.domain.as_ref().map_or(Ok(()), |domain| write!(f, "@{domain}"))
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self { user: None, domain: None });
        }
        match text.rsplit_once('@') {
            Some((user, domain)) if !user.is_empty() && !domain.is_empty() && !domain.contains('*') => {
                Ok(Self {
                    user: (user != "*").then(|| user.to_owned()),
                    domain: Some(domain.to_ascii_lowercase()),
                })
            }
            _ => Err(format!("`{text}` is none of `user@domain`, `*@domain`, `*`")),
        }
    }
}

/// All accounts of one configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    list: Vec<Account>,
    /// Those of `list`, ascending.
    ids: Vec<AccountId>,
}

impl Accounts {
    /// With identifiers from 0 on; there are no more accounts than those.
    pub fn new(list: Vec<Account>) -> Self {
        let ids = (0..=u16::MAX).map(AccountId).take(list.len()).collect();
        Self { list, ids }
    }

    /// In the order of their identifiers.
    #[must_use]
    pub fn with_ids(mut accounts: Vec<(AccountId, Account)>) -> Self {
        accounts.sort_by_key(|(id, _)| *id);
        let (ids, list) = accounts.into_iter().unzip();
        Self { list, ids }
    }

    /// All of them.
    pub fn list(&self) -> &[Account] {
        &self.list
    }

    /// All of them, with their identifiers.
    pub fn iter(&self) -> impl Iterator<Item = (AccountId, &Account)> {
        self.ids.iter().copied().zip(&self.list)
    }

    /// The account with this identifier.
    pub fn get(&self, id: AccountId) -> Option<&Account> {
        // As long as none has gone, the identifier says the place.
        let at = usize::from(id.0);
        let at = if self.ids.get(at) == Some(&id) { at } else { self.ids.binary_search(&id).ok()? };
        self.list.get(at)
    }

    /// The account with this digest user name.
    pub fn by_user_name(&self, user_name: &[u8]) -> Option<(AccountId, &Account)> {
        self.find(|a| a.user_name.as_bytes() == user_name)
    }

    /// The first account that `test` accepts.
    pub fn find(&self, test: impl Fn(&Account) -> bool) -> Option<(AccountId, &Account)> {
        self.iter().find(|(_, account)| test(account))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_compares_the_user_with_case_and_the_domain_without() {
        let scope = Scope::parse(&["alice@Example.org", "*@other.example"]).unwrap();
        assert!(scope.contains(b"alice", b"example.org"));
        assert!(!scope.contains(b"Alice", b"example.org"));
        assert!(scope.contains(b"anyone", b"other.example"));
        assert!(!scope.contains(b"bob", b"example.org"));
        assert!(Scope::everybody().contains(b"bob", b"example.org"));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused_with_what_is_allowed() {
        for bad in ["", "alice", "@example.org", "alice@", "*@*.org"] {
            let fault = Scope::parse(&[bad]).unwrap_err();
            assert!(fault.contains("user@domain"), "{fault}");
        }
    }
}
