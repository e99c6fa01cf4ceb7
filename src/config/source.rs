//! Where the configuration comes from, to be read again and again.

use std::fmt;
use std::path::{Path, PathBuf};

use super::load::{load_text, read_text};
use super::{Config, Faults, Places, Warning};

/// The file and the environment of the process.
#[derive(Clone)]
pub struct Source {
    file: PathBuf,
    environment: Vec<(String, String)>,
}

/// A configuration as it was loaded.
#[derive(Clone)]
pub struct Loaded {
    /// What it says.
    pub config: Config,
    /// What is doubtful.
    pub warnings: Vec<Warning>,
    /// Where its keys are.
    pub places: Places,
    /// What the file was: read again, it gives the same but for what other files say by then.
    pub text: String,
}

impl Source {
    /// The file over the defaults, and the variables of this process over the file.
    pub fn of_process(file: &Path) -> Self {
        // A variable that is no UTF-8 cannot be one of ours: they hold names, numbers and addresses.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self { file: file.to_owned(), environment: environment.collect() }
    }

    /// The file alone.
    pub fn of_file(file: &Path) -> Self {
        Self { file: file.to_owned(), environment: Vec::new() }
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// As the file is now.
    ///
    /// # Errors
    ///
    /// All faults at once.
    pub fn load(&self) -> Result<Loaded, Faults> {
        self.load_as(read_text(&self.file)?)
    }

    /// As if the file were still `text`: what has changed is in the files that it names.
    ///
    /// # Errors
    ///
    /// All faults at once.
    pub fn load_as(&self, text: String) -> Result<Loaded, Faults> {
        let (config, warnings, places) = load_text(&self.file, &text, self.environment.iter().cloned())?;
        Ok(Loaded { config, warnings, places, text })
    }
}

/// The environment and the text may hold passwords.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.file.display())
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({:?})", self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::Directory;

    #[test]
    fn the_text_of_before_is_read_with_the_files_of_now() {
        let directory = Directory::new("source");
        let secret = directory.write("secret", "one");
        let file = directory.write("a.toml", format!("[lan]\npassword_file = {secret:?}\n"));
        let source = Source::of_file(Path::new(&file));
        let before = source.load().unwrap();
        assert_eq!(before.places.files().map(Path::to_owned).collect::<Vec<_>>(), [PathBuf::from(&secret)]);
        directory.write("secret", "two");
        directory.write("a.toml", "[lan]\nport = 0.5\n");
        assert!(source.load().is_err());
        let after = source.load_as(before.text).unwrap();
        let secrets = [before.config, after.config].map(|config| config.accounts.list()[0].secret.clone());
        assert!(secrets[0] != secrets[1]);
        assert!(!format!("{source:?}").contains("one"));
    }
}
