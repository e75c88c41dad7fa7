//! Reload: a new configuration takes effect as a whole or not at all.

use std::path::PathBuf;

use evenkeel_config::{Config, ConfigErrors};

/// Where the configuration comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// The command line: there is nothing to reload.
    Flags,
    /// A file.
    File(PathBuf),
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
        source: std::io::Error,
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
    /// Reads and resolves the configuration.
    ///
    /// # Errors
    /// [`ReloadError`]: which file, what is wrong with it, where.
    pub fn load(&self) -> Result<Config, ReloadError> {
        let Self::File(path) = self else { return Err(ReloadError::NoFile) };
        let text = std::fs::read_to_string(path)
            .map_err(|source| ReloadError::Unreadable { path: path.clone(), source })?;
        evenkeel_config::parse(&path.display().to_string(), &text).map_err(ReloadError::Invalid)
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
        return needs_restart("the admin interface's address");
    }
    if before.access_log != after.access_log {
        return needs_restart("the access log");
    }
    Ok(())
}
