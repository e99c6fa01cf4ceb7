//! What is asked of a message again and again: read when somebody first asks, and known by its place from then on.

use std::cell::OnceCell;
use std::net::IpAddr;

use super::headers::CSeq;
use super::index::Message;
use super::lexical::Parameters;
use super::name::Name;
use super::name_addr::NameAddr;
use super::uri::{Host, Uri, UriFault};
use super::via::Via;

/// What has been read of one message so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    top_via: OnceCell<Option<ViaPlaces>>,
    cseq: OnceCell<Option<CSeqPlaces>>,
    from: OnceCell<Option<NameAddrPlaces>>,
    to: OnceCell<Option<NameAddrPlaces>>,
    request_uri: OnceCell<Result<UriPlaces, UriFault>>,
}

impl Message {
    /// The topmost Via, as far as it can be read: where to answer is known although a parameter may be malformed.
    pub fn top_via(&self) -> Option<Via<'_>> {
        let read = || self.values(Name::Via).next().and_then(Via::read);
        let places = self.places().top_via.get_or_init(|| read().map(|via| ViaPlaces::of(&via, self)));
        places.as_ref().map(|places| places.view(self))
    }

    /// Every Via, read like the topmost.
    pub fn vias(&self) -> impl Iterator<Item = Option<Via<'_>>> {
        let further = self.values(Name::Via).skip(1).map(Via::read);
        self.row(Name::Via).map(|_| self.top_via()).into_iter().chain(further)
    }

    /// CSeq, where it is one.
    pub fn cseq(&self) -> Option<CSeq<'_>> {
        let read = || self.row(Name::CSeq).and_then(CSeq::parse);
        let places = self.places().cseq.get_or_init(|| read().map(|cseq| CSeqPlaces::of(&cseq, self)));
        places.as_ref().map(|places| places.view(self))
    }

    /// From, where it is one.
    pub fn from(&self) -> Option<NameAddr<'_>> {
        self.name_addr(&self.places().from, Name::From)
    }

    /// To, where it is one.
    pub fn to(&self) -> Option<NameAddr<'_>> {
        self.name_addr(&self.places().to, Name::To)
    }

    fn name_addr(&self, kept: &OnceCell<Option<NameAddrPlaces>>, name: Name) -> Option<NameAddr<'_>> {
        let read = || self.row(name).and_then(NameAddr::parse);
        let places = kept.get_or_init(|| read().map(|address| NameAddrPlaces::of(&address, self)));
        places.as_ref().map(|places| places.view(self))
    }

    /// The Request-URI, read.
    pub fn target(&self) -> Result<Uri<'_>, UriFault> {
        let read = || Uri::parse(self.request_uri());
        let places = self.places().request_uri.get_or_init(|| read().map(|uri| UriPlaces::of(&uri, self)));
        places.map(|places| places.view(self))
    }
}

/// A part of the header section.
#[derive(Clone, Copy, Debug)]
struct Place {
    start: u16,
    end: u16,
}

impl Place {
    fn of(part: &[u8], message: &Message) -> Self {
        let span = message.span_of(part);
        // Header sections are shorter than 65,536 octets.
        Self { start: span.start as u16, end: span.end as u16 }
    }

    fn view(self, message: &Message) -> &[u8] {
        &message.bytes()[usize::from(self.start)..usize::from(self.end)]
    }
}

#[derive(Clone, Copy, Debug)]
struct CSeqPlaces {
    number: u32,
    method: Place,
}

impl CSeqPlaces {
    fn of(cseq: &CSeq<'_>, message: &Message) -> Self {
        Self { number: cseq.number, method: Place::of(cseq.method, message) }
    }

    fn view<'m>(&self, message: &'m Message) -> CSeq<'m> {
        CSeq { number: self.number, method: self.method.view(message) }
    }
}

#[derive(Clone, Copy, Debug)]
struct NameAddrPlaces {
    uri: Place,
    parameters: Place,
    tag: Option<Place>,
}

impl NameAddrPlaces {
    fn of(address: &NameAddr<'_>, message: &Message) -> Self {
        Self {
            uri: Place::of(address.uri, message),
            parameters: Place::of(address.parameters.0, message),
            tag: address.tag.map(|tag| Place::of(tag, message)),
        }
    }

    fn view<'m>(&self, message: &'m Message) -> NameAddr<'m> {
        NameAddr {
            uri: self.uri.view(message),
            parameters: Parameters(self.parameters.view(message)),
            tag: self.tag.map(|tag| tag.view(message)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct HostPlace {
    text: Place,
    /// `None` of a name, which is its text.
    address: Option<IpAddr>,
}

impl HostPlace {
    fn of(text: &[u8], host: &Host<'_>, message: &Message) -> Self {
        let address = match host {
            Host::Address(address) => Some(*address),
            Host::Name(_) => None,
        };
        Self { text: Place::of(text, message), address }
    }

    fn view<'m>(&self, message: &'m Message) -> (&'m [u8], Host<'m>) {
        let text = self.text.view(message);
        (text, self.address.map_or(Host::Name(text), Host::Address))
    }
}

#[derive(Clone, Copy, Debug)]
struct ViaPlaces {
    text: Place,
    transport: Place,
    host: HostPlace,
    port: Option<u16>,
    parameters: Place,
    branch: Option<Place>,
    has_rport: bool,
    has_received: bool,
    offers_keep_alives: bool,
    is_whole: bool,
}

impl ViaPlaces {
    fn of(via: &Via<'_>, message: &Message) -> Self {
        Self {
            text: Place::of(via.text, message),
            transport: Place::of(via.transport, message),
            host: HostPlace::of(via.host_text, &via.host, message),
            port: via.port,
            parameters: Place::of(via.parameters.0, message),
            branch: via.branch.map(|branch| Place::of(branch, message)),
            has_rport: via.has_rport,
            has_received: via.has_received,
            offers_keep_alives: via.offers_keep_alives,
            is_whole: via.is_whole,
        }
    }

    fn view<'m>(&self, message: &'m Message) -> Via<'m> {
        let (host_text, host) = self.host.view(message);
        Via {
            text: self.text.view(message),
            transport: self.transport.view(message),
            host,
            host_text,
            port: self.port,
            parameters: Parameters(self.parameters.view(message)),
            branch: self.branch.map(|branch| branch.view(message)),
            has_rport: self.has_rport,
            has_received: self.has_received,
            offers_keep_alives: self.offers_keep_alives,
            is_whole: self.is_whole,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct UriPlaces {
    is_secure: bool,
    user: Option<Place>,
    password: Option<Place>,
    host: HostPlace,
    port: Option<u16>,
    parameters: Place,
    headers: Place,
}

impl UriPlaces {
    fn of(uri: &Uri<'_>, message: &Message) -> Self {
        let place = |part| Place::of(part, message);
        Self {
            is_secure: uri.is_secure,
            user: uri.user.map(place),
            password: uri.password.map(place),
            host: HostPlace::of(uri.host_text, &uri.host, message),
            port: uri.port,
            parameters: place(uri.parameters.0),
            // Where there are none, they are no part of the message.
            headers: if uri.headers.is_empty() { Place { start: 0, end: 0 } } else { place(uri.headers) },
        }
    }

    fn view<'m>(&self, message: &'m Message) -> Uri<'m> {
        let (host_text, host) = self.host.view(message);
        Uri {
            is_secure: self.is_secure,
            user: self.user.map(|user| user.view(message)),
            password: self.password.map(|password| password.view(message)),
            host,
            host_text,
            port: self.port,
            parameters: Parameters(self.parameters.view(message)),
            headers: self.headers.view(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::protocol::message::{Carriage, MessageLimits};

    #[test]
    fn what_is_read_again_is_what_was_read_first_also_of_a_copy() {
        let text = b"INVITE sips:bob:secret@a.test:5061;x=1?h=v SIP/2.0\r\nv: SIP/2.0/UDP [::1]:7;rport;branch=z9hG4bKx, \
                     SIP/2.0/TCP h;received=1.1.1.1;;\r\nf: Alice <sip:alice@a.test>;tag=1;x\r\nt: sip:bob@a.test\r\n\
                     CSeq: 7 INVITE\r\n\r\n";
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let message = Message::parse(Bytes::from_static(text), Carriage::Datagram, limits).unwrap();
        let all = |message: &Message| {
            let vias: Vec<_> = message.vias().collect();
            let addresses = (message.from(), message.to());
            format!("{:?}", (message.top_via(), vias, message.cseq(), addresses, message.target()))
        };
        let first = all(&message);
        assert_eq!(all(&message), first);
        assert_eq!(all(&message.clone()), first);
        let direct = (
            message.values(Name::Via).next().and_then(Via::read),
            message.values(Name::Via).map(Via::read).collect::<Vec<_>>(),
            message.row(Name::CSeq).and_then(CSeq::parse),
            (
                message.row(Name::From).and_then(NameAddr::parse),
                message.row(Name::To).and_then(NameAddr::parse),
            ),
            Uri::parse(message.request_uri()),
        );
        assert_eq!(format!("{direct:?}"), first);
        assert_eq!(
            message.vias().map(|via| via.is_some_and(|via| via.is_whole)).collect::<Vec<_>>(),
            [true, false]
        );
    }
}
