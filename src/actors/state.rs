//! `service.state_directory`: what must outlive a restart.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::protocol::record_route::TokenKey;

/// The file with the key of the tokens in Record-Route.
const TOKEN_KEY_FILE: &str = "record-route.key";

/// The key of the tokens in Record-Route: the one that is kept, or a new one that is kept from now on.
///
/// # Errors
/// Where the directory or the file cannot be read or written; the message names it.
pub fn token_key(directory: &Path) -> io::Result<TokenKey> {
    let file = directory.join(TOKEN_KEY_FILE);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    match fs::read(&file) {
        Ok(octets) => <[u8; 16]>::try_from(octets).map(TokenKey::new).map_err(|octets| {
            named(io::Error::other(format!(
                "holds {} octets, not 16; remove it to have a new key made",
                octets.len()
            )))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random()?;
            keep(directory, &file, &key).map_err(named)?;
            Ok(TokenKey::new(key))
        }
        Err(error) => Err(named(error)),
    }
}

/// Octets that nobody can guess.
///
/// # Errors
/// Where the system has none.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| io::Error::other(format!("no random numbers: {error}")))?;
    Ok(octets)
}

/// Under another name first: a crash leaves either no key or a whole one.
fn keep(directory: &Path, file: &Path, key: &[u8]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let unfinished = file.with_extension("new");
    let mut writer =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writer.write_all(key)?;
    writer.sync_all()?;
    fs::rename(&unfinished, file)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_for_its_owner_alone() {
        let directory = std::env::temp_dir().join(format!("sip-proxy-state-{}", std::process::id()));
        let nested = directory.join("lib");
        assert!(token_key(&nested).is_ok());
        let kept = fs::read(nested.join(TOKEN_KEY_FILE)).unwrap();
        assert_eq!(kept.len(), 16);
        assert!(token_key(&nested).is_ok());
        assert_eq!(fs::read(nested.join(TOKEN_KEY_FILE)).unwrap(), kept);
        let mode = fs::metadata(nested.join(TOKEN_KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(nested.join(TOKEN_KEY_FILE), b"short").unwrap();
        let fault = token_key(&nested).unwrap_err().to_string();
        assert!(fault.contains("record-route.key") && fault.contains("5 octets"), "{fault}");
        fs::remove_dir_all(&directory).unwrap();
    }
}
