//! A tonic client that makes unary calls until it is told to stop, and counts what became of them.
//!
//! Why: to show that no call is lost while what stands before the server is replaced.
//!
//! One thing tonic leaves to its caller. After a GOAWAY, hyper fails the first calls that are given to a connection which
//! still has others open, without writing them ("operation was canceled"); tonic hands that on, while hyper-util's client
//! sends such calls on another connection. No server can prevent it, since none ever sees those calls. So they are made
//! again here, as gRPC asks of every client ("transparent retries", gRFC A6), and counted as `unsent`. A call that was
//! written is never made again: whatever it ends with counts.

use crate::pb::testing::Empty;
use crate::pb::testing::test_service_client::TestServiceClient;
use serde::Serialize;
use std::collections::BTreeMap;
use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

/// Deadline of each call.
const CALL_MAX: Duration = Duration::from_secs(15);
/// How often a call is made at most, if it is never written: one connection after the other would have to leave.
const ATTEMPTS_MAX: u32 = 10;
/// Different messages of failures that a report holds; the rest is only counted.
const MESSAGES_MAX: usize = 100;

/// What became of the calls.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct CallReport {
    /// Calls that ended.
    pub calls: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// How often one had to be made again because the connection was leaving before it was written.
    pub unsent: u64,
    /// How many failed with which code and message, at most 100 of them.
    pub failures: BTreeMap<String, u64>,
}

impl CallReport {
    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.failed += other.failed;
        self.unsent += other.unsent;
        for (message, count) in other.failures {
            self.note(message, count);
        }
    }

    fn note(&mut self, message: String, count: u64) {
        if self.failures.len() < MESSAGES_MAX || self.failures.contains_key(&message) {
            *self.failures.entry(message).or_default() += count;
        }
    }
}

/// Calls `EmptyCall` of the interoperability service, `in_flight` at a time on one connection, until `stop` is set.
/// `ended` counts the calls meanwhile.
///
/// # Errors
/// If the address cannot be made an endpoint.
///
/// # Cancel safety
/// Dropping the future cancels the calls in flight; the report is lost.
pub async fn call_until(
    address: SocketAddr,
    in_flight: usize,
    stop: &'static AtomicBool,
    ended: &'static AtomicU64,
) -> Result<CallReport, tonic::transport::Error> {
    let channel = Endpoint::from_shared(format!("http://{address}"))?.connect_lazy();
    let mut callers = JoinSet::new();
    for _ in 0..in_flight {
        callers.spawn(call_in_turn(channel.clone(), stop, ended));
    }
    let mut report = CallReport::default();
    for part in callers.join_all().await {
        report.add(part);
    }
    Ok(report)
}

async fn call_in_turn(channel: Channel, stop: &AtomicBool, ended: &AtomicU64) -> CallReport {
    let mut client = TestServiceClient::new(channel);
    let mut report = CallReport::default();
    while !stop.load(Ordering::Relaxed) {
        let mut attempts = 0;
        let outcome = loop {
            let mut request = Request::new(Empty {});
            request.set_timeout(CALL_MAX);
            attempts += 1;
            match client.empty_call(request).await {
                Err(status) if attempts < ATTEMPTS_MAX && was_never_sent(&status) => report.unsent += 1,
                outcome => break outcome,
            }
        };
        if let Err(status) = outcome {
            report.failed += 1;
            report.note(format!("{:?}: {}", status.code(), status.message()), 1);
        }
        report.calls += 1;
        ended.fetch_add(1, Ordering::Relaxed);
    }
    report
}

/// Whether hyper gave a request back without writing any of it.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_canceled();
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interop::server::InteropServer;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn every_call_is_counted_and_every_failure_with_its_reason() {
        static STOP: AtomicBool = AtomicBool::new(false);
        static ENDED: AtomicU64 = AtomicU64::new(0);
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = InteropServer::start(loopback).await.unwrap();
        let calling = tokio::spawn(call_until(server.local_addr(), 4, &STOP, &ENDED));
        while ENDED.load(Ordering::Relaxed) < 100 {
            tokio::task::yield_now().await;
        }
        STOP.store(true, Ordering::Relaxed);
        let report = calling.await.unwrap().unwrap();
        assert!(report.calls >= 100, "{report:?}");
        assert_eq!((report.failed, report.failures.len()), (0, 0), "{report:?}");

        let mut sum = CallReport::default();
        for _ in 0..2 {
            sum.add(CallReport {
                calls: 3,
                failed: 1,
                unsent: 2,
                failures: [("Unavailable: gone".to_owned(), 1)].into(),
            });
        }
        assert_eq!((sum.calls, sum.failed, sum.unsent), (6, 2, 4));
        assert_eq!(sum.failures["Unavailable: gone"], 2);
    }
}
