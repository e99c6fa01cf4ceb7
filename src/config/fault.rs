//! What is wrong with a configuration, and what is doubtful about it.

use std::fmt;
use std::path::PathBuf;

/// Where a key was given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The file as a whole: it cannot be read, or the key is left at its default.
    File(PathBuf),
    /// A line of the file, counted from 1.
    Line {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Line { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Variable(name) => f.write_str(name),
        }
    }
}

/// A remark on one key. Orders by place: the file, its lines from the top, the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Where the key was given.
    pub place: Place,
    /// Full path of the key, as `static_routes.route[1].port`; empty where no key is at fault.
    pub key: String,
    /// What is wrong, what is allowed. Never a secret.
    pub text: String,
}

/// `FILE:LINE: key.path: text`.
impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.place, self.text);
        }
        write!(f, "{}: {}: {}", self.place, self.key, self.text)
    }
}

/// A remark that makes the configuration unusable.
pub type Fault = Remark;

/// A remark on a configuration that is used all the same.
pub type Warning = Remark;

/// All faults of a configuration, in order; never empty. Displays one per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_display_one_per_line_and_order_by_line() {
        let fault = |place, key: &str| Remark { place, key: key.into(), text: "is wrong".into() };
        let line = |line| Place::Line { file: "a.toml".into(), line };
        let mut faults = vec![
            fault(Place::Variable("SIP_PROXY__SIP__T1".into()), "sip.t1"),
            fault(line(10), "lan.port"),
            fault(line(9), ""),
            fault(Place::File("a.toml".into()), "service"),
        ];
        faults.sort();
        assert_eq!(
            Faults(faults).to_string(),
            "a.toml: service: is wrong\n\
             a.toml:9: is wrong\n\
             a.toml:10: lan.port: is wrong\n\
             SIP_PROXY__SIP__T1: sip.t1: is wrong"
        );
    }
}
