//! Who may be here at once: so many connections of each door, and a share of them for each address.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use hyper::StatusCode;

/// Connections of each of the two doors; whoever comes beyond is told so.
pub(super) const MAXIMUM_CONNECTIONS: usize = 64;

/// Those of one address: a browser's, and those of a proxy before several, with room for others beside them.
pub(super) const MAXIMUM_OF_ONE_ADDRESS: usize = 16;

/// The places of one door.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Rc<RefCell<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// Addresses that have any.
    by_address: BTreeMap<IpAddr, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    taken: Rc<RefCell<Taken>>,
    address: Option<IpAddr>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// All are taken.
    Full,
    /// The address has its share.
    ShareTaken,
}

impl NoPlace {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
            Self::ShareTaken => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// For whoever is turned away, and for the log.
    pub(super) const fn why(self) -> &'static str {
        match self {
            Self::Full => "too many connections at once; try again later",
            Self::ShareTaken => "too many connections at once from this address; end one of them first",
        }
    }
}

impl Places {
    /// A place for somebody from there; over the Unix socket nobody has an address.
    pub(super) fn take(&self, address: Option<IpAddr>) -> Result<Place, NoPlace> {
        let mut taken = self.0.borrow_mut();
        let address = address.map(|address| address.to_canonical());
        let of_address = address.and_then(|address| taken.by_address.get(&address).copied());
        // First, so that who has its share is told that, and not that others are in its way.
        if of_address.is_some_and(|count| count >= MAXIMUM_OF_ONE_ADDRESS) {
            return Err(NoPlace::ShareTaken);
        }
        if taken.all >= MAXIMUM_CONNECTIONS {
            return Err(NoPlace::Full);
        }
        taken.all += 1;
        if let Some(address) = address {
            *taken.by_address.entry(address).or_default() += 1;
        }
        Ok(Place { taken: Rc::clone(&self.0), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.borrow_mut();
        taken.all -= 1;
        let Some(address) = self.address else { return };
        if let Some(count) = taken.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_share_and_all_together_no_more_than_there_is() {
        let places = Places::default();
        let address = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let mut held: Vec<_> =
            (0..MAXIMUM_OF_ONE_ADDRESS).map(|_| places.take(address(1)).unwrap()).collect();
        assert_eq!(places.take(address(1)).unwrap_err(), NoPlace::ShareTaken);
        let mapped = Some("::ffff:192.0.2.1".parse().unwrap());
        assert_eq!(places.take(mapped).unwrap_err(), NoPlace::ShareTaken);
        held.pop();
        held.push(places.take(mapped).unwrap());
        for other in 2.. {
            match places.take(address(other)) {
                Ok(place) => held.push(place),
                Err(refused) => {
                    assert_eq!((refused, held.len()), (NoPlace::Full, MAXIMUM_CONNECTIONS));
                    break;
                }
            }
        }
        assert_eq!(places.take(address(1)).unwrap_err(), NoPlace::ShareTaken);
        held.clear();
        assert!(places.0.borrow().by_address.is_empty());
        // Who has no address has no share either.
        held.extend((0..MAXIMUM_CONNECTIONS).map(|_| places.take(None).unwrap()));
        assert_eq!(places.take(None).unwrap_err(), NoPlace::Full);
    }
}
