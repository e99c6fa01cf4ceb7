//! The octets of a segment, a file that entries are appended to.
//!
//! It begins with a mark and a key, both drawn for it. Each entry stands under the mark, its length and a check. The
//! mark leads on where something before it is damaged. Since the check is keyed, neither what peers have put into
//! an entry nor what another file has left on the disk can be taken for one.

use std::hash::Hasher as _;
use std::io::{self, Read};

use memchr::memmem;
use siphasher::sip::SipHasher13;

use crate::actors::state;

/// What a segment begins with. Another one for each change of the form.
const MAGIC: [u8; 8] = *b"sipreg1\n";

const MARK_BYTES: usize = 4;

const KEY_BYTES: usize = 16;

const HEADER_BYTES: usize = MAGIC.len() + MARK_BYTES + KEY_BYTES;

/// Before each entry: mark, length, check.
const FRAME_BYTES: usize = MARK_BYTES + 4 + 8;

/// Longer entries are none. The longest that there can be has a thousand bindings of four kilobytes.
const MAXIMUM_ENTRY: usize = 16 << 20;

/// Octets that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// How the entries of one segment are told from other octets.
#[derive(Clone, Copy)]
pub(super) struct Frames {
    mark: [u8; MARK_BYTES],
    key: [u8; KEY_BYTES],
}

impl Frames {
    /// Those of a new segment.
    ///
    /// # Errors
    /// Where the system has no random numbers.
    pub(super) fn draw() -> io::Result<Self> {
        Ok(Self { mark: state::random()?, key: state::random()? })
    }

    /// What the segment begins with.
    pub(super) fn header(&self) -> Vec<u8> {
        [&MAGIC[..], &self.mark, &self.key].concat()
    }

    /// Appends `entry` as it stands in the segment.
    pub(super) fn append(&self, entry: &[u8], out: &mut Vec<u8>) {
        let length = u32::try_from(entry.len()).expect("an entry is far below MAXIMUM_ENTRY");
        out.extend_from_slice(&self.mark);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.check(entry).to_le_bytes());
        out.extend_from_slice(entry);
    }

    fn check(&self, entry: &[u8]) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(entry);
        hasher.finish()
    }
}

/// Reads the entries of a segment, past whatever is damaged.
pub(super) struct Reader<R> {
    source: R,
    frames: Frames,
    buffer: Vec<u8>,
    /// What of the buffer has been read.
    at: usize,
    is_at_end: bool,
    /// What stands before the next entry, if anything does.
    gap: Option<Gap>,
    /// Places with octets that are no entry.
    pub(super) damaged: usize,
}

/// Octets that are no entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    Damage,
    /// At the end of the segment: an entry that was being written when the process ended.
    Unfinished,
}

impl<R: Read> Reader<R> {
    /// `None`: the source is no segment. One whose beginning was not finished has no entries.
    ///
    /// # Errors
    /// Where the source cannot be read.
    pub(super) fn open(mut source: R) -> io::Result<Option<Self>> {
        let mut header = Vec::new();
        source.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header)?;
        if !header.starts_with(&MAGIC[..MAGIC.len().min(header.len())]) {
            return Ok(None);
        }
        let is_at_end = header.len() < HEADER_BYTES;
        header.resize(HEADER_BYTES, 0);
        let (mark, key) = header[MAGIC.len()..].split_at(MARK_BYTES);
        let frames = Frames {
            mark: mark.try_into().expect("it is as long as a mark"),
            key: key.try_into().expect("it is as long as a key"),
        };
        Ok(Some(Self { source, frames, buffer: Vec::new(), at: 0, is_at_end, gap: None, damaged: 0 }))
    }

    /// The next entry; `None` at the end.
    ///
    /// # Errors
    /// Where the source cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            if let Some(length) = self.whole_entry()? {
                // An entry that was not finished is the last one.
                self.damaged += usize::from(self.gap.take().is_some());
                let start = self.at + FRAME_BYTES;
                self.at = start + length;
                return Ok(Some(&self.buffer[start..self.at]));
            }
            if !self.skip()? {
                self.damaged += usize::from(self.gap.take() == Some(Gap::Damage));
                return Ok(None);
            }
        }
    }

    /// The length of the entry that stands here; `None` where none does.
    fn whole_entry(&mut self) -> io::Result<Option<usize>> {
        if self.fill(FRAME_BYTES)? < FRAME_BYTES {
            return Ok(None);
        }
        let frame = &self.buffer[self.at..self.at + FRAME_BYTES];
        let (mark, rest) = frame.split_at(MARK_BYTES);
        let (length, check) = rest.split_at(4);
        let length = u32::from_le_bytes(length.try_into().expect("four octets")) as usize;
        let check = u64::from_le_bytes(check.try_into().expect("eight octets"));
        if mark != self.frames.mark || length > MAXIMUM_ENTRY {
            return Ok(None);
        }
        if self.fill(FRAME_BYTES + length)? < FRAME_BYTES + length {
            self.gap.get_or_insert(Gap::Unfinished);
            return Ok(None);
        }
        let entry = &self.buffer[self.at + FRAME_BYTES..self.at + FRAME_BYTES + length];
        Ok((self.frames.check(entry) == check).then_some(length))
    }

    /// Goes on to the next mark; `false` where there is none.
    fn skip(&mut self) -> io::Result<bool> {
        loop {
            let held = self.fill(FRAME_BYTES)?;
            if held == 0 {
                return Ok(false);
            }
            // Less than a frame is the beginning of one.
            let cut = if held < FRAME_BYTES { Gap::Unfinished } else { Gap::Damage };
            self.gap.get_or_insert(cut);
            let ahead = &self.buffer[self.at + 1..];
            match memmem::find(ahead, &self.frames.mark) {
                Some(place) => {
                    self.at += 1 + place;
                    return Ok(true);
                }
                // A mark may begin here that the next octets end.
                None if self.is_at_end => self.at = self.buffer.len(),
                None => self.at = self.buffer.len() - (MARK_BYTES - 1).min(ahead.len()),
            }
        }
    }

    /// Holds so many octets, if there are so many. How many there are.
    fn fill(&mut self, wanted: usize) -> io::Result<usize> {
        while self.buffer.len() - self.at < wanted && !self.is_at_end {
            self.buffer.drain(..self.at);
            self.at = 0;
            let more = (wanted - self.buffer.len()).max(READ_BYTES) as u64;
            let read = self.source.by_ref().take(more).read_to_end(&mut self.buffer)?;
            self.is_at_end = read == 0;
        }
        Ok(self.buffer.len() - self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(entries: &[&[u8]]) -> Vec<u8> {
        let frames = Frames::draw().unwrap();
        let mut octets = frames.header();
        entries.iter().for_each(|entry| frames.append(entry, &mut octets));
        octets
    }

    /// The entries that are read, and how many places are damaged.
    fn read(octets: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut reader = Reader::open(octets).unwrap().expect("a segment");
        let mut entries = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            entries.push(entry.to_vec());
        }
        (entries, reader.damaged)
    }

    #[test]
    fn what_was_appended_is_read_in_order() {
        let long = vec![7; 3 * READ_BYTES];
        let entries: [&[u8]; 4] = [b"one", b"", &long, b"four"];
        assert_eq!(read(&segment(&entries)), (entries.map(<[u8]>::to_vec).to_vec(), 0));
        assert_eq!(read(&segment(&[])), (vec![], 0));
    }

    #[test]
    fn an_entry_that_was_being_written_at_the_end_is_no_damage() {
        let whole = segment(&[b"one", b"two"]);
        for length in 0..whole.len() {
            let (entries, damaged) = read(&whole[..length]);
            assert_eq!(
                (entries.len(), damaged),
                (usize::from(length >= HEADER_BYTES + FRAME_BYTES + 3), 0),
                "{length}"
            );
        }
    }

    #[test]
    fn any_damaged_octet_costs_one_entry_and_is_counted() {
        let whole = segment(&[b"one", b"two", b"three"]);
        for place in HEADER_BYTES..whole.len() {
            let mut octets = whole.clone();
            octets[place] ^= 0x10;
            let (entries, damaged) = read(&octets);
            // A length that leads past the end looks like an entry that was not finished, if it is the last.
            assert!(entries.len() == 2 && damaged <= 1, "{place}: {entries:?} {damaged}");
            let is_last = place >= HEADER_BYTES + 2 * (FRAME_BYTES + 3);
            assert!(damaged == 1 || is_last, "{place}");
        }
    }

    #[test]
    fn a_damaged_stretch_is_passed_over() {
        let entries: Vec<_> =
            (0..3000u32).map(|number| vec![number as u8; 100 + number as usize % 50]).collect();
        let mut octets = segment(&entries.iter().map(Vec::as_slice).collect::<Vec<_>>());
        octets[100_000..130_000].fill(0);
        let (found, damaged) = read(&octets);
        assert_eq!(damaged, 1);
        assert!((2750..2900).contains(&found.len()), "{}", found.len());
        assert!(found.iter().all(|entry| entries.contains(entry)));
    }

    #[test]
    fn an_entry_within_an_entry_is_none() {
        let inner = segment(&[b"inner"]);
        let mut octets = segment(&[&inner, b"outer"]);
        octets[HEADER_BYTES + MARK_BYTES] ^= 1;
        assert_eq!(read(&octets), (vec![b"outer".to_vec()], 1));
    }

    #[test]
    fn what_is_no_segment_is_told_apart() {
        for octets in [&b"sipreg2\n01234567890123456789"[..], b"x", &[0; 4096]] {
            assert!(Reader::open(octets).unwrap().is_none());
        }
    }
}
