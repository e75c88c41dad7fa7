//! What the admin interface shows of the canaries.

use std::time::Duration;

use evenkeel_balance::canary::{Comparison, Counts, Finding};
use serde::Serialize;

use super::{Canaries, Runtime};

/// One canary.
#[derive(Serialize)]
pub(in crate::control) struct CanaryView {
    pub(in crate::control) name: String,
    listener: String,
    stable: String,
    canary: String,
    pub(in crate::control) state: &'static str,
    /// The canary's share of what both versions get.
    pub(in crate::control) weight_percent: f64,
    step: Option<StepView>,
    stable_window: VersionView,
    canary_window: VersionView,
    comparisons: Vec<ComparisonView>,
    /// What the step waits for, if it is being judged.
    waits_for: Option<&'static str>,
    rolled_back_for: Option<String>,
}

#[derive(Serialize)]
struct StepView {
    number: usize,
    of: usize,
    duration_seconds: f64,
    elapsed_seconds: f64,
}

#[derive(Serialize)]
struct VersionView {
    calls: u64,
    errors: u64,
    error_rate: f64,
    /// The quantile that is compared.
    latency_ms: Option<f64>,
}

#[derive(Serialize)]
struct ComparisonView {
    finding: Finding,
    evidence: f64,
    needed: f64,
    text: String,
}

/// All canaries, in the order of their routes.
pub(in crate::control) fn view(canaries: &Canaries) -> Vec<CanaryView> {
    canaries.list.iter().map(one).collect()
}

fn one(runtime: &Runtime) -> CanaryView {
    let (settings, canary) = (&runtime.settings, &runtime.canary);
    let progress = canary.progress();
    let judgement = canary.judgement();
    let version = |counts: &Counts| VersionView {
        calls: counts.calls,
        errors: counts.errors,
        error_rate: counts.error_rate(),
        latency_ms: counts
            .latencies
            .quantile(settings.config.latency_quantile.get())
            .map(|latency| latency.as_secs_f64() * 1e3),
    };
    let step = canary.step();
    let waits_for = judgement.as_ref().map(|judgement| {
        let is_over = step.is_some_and(|step| progress.elapsed >= step.duration);
        if !judgement.has_enough_calls {
            "calls"
        } else if !judgement.lets_pass() {
            "evidence"
        } else if progress.phase == evenkeel_balance::canary::Phase::Paused {
            "resume"
        } else if !is_over {
            "time"
        } else {
            "the next look"
        }
    });
    let comparisons = judgement.iter().flat_map(|judgement| &judgement.comparisons);
    CanaryView {
        name: settings.name.clone(),
        listener: runtime.listener.clone(),
        stable: settings.stable.name.clone(),
        canary: settings.canary.name.clone(),
        state: progress.phase.name(),
        weight_percent: canary.weight().map_or_else(|| configured(runtime), f64::from),
        step: step.map(|step| StepView {
            number: progress.step + 1,
            of: settings.config.steps.len(),
            duration_seconds: step.duration.as_secs_f64(),
            elapsed_seconds: Duration::from_millis(progress.elapsed.as_millis() as u64).as_secs_f64(),
        }),
        stable_window: version(&progress.window.stable),
        canary_window: version(&progress.window.canary),
        comparisons: comparisons.map(shown).collect(),
        waits_for,
        rolled_back_for: progress.rolled_back_for.as_ref().map(ToString::to_string),
    }
}

fn shown(comparison: &Comparison) -> ComparisonView {
    let Comparison { finding, evidence, needed, .. } = *comparison;
    ComparisonView { finding, evidence, needed, text: comparison.to_string() }
}

/// The share of the canary while the weights of the configuration hold.
fn configured(runtime: &Runtime) -> f64 {
    let of = |name: &str| {
        runtime
            .shares
            .iter()
            .find(|(cluster, _)| cluster == name)
            .map_or(0.0, |(_, weight)| f64::from(*weight))
    };
    let (stable, canary) = (of(&runtime.settings.stable.name), of(&runtime.settings.canary.name));
    if stable + canary > 0.0 { canary / (stable + canary) * 100.0 } else { 0.0 }
}
