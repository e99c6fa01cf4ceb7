//! Tables: for people who read them on a terminal, or pipe them into something.
//!
//! On a terminal a table is as wide as that at most: the widest columns give way, and what is cut ends with an ellipsis. In a
//! pipe nothing is cut and nothing has a colour. Whatever peers have put into a value, it takes one cell of one line: what
//! would move the cursor, or turn the direction of the text, is replaced.

use std::io::IsTerminal as _;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Between two columns.
const GAP: &str = "  ";

/// No column that can give way is made narrower.
const NARROWEST: usize = 8;

/// What a table is printed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Screen {
    /// Columns of a terminal; `None`: there is no end.
    pub(super) width: Option<usize>,
    pub(super) has_colours: bool,
}

impl Screen {
    /// Standard output.
    pub(super) fn new() -> Self {
        if !std::io::stdout().is_terminal() {
            return Self::default();
        }
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
        let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { width, has_colours: !is_dumb && !is_unwanted }
    }

    /// `text` in a colour, or in bold.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.has_colours) {
            Some(code) => format!("\x1b[{code}m{text}\x1b[0m"),
            None => text.to_owned(),
        }
    }
}

/// What a word means for whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Heading,
    Good,
    Doubtful,
    Bad,
    Faint,
}

impl Tone {
    const fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Heading => Some("1"),
            Self::Good => Some("32"),
            Self::Doubtful => Some("33"),
            Self::Bad => Some("31"),
            Self::Faint => Some("2"),
        }
    }

    /// Of the words that reports have for a state.
    pub(super) fn of(word: &str) -> Self {
        match word {
            "listening" | "well" | "ok" | "ready" => Self::Good,
            "not_listening" | "ill" | "failed" | "error" => Self::Bad,
            "starting" | "impaired" | "draining" | "warning" => Self::Doubtful,
            "disabled" | "unknown" => Self::Faint,
            _ => Self::Plain,
        }
    }
}

/// How a column is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the left; gives way.
    Text,
    /// To the left, never cut: names and addresses that are typed again.
    Name,
    /// To the right, never cut.
    Number,
    /// To the left, never cut, in the colour of its word.
    State,
}

/// Rows under a heading.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(columns: &[(&'static str, Kind)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row: a cell for each column.
    pub(super) fn row<const N: usize>(&mut self, cells: &[String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(cells.iter().map(|cell| harmless(cell)).collect());
    }

    /// The lines; `none` in place of a table without rows.
    pub(super) fn render(&self, screen: Screen, none: &str) -> Vec<String> {
        if self.rows.is_empty() {
            return vec![screen.paint(Tone::Faint, none)];
        }
        let widths = self.widths(screen);
        let heading = self.columns.iter().map(|(name, _)| (name.to_uppercase(), Tone::Heading)).collect();
        let body = self.rows.iter().map(|row| {
            row.iter().zip(&self.columns).map(|(cell, (_, kind))| match kind {
                Kind::State => (cell.clone(), Tone::of(cell)),
                Kind::Text | Kind::Name | Kind::Number => (cell.clone(), Tone::Plain),
            })
        });
        let body = body.map(|cells| self.line(cells.collect(), &widths, screen));
        std::iter::once(self.line(heading, &widths, screen)).chain(body).collect()
    }

    fn line(&self, cells: Vec<(String, Tone)>, widths: &[usize], screen: Screen) -> String {
        let mut line = String::new();
        for (index, (((text, tone), width), (_, kind))) in
            cells.into_iter().zip(widths).zip(&self.columns).enumerate()
        {
            let text = cut(&text, *width);
            let room = " ".repeat(width - text.width());
            let text = screen.paint(tone, &text);
            line.push_str(if index == 0 { "" } else { GAP });
            line.push_str(&match kind {
                Kind::Number => room + &text,
                Kind::Text | Kind::Name | Kind::State => text + &room,
            });
        }
        line.truncate(line.trim_end().len());
        line
    }

    /// As wide as the widest cell; on a terminal that is too narrow, the widest that can give way do.
    fn widths(&self, screen: Screen) -> Vec<usize> {
        let widest = |index: usize| self.rows.iter().map(move |row| row[index].width()).max();
        let columns = self.columns.iter().enumerate();
        let mut widths: Vec<usize> =
            columns.map(|(index, (name, _))| name.width().max(widest(index).unwrap_or_default())).collect();
        let Some(room) = screen.width else { return widths };
        let gaps = GAP.len() * widths.len().saturating_sub(1);
        while widths.iter().sum::<usize>() + gaps > room {
            let can_shrink = |(index, width): &(usize, &mut usize)| {
                self.columns[*index].1 == Kind::Text && **width > NARROWEST
            };
            let widest = widths.iter_mut().enumerate().filter(can_shrink).max_by_key(|(_, width)| **width);
            let Some((_, widest)) = widest else { break };
            *widest -= 1;
        }
        widths
    }
}

/// `text` in at most so many columns of a terminal.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut kept, mut taken) = (String::new(), 0);
    for letter in text.chars() {
        taken += letter.width().unwrap_or(0);
        if taken + 1 > width {
            break;
        }
        kept.push(letter);
    }
    kept + "\u{2026}"
}

/// `text` without what a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(|letter| if is_harmful(letter) { '\u{fffd}' } else { letter }).collect()
}

/// Whether a terminal would obey it, break the line, or turn the text's direction: controls, separators of lines, and
/// characters for layout that are not seen (Unicode's category Cf).
pub(super) fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{feff}')
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(letter, '\u{e0000}'..='\u{e007f}')
}

/// A row of a table with two columns.
pub(super) fn row(name: &str, value: &str) -> String {
    format!("{name:<15} {}", harmless(value))
}

/// `2 days 3 h`, `3 h 20 min`, `20 s`: as much as people want to know.
pub(super) fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        (1, ..) => format!("1 day {} h", hours % 24),
        _ => format!("{days} days {} h", hours % 24),
    }
}
/// As people say it.
pub(super) fn validity(days: i64) -> String {
    match days {
        ..=-1 => "expired".to_owned(),
        0 => "expires within a day".to_owned(),
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Screen = Screen { width: None, has_colours: false };

    fn table(rows: &[[&str; 3]]) -> Table {
        let mut table = Table::new(&[("key", Kind::Name), ("reason", Kind::Text), ("port", Kind::Number)]);
        rows.iter().for_each(|row| table.row(&row.map(str::to_owned)));
        table
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_on_the_right() {
        let table = table(&[["lan", "in use", "5060"], ["open_federation", "", "80"]]);
        let expected = [
            "KEY              REASON  PORT",
            "lan              in use  5060",
            "open_federation            80",
        ];
        assert_eq!(table.render(WIDE, "none"), expected);
        assert_eq!(Table::new(&[("key", Kind::Name)]).render(WIDE, "none"), ["none"]);
    }

    #[test]
    fn letters_that_take_two_columns_and_marks_that_take_none_do_not_shift_what_follows() {
        let table = table(&[["\u{6771}\u{4eac}", "x", "1"], ["u\u{308}ber", "y", "22"]]);
        let lines = table.render(WIDE, "none");
        assert_eq!(
            lines,
            ["KEY   REASON  PORT", "\u{6771}\u{4eac}  x          1", "u\u{308}ber  y         22"]
        );
        assert!(lines.iter().all(|line| line.width() == 18), "{lines:?}");
    }

    #[test]
    fn on_a_narrow_terminal_long_texts_are_cut_and_names_are_not() {
        let reason = "Address already in use, and a long story of why that is so";
        let narrow = Screen { width: Some(40), has_colours: false };
        let lines = table(&[["wan.network_interface[0]", reason, "5061"]]).render(narrow, "none");
        assert_eq!(lines[1], "wan.network_interface[0]  Address\u{2026}  5061");
        assert!(lines.iter().all(|line| line.width() <= 40));
        // Two columns of the terminal are not cut into halves.
        assert_eq!(cut("\u{6771}\u{4eac}\u{90fd}", 4), "\u{6771}\u{2026}");
        assert_eq!(cut("abcdef", 6), "abcdef");
        let lines = table(&[["a-name-that-is-never-cut", reason, "1"]])
            .render(Screen { width: Some(10), ..narrow }, "");
        assert!(lines[1].starts_with("a-name-that-is-never-cut  Address\u{2026}"), "{lines:?}");
    }

    #[test]
    fn colours_are_for_terminals_and_take_no_room() {
        let mut states = Table::new(&[("status", Kind::State), ("port", Kind::Number)]);
        states.row(&["ill".to_owned(), "1".to_owned()]);
        let lines = states.render(Screen { width: Some(80), has_colours: true }, "");
        assert_eq!(lines, ["\x1b[1mSTATUS\x1b[0m  \x1b[1mPORT\x1b[0m", "\x1b[31mill\x1b[0m        1"]);
        assert_eq!(states.render(WIDE, ""), ["STATUS  PORT", "ill        1"]);
    }

    #[test]
    fn what_a_terminal_would_obey_does_not_reach_it() {
        let table = table(&[["\x1b[2Jx", "a\nb\u{202e}c", "1\t"]]);
        assert_eq!(table.render(WIDE, "")[1], "\u{fffd}[2Jx  a\u{fffd}b\u{fffd}c     1\u{fffd}");
        assert_eq!(row("name", "a\rb"), format!("{:<15} a\u{fffd}b", "name"));
    }

    #[test]
    fn durations_are_said_as_people_do() {
        for (seconds, expected) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3 * 3600 + 20 * 60, "3 h 20 min"),
            (86_400, "1 day 0 h"),
            (3 * 86_400 + 7200, "3 days 2 h"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn validity_is_said_as_people_do() {
        for (days, expected) in
            [(-1, "expired"), (0, "expires within a day"), (1, "1 day left"), (30, "30 days left")]
        {
            assert_eq!(validity(days), expected);
        }
    }
}
