//! The table of events: what a worker counts besides calls.
//!
//! One definition makes the enum, the counter's slot, the metric's name, its help text and its label. A variant's
//! payload is its label: the payload's name is the label's name, its type the label's values, so that no label can grow.
//! Adding a metric is adding a line.

mod label;

pub(crate) use label::Label;
pub use label::{
    Ejected, HealthCheckResult, Hedged, Injected, Limited, LoadReported, LoadStreamEnded, Mirrored, Probed,
    Refused, Reload, ResponseFlag, ResponseFlags, RetryDenied, RetryReason, Shed, Side, TransparentRetry,
};

/// A metric made of events.
pub(crate) struct Family {
    /// Without the suffix `_total`, which the exposition adds.
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    /// The label's name and values; `None` for a metric of one series.
    pub(crate) label: Option<(&'static str, &'static [&'static str])>,
    /// Its first slot; the others follow in the order of the label's values.
    pub(crate) slot: usize,
}

/// The number of slots before the family at `index`.
const fn slots_before(labels: &[Option<(&str, &[&str])>], index: usize) -> usize {
    let (mut sum, mut family) = (0, 0);
    while family < index {
        sum += match labels[family] {
            Some((_, values)) => values.len(),
            None => 1,
        };
        family += 1;
    }
    sum
}

/// `Some((name, values))` for a payload, `None` without one.
macro_rules! label_of {
    () => {
        None
    };
    ($label:ident : $values:ty) => {
        Some((stringify!($label), <$values as Label>::VALUES))
    };
}

/// Defines [`Event`] and its tables: variant, payload, name, help.
macro_rules! events {
    ($( $(#[$doc:meta])* $variant:ident $( ($label:ident : $values:ty) )? = $name:literal, $help:literal; )*) => {
        /// Something that a worker counts.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event { $( $(#[$doc])* $variant $( ($values) )?, )* }

        /// The variants without their payloads: the index of each family.
        #[derive(Clone, Copy)]
        enum Index { $( $variant, )* }

        const LABELS: &[Option<(&str, &[&str])>] = &[$( label_of!($( $label : $values )?), )*];

        /// All families, in the order of the variants.
        pub(crate) const FAMILIES: &[Family] = &[$( Family {
            name: $name,
            help: $help,
            label: LABELS[Index::$variant as usize],
            slot: slots_before(LABELS, Index::$variant as usize),
        }, )*];

        impl Event {
            /// The counter of this event and label.
            #[inline]
            pub(crate) fn slot(self) -> usize {
                match self { $(
                    Self::$variant $( ($label) )? =>
                        (const { slots_before(LABELS, Index::$variant as usize) }) $( + $label.index() )?,
                )* }
            }
        }
    };
}

events! {
    /// A client's connection was accepted.
    ConnectionOpened = "evenkeel_downstream_connections_opened", "Connections accepted from clients.";
    /// A client's connection ended, for whatever reason.
    ConnectionClosed = "evenkeel_downstream_connections_closed", "Connections of clients that ended.";
    /// A client's connection was closed at once because of a limit.
    ConnectionRefused(reason: Refused) = "evenkeel_downstream_connections_refused",
        "Connections of clients that a limit closed at once, by limit.";
    /// A client was asked to go because its connection reached `max_connection_age`.
    ConnectionAged = "evenkeel_downstream_connections_aged",
        "Connections whose clients were asked to go because of max_connection_age.";
    /// A client spoke HTTP/1 and was told so.
    Http1Request = "evenkeel_http1_requests", "Connections that began with HTTP/1 instead of HTTP/2.";
    /// A request was not gRPC by its content-type.
    NonGrpcRequest = "evenkeel_non_grpc_requests", "Requests whose content-type is not gRPC.";
    /// A fault was injected on purpose.
    FaultInjected(fault: Injected) = "evenkeel_faults_injected", "Faults injected on purpose, by kind.";
    /// A copy of a call was begun, or not, or given up.
    Mirrored(outcome: Mirrored) = "evenkeel_mirrored_calls", "Copies of calls for another cluster, by what became of them.";
    /// A call ended otherwise than by the backend's answer: the proxy answered it, or the client was gone.
    LocalReply(response_flag: ResponseFlag) = "evenkeel_local_replies",
        "Calls that ended otherwise than by the backend's answer, by response flag.";
    /// A call was sent again because no backend had seen it.
    TransparentRetry(reason: TransparentRetry) = "evenkeel_transparent_retries",
        "Attempts repeated because no backend had processed them, by reason.";
    /// A call was tried again by its route's policy.
    Retry(reason: RetryReason) = "evenkeel_retries",
        "Attempts that followed another by a route's retry policy, by how that one ended.";
    /// A call was not tried again although its route's policy retries such an end.
    RetryDenied(reason: RetryDenied) = "evenkeel_retries_denied",
        "Calls that were not tried again although the policy retries such an end, by reason.";
    /// A further attempt of a call was due while others ran, or decided it.
    Hedged(outcome: Hedged) = "evenkeel_hedges",
        "Further attempts of hedged calls: sent while others ran, after a failure, not sent for want of an endpoint, and won.";
    /// Outlier detection took an endpoint out of rotation.
    OutlierEjected(reason: Ejected) = "evenkeel_outlier_ejections",
        "Endpoints that outlier detection took out of rotation, by reason.";
    /// An endpoint that was ejected is back in rotation.
    OutlierReturned = "evenkeel_outlier_returns", "Ejected endpoints that came back into rotation.";
    /// Too few endpoints of a cluster's priority are available to believe it: health is disregarded.
    PanicBegan = "evenkeel_panics_begun", "Times that health came to be disregarded, as too few endpoints were available.";
    /// Enough endpoints are available again.
    PanicEnded = "evenkeel_panics_ended", "Times that health came to be regarded again.";
    /// A call found the cluster's queue of waiting calls full.
    PendingOverflow = "evenkeel_pending_overflow", "Calls refused because too many waited for a connection.";
    /// A limit turned a call away.
    Limited(limit: Limited) = "evenkeel_limited_calls", "Calls that a limit turned away, by limit.";
    /// A circuit breaker kept a worker from a further connection to an endpoint.
    ConnectionOverflow = "evenkeel_upstream_connections_overflow",
        "Further connections to endpoints that a circuit breaker did not allow.";
    /// A backend reported its load with an answer.
    LoadReport(outcome: LoadReported) = "evenkeel_load_reports",
        "Load reports in answers of backends whose cluster asks for them, by what became of them.";
    /// An endpoint was asked for its load, by prequal.
    Probe(outcome: Probed) = "evenkeel_probes", "Questions for endpoints' load, under prequal, by what became of them.";
    /// Something was given up because the process was short of memory.
    Shed(action: Shed) = "evenkeel_shed", "What was given up for want of memory, by action.";
    /// The end of the drain cut a stream.
    DrainAbortedStream = "evenkeel_drain_aborted_streams", "Streams cut when the drain period ended.";
    /// Bytes read from sockets; add with [`crate::WorkerStats::add`].
    BytesRead(side: Side) = "evenkeel_read_bytes", "Bytes read from sockets, by side.";
    /// Bytes written to sockets; add with [`crate::WorkerStats::add`].
    BytesWritten(side: Side) = "evenkeel_written_bytes", "Bytes written to sockets, by side.";
    /// One write call to a socket.
    Flush(side: Side) = "evenkeel_flushes", "Write calls to sockets, by side.";
    /// The driver woke up with something to do.
    Wakeup = "evenkeel_wakeups", "Wake-ups of the workers.";
}

/// Counters per worker.
pub(crate) const SLOTS: usize = slots_before(LABELS, LABELS.len());

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn slots_follow_each_other_without_gap_or_overlap() {
        let mut next = 0;
        for family in FAMILIES {
            assert_eq!(family.slot, next, "{}", family.name);
            next += family.label.map_or(1, |(_, values)| values.len());
        }
        assert_eq!(next, SLOTS);
    }

    #[test]
    fn the_slot_of_a_labelled_event_is_that_of_its_value() {
        let family = FAMILIES.iter().find(|family| family.name == "evenkeel_local_replies").unwrap();
        let (label, values) = family.label.unwrap();
        assert_eq!(label, "response_flag");
        for flag in ResponseFlag::ALL {
            let slot = Event::LocalReply(*flag).slot();
            assert_eq!(values[slot - family.slot], flag.as_str());
        }
        assert_eq!(Event::Wakeup.slot(), SLOTS - 1);
    }

    #[test]
    fn names_are_prefixed_once_each_and_helps_are_sentences() {
        let names: BTreeSet<_> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(
                family.name.starts_with("evenkeel_") && !family.name.ends_with("_total"),
                "{}",
                family.name
            );
            assert!(family.help.ends_with('.'), "{}", family.help);
        }
    }
}
