//! Canaries at run time: their state, what the workers count for them, and the file that keeps it all over a restart.
//!
//! The supervisor makes every change: a command of the admin interface, or the tick once a second at which each canary is
//! judged ([`evenkeel_balance::canary`]). A change of a weight is one snapshot for all workers; it is saved before the one
//! who asked is answered, and said in the log.

mod file;
mod origin;
mod supervise;
mod view;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use evenkeel_balance::canary::{Canary, Cause, Change, CommandError, Observed, Window};
use evenkeel_config::{CanarySettings, Config, Destination};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use self::origin::Identity;
pub(super) use self::view::{CanaryView, view};
use crate::worker::route::{Split, Versions};

/// How often canaries are judged.
const TICK: Duration = Duration::from_secs(1);

/// How often the counts of a canary that does not change are saved: what a crash forgets at most.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// What others want of the supervisor about canaries.
pub(super) enum CanaryRequest {
    /// Look at all of them.
    Tick,
    /// A command to one of them.
    Command {
        /// Its name.
        name: String,
        command: Command,
        /// Whom to tell.
        answer: oneshot::Sender<Result<Change, RefusedCommand>>,
    },
}

/// A command to a canary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command {
    Start,
    Set(u32),
    Pause,
    Resume,
    Promote,
    Abort,
}

/// Why a command was not obeyed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum RefusedCommand {
    /// No canary has the name.
    #[error("there is no canary \"{name}\"; {}", known(.names))]
    Unknown { name: String, names: Vec<String> },
    /// It makes no sense now.
    #[error("{0}")]
    Senseless(#[source] CommandError),
}

fn known(names: &[String]) -> String {
    match names {
        [] => "the configuration has none: add `canary: {stable: ..., canary: ...}` to a route with a split"
            .to_owned(),
        names => format!("there are: {}", names.join(", ")),
    }
}

/// One canary.
struct Runtime {
    settings: CanarySettings,
    /// The listener of its route.
    listener: String,
    /// The clusters of its split, with the weights that hold until it starts.
    shares: Vec<(String, u32)>,
    identity: Identity,
    canary: Canary,
    observed: Arc<Observed>,
    /// How much of what the workers counted was taken in.
    taken: Window,
}

/// All canaries; written by the supervisor only.
#[derive(Default)]
pub(super) struct Canaries {
    list: Vec<Runtime>,
    /// Where their state is kept; `None`: nowhere.
    file: Option<PathBuf>,
    /// Whether the file was read. It is with the first canary, be it one that a reload adds: what stands there may be its state, or
    /// something else that must not be written over.
    is_read: bool,
    saved_at: Duration,
    is_unsaved: bool,
    /// Whether the disk is at work on it.
    is_saving: Arc<AtomicBool>,
    /// Whether the newest attempt to save failed, which was said in the log.
    save_failed: bool,
    ticker: Option<AbortHandle>,
}

impl Drop for Canaries {
    fn drop(&mut self) {
        if let Some(ticker) = &self.ticker {
            ticker.abort();
        }
    }
}

impl Canaries {
    /// The split of a destination, with the weights that its canary has come to.
    pub(super) fn split(&self, destination: &Destination) -> Split {
        let sticky_by = destination.sticky_by.as_deref();
        let runtime = destination
            .canary
            .as_ref()
            .and_then(|canary| self.list.iter().find(|runtime| runtime.settings.name == canary.name));
        let Some(runtime) = runtime else {
            let weights = destination.shares.iter().map(|share| (share.cluster.position, share.weight));
            return Split::new(weights, sticky_by);
        };
        let weights = weights(destination, &runtime.settings, runtime.canary.weight());
        let settings = &runtime.settings;
        Split::new(weights, sticky_by).with_versions(Versions {
            stable: settings.stable.position,
            canary: settings.canary.position,
            observed: Arc::clone(&runtime.observed),
        })
    }

    /// Takes over the canaries of a configuration. Those whose split has the same clusters go on; `saved` are those of a
    /// process before this one, by name.
    fn place(&mut self, config: &Config, mut saved: file::Saved, may_start: bool, now: Duration) {
        let mut before = std::mem::take(&mut self.list);
        let routes = config.listeners.iter().flat_map(|listener| {
            listener.routes.iter().map(move |route| (listener.address.to_string(), &route.destination))
        });
        for (listener, destination) in routes {
            let Some(settings) = &destination.canary else { continue };
            let identity = Identity::of(config, destination, settings);
            let known = before.iter().position(|runtime| runtime.settings.name == settings.name);
            let known = known.map(|at| before.swap_remove(at));
            let (progress, observed) = match known {
                Some(known) => {
                    let progress = known.canary.progress();
                    match known.identity.changed(&identity, progress.phase.is_judged()) {
                        None => (Some(progress.clone()), known.observed),
                        Some(why) => {
                            ended(&known, why);
                            (None, Arc::default())
                        }
                    }
                }
                None => (saved.take(&settings.name, &identity), Arc::default()),
            };
            let taken = observed.totals();
            let is_new = progress.is_none();
            let progress = progress.unwrap_or_default();
            let (mut canary, change) = Canary::restore(settings.config.clone(), progress, now);
            change.iter().for_each(|change| log_change(&settings.name, change));
            if settings.auto && is_new && may_start {
                match canary.start(now) {
                    Ok(change) => log_change(&settings.name, &change),
                    Err(error) => {
                        tracing::warn!(canary = %settings.name, "the canary does not start: {error}");
                    }
                }
            }
            let shares =
                destination.shares.iter().map(|share| (share.cluster.name.clone(), share.weight)).collect();
            let settings = CanarySettings::clone(settings);
            self.list.push(Runtime { settings, listener, shares, identity, canary, observed, taken });
        }
        for gone in &before {
            ended(gone, "it is not configured any more");
        }
        self.is_unsaved = true;
    }

    /// Judges all canaries; returns whether a weight changed.
    fn tick(&mut self, now: Duration) -> bool {
        let mut has_changed = false;
        for runtime in &mut self.list {
            let fresh = runtime.take_fresh();
            if let Some(change) = runtime.canary.tick(now, &fresh) {
                log_change(&runtime.settings.name, &change);
                has_changed |= change.before != change.after;
                self.is_unsaved = true;
            }
        }
        let is_judging = self.list.iter().any(|runtime| runtime.canary.progress().phase.is_judged());
        if is_judging && now.saturating_sub(self.saved_at) >= SAVE_INTERVAL {
            self.is_unsaved = true;
        }
        has_changed
    }

    /// Does what a command says.
    fn command(&mut self, name: &str, command: Command, now: Duration) -> Result<Change, RefusedCommand> {
        let names = || self.list.iter().map(|runtime| runtime.settings.name.clone()).collect();
        let Some(at) = self.list.iter().position(|runtime| runtime.settings.name == name) else {
            return Err(RefusedCommand::Unknown { name: name.to_owned(), names: names() });
        };
        let runtime = &mut self.list[at];
        // What was counted before belongs to the phase before.
        let fresh = runtime.take_fresh();
        let rolled_back = runtime.canary.tick(now, &fresh);
        if let Some(change) = rolled_back {
            log_change(name, &change);
            self.is_unsaved = true;
        }
        let canary = &mut runtime.canary;
        let change = match command {
            Command::Start => canary.start(now),
            Command::Set(weight) => canary.set(weight),
            Command::Pause => canary.pause(now),
            Command::Resume => canary.resume(now),
            Command::Promote => canary.promote(),
            Command::Abort => canary.abort(),
        }
        .map_err(RefusedCommand::Senseless)?;
        log_change(name, &change);
        self.is_unsaved = true;
        Ok(change)
    }
}

impl Runtime {
    /// What the workers counted since this was asked last.
    fn take_fresh(&mut self) -> Window {
        let totals = self.observed.totals();
        let fresh = totals.since(&self.taken);
        self.taken = totals;
        fresh
    }
}

/// The clusters with the weights that a canary's share means: the two versions' part of the sum of all weights stays as
/// configured, and the canary gets its share of that. Hundredfold, so that percents are whole.
fn weights(
    destination: &Destination,
    settings: &CanarySettings,
    share: Option<u8>,
) -> impl Iterator<Item = (usize, u32)> {
    let of = |position: usize| {
        destination
            .shares
            .iter()
            .find(|share| share.cluster.position == position)
            .map_or(0, |share| share.weight)
    };
    // A configuration in which both are 0 is refused.
    let both = of(settings.stable.position) + of(settings.canary.position);
    let (stable, canary) = (settings.stable.position, settings.canary.position);
    destination.shares.iter().map(move |entry| {
        let position = entry.cluster.position;
        let weight = match share {
            Some(share) if position == canary => both * u32::from(share),
            Some(share) if position == stable => both * (100 - u32::from(share)),
            _ => entry.weight * 100,
        };
        (position, weight)
    })
}

fn ended(runtime: &Runtime, why: &str) {
    let (canary, state) = (&runtime.settings.name, runtime.canary.progress().phase.name());
    tracing::warn!(%canary, state, "the canary ended, and the weights of the configuration hold: {why}");
}

fn log_change(name: &str, change: &Change) {
    let percent =
        |weight: Option<u8>| weight.map_or("as configured".to_owned(), |weight| format!("{weight} %"));
    let (from, to) = (percent(change.before), percent(change.after));
    match change.cause {
        Cause::Worse(_) | Cause::BeyondSteps => {
            tracing::warn!(canary = %name, %from, %to, "canary: {change}");
        }
        _ => tracing::info!(canary = %name, %from, %to, "canary: {change}"),
    }
}

#[cfg(test)]
mod tests;
