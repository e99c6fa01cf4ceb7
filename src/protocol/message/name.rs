//! Names of header fields: the ones that the proxy reads or writes, in long and compact form (§7.3.3, §20).

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $long:literal $(, $compact:literal)?;)+) => {
        /// A header field name, known or not. Compared without case; the compact form is the same name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            $($(#[$doc])* $variant,)+
            /// Any other name: copied, never read.
            Other,
        }

        impl Name {
            /// The long form as RFCs write it; empty for [`Name::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $long,)+
                    Self::Other => "",
                }
            }

            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $long),)+];

            const fn from_compact(letter: u8) -> Self {
                match letter.to_ascii_lowercase() {
                    $($($compact => Self::$variant,)?)+
                    _ => Self::Other,
                }
            }
        }
    };
}

names! {
    /// Who sends, and for whom (RFC 3325).
    PAssertedIdentity = "P-Asserted-Identity";
    /// RFC 3325.
    PPreferredIdentity = "P-Preferred-Identity";
    /// What an edge server of Microsoft's vouches for ([MS-SIPRE] §2.2).
    MsEdgeProxyMessageTrust = "ms-edge-proxy-message-trust";
    /// Who keeps a connection alive ([MS-CONMGMT] §2.2.1).
    MsKeepAlive = "ms-keep-alive";
    /// RFC 3323.
    Privacy = "Privacy";
    /// §20.42.
    Via = "Via", b'v';
    /// §20.20.
    From = "From", b'f';
    /// §20.39.
    To = "To", b't';
    /// §20.8.
    CallId = "Call-ID", b'i';
    /// §20.16.
    CSeq = "CSeq";
    /// §20.22.
    MaxForwards = "Max-Forwards";
    /// RFC 5393 §5.3.
    MaxBreadth = "Max-Breadth";
    /// §20.34.
    Route = "Route";
    /// §20.30.
    RecordRoute = "Record-Route";
    /// §20.10.
    Contact = "Contact", b'm';
    /// §20.14.
    ContentLength = "Content-Length", b'l';
    /// §20.15.
    ContentType = "Content-Type", b'c';
    /// §20.17.
    Date = "Date";
    /// §20.19.
    Expires = "Expires";
    /// §20.23.
    MinExpires = "Min-Expires";
    /// §20.7.
    Authorization = "Authorization";
    /// §20.28.
    ProxyAuthorization = "Proxy-Authorization";
    /// §20.44.
    WwwAuthenticate = "WWW-Authenticate";
    /// §20.27.
    ProxyAuthenticate = "Proxy-Authenticate";
    /// §20.29.
    ProxyRequire = "Proxy-Require";
    /// §20.32.
    Require = "Require";
    /// §20.37.
    Supported = "Supported", b'k';
    /// §20.40.
    Unsupported = "Unsupported";
    /// RFC 3327.
    Path = "Path";
    /// RFC 6665 §8.2.1.
    Event = "Event", b'o';
    /// §20.38.
    Timestamp = "Timestamp";
    /// §20.33.
    RetryAfter = "Retry-After";
    /// §20.43.
    Warning = "Warning";
    /// RFC 3326.
    Reason = "Reason";
}

impl Name {
    /// The name that `text`, a token, writes. The names of nearly every message are told apart by length and
    /// first letter; the rest are looked up in turn.
    pub fn parse(text: &[u8]) -> Self {
        if let [letter] = text {
            return Self::from_compact(*letter);
        }
        let known = match (text.len(), text[0].to_ascii_lowercase()) {
            (2, _) => Self::To,
            (3, _) => Self::Via,
            (4, b'f') => Self::From,
            (4, b'c') => Self::CSeq,
            (4, b'p') => Self::Path,
            (5, b'r') => Self::Route,
            (5, b'e') => Self::Event,
            (7, b'c') if text[1].eq_ignore_ascii_case(&b'a') => Self::CallId,
            (7, b'c') => Self::Contact,
            (7, b'e') => Self::Expires,
            (12, b'm') => Self::MaxForwards,
            (12, b'r') => Self::RecordRoute,
            (12, b'c') => Self::ContentType,
            (14, b'c') => Self::ContentLength,
            _ => return Self::parse_rare(text),
        };
        if text.eq_ignore_ascii_case(known.as_str().as_bytes()) { known } else { Self::parse_rare(text) }
    }

    fn parse_rare(text: &[u8]) -> Self {
        Self::ALL
            .iter()
            .find(|(_, long)| text.eq_ignore_ascii_case(long.as_bytes()))
            .map_or(Self::Other, |&(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_in_any_case() {
        for &(name, long) in Name::ALL {
            assert_eq!(Name::parse(long.as_bytes()), name, "{long}");
            assert_eq!(Name::parse(long.to_ascii_uppercase().as_bytes()), name, "{long}");
        }
    }

    #[test]
    fn compact_forms_are_their_long_names() {
        let table = [
            (b"v", Name::Via),
            (b"F", Name::From),
            (b"t", Name::To),
            (b"m", Name::Contact),
            (b"I", Name::CallId),
            (b"k", Name::Supported),
            (b"l", Name::ContentLength),
            (b"c", Name::ContentType),
            (b"o", Name::Event),
            (b"x", Name::Other),
        ];
        for (text, name) in table {
            assert_eq!(Name::parse(text), name);
        }
    }

    #[test]
    fn an_unknown_name_of_a_known_length_is_other() {
        for text in ["ab", "Vib", "Fred", "Rou-e", "Call_ID", "Content-Lengt", "X"] {
            assert_eq!(Name::parse(text.as_bytes()), Name::Other, "{text}");
        }
    }
}
