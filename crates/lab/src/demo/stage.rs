//! The demo's backends and what befalls them.

use super::config::DemoConfig;
use super::tally::BackendState;
use super::{Board, DemoError};
use crate::backend::{Backend, BackendConfig, OrderBook};
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(super) struct Stage {
    configs: Vec<BackendConfig>,
    /// `None` while the backend at this place is dead.
    backends: Vec<Option<Backend>>,
    addresses: Vec<SocketAddr>,
}

/// One thing that happens to one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Slow(Duration),
    Kill,
    Restart,
}

/// The faults of a run in the order of their times: slow at D/4, dead from D/2 to 3 D/4.
fn plot(config: &DemoConfig) -> Vec<(Duration, usize, Fault)> {
    let quarter = config.duration / 4;
    let mut faults = Vec::new();
    if let Some(slow) = config.slow {
        faults.push((quarter, slow.backend - 1, Fault::Slow(slow.extra)));
    }
    if let Some(victim) = config.victim() {
        faults.push((2 * quarter, victim, Fault::Kill));
        faults.push((3 * quarter, victim, Fault::Restart));
    }
    faults
}

impl Stage {
    /// Starts the backends, on ports of 127.0.0.1 that are free.
    pub(super) async fn build(config: &DemoConfig) -> Result<Self, DemoError> {
        let orders = OrderBook::new();
        let mut stage = Self { configs: Vec::new(), backends: Vec::new(), addresses: Vec::new() };
        for index in 0..config.backends {
            let mut backend_config = BackendConfig {
                latency: config.latency,
                seed: config.seed.wrapping_add(index as u64),
                orders: orders.clone(),
                ..BackendConfig::local(&name(index))
            };
            let backend = Backend::start(backend_config.clone()).await?;
            backend_config.address = backend.local_addr();
            stage.addresses.push(backend.local_addr());
            stage.configs.push(backend_config);
            stage.backends.push(Some(backend));
        }
        Ok(stage)
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Plays all faults at their times, then keeps the backends until `quit`.
    pub(super) async fn play(mut self, config: DemoConfig, board: Board, quit: CancellationToken) {
        for (at, index, fault) in plot(&config) {
            tokio::select! {
                () = tokio::time::sleep_until(board.clock.instant(at).into()) => {}
                () = quit.cancelled() => return,
            }
            self.befall(index, fault, &board).await;
        }
        quit.cancelled().await;
    }

    async fn befall(&mut self, index: usize, fault: Fault, board: &Board) {
        let name = name(index);
        let (state, text) = match fault {
            Fault::Slow(extra) => {
                if let Some(backend) = &self.backends[index] {
                    backend.slow(extra);
                }
                (BackendState::Slow, format!("{name} takes {} ms longer from now on", extra.as_millis()))
            }
            Fault::Kill => {
                if let Some(backend) = self.backends[index].take() {
                    backend.kill().await;
                }
                (BackendState::Dead, format!("{name} killed in the middle of its calls"))
            }
            Fault::Restart => match Backend::start(self.configs[index].clone()).await {
                Ok(backend) => {
                    self.backends[index] = Some(backend);
                    (BackendState::Up, format!("{name} is back"))
                }
                Err(error) => (BackendState::Dead, error.to_string()),
            },
        };
        board.tally().befall(board.clock.now(), index, state, text);
    }
}

/// The name of the backend at `index`.
pub(super) fn name(index: usize) -> String {
    format!("backend-{}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::super::config::Slow;
    use super::*;

    #[test]
    fn faults_come_at_the_quarters_of_the_run() {
        let extra = Duration::from_millis(100);
        let config = DemoConfig {
            duration: Duration::from_secs(8),
            slow: Some(Slow { backend: 2, extra }),
            kill: true,
            ..DemoConfig::default()
        };
        let expected = [
            (Duration::from_secs(2), 1, Fault::Slow(extra)),
            (Duration::from_secs(4), 2, Fault::Kill),
            (Duration::from_secs(6), 2, Fault::Restart),
        ];
        assert_eq!(plot(&config), expected);
        assert_eq!(plot(&DemoConfig::default()), []);
    }
}
