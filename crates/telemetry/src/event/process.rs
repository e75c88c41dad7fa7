//! What is counted for the process as a whole.

use super::{Family, Label, Refused, ResponseFlag, Shed, Side, slots_before};

events! {
    /// Something that a worker counts, of no cluster in particular.
    pub enum Event;

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
    /// A call that no route took ended: the proxy answered it, or the client was gone.
    LocalReply(response_flag: ResponseFlag) = "evenkeel_local_replies",
        "Calls that ended otherwise than by the backend's answer, by response flag.";
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
