//! Dependencies point one way: `protocol <- config <- actors <- cli`.

use std::fs;
use std::path::{Path, PathBuf};

/// What a layer must not name.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    (
        "src/protocol",
        &["crate::config", "crate::actors", "crate::cli", "crate::diagnostics", "tokio::", "actix"],
    ),
    ("src/config", &["crate::actors", "crate::cli", "crate::diagnostics", "tokio::", "actix"]),
    ("src/diagnostics", &["crate::protocol", "crate::actors", "crate::cli", "actix::"]),
    ("src/actors", &["crate::cli"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn no_layer_reaches_up() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (layer, words) in FORBIDDEN {
        let files = sources(&root.join(layer));
        assert!(files.len() > 5, "{layer} has moved");
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                let found = words.iter().find(|word| line.contains(*word));
                assert_eq!(found, None, "{}: {line}", file.display());
            }
        }
    }
}
