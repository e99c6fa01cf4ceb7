//! Edits: what the proxy changes in a message, as splices that are written out once.

use std::ops::Range;

use bytes::Bytes;
use smallvec::SmallVec;

use super::index::Message;
use super::lexical::{CommaList, push_decimal};
use super::name::Name;

#[derive(Clone, Debug)]
struct Splice {
    /// The octets of the message that go; empty for an insertion.
    removed: Range<u32>,
    /// The octets of `text` that come in their place.
    inserted: Range<u32>,
}

/// Changes to one message. All places are those of the message as it came; several insertions at one place come
/// out in the order in which they were made. Removed ranges must not overlap.
#[derive(Debug)]
pub struct Edit<'m, 't> {
    message: &'m Message,
    splices: SmallVec<[Splice; 12]>,
    text: &'t mut Vec<u8>,
}

impl<'m, 't> Edit<'m, 't> {
    /// Begins with no change. `scratch` holds the inserted octets, so that its memory is used again.
    pub fn new(message: &'m Message, scratch: &'t mut Vec<u8>) -> Self {
        scratch.clear();
        Self { message, splices: SmallVec::new(), text: scratch }
    }

    /// Puts what `write` appends in the place of `range`.
    pub fn replace(&mut self, range: Range<usize>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len() as u32;
        write(self.text);
        let inserted = start..self.text.len() as u32;
        self.splices.push(Splice { removed: range.start as u32..range.end as u32, inserted });
    }

    /// Puts `uri` in the place of the Request-URI.
    pub fn replace_request_uri(&mut self, uri: &[u8]) {
        self.replace(self.message.request_uri_span(), |out| out.extend_from_slice(uri));
    }

    /// Inserts a row before the first with this name; before all others where there is none.
    pub fn insert_row(&mut self, name: Name, write_value: impl FnOnce(&mut Vec<u8>)) {
        let at = self.message.first_row_start(name).unwrap_or_else(|| self.message.header_start());
        self.insert_row_at(at, name, write_value);
    }

    /// Inserts a row behind all others.
    pub fn append_row(&mut self, name: Name, write_value: impl FnOnce(&mut Vec<u8>)) {
        self.insert_row_at(self.message.header_end(), name, write_value);
    }

    /// Says how long the body is, where the message does not: a datagram may leave that out, a stream must have it
    /// (§18.3, §20.14).
    pub fn measure_body(&mut self) {
        let message = self.message;
        if message.row(Name::ContentLength).is_none() {
            self.append_row(Name::ContentLength, |out| push_decimal(out, message.body().len() as u64));
        }
    }

    fn insert_row_at(&mut self, at: usize, name: Name, write_value: impl FnOnce(&mut Vec<u8>)) {
        self.replace(at..at, |out| {
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(b": ");
            write_value(out);
            out.extend_from_slice(b"\r\n");
        });
    }

    /// Removes those values of a header whose rows are comma-separated lists for whose number, counted across the
    /// rows, `is_removed` says so: whole rows where nothing is left of them.
    pub fn remove_values(&mut self, name: Name, mut is_removed: impl FnMut(usize) -> bool) {
        let message = self.message;
        let mut number = 0;
        for (row, span) in message.rows(name).zip(message.row_spans(name)) {
            let values: SmallVec<[&[u8]; 4]> = CommaList::new(row).collect();
            let mut kept = values.clone();
            kept.retain(|_| {
                number += 1;
                !is_removed(number - 1)
            });
            if kept.is_empty() {
                self.replace(span, |_| ());
            } else if kept.len() < values.len() {
                self.replace(message.span_of(row), |out| out.extend_from_slice(&kept.join(&b", "[..])));
            }
        }
    }

    /// Removes the first `count` values of a header whose rows are comma-separated lists: whole rows where
    /// nothing is left of them.
    pub fn remove_first_values(&mut self, name: Name, count: usize) {
        let message = self.message;
        let mut left = count;
        for (row, span) in message.rows(name).zip(message.row_spans(name)) {
            if left == 0 {
                return;
            }
            let mut values = CommaList::new(row);
            let removed = values.by_ref().take(left).count();
            left -= removed;
            match values.next() {
                Some(kept) => {
                    let from = message.span_of(row).start;
                    let to = message.span_of(kept).start;
                    self.replace(from..to, |_| ());
                }
                None => self.replace(span, |_| ()),
            }
        }
    }

    /// Writes the changed message.
    pub fn write(mut self) -> Bytes {
        let original = self.message.bytes();
        // Stable: insertions at one place keep their order, and come before what is removed from there on.
        self.splices.sort_by_key(|splice| (splice.removed.start, splice.removed.end));
        let removed: usize = self.splices.iter().map(|splice| splice.removed.len()).sum();
        // Exactly as long as the result, which so needs no more than this one allocation.
        let mut out = Vec::with_capacity(original.len() + self.text.len() - removed);
        let mut copied = 0;
        for splice in &self.splices {
            let removed = splice.removed.start as usize..splice.removed.end as usize;
            debug_assert!(copied <= removed.start, "splices overlap");
            out.extend_from_slice(&original[copied..removed.start]);
            out.extend_from_slice(&self.text[splice.inserted.start as usize..splice.inserted.end as usize]);
            copied = removed.end;
        }
        out.extend_from_slice(&original[copied..]);
        Bytes::from(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::message::{Carriage, MessageLimits};

    const TEXT: &str = "INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP x;branch=1\r\nROUTE: <sip:one;lr> , <sip:two;lr>\r\n\
                        r: odd\r\nRoute: <sip:three;lr>\r\nX-Bin: \u{e9}\r\n\r\n\u{0}body";

    fn message() -> Message {
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        Message::parse(Bytes::from_static(TEXT.as_bytes()), Carriage::Datagram, limits).unwrap()
    }

    fn edited(change: impl FnOnce(&mut Edit<'_, '_>)) -> String {
        let (message, mut scratch) = (message(), vec![1, 2, 3]);
        let mut edit = Edit::new(&message, &mut scratch);
        change(&mut edit);
        String::from_utf8(edit.write().to_vec()).unwrap()
    }

    #[test]
    fn without_changes_every_octet_stays() {
        assert_eq!(edited(|_| ()), TEXT);
    }

    #[test]
    fn rows_come_in_the_order_of_insertion() {
        let out = edited(|edit| {
            edit.replace_request_uri(b"sip:new@contact");
            edit.insert_row(Name::Via, |out| out.extend_from_slice(b"top"));
            edit.insert_row(Name::RecordRoute, |out| out.extend_from_slice(b"<outer>"));
            edit.insert_row(Name::RecordRoute, |out| out.extend_from_slice(b"<inner>"));
            edit.append_row(Name::MaxForwards, |out| out.extend_from_slice(b"70"));
        });
        assert!(out.starts_with("INVITE sip:new@contact SIP/2.0\r\nVia: top\r\nRecord-Route: <outer>\r\nRecord-Route: <inner>\r\nVia: SIP"));
        assert!(out.ends_with("X-Bin: \u{e9}\r\nMax-Forwards: 70\r\n\r\n\u{0}body"));
    }

    #[test]
    fn what_is_inserted_where_something_is_removed_comes_before_it() {
        for is_first in [true, false] {
            let out = edited(|edit| {
                if is_first {
                    edit.insert_row(Name::Route, |out| out.extend_from_slice(b"<new>"));
                }
                edit.remove_first_values(Name::Route, 2);
                if !is_first {
                    edit.insert_row(Name::Route, |out| out.extend_from_slice(b"<new>"));
                }
            });
            assert!(out.contains("branch=1\r\nRoute: <new>\r\nr: odd"), "{out}");
        }
    }

    #[test]
    fn a_body_is_measured_once() {
        assert!(edited(|edit| edit.measure_body()).ends_with("\r\nContent-Length: 5\r\n\r\n\u{0}body"));
        let limits = MessageLimits { message_bytes: 65_535, header_bytes: 16_384 };
        let text = b"SIP/2.0 200 OK\r\nl:1\r\n\r\nx";
        let message = Message::parse(Bytes::from_static(text), Carriage::Datagram, limits).unwrap();
        let mut scratch = Vec::new();
        let mut edit = Edit::new(&message, &mut scratch);
        edit.measure_body();
        assert_eq!(&edit.write()[..], text);
    }

    #[test]
    fn values_are_taken_from_the_front_across_rows() {
        let table = [
            (1, "ROUTE: <sip:two;lr>\r\nr: odd\r\nRoute: <sip:three;lr>\r\n"),
            (2, "r: odd\r\nRoute: <sip:three;lr>\r\n"),
            (3, "r: odd\r\n"),
            (9, "r: odd\r\n"),
        ];
        for (count, rest) in table {
            let out = edited(|edit| edit.remove_first_values(Name::Route, count));
            let expected = format!("branch=1\r\n{rest}X-Bin");
            assert!(out.contains(&expected), "{count}: {out}");
        }
    }

    #[test]
    fn values_are_taken_from_anywhere() {
        let table: [(&[usize], &str); 5] = [
            (&[0], "ROUTE: <sip:two;lr>\r\nr: odd\r\nRoute: <sip:three;lr>\r\n"),
            (&[1], "ROUTE: <sip:one;lr>\r\nr: odd\r\nRoute: <sip:three;lr>\r\n"),
            (&[0, 1], "r: odd\r\nRoute: <sip:three;lr>\r\n"),
            (&[0, 2], "ROUTE: <sip:two;lr>\r\nr: odd\r\n"),
            (&[0, 1, 2], "r: odd\r\n"),
        ];
        for (removed, rest) in table {
            let out = edited(|edit| edit.remove_values(Name::Route, |number| removed.contains(&number)));
            let expected = format!("branch=1\r\n{rest}X-Bin");
            assert!(out.contains(&expected), "{removed:?}: {out}");
        }
    }
}
