//! What stands behind the question mark of a path. A plus is a plus: telephone numbers begin with one.

use std::ops::RangeInclusive;

use crate::protocol::location::AddressOfRecord;
use crate::protocol::message::uri::{Uri, unescape};

/// The parameters, unescaped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn new(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let plain = |text: &str| String::from_utf8_lossy(&unescape(text.as_bytes())).into_owned();
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (plain(name), plain(value))
        };
        Self(pairs.map(pair).collect())
    }

    /// An error where there is any other parameter than these, or one of them twice.
    pub(super) fn allow(&self, names: &[&str]) -> Result<(), String> {
        let allowed = if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        for (index, (name, _)) in self.0.iter().enumerate() {
            if !names.contains(&&**name) {
                return Err(format!("`{name}` is no parameter here, allowed: {allowed}"));
            }
            if self.0[..index].iter().any(|(other, _)| other == name) {
                return Err(format!("`{name}` is given twice, allowed: once"));
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// `true`, or `false` as where nothing is said.
    pub(super) fn switch(&self, name: &str) -> Result<bool, String> {
        match self.get(name) {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(other) => Err(format!("{name}: `{other}` is neither, allowed: true or false")),
        }
    }

    pub(super) fn number(
        &self,
        name: &str,
        allowed: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, String> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let number = text.parse().ok().filter(|number| allowed.contains(number));
        let (least, most) = allowed.into_inner();
        number.ok_or_else(|| format!("{name}: `{text}` is none, allowed: {least} to {most}"))
    }

    /// `user@domain`, with or without a scheme.
    pub(super) fn address_of_record(&self, name: &str) -> Result<Option<AddressOfRecord>, String> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let has_scheme = ["sip:", "sips:"]
            .iter()
            .any(|scheme| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
        let uri = if has_scheme { text.to_owned() } else { format!("sip:{text}") };
        let name_of = |uri: Uri<'_>| Some(AddressOfRecord::from_uri(&uri));
        Uri::parse(uri.as_bytes()).map(name_of).map_err(|fault| {
            format!("{name}: `{text}` is no address-of-record ({fault}), allowed: sip:user@domain")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_unescaped_and_unknown_ones_refused() {
        let query = Query::new(Some("aor=sip%3Abob%40a.test&limit=7&empty"));
        assert_eq!(query.get("aor"), Some("sip:bob@a.test"));
        assert_eq!((query.get("empty"), query.get("none")), (Some(""), None));
        assert_eq!(query.number("limit", 1..=10, 5), Ok(7));
        assert_eq!(query.number("none", 1..=10, 5), Ok(5));
        assert!(query.number("limit", 8..=10, 9).unwrap_err().contains("allowed: 8 to 10"));
        assert!(query.number("aor", 1..=10, 5).is_err());
        assert!(query.allow(&["aor", "limit"]).unwrap_err().contains("`empty` is no parameter"));
        let query = Query::new(Some("on=true&off=false&bad=yes"));
        assert_eq!(
            (query.switch("on"), query.switch("off"), query.switch("no")),
            (Ok(true), Ok(false), Ok(false))
        );
        assert!(query.switch("bad").unwrap_err().contains("allowed: true or false"));
        assert_eq!(Query::new(None), Query::new(Some("&&")));
        assert!(Query::new(Some("a=1&a=2")).allow(&["a"]).unwrap_err().contains("twice"));
    }

    #[test]
    fn an_address_of_record_may_lack_its_scheme() {
        let of = |text: &str| Query::new(Some(text)).address_of_record("aor");
        let bob = of("aor=sip:bob@a.test").unwrap();
        assert_eq!(of("aor=bob@A.test").unwrap(), bob);
        assert_eq!(of("aor=SIPS:bob@a.test:5061").unwrap(), bob);
        assert_eq!(of("other=1").unwrap(), None);
        for bad in ["aor=", "aor=@", "aor=a b@c d", "aor=%ff@%ff"] {
            assert!(of(bad).unwrap_err().contains("allowed: sip:user@domain"), "{bad}");
        }
    }
}
