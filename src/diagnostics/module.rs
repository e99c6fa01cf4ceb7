//! Which part of the program, or which library, a record comes from.

/// The key whose value in a logger names its module.
pub(super) const KEY: &str = "module";

/// The name of this crate in module paths.
const CRATE: &str = "sip_proxy";

/// Layers of the source tree, which operators need not know.
const LAYERS: [&str; 2] = ["actors", "protocol"];

/// Where a record without a module of its own comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    /// Part of this program.
    Own(&'a str),
    /// A library, by the name of its crate.
    Library(&'a str),
}

impl<'a> Origin<'a> {
    /// By the Rust module path of the code, or the target that a library gave (`tag`, empty for our own records).
    pub(super) fn of(path: &'a str, tag: &'a str) -> Self {
        let path = if tag.is_empty() { path } else { tag };
        let mut segments = path.split("::");
        match segments.next() {
            Some(CRATE) => Self::Own(segments.find(|segment| !LAYERS.contains(segment)).unwrap_or("service")),
            Some(library) if !library.is_empty() => Self::Library(library),
            Some(_) | None => Self::Library("unknown"),
        }
    }

    pub(super) const fn name(self) -> &'a str {
        match self {
            Self::Own(name) | Self::Library(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_the_part_of_the_path_that_operators_know() {
        let table = [
            ("sip_proxy::actors::listener::datagram", "", Origin::Own("listener")),
            ("sip_proxy::protocol::location", "", Origin::Own("location")),
            ("sip_proxy::config::check", "", Origin::Own("config")),
            ("sip_proxy", "", Origin::Own("service")),
            ("sip_proxy::actors", "", Origin::Own("service")),
            ("<unknown>", "rustls::client::hs", Origin::Library("rustls")),
            ("slog_stdlog", "actix_rt", Origin::Library("actix_rt")),
            ("", "", Origin::Library("unknown")),
        ];
        for (path, tag, origin) in table {
            assert_eq!(Origin::of(path, tag), origin, "{path} {tag}");
        }
    }
}
