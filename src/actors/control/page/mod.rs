//! The status page: files that the browser gets as they stand here, and what it may do with them.
//!
//! The page has no data in it: it asks the resources of [`super::report`] for that. So its files need no token, and there
//! is a page on which a token can be entered. Whatever the service tells becomes text there, never markup, and
//! [`CONTENT_POLICY`] keeps out the rest.

use std::hash::Hasher as _;
use std::sync::LazyLock;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

/// The header `Content-Security-Policy` of the page: scripts and styles of its own files, data of its own service, nothing
/// else.
pub const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// One file of the page.
#[derive(Debug)]
pub struct Asset {
    /// The path that it is asked for by.
    pub path: &'static str,
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// The file.
    pub content: &'static [u8],
    /// Its `ETag`, another one for each content: browsers keep the file and ask whether it is still the same.
    pub etag: String,
}

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

const FILES: [(&str, &str, &[u8]); 12] = [
    ("/", HTML, include_bytes!("index.html")),
    ("/page/style.css", STYLE, include_bytes!("style.css")),
    ("/page/icon.svg", IMAGE, include_bytes!("icon.svg")),
    ("/page/main.js", SCRIPT, include_bytes!("main.js")),
    ("/page/actions.js", SCRIPT, include_bytes!("actions.js")),
    ("/page/client.js", SCRIPT, include_bytes!("client.js")),
    ("/page/language.js", SCRIPT, include_bytes!("language.js")),
    ("/page/live.js", SCRIPT, include_bytes!("live.js")),
    ("/page/plots.js", SCRIPT, include_bytes!("plots.js")),
    ("/page/sections.js", SCRIPT, include_bytes!("sections.js")),
    ("/page/texts.js", SCRIPT, include_bytes!("texts.js")),
    ("/page/view.js", SCRIPT, include_bytes!("view.js")),
];

static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
    FILES
        .map(|(path, content_type, content)| Asset { path, content_type, content, etag: etag(content) })
        .into()
});

fn etag(content: &[u8]) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(content);
    format!("\"{:032x}\"", hasher.finish128().as_u128())
}

/// The file that has this path.
pub fn find(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests;
