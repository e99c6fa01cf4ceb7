//! Mutations that know what SIP is made of, each decided by its seed.

pub(crate) use crate::common::random::Random;

impl Random {
    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (one, other) = (self.below(length + 1), self.below(length + 1));
        one.min(other)..one.max(other)
    }
}

/// What stands between the parts of messages, and what only looks as if it did.
const WORDS: [&[u8]; 40] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n ",
    b"\r\n\t",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b"\xc3\xbc",
    b",",
    b";",
    b":",
    b"=",
    b"\"",
    b"\\",
    b"\\\"",
    b"<",
    b">",
    b"@",
    b"?",
    b"&",
    b"%",
    b"%00",
    b"%41",
    b"[",
    b"]",
    b"::",
    b":::",
    b"SIP/2.0",
    b"sip:",
    b"sips:a@b",
    b";lr",
    b";rport",
    b";received=x",
    b";branch=z9hG4bK",
    b";tag=",
    b"4294967296",
    b"Content-Length: 3\r\n",
];

/// One of the seeds, changed in one to four places.
pub(crate) fn mutate(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut octets = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(4) {
        change(random, &mut octets, seeds);
    }
    octets
}

fn change(random: &mut Random, octets: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    let length = octets.len();
    match random.below(10) {
        0 => {
            if let Some(octet) = octets.get_mut(random.below(length)) {
                *octet = random.next() as u8;
            }
        }
        1 | 2 => {
            let at = random.below(length + 1);
            octets.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied());
        }
        3 => {
            let range = random.range(length);
            octets.splice(range, WORDS[random.below(WORDS.len())].iter().copied());
        }
        4 => drop(octets.drain(random.range(length))),
        5 => {
            let part = octets[random.range(length)].to_vec();
            let times = 1 + random.below(8);
            let at = random.below(length + 1);
            octets.splice(at..at, part.repeat(times));
        }
        6 => {
            let other = &seeds[random.below(seeds.len())];
            let part = other[random.range(other.len())].to_vec();
            octets.splice(random.range(length), part);
        }
        7 | 8 => change_lines(random, octets),
        _ => {
            let range = random.range(length);
            for octet in &mut octets[range] {
                *octet = if octet.is_ascii_digit() { b'9' } else { octet.to_ascii_uppercase() };
            }
        }
    }
}

/// A row is repeated, lost, or put elsewhere.
fn change_lines(random: &mut Random, octets: &mut Vec<u8>) {
    let mut lines: Vec<&[u8]> = octets.split_inclusive(|&octet| octet == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    let (from, to) = (random.below(lines.len()), random.below(lines.len()));
    match random.below(3) {
        0 => lines.insert(to, lines[from]),
        1 => drop(lines.remove(from)),
        _ => lines.swap(from, to),
    }
    *octets = lines.concat();
}
