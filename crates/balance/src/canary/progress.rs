//! How far a canary has come: what is kept over a reload and a restart.

use core::time::Duration;

use serde::{Deserialize, Serialize};

use super::counts::Window;
use super::judgement::Comparison;

/// What a canary does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It has not begun: the weights of the configuration hold.
    #[default]
    Idle,
    /// It goes through its steps.
    Running,
    /// It stays at its step until told otherwise. It is still judged, and rolled back if it is worse.
    Paused,
    /// Its weight was set by hand: nothing is judged.
    Manual,
    /// It gets all calls.
    Promoted,
    /// It gets no calls, since someone said so.
    Aborted,
    /// It gets no calls, since it was worse.
    RolledBack,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Idle,
        Self::Running,
        Self::Paused,
        Self::Manual,
        Self::Promoted,
        Self::Aborted,
        Self::RolledBack,
    ];

    /// The name in JSON, metrics and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Manual => "manual",
            Self::Promoted => "promoted",
            Self::Aborted => "aborted",
            Self::RolledBack => "rolled_back",
        }
    }

    /// Whether the canary is being judged.
    #[must_use]
    pub fn is_judged(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// How far a canary has come.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// What it does.
    pub phase: Phase,
    /// Its share in percent; `None` while the configuration's weights hold.
    pub weight: Option<u8>,
    /// The step, from 0, if it is being judged.
    pub step: usize,
    /// How long that step has lasted, pauses and the time of a restart not counted.
    pub elapsed: Duration,
    /// What both versions did since it began.
    pub window: Window,
    /// What the newest rollback was for.
    pub rolled_back_for: Option<Comparison>,
}
