//! When the proxy begins to give up what it holds for peers.

use serde::{Serialize, Serializer};

use crate::bounds;
use crate::units::format_size;

/// When the proxy begins to give up what it holds for peers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Overload {
    /// Memory that may be buffered for peers. Default: half of what there is.
    pub memory: MemoryLimit,
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
