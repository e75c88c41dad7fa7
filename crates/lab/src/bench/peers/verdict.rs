//! The project's bounds on its own cost, judged by the results of a comparison.
//!
//! Most bounds are ratios to a rival in the same run, so that they hold on any machine.

use super::results::{OURS, PeerResults, Results, Spread};

/// The rivals among which the best is looked for: whole proxies for HTTP/2.
const RIVALS: &[&str] = &["haproxy", "nginx", "nghttpx", "envoy-nghttp2", "envoy-oghttp2"];
const ENVOYS: &[&str] = &["envoy-nghttp2", "envoy-oghttp2"];

/// Bounds on our CPU time per call over the lowest of some rivals': load, rivals, what they are called, bound.
const CPU_BOUNDS: [(&str, &[&str], &str, f64); 11] = [
    ("1 x 100", RIVALS, "best peer", 0.35),
    ("10 x 10", RIVALS, "best peer", 0.45),
    ("100 x 1", RIVALS, "best peer", 0.65),
    ("1 x 1", RIVALS, "best peer", 0.9),
    ("1 x 100", ENVOYS, "Envoy's better codec", 0.12),
    ("10 x 10", ENVOYS, "Envoy's better codec", 0.12),
    ("10 x 10", &["relay"], "L4 relay", 1.2),
    ("churn", RIVALS, "best peer", 0.6),
    ("churn", ENVOYS, "Envoy's better codec", 0.3),
    ("1 x 40 by grpcio", RIVALS, "best peer", 0.6),
    ("1 x 40 by grpcio", ENVOYS, "Envoy's better codec", 0.3),
];

/// One bound and what was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What is bounded, and in relation to what.
    pub claim: String,
    /// The bound.
    pub bound: f64,
    /// Whether the measured value must not exceed the bound; else it must not fall below it.
    pub at_most: bool,
    /// The measured value; `None` if a side of the comparison is missing.
    pub measured: Option<f64>,
    /// Why it could not be measured, if that is known.
    pub missing: Option<String>,
}

impl Verdict {
    /// Whether the bound is kept; `None` if it could not be judged.
    #[must_use]
    pub fn is_kept(&self) -> Option<bool> {
        self.measured
            .map(|measured| if self.at_most { measured <= self.bound } else { measured >= self.bound })
    }
}

/// All bounds, in the order in which they were set.
#[must_use]
pub fn verdicts(results: &Results) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = CPU_BOUNDS
        .iter()
        .map(|(load, rivals, called, bound)| {
            let claim = format!("CPU per call at {load}, of {called}");
            let missing = results.missing_client(load).map(str::to_owned);
            Verdict { missing, ..at_most(claim, *bound, results.cpu_ratio(load, rivals)) }
        })
        .collect();
    let direct_p99 = results.direct_p99_us.median();
    let added_p99 = |peer: &PeerResults| Some((peer.latency_p99_us.median()? - direct_p99?).max(0.0));
    verdicts.push(at_most(
        "added p99 latency, of best peer".to_owned(),
        0.7,
        results.ratio(RIVALS, added_p99),
    ));
    for direction in ["download", "upload"] {
        let speed =
            |peer: &PeerResults| peer.stream_mb_per_cpu_second.get(direction).and_then(Spread::median);
        let claim = format!("bytes per CPU second, one large {direction}, of HAProxy");
        let measured = results.ratio(&["haproxy"], speed);
        verdicts.push(Verdict { claim, bound: 1.0, at_most: false, measured, missing: None });
    }
    let ours = results.peer(OURS);
    let memory = ours.and_then(|ours| ours.memory);
    let syscalls = ours.and_then(|ours| ours.syscalls_per_call.median());
    let endpoints = ours.and_then(|ours| ours.endpoints.as_ref()?.ratio());
    verdicts.extend([
        at_most("CPU per call with 10,000 endpoints, of that with 3".to_owned(), 1.1, endpoints),
        at_most("system calls per call at 1 x 100".to_owned(), 0.15, syscalls),
        at_most("memory at rest, MiB".to_owned(), 12.0, memory.map(|memory| memory.rest_mib)),
        at_most(
            "memory per idle connection, bytes".to_owned(),
            4096.0,
            memory.map(|memory| memory.per_idle_connection_bytes),
        ),
        at_most(
            "memory per live call, bytes".to_owned(),
            1024.0,
            memory.map(|memory| memory.per_live_call_bytes),
        ),
    ]);
    verdicts
}

fn at_most(claim: String, bound: f64, measured: Option<f64>) -> Verdict {
    Verdict { claim, bound, at_most: true, measured, missing: None }
}
