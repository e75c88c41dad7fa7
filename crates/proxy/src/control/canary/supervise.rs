//! What the supervisor does about canaries.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use evenkeel_config::Config;

use super::{Canaries, CanaryRequest, TICK, file};
use crate::control::supervisor::{Request, Supervisor};

/// How long the supervisor waits for the state to be saved before it goes on with other things.
const SAVE_MAX: Duration = Duration::from_secs(2);

impl Supervisor {
    /// Takes over the canaries of a configuration, those that this process has none of before with what was saved of them.
    pub(in crate::control) fn place_canaries(&self, config: &Config, is_start: bool) {
        let now = self.state.now();
        let mut canaries = self.state.canaries();
        if is_start {
            canaries.file = file::path_of(&config.state_file, &self.source);
        }
        let mut routes = config.listeners.iter().flat_map(|listener| &listener.routes);
        let has_any = routes.any(|route| route.destination.canary.is_some());
        if !has_any && canaries.list.is_empty() {
            return;
        }
        let is_read = core::mem::replace(&mut canaries.is_read, true);
        let read = canaries
            .file
            .as_deref()
            .filter(|_| !is_read)
            .map_or_else(|| Ok(file::Saved::default()), file::read);
        let may_start = read.is_ok();
        let saved = read.unwrap_or_else(|error| {
            tracing::error!(
                "{error}; canaries that it would tell of begin with the weights of the configuration, none starts by \
                 itself, and the file stays as it is: nothing is saved"
            );
            // Whatever it is, it may still be wanted: a newer version's state, or another program's file.
            canaries.file = None;
            file::Saved::default()
        });
        canaries.place(config, saved, may_start, now);
        if canaries.ticker.is_none() {
            let outbox = self.outbox.clone();
            let ticker = tokio::spawn(async move {
                let mut ticks = tokio::time::interval(TICK);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    if outbox.send(Request::Canary(CanaryRequest::Tick)).await.is_err() {
                        return;
                    }
                }
            });
            canaries.ticker = Some(ticker.abort_handle());
        }
    }

    /// Does what others want about canaries.
    pub(in crate::control) async fn serve_canary(&mut self, request: CanaryRequest) {
        let now = self.state.now();
        match request {
            CanaryRequest::Tick => {
                self.judge_canaries();
                self.save_canaries().await;
            }
            CanaryRequest::Command { name, command, answer } => {
                let result = self.state.canaries().command(&name, command, now);
                self.publish();
                self.save_canaries().await;
                // The one who asked may have gone.
                let _ = answer.send(result);
            }
        }
    }

    /// Judges the canaries, and gives the workers what follows from it.
    pub(in crate::control) fn judge_canaries(&self) {
        let has_changed = self.state.canaries().tick(self.state.now());
        if has_changed {
            self.publish();
        }
    }

    /// Saves the canaries' state if it changed.
    async fn save_canaries(&mut self) {
        let now = self.state.now();
        let (path, saved, is_saving) = {
            let mut canaries = self.state.canaries();
            if canaries.is_saving.load(Relaxed) || !core::mem::take(&mut canaries.is_unsaved) {
                return;
            }
            canaries.saved_at = now;
            let Some(path) = canaries.file.clone() else { return };
            (path, canaries.to_save(), Arc::clone(&canaries.is_saving))
        };
        is_saving.store(true, Relaxed);
        let save = move || {
            let written = file::write(&path, &saved);
            is_saving.store(false, Relaxed);
            written
        };
        // A disk may take its time; drains and reloads do not wait for it.
        let saved = tokio::time::timeout(SAVE_MAX, tokio::task::spawn_blocking(save)).await;
        let mut canaries = self.state.canaries();
        let Ok(Ok(written)) = saved else {
            canaries.is_unsaved = true;
            tracing::error!("saving the canaries' state takes longer than {SAVE_MAX:?}; it goes on");
            return;
        };
        match written {
            Ok(()) => canaries.save_failed = false,
            Err(error) => {
                canaries.is_unsaved = true;
                if !core::mem::replace(&mut canaries.save_failed, true) {
                    tracing::error!("{error}; until then a restart forgets how far the canaries have come");
                }
            }
        }
    }
}

impl crate::control::State {
    /// The canaries. Held for a moment only, never over an await.
    pub(in crate::control) fn canaries(&self) -> std::sync::MutexGuard<'_, Canaries> {
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
