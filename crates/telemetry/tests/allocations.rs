//! Counting a call and logging it allocate nothing once the tables exist.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use allocation_counter::measure;
use evenkeel_grpc::Code;
use evenkeel_telemetry::access_log::{AccessLog, BATCH_BYTES, BATCHES_PER_WORKER, Entry, Sink, Writer};
use evenkeel_telemetry::{
    CallEnd, ClusterEvent, Event, Messages, Options, ResponseFlag, ResponseFlags, Side, Telemetry,
    TransparentRetry,
};

fn telemetry() -> Telemetry {
    Telemetry::new(Options { version: "0.1.0", protocol_rules: &["abuse"] })
}

#[test]
fn counting_a_call_allocates_nothing() {
    let telemetry = telemetry();
    let worker = telemetry.add_worker();
    let method = telemetry.methods().register("ecommerce.orders.OrderService", "GetOrder");
    let cluster = telemetry.cluster("orders");
    let (endpoint, cluster) = (cluster.endpoint("127.0.0.2:50051").attach(), cluster.attach());
    let call = || {
        let messages = Messages { request: 1, response: 2 };
        for code in Code::ALL {
            let end = CallEnd::new(code, Duration::from_millis(7), messages);
            worker.call_started(method);
            endpoint.call_started();
            worker.call_progressed(method, Messages::default());
            endpoint.call_finished(&end);
            worker.call_finished(method, &end);
        }
        worker.add(Event::BytesRead(Side::Downstream), 100);
        worker.count(Event::LocalReply(ResponseFlag::NoRoute));
        cluster.count(ClusterEvent::TransparentRetry(TransparentRetry::RefusedStream));
        worker.protocol_error("abuse");
    };
    assert_eq!(measure(call).count_total, 1, "the rows of the worker's first 64 methods");
    assert_eq!(measure(|| (0..1_000).for_each(|_| call())).count_total, 0);
    assert_eq!(telemetry.snapshot().calls().ended(), 17 * 1_001);
}

/// Discards lines, once the other end of the channel is dropped.
struct Gate(Receiver<()>);

impl Write for Gate {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let _ = self.0.recv();
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Gate {
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn logging_a_call_allocates_nothing_once_all_batches_exist() {
    let telemetry = telemetry();
    let (open, gate) = channel();
    let writer = Writer::spawn(Gate(gate), telemetry.access_log().clone(), |_| {}).unwrap();
    let mut log = writer.log();
    let entry = Entry {
        start_time: Duration::from_secs(1_700_000_000),
        authority: b"orders:50051",
        grpc_service: b"ecommerce.orders.OrderService",
        grpc_method: b"GetOrder",
        response_code: Some(200),
        grpc_status: Some(Code::Ok),
        response_flags: ResponseFlags::NONE,
        details: Some("Verf\u{fc}gbarkeit \u{7f}".as_bytes()),
        downstream_remote_address: Some(([127, 0, 0, 1], 40_000).into()),
        route: Some(2),
        upstream_cluster: Some(b"orders"),
        upstream_host: Some(b"127.0.0.2:50051"),
        attempts: 1,
        duration: Duration::from_micros(1_234),
        time_to_first_byte: Some(Duration::from_micros(1_200)),
        timeout: None,
        request_messages: 1,
        response_messages: 1,
        request_bytes: 34,
        response_bytes: 34,
        user_agent: None,
    };
    let record = |log: &mut AccessLog| log.record(Duration::ZERO, &entry);
    // With the writer stuck, every batch of the worker comes into being.
    (0..BATCHES_PER_WORKER * BATCH_BYTES / 100).for_each(|_| record(&mut log));
    assert!(telemetry.access_log().dropped.get() > 0);
    drop(open);
    let counted = measure(|| (0..100_000).for_each(|_| record(&mut log)));
    assert_eq!(counted.count_total, 0);
    drop(log);
    writer.close(Duration::from_secs(60)).unwrap();
}
