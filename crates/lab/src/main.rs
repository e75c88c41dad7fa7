//! The benchmark tools as one program: `evenkeel-lab generator | backend | relay`.

use clap::{Args, Parser, Subcommand, ValueEnum};
use evenkeel_lab::bench::backend::{Answer, BenchBackend};
use evenkeel_lab::bench::generator::{self, GeneratorConfig, Shape, Workload};
use evenkeel_lab::bench::relay::Relay;
use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Tools that measure proxies, and cost little themselves.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes calls and prints a report as JSON.
    Generator(GeneratorArguments),
    /// Answers calls.
    Backend(BackendArguments),
    /// Forwards bytes.
    Relay(RelayArguments),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stream {
    /// Endless responses (the backend needs --endless).
    Download,
    /// Endless requests.
    Upload,
}

#[derive(Args)]
struct GeneratorArguments {
    /// The peers; connections go to them in turn.
    #[arg(long, required = true, value_delimiter = ',')]
    connect: Vec<SocketAddr>,
    /// Connections.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Seconds to start calls for.
    #[arg(long, default_value_t = 5.0)]
    duration: f64,
    /// Calls per second, at planned times; without it, as fast as answers come.
    #[arg(long, conflicts_with_all = ["stream", "idle"])]
    rate: Option<f64>,
    /// Endless streams of messages instead of unary calls.
    #[arg(long)]
    stream: Option<Stream>,
    /// Only hold the connections, with so many calls open on each (--streams, which may be 0).
    #[arg(long, conflicts_with = "stream")]
    idle: bool,
    /// Header fields: the same in each request, or with a fresh deadline and trace id.
    #[arg(long, value_enum, default_value_t = Shape::Steady)]
    shape: Shape,
    /// Bytes of each request message.
    #[arg(long, default_value_t = 34)]
    message_bytes: u32,
    /// Bytes that each unary response message must have.
    #[arg(long)]
    response_bytes: Option<u32>,
    /// :path of the calls.
    #[arg(long, default_value = "/evenkeel.bench.Bench/Unary")]
    path: String,
    /// Seed of planned times and fresh fields.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Args)]
struct BackendArguments {
    /// Where to listen; port 0 takes any free port.
    #[arg(long, required = true, value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// Bytes of each response message.
    #[arg(long, default_value_t = 34)]
    message_bytes: u32,
    /// Answer each call with messages until it is reset.
    #[arg(long)]
    endless: bool,
    /// Seconds to serve at most.
    #[arg(long, default_value_t = 3600.0)]
    duration: f64,
}

#[derive(Args)]
struct RelayArguments {
    /// Where to listen; port 0 takes any free port.
    #[arg(long)]
    listen: SocketAddr,
    /// The peers; connections go to them in turn.
    #[arg(long, required = true, value_delimiter = ',')]
    connect: Vec<SocketAddr>,
    /// Seconds to serve at most.
    #[arg(long, default_value_t = 3600.0)]
    duration: f64,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Generator(arguments) => generate(arguments),
        Command::Backend(arguments) => serve(&arguments),
        Command::Relay(arguments) => relay(arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed standard error leaves the exit code to tell.
            let _ = writeln!(io::stderr(), "evenkeel-lab: {error}");
            ExitCode::FAILURE
        }
    }
}

fn generate(arguments: GeneratorArguments) -> Result<(), Box<dyn Error>> {
    let workload = match (arguments.stream, arguments.rate) {
        (Some(Stream::Download), _) => Workload::Download,
        (Some(Stream::Upload), _) => Workload::Upload,
        (None, Some(rate)) => Workload::Open { rate },
        (None, None) if arguments.idle => Workload::Idle,
        (None, None) => Workload::Closed,
    };
    let config = GeneratorConfig {
        connect: arguments.connect,
        connections: arguments.connections,
        streams: arguments.streams,
        duration: Duration::try_from_secs_f64(arguments.duration)?,
        workload,
        shape: arguments.shape,
        message_bytes: arguments.message_bytes,
        response_bytes: arguments.response_bytes,
        path: arguments.path,
        seed: arguments.seed,
    };
    let report = generator::run(&config, || {
        if workload == Workload::Idle {
            // Whoever waits for this line sees the program's end if it cannot be written.
            let _ = writeln!(io::stdout(), "ready");
        }
    })?;
    serde_json::to_writer_pretty(io::stdout(), &report)?;
    writeln!(io::stdout())?;
    Ok(())
}

fn serve(arguments: &BackendArguments) -> Result<(), Box<dyn Error>> {
    let bytes = arguments.message_bytes;
    let answer = if arguments.endless { Answer::Endless { bytes } } else { Answer::Unary { bytes } };
    let backend = BenchBackend::bind(&arguments.listen, answer)?;
    for address in backend.local_addrs()? {
        writeln!(io::stdout(), "ready {address}")?;
    }
    backend.run(Duration::try_from_secs_f64(arguments.duration)?, &AtomicBool::new(false))?;
    Ok(())
}

fn relay(arguments: RelayArguments) -> Result<(), Box<dyn Error>> {
    let relay = Relay::bind(arguments.listen, arguments.connect)?;
    writeln!(io::stdout(), "ready {}", relay.local_addr()?)?;
    relay.run(Duration::try_from_secs_f64(arguments.duration)?, &AtomicBool::new(false))?;
    Ok(())
}
