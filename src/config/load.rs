//! From a path to a checked configuration.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use config::{ConfigError, Map, Source, Value};

use super::progress::at_file;
use super::report::{Origins, Places, Report};
use super::{Config, Fault, Faults, Place, Warning, check, environment, file};

/// Larger files are refused; ten thousand accounts need a tenth of it.
const MAXIMUM_FILE_BYTES: u64 = 16 << 20;

/// Loads a configuration: the file at `path` over the built-in defaults, and over it the variables of
/// `environment` that begin with `SIP_PROXY__`. An empty file is a configuration, too.
///
/// Asks this machine for its addresses and reads the files that the configuration names; changes nothing.
///
/// # Errors
///
/// All faults at once, in the order of the file, then of the environment. A file that is no TOML has its
/// syntax faults alone: what its keys would be is not known.
pub fn load(
    path: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>), Faults> {
    load_with_places(path, environment).map(|(config, warnings, _)| (config, warnings))
}

/// As [`load`]; tells also where each key was given.
///
/// # Errors
///
/// As of [`load`].
pub fn load_with_places(
    path: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>, Places), Faults> {
    load_text(path, &read_text(path)?, environment)
}

/// The text of a configuration file.
pub(super) fn read_text(path: &Path) -> Result<String, Faults> {
    let octets = read_bounded(path, MAXIMUM_FILE_BYTES).map_err(|error| {
        fault(Place::File(path.to_owned()), format!("cannot be read: {error}, allowed: a TOML file"))
    })?;
    String::from_utf8(octets).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|octet| **octet == b'\n').count() + 1;
        fault(Place::Line { file: path.to_owned(), line }, "is no TOML: not UTF-8".to_owned())
    })
}

/// `service.control_socket` alone, whatever else is wrong: a service that runs by an earlier configuration can still be
/// asked.
///
/// # Errors
///
/// Where the file cannot be read or is no TOML, or the key itself is faulty.
pub fn control_socket(
    path: &Path,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<PathBuf, Faults> {
    let Layers { entries, origins, .. } = layers(path, &read_text(path)?, environment)?;
    let report = Report::new(path.to_owned(), origins);
    let socket = check::control_socket(&report, entries);
    let (faults, ..) = report.finish();
    let is_its = |fault: &Fault| fault.key == "service" || fault.key == "service.control_socket";
    let faults: Vec<_> = faults.into_iter().filter(is_its).collect();
    if faults.is_empty() { Ok(socket) } else { Err(Faults(faults)) }
}

/// As [`load`], for a text that stands for the file at `path`.
pub(super) fn load_text(
    path: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<(Config, Vec<Warning>, Places), Faults> {
    check_layers(path, layers(path, text, environment)?)
}

/// File and environment, one over the other.
struct Layers {
    entries: Map<String, Value>,
    origins: Origins,
    /// Variables that cannot be ours, with what is wrong.
    faults: Vec<(String, String)>,
}

fn layers(
    path: &Path,
    text: &str,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Layers, Faults> {
    let file::Document { entries, mut origins } = file::parse(text).map_err(|faults| {
        let fault = |(line, text)| Fault {
            place: Place::Line { file: path.to_owned(), line },
            key: String::new(),
            text: format!("is no TOML: {text}"),
        };
        Faults(faults.into_iter().map(fault).collect())
    })?;
    let (variables, faults) = environment::layer(environment, &mut origins);
    let entries = merge(entries, variables)
        .map_err(|error| fault(Place::File(path.to_owned()), format!("cannot be layered: {error}")))?;
    Ok(Layers { entries, origins, faults })
}

/// A fault that is not of one key.
fn fault(place: Place, text: String) -> Faults {
    Faults(vec![Fault { place, key: String::new(), text }])
}

fn check_layers(path: &Path, layers: Layers) -> Result<(Config, Vec<Warning>, Places), Faults> {
    let Layers { entries, origins, faults } = layers;
    let report = Report::new(path.to_owned(), origins);
    for (name, text) in faults {
        report.fault_of_variable(name, text);
    }
    let config = check::check(&report, entries);
    let (faults, warnings, places) = report.finish();
    if faults.is_empty() { Ok((config, warnings, places)) } else { Err(Faults(faults)) }
}

/// Lays the second layer over the first: tables merge key by key, everything else is replaced.
fn merge(
    file: Map<String, Value>,
    environment: Map<String, Value>,
) -> Result<Map<String, Value>, ConfigError> {
    config::Config::builder().add_source(Layer(file)).add_source(Layer(environment)).build()?.collect()
}

/// One layer. `Debug` does not show it: it holds passwords.
#[derive(Clone)]
struct Layer(Map<String, Value>);

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Layer(..)")
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// The octets of a file, unless it has more than `maximum`.
pub(super) fn read_bounded(path: &Path, maximum: u64) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    at_file(path, || File::open(path)?.take(maximum + 1).read_to_end(&mut octets))?;
    if octets.len() as u64 > maximum {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("has more than {maximum} octets")));
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Directory;

    #[test]
    fn files_that_are_too_large_or_not_text_are_refused() {
        let directory = Directory::new("load");
        let path = directory.write("a.toml", b"[lan]\n# caf\xe9\n");
        let path = Path::new(&path);
        let faults = load(path, std::iter::empty()).unwrap_err();
        assert_eq!(faults.to_string(), format!("{}:2: is no TOML: not UTF-8", path.display()));
        assert_eq!(read_bounded(path, 13).unwrap().len(), 13);
        assert!(read_bounded(path, 12).unwrap_err().to_string().contains("more than 12 octets"));
    }

    #[test]
    fn a_file_is_loaded_from_its_path() {
        let directory = Directory::new("load-path");
        let path = directory.write("a.toml", "[service]\nstate_directory = \"state\"\n");
        let (config, warnings) = load(Path::new(&path), std::iter::empty()).unwrap();
        assert_eq!(config.service.state_directory, Path::new(&path).with_file_name("state"));
        assert_eq!(warnings[0].place, Place::File(path.clone().into()));
    }
}
