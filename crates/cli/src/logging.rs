//! The program's log on standard error.
//!
//! Lines are written by a thread of their own: whoever reads them slowly, or not at all, must not stop the workers' threads
//! in the middle of a call. What finds no place is dropped and counted.

use std::io::IsTerminal;

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, ProxyArgs};

/// Lines that may wait to be written. Causes that can recur log one line a second at most, so this is minutes.
const LINES_MAX: usize = 4096;

/// The log; dropping it writes what waits, for a second at most.
pub(crate) struct Log {
    dropped: ErrorCounter,
    told: usize,
    _writer: WorkerGuard,
}

impl Log {
    /// Starts to log what the filter of the arguments lets through.
    pub(crate) fn start(args: &ProxyArgs) -> anyhow::Result<Self> {
        // The resolver library logs each forged or late answer without a limit; what matters of it is in our own errors.
        let filter = EnvFilter::try_new(format!("hickory_proto=off,hickory_resolver=off,{}", args.log))
            .with_context(|| format!("--log {}: not a filter; write error, warn, info or debug", args.log))?;
        let (lines, writer) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("log")
            .finish(std::io::stderr());
        let log = Self { dropped: lines.error_counter(), told: 0, _writer: writer };
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(lines);
        match args.log_format {
            LogFormat::Text => subscriber.with_target(false).init(),
            LogFormat::Json => subscriber.json().init(),
        }
        Ok(log)
    }

    /// Tells how many lines were dropped since this was told last, if any were.
    pub(crate) fn tell_dropped(&mut self) {
        let dropped = self.dropped.dropped_lines();
        if dropped > self.told {
            let lines = dropped - self.told;
            tracing::warn!(lines, "this log is incomplete: standard error is read too slowly");
            // This line may have been dropped, too; it is counted then, and told the next time.
            self.told = dropped;
        }
    }
}
