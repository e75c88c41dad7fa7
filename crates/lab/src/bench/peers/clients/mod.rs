//! Loads made by foreign clients: what a proxy costs must not depend on how this project's own generator calls.
//!
//! A client runs on the load's core, and its own cost does not matter, since the proxy's CPU time is what is measured; but
//! a client that costs much sends few calls at a time, which shows in the proxy's cost.

mod grpcio;
mod h2load;
mod process;

use super::contender::{Setting, version_in};
use super::process::Process;
use super::{PeersConfig, blocks};
use process::ClientError;
use std::fmt;
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a client may be silent beyond the time that it calls for: a Python program starts slowly on a busy core.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// A foreign client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Client {
    Grpcio,
    H2load,
}

/// The load's name, as the results have it.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpcio => "1 x 40 by grpcio",
            Self::H2load => "10 x 10 by h2load",
        })
    }
}

/// What a block gave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sample {
    /// Calls that ended well; all others make the block no sample.
    pub(super) calls: u64,
    pub(super) elapsed: Duration,
    /// CPU time of the contender.
    pub(super) cpu: Duration,
}

impl Client {
    pub(super) const ALL: [Self; 2] = [Self::Grpcio, Self::H2load];

    /// The client's version, if it is installed.
    pub(super) fn version(self, config: &PeersConfig) -> Result<String, ClientError> {
        match self {
            Self::Grpcio => grpcio::version(config),
            Self::H2load => h2load::version(config),
        }
    }

    /// Warms up, then makes calls for the length of a block.
    pub(super) fn block(self, setting: &Setting<'_>, process: &Process) -> Result<Sample, ClientError> {
        match self {
            Self::Grpcio => grpcio::block(setting, process),
            Self::H2load => h2load::block(setting, process),
        }
    }
}

fn warm_up(config: &PeersConfig) -> Duration {
    config.block / blocks::WARM_UP_DIVISOR
}

/// The version that a program prints; `None` if it does not run or prints none.
fn version_of(mut command: Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    Some(version_in(&text).to_owned()).filter(|version| !version.is_empty())
}
