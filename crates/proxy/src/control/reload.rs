//! Reload: a new configuration takes effect as a whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use evenkeel_config::{Config, ConfigErrors};

/// Where the configuration comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// The command line: there is nothing to reload.
    Flags,
    /// A file.
    File(ConfigFile),
}

/// A configuration file, with what was read of it last: only another text is worth a reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// `None` before the file was read for the first time.
    text: Option<Vec<u8>>,
}

/// Why a configuration was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no file.
    #[error("there is no configuration file to reload: the proxy was started with flags")]
    NoFile,
    /// The file cannot be read.
    #[error("cannot read {}: {source}; check the path and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file is not a valid configuration.
    #[error("{0}")]
    Invalid(#[source] ConfigErrors),
    /// A part changed that only a restart can change.
    #[error("{what} cannot change while the proxy runs; restart it")]
    NeedsRestart {
        /// The part.
        what: &'static str,
    },
}

impl ConfigSource {
    /// A file, which [`ConfigSource::load`] is to read.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        Self::File(ConfigFile { path, text: None })
    }

    /// Reads and resolves the configuration.
    ///
    /// # Errors
    /// [`ReloadError`]: which file, what is wrong with it, where.
    pub fn load(&mut self) -> Result<Config, ReloadError> {
        match self {
            Self::Flags => Err(ReloadError::NoFile),
            Self::File(file) => file.load(),
        }
    }

    /// Whether the file has another text than the one that was loaded last, be that valid or not. A file that is not
    /// there has not changed: it is about to be replaced.
    pub(super) fn has_changed(&self) -> bool {
        match self {
            Self::Flags => false,
            Self::File(file) => file.has_changed(),
        }
    }
}

impl ConfigFile {
    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn load(&mut self) -> Result<Config, ReloadError> {
        let unreadable = |source| ReloadError::Unreadable { path: self.path.clone(), source };
        let bytes = std::fs::read(&self.path).map_err(unreadable)?;
        let bytes = self.text.insert(bytes);
        let text = str::from_utf8(bytes)
            .map_err(|error| unreadable(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        evenkeel_config::parse(&self.path.display().to_string(), text).map_err(ReloadError::Invalid)
    }

    fn has_changed(&self) -> bool {
        std::fs::read(&self.path).is_ok_and(|bytes| self.text.as_ref() != Some(&bytes))
    }
}

/// Checks that a running proxy can take a configuration over.
pub(super) fn check(before: &Config, after: &Config) -> Result<(), ReloadError> {
    let needs_restart = |what| Err(ReloadError::NeedsRestart { what });
    let addresses = |config: &Config| -> Vec<_> {
        config.listeners.iter().map(|listener| listener.address.clone()).collect()
    };
    if addresses(before) != addresses(after) {
        return needs_restart("the listeners' addresses and their order");
    }
    if before.workers != after.workers {
        return needs_restart("the number of workers");
    }
    if before.admin != after.admin {
        return needs_restart("the admin interface");
    }
    if before.access_log != after.access_log {
        return needs_restart("the access log");
    }
    if before.overload != after.overload {
        return needs_restart("the memory limit");
    }
    if before.state_file != after.state_file {
        return needs_restart("the state file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const VALID: &str = "listeners:\n  - address: 127.0.0.1:0\n    routes:\n      - cluster: orders\n\
        clusters:\n  - name: orders\n    target: ipv4:127.0.0.1:1\n";

    #[test]
    fn only_another_text_than_the_loaded_one_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.yaml");
        fs::write(&path, VALID).unwrap();
        let mut source = ConfigSource::file(path.clone());
        assert!(source.has_changed(), "nothing was loaded yet");
        source.load().unwrap();
        assert!(!source.has_changed());

        fs::write(&path, format!("{VALID}# changed since it was loaded\n")).unwrap();
        assert!(source.has_changed());
        source.load().unwrap();
        assert!(!source.has_changed());

        fs::remove_file(&path).unwrap();
        assert!(!source.has_changed(), "it is about to be replaced");
    }

    #[test]
    fn a_text_that_was_refused_is_refused_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.yaml");
        let mut source = ConfigSource::file(path.clone());
        for (text, place) in [(&b"clusters: 1"[..], ":1:"), (b"# \xff", "cannot read")] {
            fs::write(&path, text).unwrap();
            assert!(source.has_changed());
            let error = source.load().unwrap_err().to_string();
            assert!(error.contains("evenkeel.yaml") && error.contains(place), "{error}");
            assert!(!source.has_changed());
        }
    }

    #[test]
    fn what_only_a_restart_can_change_is_refused() {
        let config = |more: &str| evenkeel_config::parse("test", &format!("{VALID}{more}")).unwrap();
        for (more, part) in [
            ("workers: 3\n", "workers"),
            ("admin: off\n", "admin"),
            ("access_log: stdout\n", "access log"),
            ("overload: {memory: 40%}\n", "memory limit"),
            ("state_file: off\n", "state file"),
        ] {
            let error = check(&config(""), &config(more)).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("restart"), "{error}");
        }
        assert!(check(&config(""), &config("drain: {grace: 31s}\n")).is_ok());
    }

    #[test]
    fn flags_cannot_be_loaded_again() {
        let mut source = ConfigSource::Flags;
        assert!(!source.has_changed());
        assert!(matches!(source.load(), Err(ReloadError::NoFile)));
    }
}
