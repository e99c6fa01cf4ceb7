//! The two forms in which metrics are told: OpenMetrics, for those who ask for it, and the older text format, which
//! everything reads that reads metrics.
//!
//! They differ little. The older one has no end mark and no units, a counter's family bears the name of its samples, with
//! `_total`, and no labels are no braces.

use hyper::header::{ACCEPT, HeaderMap};

const OPEN_METRICS: &str = "application/openmetrics-text";
const OPEN_METRICS_VERSION: &str = "1.0.0";
const CLASSIC_VERSION: &str = "0.0.4";

/// A form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// OpenMetrics 1.0.0.
    Open,
    /// Prometheus' text format 0.0.4.
    Classic,
}

impl Format {
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What a request asks for: OpenMetrics where that is named, by a version that we speak, and nothing is said to be
    /// liked more. `*/*` names nothing.
    pub(super) fn asked_for(headers: &HeaderMap) -> Self {
        let (mut open, mut classic) = (Liked::default(), Liked::default());
        for accept in headers.get_all(ACCEPT) {
            for range in split(accept.to_str().unwrap_or_default(), ',') {
                let range = Range::read(range);
                let version = |ours: &str| range.version.as_deref().is_none_or(|version| version == ours);
                let precision = u8::from(range.version.is_some());
                match &*range.kind {
                    OPEN_METRICS if version(OPEN_METRICS_VERSION) => open.note(precision, range.quality),
                    "text/plain" if version(CLASSIC_VERSION) => classic.note(3 + precision, range.quality),
                    "text/*" => classic.note(2, range.quality),
                    "*/*" => classic.note(1, range.quality),
                    _ => {}
                }
            }
        }
        let quality = |liked: Liked| liked.0.map_or(0.0, |(_, quality)| quality);
        let (open, classic) = (quality(open), quality(classic));
        if open > 0.0 && open >= classic { Self::Open } else { Self::Classic }
    }

    /// The text of OpenMetrics in this form.
    pub(super) fn write(self, text: String) -> String {
        match self {
            Self::Open => text,
            Self::Classic => classic(&text),
        }
    }
}

/// How much a form is liked, by the range that names it most precisely.
#[derive(Clone, Copy, Debug, Default)]
struct Liked(Option<(u8, f32)>);

impl Liked {
    fn note(&mut self, precision: u8, quality: f32) {
        if self.0.is_none_or(|(known, _)| precision > known) {
            self.0 = Some((precision, quality));
        }
    }
}

/// One media range of Accept (RFC 9110, 12.5.1).
struct Range {
    /// In lower case.
    kind: String,
    version: Option<String>,
    /// 0 where it makes no sense.
    quality: f32,
}

impl Range {
    fn read(text: &str) -> Self {
        let mut parts = split(text, ';');
        let kind = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let mut range = Self { kind, version: None, quality: 1.0 };
        for part in parts {
            let Some((name, value)) = part.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match &*name.trim().to_ascii_lowercase() {
                "version" => range.version = Some(value.to_owned()),
                "q" => {
                    let quality = value.parse().ok().filter(|quality| (0.0..=1.0).contains(quality));
                    range.quality = quality.unwrap_or_default();
                }
                _ => {}
            }
        }
        range
    }
}

/// The parts of `text` between separators that stand outside of quotation marks.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

/// The older form of what the library writes.
fn classic(text: &str) -> String {
    let mut classic = String::with_capacity(text.len());
    // The help stands before the type, which says whether it is a counter's.
    let mut help = None;
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let end = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                classic.extend(["# HELP ", name, end, " ", help, "\n"]);
            }
            classic.extend(["# TYPE ", name, end, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            // Labels begin with the first brace, and what is in quotation marks comes behind it.
            match line.split_once('{').and_then(|(name, rest)| Some((name, rest.strip_prefix('}')?))) {
                Some((name, value)) => classic.extend([name, value, "\n"]),
                None => classic.extend([line, "\n"]),
            }
        }
    }
    classic
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let of_prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                             application/openmetrics-text;version=0.0.1;q=0.4,\
                             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                             text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        let classic_first = "text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5";
        for (rows, expected) in [
            (&[][..], Format::Classic),
            (&["*/*"], Format::Classic),
            (&["text/plain"], Format::Classic),
            (&["application/*"], Format::Classic),
            (&["application/json"], Format::Classic),
            (&["application/openmetrics-text"], Format::Open),
            (&["Application/OpenMetrics-Text; Version=1.0.0; charset=utf-8"], Format::Open),
            (&["application/openmetrics-text; version=\"1.0.0\""], Format::Open),
            (&["application/openmetrics-text; x=\",text/plain;\"; version=1.0.0"], Format::Open),
            (&["application/openmetrics-text;version=0.0.1"], Format::Classic),
            (&["application/openmetrics-text;version=2.0.0, text/plain;q=0.1"], Format::Classic),
            (&["application/openmetrics-text;q=0"], Format::Classic),
            (&["application/openmetrics-text;q=nan"], Format::Classic),
            (&["application/openmetrics-text;q=7"], Format::Classic),
            (
                &["application/openmetrics-text;version=1.0.0;q=0, application/openmetrics-text"],
                Format::Classic,
            ),
            (&["application/openmetrics-text;q=0.5, text/plain;q=0.5"], Format::Open),
            (&["application/openmetrics-text;q=0.5, */*"], Format::Classic),
            (&["application/openmetrics-text;q=0.5, text/plain;q=0.1, text/*, */*"], Format::Open),
            (&["text/plain;q=0.2", "application/openmetrics-text;q=0.3"], Format::Open),
            (&[of_prometheus], Format::Open),
            (&[classic_first], Format::Classic),
            (&[",;=,;;q", ""], Format::Classic),
        ] {
            let mut headers = HeaderMap::new();
            for row in rows {
                headers.append(ACCEPT, HeaderValue::from_static(row));
            }
            assert_eq!(Format::asked_for(&headers), expected, "{rows:?}");
        }
    }

    #[test]
    fn the_older_form_has_the_same_samples_by_its_own_rules() {
        let text = "# HELP a_requests By kind.\n# TYPE a_requests counter\n\
                    a_requests_total{kind=\"{} x\"} 1\na_requests_total{} 2\n\
                    # HELP a_time_seconds How long.\n# TYPE a_time_seconds histogram\n\
                    # UNIT a_time_seconds seconds\n\
                    a_time_seconds_sum{} 0.5\na_time_seconds_bucket{le=\"+Inf\"} 1\n\
                    # HELP a_now Now.\n# TYPE a_now gauge\na_now 7\n# EOF\n";
        let expected = "# HELP a_requests_total By kind.\n# TYPE a_requests_total counter\n\
                        a_requests_total{kind=\"{} x\"} 1\na_requests_total 2\n\
                        # HELP a_time_seconds How long.\n# TYPE a_time_seconds histogram\n\
                        a_time_seconds_sum 0.5\na_time_seconds_bucket{le=\"+Inf\"} 1\n\
                        # HELP a_now Now.\n# TYPE a_now gauge\na_now 7\n";
        assert_eq!(Format::Classic.write(text.to_owned()), expected);
        assert_eq!(Format::Open.write(text.to_owned()), text);
    }
}
