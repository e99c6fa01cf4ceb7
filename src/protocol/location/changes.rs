//! What has changed, for whoever keeps it beyond the process.

use super::clock::Moment;
use super::record;
use super::{Location, Walk};

/// Entries, one for each address-of-record that has changed: its name and, unless it has no bindings any more, the
/// value that [`Location::restore`] reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    octets: Vec<u8>,
    /// Where each entry ends.
    ends: Vec<usize>,
}

/// Octets of the length of the name, with which an entry begins.
const NAME_LENGTH: usize = size_of::<u32>();

/// Octets in which most entries have room.
const USUAL_ENTRY: usize = 256;

impl Changes {
    /// With room for a few entries: of many, most may be names alone.
    fn for_entries(count: usize) -> Self {
        Self { octets: Vec::with_capacity(count.min(16) * USUAL_ENTRY), ends: Vec::with_capacity(count) }
    }

    /// Whether nothing has changed.
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The octets of all entries together.
    pub const fn size(&self) -> usize {
        self.octets.len()
    }

    /// Each entry, as octets for [`Self::split`].
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.octets[start..end])
    }

    /// Name and value of an entry; the value is empty where the name has no bindings. `None`: it is none.
    pub fn split(entry: &[u8]) -> Option<(&[u8], &[u8])> {
        let (length, rest) = entry.split_first_chunk::<NAME_LENGTH>()?;
        rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)
    }

    /// Adds an entry, whose value `write` appends.
    pub fn push(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let length = u32::try_from(name.len()).expect("a name is a part of a message");
        self.octets.extend_from_slice(&length.to_le_bytes());
        self.octets.extend_from_slice(name);
        write(&mut self.octets);
        self.ends.push(self.octets.len());
    }
}

/// What is kept.
impl Location {
    /// Takes what has changed since the last call, each address-of-record once, as it is at `at`.
    pub fn take_changes(&mut self, at: Moment) -> Changes {
        let names = self.bindings.take_changed();
        let mut changes = Changes::for_entries(names.len());
        for name in names {
            let bindings = self.bindings.get(&name);
            changes.push(name.as_bytes(), |out| {
                record::write(bindings, &self.settings.accounts, self.clock, at, out);
            });
        }
        changes
    }

    /// Grows with each question that changes something that is kept: its answer must not overtake that.
    pub const fn changes(&self) -> usize {
        self.bindings.changes()
    }

    /// Whether changes find room where they are kept. While they do not, a REGISTER that would change something is
    /// refused with 503.
    pub const fn set_room(&mut self, has_room: bool) {
        self.has_room = has_room;
    }

    /// A walk through all that is there, for [`Self::repeat`]; `None` where there is nothing.
    pub fn walk(&mut self) -> Option<Walk> {
        self.bindings.walk()
    }

    /// Lets up to `count` addresses-of-record of the walk count as changed. The rest of the walk.
    pub fn repeat(&mut self, walk: Walk, count: usize) -> Option<Walk> {
        self.bindings.repeat(walk, count)
    }
}
