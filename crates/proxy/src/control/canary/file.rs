//! The file that keeps the canaries' state over a restart.
//!
//! JSON, replaced as a whole: written beside itself, brought to the disk, renamed. A crash leaves the old one or the new
//! one, never half of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use evenkeel_balance::canary::Progress;
use evenkeel_config::StateFile;
use evenkeel_discovery::text_file::{ReadError, read_file};
use serde::{Deserialize, Serialize};

use super::{Canaries, Identity};
use crate::control::reload::ConfigSource;

/// Bytes of the file that are read: some hundred canaries with full histograms.
const FILE_BYTES_MAX: usize = 4 << 20;

/// The format that is written.
const VERSION: u32 = 1;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub(in crate::control) enum StateFileError {
    /// It cannot be read.
    #[error("cannot read the canaries' state in {}: {source}, or set `state_file`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: ReadError,
    },
    /// It cannot be written.
    #[error("cannot save the canaries' state in {}: {source}; check the path and its permissions, or set `state_file`", path.display())]
    Unwritable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It is not what was written.
    #[error("the canaries' state in {} is damaged: {source}; remove the file", path.display())]
    Damaged {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// Another program's, or a newer one's.
    #[error("the canaries' state in {} has version {version}, and this program knows {VERSION}; remove the file", path.display())]
    Version { path: PathBuf, version: u32 },
}

/// What is kept of one canary.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct SavedCanary {
    #[serde(flatten)]
    pub(super) identity: Identity,
    pub(super) progress: Progress,
}

/// What is kept, by the canaries' names.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    canaries: BTreeMap<String, SavedCanary>,
}

impl Saved {
    /// The state of the canary with this name, if it was saved and is still of the same clusters and versions.
    pub(super) fn take(&mut self, name: &str, identity: &Identity) -> Option<Progress> {
        let SavedCanary { identity: before, progress } = self.canaries.remove(name)?;
        let changed = before.changed(identity, progress.phase.is_judged());
        if let Some(why) = changed {
            tracing::warn!(canary = %name, "the saved state of the canary does not hold, and it begins anew: {why}");
        }
        changed.is_none().then_some(progress)
    }
}

/// Where the state is kept; `None`: nowhere.
pub(in crate::control) fn path_of(setting: &StateFile, source: &ConfigSource) -> Option<PathBuf> {
    match (setting, source) {
        (StateFile::At(path), _) => Some(path.clone()),
        (StateFile::Beside, ConfigSource::File(file)) => {
            let mut name = file.path().as_os_str().to_owned();
            name.push(".state.json");
            Some(name.into())
        }
        (StateFile::Beside, ConfigSource::Flags) | (StateFile::Off, _) => None,
    }
}

/// Reads what was saved; nothing if there is no file.
pub(super) fn read(path: &Path) -> Result<Saved, StateFileError> {
    let text = match read_file(path, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.is_not_found() => return Ok(Saved::default()),
        Err(source) => return Err(StateFileError::Unreadable { path: path.to_owned(), source }),
    };
    let damaged = |source| StateFileError::Damaged { path: path.to_owned(), source };
    let saved: Saved = serde_json::from_str(&text).map_err(damaged)?;
    if saved.version != VERSION {
        return Err(StateFileError::Version { path: path.to_owned(), version: saved.version });
    }
    Ok(saved)
}

/// Replaces the file.
pub(super) fn write(path: &Path, saved: &Saved) -> Result<(), StateFileError> {
    let refused = |source| StateFileError::Unwritable { path: path.to_owned(), source };
    let text = serde_json::to_vec(saved).map_err(|error| refused(error.into()))?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let replace = || {
        // What stands there may be a link that somebody else made.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        // The name is on the disk once its folder is.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    replace().map_err(refused)
}

impl Canaries {
    /// What is to be kept of all canaries.
    pub(super) fn to_save(&self) -> Saved {
        let canaries = self.list.iter().map(|runtime| {
            let saved = SavedCanary {
                identity: runtime.identity.clone(),
                progress: runtime.canary.progress().clone(),
            };
            (runtime.settings.name.clone(), saved)
        });
        Saved { version: VERSION, canaries: canaries.collect() }
    }
}
