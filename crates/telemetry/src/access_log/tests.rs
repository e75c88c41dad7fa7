use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evenkeel_grpc::Code;
use serde_json::{Value, json};

use super::*;
use crate::{AccessLogStats, ResponseFlag, ResponseFlags};

const T0: Duration = Duration::from_secs(100);
/// Longer than any writer here takes; only a defect waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn entry() -> Entry<'static> {
    Entry {
        start_time: Duration::from_millis(1_700_000_000_123),
        authority: b"orders:50051",
        grpc_service: b"ecommerce.orders.OrderService",
        grpc_method: b"GetOrder",
        response_code: Some(200),
        grpc_status: Some(Code::DeadlineExceeded),
        response_flags: ResponseFlags::from(ResponseFlag::UpstreamTimeout),
        details: Some(b"deadline exceeded: upstream request timeout"),
        downstream_remote_address: Some(SocketAddr::from(([127, 0, 0, 1], 40_000))),
        route: Some(2),
        upstream_cluster: Some(b"orders"),
        upstream_host: Some(b"127.0.0.2:50051"),
        attempts: 2,
        duration: Duration::from_micros(250_125),
        time_to_first_byte: None,
        timeout: Some(Duration::from_millis(250)),
        request_messages: 1,
        response_messages: 0,
        request_bytes: 34,
        response_bytes: 0,
        user_agent: Some(b"grpc-python/1.76.0"),
    }
}

fn parsed(entry: &Entry<'_>) -> Value {
    serde_json::from_str(&serde_json::to_string(entry).unwrap()).unwrap()
}

#[test]
fn a_line_parses_back_to_its_call() {
    let expected = json!({
        "start_time": "2023-11-14T22:13:20.123Z",
        "authority": "orders:50051",
        "grpc_service": "ecommerce.orders.OrderService",
        "grpc_method": "GetOrder",
        "response_code": 200,
        "grpc_status": 4,
        "response_flags": "UT",
        "details": "deadline exceeded: upstream request timeout",
        "downstream_remote_address": "127.0.0.1:40000",
        "route": 2,
        "upstream_cluster": "orders",
        "upstream_host": "127.0.0.2:50051",
        "attempts": 2,
        "duration_ms": 250.125,
        "time_to_first_byte_ms": null,
        "timeout_ms": 250.0,
        "request_messages": 1,
        "response_messages": 0,
        "request_bytes": 34,
        "response_bytes": 0,
        "user_agent": "grpc-python/1.76.0",
    });
    assert_eq!(parsed(&entry()), expected);
}

#[test]
fn a_request_that_is_no_call_has_the_same_fields() {
    let plain = parsed(&Entry { response_code: Some(415), grpc_status: None, ..entry() });
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&plain), keys(&parsed(&entry())));
    assert_eq!((&plain["response_code"], &plain["grpc_status"]), (&json!(415), &Value::Null));
}

#[test]
fn text_of_peers_is_escaped_and_controls_of_terminals_are_replaced() {
    let agent = b"a\"b\\c\nd\x1b[31m\x7f\xc2\x9b \xff\xe2\x82 \xc3\xa9".as_slice();
    let line = serde_json::to_string(&Entry { user_agent: Some(agent), ..entry() }).unwrap();
    assert!(!line.contains(['\n', '\x1b', '\x7f', '\u{9b}']), "{line}");
    let value: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["user_agent"], "a\"b\\c\nd\x1b[31m\u{fffd}\u{fffd} \u{fffd}\u{fffd} é");
}

#[test]
fn a_text_of_the_longest_length_is_whole_and_a_longer_one_is_cut_between_characters() {
    let logged = |authority: &str| {
        parsed(&Entry { authority: authority.as_bytes(), ..entry() })["authority"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let longest = "x".repeat(MAX_FIELD_BYTES);
    assert_eq!(logged(&longest), longest);
    assert_eq!(logged(&format!("{longest}x")), format!("{longest}…"));
    let odd = format!("x{}", "é".repeat(MAX_FIELD_BYTES / 2));
    assert_eq!(logged(&odd), format!("x{}…", "é".repeat(MAX_FIELD_BYTES / 2 - 1)));
}

#[test]
fn the_worst_entry_stays_below_the_longest_line() {
    let worst = [b'\0'; 2 * MAX_FIELD_BYTES];
    let mut flags = ResponseFlags::NONE;
    ResponseFlag::ALL.iter().for_each(|flag| flags.insert(*flag));
    let address = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535".parse().unwrap();
    let line = serde_json::to_string(&Entry {
        start_time: Duration::MAX,
        authority: &worst,
        grpc_service: &worst,
        grpc_method: &worst,
        response_code: Some(u16::MAX),
        grpc_status: Some(Code::Unauthenticated),
        response_flags: flags,
        details: Some(&worst),
        downstream_remote_address: Some(address),
        route: Some(u16::MAX),
        upstream_cluster: Some(&worst),
        upstream_host: Some(&worst),
        attempts: u32::MAX,
        duration: Duration::MAX,
        time_to_first_byte: Some(Duration::MAX),
        timeout: Some(Duration::MAX),
        request_messages: u64::MAX,
        response_messages: u64::MAX,
        request_bytes: u64::MAX,
        response_bytes: u64::MAX,
        user_agent: Some(&worst),
    })
    .unwrap();
    assert!(line.len() < MAX_LINE_BYTES, "{}", line.len());
    assert!(line.contains("9999-12-31T23:59:59.000Z"), "{line}");
}

/// A sink in memory. Each write asks `permit` first, if there is one, and takes what it is told to take.
#[derive(Clone, Default)]
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    permit: Option<Arc<Mutex<Receiver<io::Result<usize>>>>>,
}

impl Memory {
    /// A sink that waits for permits, and where to send them.
    fn gated() -> (Self, Sender<io::Result<usize>>) {
        let (permits, permit) = channel();
        (Self { permit: Some(Arc::new(Mutex::new(permit))), ..Self::default() }, permits)
    }

    fn lines(&self) -> Vec<String> {
        String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Whoever gave the permits away is done blocking.
        let permit = self.permit.as_ref().and_then(|permit| permit.lock().unwrap().recv().ok());
        let n = permit.unwrap_or(Ok(usize::MAX))?.min(bytes.len());
        self.bytes.lock().unwrap().extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Memory {
    fn reopen(&mut self) -> io::Result<()> {
        self.bytes.lock().unwrap().extend_from_slice(b"reopened\n");
        Ok(())
    }
}

/// Tells of each batch that its sink has taken.
struct Telling<S>(S, Sender<()>);

impl<S: Sink> Write for Telling<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.1.send(()).map_err(io::Error::other)
    }
}

impl<S: Sink> Sink for Telling<S> {
    fn reopen(&mut self) -> io::Result<()> {
        self.0.reopen()
    }
}

fn writer(sink: impl Sink) -> (Writer, Arc<AccessLogStats>) {
    let stats = Arc::new(AccessLogStats::default());
    (Writer::spawn(sink, Arc::clone(&stats), |_| {}).unwrap(), stats)
}

fn numbered(attempts: u32) -> Entry<'static> {
    Entry { attempts, ..entry() }
}

#[test]
fn lines_arrive_whole_in_order_and_counted() {
    let sink = Memory::default();
    let (writer, stats) = writer(sink.clone());
    let mut log = writer.log();
    for number in 0..10 {
        log.record(T0, &numbered(number));
    }
    drop(log);
    writer.close(PATIENCE).unwrap();
    let numbers: Vec<_> = sink
        .lines()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["attempts"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!((stats.written.get(), stats.dropped.get(), stats.errors.get()), (10, 0, 0));
}

#[test]
fn a_stuck_disk_costs_lines_but_no_time_and_no_more_memory() {
    let (sink, permits) = Memory::gated();
    let (writer, stats) = writer(sink.clone());
    let mut log = writer.log();
    let line = serde_json::to_vec(&entry()).unwrap().len() + 1;
    let batch = BATCH_BYTES.div_ceil(line) as u64;
    let held = batch * BATCHES_PER_WORKER as u64;
    for _ in 0..held {
        log.record(T0, &entry());
    }
    assert_eq!(stats.dropped.get(), 0, "all batches take lines");
    for dropped in 1..=1_000 {
        log.record(T0, &entry());
        assert_eq!(stats.dropped.get(), dropped);
    }
    drop(permits);
    drop(log);
    writer.close(PATIENCE).unwrap();
    assert_eq!((stats.written.get(), stats.dropped.get()), (held, 1_000));
    assert_eq!(sink.lines().len() as u64, held);
}

#[test]
fn a_batch_goes_when_its_first_line_has_waited_long_enough() {
    let sink = Memory::default();
    let (writer, stats) = writer(sink.clone());
    let mut log = writer.log();
    assert_eq!(log.flush_at(), None);
    log.record(T0, &entry());
    log.record(T0 + Duration::from_millis(50), &entry());
    assert_eq!(log.flush_at(), Some(T0 + FLUSH_INTERVAL));
    log.poll_flush(T0 + FLUSH_INTERVAL - Duration::from_nanos(1));
    assert_eq!(log.flush_at(), Some(T0 + FLUSH_INTERVAL));
    log.poll_flush(T0 + FLUSH_INTERVAL);
    assert_eq!(log.flush_at(), None);
    writer.close(PATIENCE).unwrap();
    assert_eq!(stats.written.get(), 2);
}

#[test]
fn lines_for_a_writer_that_has_ended_are_counted_as_dropped() {
    let (writer, stats) = writer(Memory::default());
    let mut log = writer.log();
    writer.close(PATIENCE).unwrap();
    log.record(T0, &entry());
    assert!(log.flush());
    log.record(T0, &entry());
    drop(log);
    assert_eq!((stats.written.get(), stats.dropped.get()), (0, 2));
}

#[test]
fn a_full_queue_keeps_the_lines_of_a_batch_and_tries_again_later() {
    let (sink, permits) = Memory::gated();
    let (tell, told) = channel();
    let (writer, stats) = writer(Telling(sink, tell));
    // The writer takes one batch out of the queue, at some time, and is stuck with it; every log fills one place.
    let mut logs: Vec<_> = (0..QUEUE_BATCHES + 8).map(|_| writer.log()).collect();
    logs.iter_mut().for_each(|log| log.record(T0, &entry()));
    let mut refused: Vec<_> = logs.iter_mut().filter_map(|log| (!log.flush()).then_some(log)).collect();
    assert!((7..=8).contains(&refused.len()), "{}", refused.len());
    assert_eq!(stats.dropped.get(), 0);

    // The disk moves again. When all that was accepted is written, the rest finds room.
    drop(permits);
    (refused.len()..QUEUE_BATCHES + 8).for_each(|_| told.recv_timeout(PATIENCE).unwrap());
    refused.iter_mut().for_each(|log| assert!(log.flush()));
    drop(logs);
    writer.close(PATIENCE).unwrap();
    assert_eq!((stats.written.get(), stats.dropped.get()), (QUEUE_BATCHES as u64 + 8, 0));
}

#[test]
fn a_batch_that_finds_the_queue_full_is_tried_again_an_interval_later() {
    let (sink, permits) = Memory::gated();
    let (writer, _) = writer(sink);
    let mut logs: Vec<_> = (0..QUEUE_BATCHES + 2).map(|_| writer.log()).collect();
    logs.iter_mut().for_each(|log| log.record(T0, &entry()));
    logs.iter_mut().for_each(|log| log.poll_flush(T0 + FLUSH_INTERVAL));
    assert_eq!(logs.last().unwrap().flush_at(), Some(T0 + 2 * FLUSH_INTERVAL), "not at every turn");
    drop(permits);
}

#[test]
fn a_failed_write_is_counted_told_and_leaves_no_half_line_before_the_next() {
    let (sink, permits) = Memory::gated();
    let stats = Arc::new(AccessLogStats::default());
    let (errors, told) = channel();
    let on_error = move |error: &io::Error| errors.send(error.to_string()).unwrap();
    let writer = Writer::spawn(sink.clone(), Arc::clone(&stats), on_error).unwrap();
    let mut log = writer.log();
    let line = serde_json::to_vec(&entry()).unwrap().len() + 1;
    // The first write takes one and a half of three lines, the second meets a full disk.
    (0..3).for_each(|_| log.record(T0, &entry()));
    permits.send(Ok(line + line / 2)).unwrap();
    permits.send(Err(io::Error::other("disk full"))).unwrap();
    assert!(log.flush());
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), "disk full");
    drop(permits);
    log.record(T0, &entry());
    drop(log);
    writer.close(PATIENCE).unwrap();
    let lines = sink.lines();
    assert_eq!(lines.len(), 3, "a whole line, half a line by itself, a whole line");
    assert_eq!((&lines[0], lines[1].len()), (&lines[2], line / 2));
    assert_eq!((stats.written.get(), stats.dropped.get(), stats.errors.get()), (2, 2, 1));
}

#[test]
fn reopening_follows_a_file_that_was_moved() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let (tell, told) = channel();
    let (writer, _) = writer(Telling(FileSink::open(&path).unwrap(), tell));
    let mut log = writer.log();
    log.record(T0, &numbered(1));
    assert!(log.flush());
    // Reopening takes effect before the next batch: this one must have been written.
    told.recv_timeout(PATIENCE).unwrap();
    std::fs::rename(&path, &moved).unwrap();
    writer.reopen();
    log.record(T0, &numbered(2));
    drop(log);
    writer.close(PATIENCE).unwrap();
    let attempts = |path| {
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["attempts"].as_u64().unwrap()
    };
    assert_eq!((attempts(&moved), attempts(&path)), (1, 2));
}

#[test]
fn a_request_to_reopen_is_served_without_a_line_to_write() {
    let sink = Memory::default();
    let (writer, _) = writer(sink.clone());
    writer.reopen();
    writer.close(PATIENCE).unwrap();
    assert_eq!(sink.lines(), ["reopened"]);
}

#[test]
fn closing_gives_up_on_a_stuck_disk() {
    let (sink, permits) = Memory::gated();
    let (writer, _) = writer(sink);
    let mut log = writer.log();
    log.record(T0, &entry());
    assert!(log.flush());
    let error = writer.close(Duration::ZERO).unwrap_err();
    assert!(error.to_string().contains("was not written within 0ns"), "{error}");
    drop(permits);
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("access.log");
    let error = FileSink::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open the access log {}: ", path.display())), "{error}");
}
