//! What endpoints report of their load, and the weights that follow, for GET /clusters.

use std::time::Duration;

use evenkeel_balance::{
    Endpoint, Learned, LoadReport, LoadSource, Policy, PrequalConfig, ProbeSource, ReportedWeight,
};
use serde::Serialize;

use crate::control::clusters::ClusterRuntime;
use crate::control::load::{LastReport, LoadStatus, Meaning};
use crate::worker::EndpointView;

/// An endpoint's load, as /clusters shows it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct LoadBody {
    /// `calls` or `out_of_band`: where the reports come from.
    source: &'static str,
    /// The weight that workers use: calls per second that the endpoint would serve at its full capacity; the mean where they differ.
    /// Absent while none uses one: before the end of the blackout, and after the expiration.
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<f64>,
    /// How many workers use one; absent under prequal, which weighs nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    weighing_workers: Option<usize>,
    /// The stream of reports; absent where they come with calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamBody>,
}

#[derive(Debug, PartialEq, Serialize)]
struct StreamBody {
    /// `opening`, `open`, `failed` or `unimplemented`.
    state: &'static str,
    /// Why it is not open.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Box<str>>,
    /// The newest report; absent before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    last: Option<ReportBody>,
}

/// A report as it was received. What is no number is `null`.
#[derive(Debug, PartialEq, Serialize)]
struct ReportBody {
    utilization: f64,
    requests_per_second: f64,
    errors_per_second: f64,
    #[serde(flatten)]
    meaning: MeaningBody,
    age_seconds: f64,
}

/// What follows from a report.
#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum MeaningBody {
    Weight {
        /// `null` if the report makes no sense.
        weight: Option<f64>,
    },
    Answer {
        /// `null` if the report does not say.
        requests_in_flight: Option<u32>,
        /// `null` if the report does not say.
        latency_ms: Option<f64>,
    },
}

/// What workers learned of an endpoint from its calls, and choose by.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct LearnedBody {
    /// The mean over the workers that know one; absent while none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
    /// The share of the last calls that failed: the mean over the workers.
    failing_percent: f64,
    /// Workers that know anything of it.
    workers: usize,
    /// What the endpoint said of itself, prequal's answer to a probe; absent where it said nothing, or too long ago.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<AnswerBody>,
}

#[derive(Debug, PartialEq, Serialize)]
struct AnswerBody {
    requests_in_flight: u32,
    /// Absent if it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ms: Option<f64>,
}

/// `None` where the cluster's policy goes by nothing of the kind.
pub(super) fn describe_learned(
    policy: Policy,
    endpoint: &Endpoint,
    views: &[&EndpointView],
    now: Duration,
) -> Option<LearnedBody> {
    let answer = match policy {
        Policy::PeakEwma(_) | Policy::Prequal(PrequalConfig { source: ProbeSource::Own, .. }) => None,
        Policy::Prequal(config) => endpoint.answer(now, config.max_age).map(|answer| AnswerBody {
            requests_in_flight: answer.requests_in_flight,
            latency_ms: answer.latency.map(millis),
        }),
        _ => return None,
    };
    let known: Vec<Learned> = views.iter().filter_map(|view| view.learned).collect();
    Some(LearnedBody {
        latency_ms: mean(known.iter().filter_map(|learned| learned.latency.map(millis))),
        failing_percent: mean(known.iter().map(|learned| learned.failing * 100.0)).unwrap_or(0.0),
        workers: known.len(),
        answer,
    })
}

/// `None` of nothing.
fn mean(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = numbers.fold((0_u32, 0.0), |(count, sum), number| (count + 1, sum + number));
    (count > 0).then(|| sum / f64::from(count))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// What is known of an endpoint's load; `None` where the cluster's policy goes by no reports. `views` are the workers'.
pub(super) fn describe_load(
    runtime: &ClusterRuntime,
    endpoint: &Endpoint,
    views: &[&EndpointView],
    now: Duration,
) -> Option<LoadBody> {
    let status = runtime.loads.as_ref().and_then(|loads| loads.status(endpoint.address()));
    let stream = status.map(|status| describe_stream(status, now));
    let config = match runtime.config.balancing.policy {
        Policy::LoadWeightedRoundRobin(config) => config,
        Policy::Prequal(_) => {
            let (source, weight, weighing_workers) = ("out_of_band", None, None);
            return stream.map(|stream| LoadBody { source, weight, weighing_workers, stream: Some(stream) });
        }
        _ => return None,
    };
    let weights: Vec<f64> = views.iter().filter_map(|view| view.reported_weight).collect();
    Some(LoadBody {
        source: match config.source {
            LoadSource::Calls => "calls",
            LoadSource::OutOfBand { .. } => "out_of_band",
        },
        weight: mean(weights.iter().copied()),
        weighing_workers: Some(weights.len()),
        stream,
    })
}

fn describe_stream(status: LoadStatus, now: Duration) -> StreamBody {
    let report = |LastReport { load, meaning, at }: LastReport| {
        let LoadReport { utilization, requests_per_second, errors_per_second } = load;
        let meaning = match meaning {
            Meaning::Weight(weight) => MeaningBody::Weight { weight: weight.map(ReportedWeight::get) },
            Meaning::Answer(answer) => MeaningBody::Answer {
                requests_in_flight: answer.map(|answer| answer.requests_in_flight),
                latency_ms: answer.and_then(|answer| answer.latency).map(millis),
            },
        };
        let age_seconds = now.saturating_sub(at).as_secs_f64();
        ReportBody { utilization, requests_per_second, errors_per_second, meaning, age_seconds }
    };
    StreamBody { state: status.state.name(), detail: status.detail, last: status.last.map(report) }
}
