//! The demo's views: live on a terminal, lines on a pipe, JSON for programs.
//!
//! What is shown is made by pure functions of a [`Snapshot`](super::Snapshot) or [`Summary`]; the rest here is when and
//! where to.

mod draw;
mod live;
mod plain;
#[cfg(test)]
mod tests;

pub use draw::draw;
pub use plain::{plain_line, summary_table};

use super::config::Output;
use super::{Board, Summary};
use live::Live;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Time between two pictures of the live view.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);

pub(super) enum View<'a> {
    Live { live: Live, out: &'a mut dyn Write },
    Plain { out: &'a mut dyn Write, events_shown: usize },
    Json { out: &'a mut dyn Write },
}

impl<'a> View<'a> {
    pub(super) fn open(output: Output, out: &'a mut dyn Write) -> io::Result<Self> {
        Ok(match output {
            Output::Json => Self::Json { out },
            Output::Auto if io::stdout().is_terminal() => Self::Live { live: Live::open()?, out },
            Output::Auto | Output::Plain => Self::Plain { out, events_shown: 0 },
        })
    }

    /// Shows what happens until the run is over or was told to quit.
    pub(super) async fn follow(&mut self, board: &Board, quit: &CancellationToken) -> io::Result<()> {
        let mut ticks = tokio::time::interval(REDRAW_INTERVAL);
        loop {
            tokio::select! {
                () = quit.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let at = board.clock.now();
            let (second_ended, snapshot) = {
                let mut tally = board.tally();
                (tally.advance(at), tally.snapshot(at))
            };
            match self {
                Self::Live { live, .. } => {
                    live.draw(&snapshot)?;
                    if live.asked_to_quit()? {
                        return Ok(());
                    }
                }
                Self::Plain { out, events_shown } if second_ended => {
                    *events_shown += plain::write_second(*out, &snapshot, *events_shown)?;
                }
                Self::Plain { .. } | Self::Json { .. } => {}
            }
            if at >= snapshot.duration {
                return Ok(());
            }
        }
    }

    /// Leaves the terminal as it was and shows the result.
    pub(super) fn close(self, summary: &Summary) -> io::Result<()> {
        match self {
            Self::Live { live, out } => {
                drop(live);
                write!(out, "{}", summary_table(summary))
            }
            Self::Plain { out, .. } => write!(out, "\n{}", summary_table(summary)),
            Self::Json { out } => {
                serde_json::to_writer_pretty(&mut *out, summary)?;
                writeln!(out)
            }
        }
    }
}
