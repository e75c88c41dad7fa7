//! Reload: a new configuration takes effect as a whole or not at all.

use std::io::Read;
use std::path::{Path, PathBuf};

use evenkeel_config::bounds::MAX_CONFIG_BYTES;
use evenkeel_config::{Config, ConfigErrors, Zone};
use evenkeel_discovery::MAX_FILE_BYTES;
use evenkeel_discovery::text_file::{ReadError, read_file, read_text};

/// Where the configuration comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigSource {
    /// The command line: there is nothing to reload.
    Flags,
    /// A file.
    File(ConfigFile),
}

/// A configuration file, with what was read of it last: only something else is worth a reload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// Where the proxy runs, in place of what the file says.
    zone: Option<Zone>,
    /// Its text, or why that was not read; `None` before the first time.
    last: Option<Result<String, String>>,
}

/// Why a configuration was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// There is no file.
    #[error("there is no configuration file to reload: the proxy was started with flags")]
    NoFile,
    /// The file cannot be read.
    #[error("cannot read {name}: {source}")]
    Unreadable {
        /// The file.
        name: String,
        /// Why, and what to do.
        #[source]
        source: ReadError,
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
    /// A file, which [`ConfigSource::load`] is to read. A `zone` stands in place of the file's `node`, also after a reload.
    #[must_use]
    pub fn file(path: PathBuf, zone: Option<Zone>) -> Self {
        Self::File(ConfigFile { path, zone, last: None })
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

    /// Whether another text is read of the file than was loaded last, be that valid or not, or another reason why none is.
    /// A file that is not there has not changed: it is about to be replaced.
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
        let read = read_file(&self.path, MAX_CONFIG_BYTES);
        let name = self.path.display().to_string();
        let text = match read {
            Ok(text) => self.last.insert(Ok(text)).as_deref().unwrap_or_default(),
            Err(source) => {
                self.last = Some(Err(source.to_string()));
                return Err(ReloadError::Unreadable { name, source });
            }
        };
        evenkeel_config::parse_in_zone(&name, text, self.zone.as_ref()).map_err(ReloadError::Invalid)
    }

    fn has_changed(&self) -> bool {
        match read_file(&self.path, MAX_CONFIG_BYTES) {
            Err(error) if error.is_not_found() => false,
            read => self.last != Some(read.map_err(|error| error.to_string())),
        }
    }
}

/// Reads the text of a configuration file without a look at what it says; 1 MiB at most.
///
/// # Errors
/// [`ReloadError::Unreadable`].
pub fn read_config(path: &Path) -> Result<String, ReloadError> {
    let unreadable = |source| ReloadError::Unreadable { name: path.display().to_string(), source };
    read_file(path, MAX_CONFIG_BYTES).map_err(unreadable)
}

/// Reads a configuration's text from a stream to its end; 1 MiB at most. `name` is what errors call it.
///
/// # Errors
/// [`ReloadError::Unreadable`].
pub fn read_config_from(source: impl Read, name: &str) -> Result<String, ReloadError> {
    let unreadable = |source| ReloadError::Unreadable { name: name.to_owned(), source };
    read_text(source, MAX_CONFIG_BYTES).map_err(unreadable)
}

/// Reads the text of an endpoint list without a look at what it says; [`MAX_FILE_BYTES`] at most.
///
/// # Errors
/// [`ReadError`]: what is wrong with it, and what to do.
pub fn read_list(path: &Path) -> Result<String, ReadError> {
    read_file(path, MAX_FILE_BYTES)
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
        let mut source = ConfigSource::file(path.clone(), None);
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
        let mut source = ConfigSource::file(path.clone(), None);
        for (text, place) in [(&b"clusters: 1"[..], ":1:"), (b"# \xff", "cannot read")] {
            fs::write(&path, text).unwrap();
            assert!(source.has_changed());
            let error = source.load().unwrap_err().to_string();
            assert!(error.contains("evenkeel.yaml") && error.contains(place), "{error}");
            assert!(!source.has_changed());
        }
    }

    #[test]
    fn a_file_is_read_up_to_the_bound_only_and_refused_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.yaml");
        let padded = |bytes: usize| VALID.to_owned() + &"\n".repeat(bytes - VALID.len());
        fs::write(&path, padded(MAX_CONFIG_BYTES)).unwrap();
        let mut source = ConfigSource::file(path.clone(), None);
        source.load().unwrap();
        fs::write(&path, padded(MAX_CONFIG_BYTES + 1)).unwrap();
        assert!(source.has_changed());
        let error = source.load().unwrap_err().to_string();
        assert!(error.contains("evenkeel.yaml") && error.contains("more than 1048576 bytes"), "{error}");
        assert!(error.ends_with("make it smaller"), "{error}");
        assert!(!source.has_changed());
        fs::write(&path, padded(MAX_CONFIG_BYTES)).unwrap();
        assert!(source.has_changed());
    }

    #[test]
    fn what_is_no_regular_file_is_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe.yaml");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        for (path, kind) in
            [(pipe.as_path(), "a pipe"), (folder.path(), "a directory"), (Path::new("/dev/zero"), "a device")]
        {
            let mut source = ConfigSource::file(path.to_owned(), None);
            assert!(source.has_changed());
            let told = [source.load().unwrap_err(), read_config(path).unwrap_err()];
            for error in told.map(|error| error.to_string()) {
                assert!(error.contains(&format!("it is {kind}; name a regular file")), "{error}");
            }
            assert!(!source.has_changed());
        }
    }

    #[test]
    fn a_stream_is_read_up_to_the_bound_only() {
        let text = |bytes: usize| read_config_from(std::io::repeat(b'#').take(bytes as u64), "<stdin>");
        assert_eq!(text(MAX_CONFIG_BYTES).unwrap().len(), MAX_CONFIG_BYTES);
        let error = read_config_from(std::io::repeat(b'#'), "<stdin>").unwrap_err().to_string();
        assert!(error.starts_with("cannot read <stdin>: it has more than 1048576 bytes"), "{error}");
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
    fn a_zone_from_the_command_line_stays_over_reloads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.yaml");
        let zone = "eu-b".parse::<Zone>().unwrap();
        fs::write(&path, VALID).unwrap();
        let mut source = ConfigSource::file(path.clone(), Some(zone));
        let node = |source: &mut ConfigSource| source.load().unwrap().node.unwrap().to_string();
        assert_eq!(node(&mut source), "/eu-b");
        fs::write(&path, format!("{VALID}node: {{region: eu, zone: eu-a, sub_zone: r1}}\n")).unwrap();
        assert_eq!(
            node(&mut source),
            "eu/eu-b",
            "the region is the file's, and a rack of another zone is none of this"
        );
    }

    #[test]
    fn flags_cannot_be_loaded_again() {
        let mut source = ConfigSource::Flags;
        assert!(!source.has_changed());
        assert!(matches!(source.load(), Err(ReloadError::NoFile)));
    }
}
