//! The demo: backends, a proxy in front of them, a load, and a view of what happens.
//!
//! Why: a newcomer should see within seconds that calls, not connections, are balanced, and what happens when a backend
//! becomes slow or dies. The proxy is the caller's: [`run`] is given a function that starts one, so that this crate
//! depends on no proxy and any can be shown.
//!
//! Course of a run of duration D: a slow backend becomes slow at D/4; the killed one dies at D/2 and is back at 3 D/4.

mod config;
mod load;
mod stage;
mod tally;
#[cfg(test)]
mod tests;
mod view;

pub use config::{ConfigError, DemoConfig, Output, Slow};
pub use tally::{BackendState, BackendView, Event, Latencies, Snapshot, Summary};
pub use view::{draw, plain_line, summary_table};

use crate::backend::BackendError;
use crate::clock::Clock;
use load::Load;
use stage::Stage;
use std::error::Error;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tally::Tally;
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;
use view::View;

/// A proxy that the caller started for the demo. Dropping it stops the proxy.
pub struct DemoProxy {
    address: SocketAddr,
    stop: Option<Box<dyn FnOnce() + Send>>,
}

impl DemoProxy {
    /// A proxy that takes calls at `address` and ends when `stop` is called.
    #[must_use]
    pub fn new(address: SocketAddr, stop: impl FnOnce() + Send + 'static) -> Self {
        Self { address, stop: Some(Box::new(stop)) }
    }
}

impl Drop for DemoProxy {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

/// Why the demo could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// A value of the configuration is out of its bounds.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A backend did not start.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The caller's function failed to start a proxy.
    #[error("the proxy did not start: {0}")]
    Proxy(#[source] Box<dyn Error + Send + Sync>),
    /// No tokio runtime, or the output cannot be written.
    #[error("the demo cannot show its results: {0}")]
    Io(#[from] io::Error),
}

/// Runs the demo to its end, or until `q`, Ctrl-C or SIGTERM, and returns what was seen.
///
/// `start_proxy` gets the backends' addresses and starts a proxy in front of them. It is called outside of any async
/// context. `out` gets the plain lines, the final table or the JSON; the live view uses the process's terminal.
///
/// # Errors
/// [`DemoError`]; failed calls are no error, they are what the demo shows.
pub fn run<E: Into<Box<dyn Error + Send + Sync>>>(
    config: &DemoConfig,
    start_proxy: impl FnOnce(&[SocketAddr]) -> Result<DemoProxy, E>,
    out: &mut dyn Write,
) -> Result<Summary, DemoError> {
    config.check()?;
    // Two threads, so that the load does not wait for the backends' handlers nor for the drawing.
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let stage = runtime.block_on(Stage::build(config))?;
    let proxy = start_proxy(stage.addresses()).map_err(|error| DemoError::Proxy(error.into()))?;
    let mut view = View::open(config.output, out)?;

    let board = Board::new(config, &stage, proxy.address);
    let (quit, curtain) = (CancellationToken::new(), CancellationToken::new());
    let load = {
        // Channels spawn their connections when made.
        let _entered = runtime.enter();
        Load::new(config, proxy.address, board.clone(), quit.clone())
    };
    let faults = runtime.spawn(stage.play(config.clone(), board.clone(), curtain.clone()));
    let shown = runtime.block_on(perform(&mut view, load, &board, &quit));
    // The proxy goes before its backends, so that it does not see them die.
    drop(proxy);
    curtain.cancel();
    // Should the faults have panicked, the events up to then are in the summary.
    let _ = runtime.block_on(faults);

    let summary = shown?;
    view.close(&summary)?;
    Ok(summary)
}

/// Runs the load while the view follows it, to the end of the run or until told to quit.
async fn perform(
    view: &mut View<'_>,
    load: Load,
    board: &Board,
    quit: &CancellationToken,
) -> io::Result<Summary> {
    let load = tokio::spawn(load.run());
    let interrupted = tokio::spawn(quit_on_signal(quit.clone()));
    let shown = view.follow(board, quit).await;
    quit.cancel();
    // It ends once the calls in flight have; should it have panicked, the summary has what was counted until then.
    let _ = load.await;
    interrupted.abort();
    let elapsed = board.clock.now();
    shown.map(|()| board.tally().summary(elapsed))
}

async fn quit_on_signal(quit: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    // Without handlers the signals keep their usual effect, which ends the process as well.
    if let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        quit.cancel();
    }
}

/// Where all parts of the demo write down what they see, and the clock they share.
#[derive(Clone)]
struct Board {
    clock: Clock,
    tally: Arc<Mutex<Tally>>,
}

impl Board {
    fn new(config: &DemoConfig, stage: &Stage, target: SocketAddr) -> Self {
        let tally = Tally::new(config, target, stage.addresses());
        Self { clock: Clock::start(), tally: Arc::new(Mutex::new(tally)) }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        // A panic elsewhere leaves at worst one call uncounted.
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
