//! What the proxy holds for peers: when it begins to give that up, and what it keeps of requests.

use serde::{Serialize, Serializer};

use crate::bounds;
use crate::units::format_size;

/// When the proxy begins to give up what it holds for peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Overload {
    /// Memory that may be buffered for peers. Default: half of what there is.
    pub memory: MemoryLimit,
}

/// How much of requests is kept until the response begins, so that their calls can be sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Replay {
    /// Bytes of one call that was sent, at most `per_process`. Default 64 KiB.
    #[serde(serialize_with = "serialize_size")]
    pub per_call: u32,
    /// Bytes of all calls. Default 16 MiB.
    #[serde(serialize_with = "serialize_size")]
    pub per_process: u32,
}

impl Default for Replay {
    fn default() -> Self {
        Self { per_call: bounds::REPLAY_PER_CALL.default, per_process: bounds::REPLAY_PER_PROCESS.default }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn serialize_size<S: Serializer>(bytes: &u32, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format_size(u64::from(*bytes)))
}

/// How much memory may be buffered for peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemoryLimit {
    /// This share of the memory that the machine has, or that its control group allows the process, in percent; within
    /// [`OVERLOAD_MEMORY_PERCENT`](bounds::OVERLOAD_MEMORY_PERCENT).
    Percent(u32),
    /// As many bytes; within [`OVERLOAD_MEMORY_BYTES`](bounds::OVERLOAD_MEMORY_BYTES).
    Bytes(u64),
}

impl Default for MemoryLimit {
    fn default() -> Self {
        Self::Percent(bounds::OVERLOAD_MEMORY_PERCENT.default)
    }
}

impl Serialize for MemoryLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Percent(percent) => serializer.collect_str(&format_args!("{percent}%")),
            Self::Bytes(bytes) => serializer.serialize_str(&format_size(*bytes)),
        }
    }
}
