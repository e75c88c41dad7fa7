//! The lab's tools as one program: benchmarks (`generator`, `backend`, `relay`, `peers`) and interoperability tests.

use clap::{Args, Parser, Subcommand, ValueEnum};
use evenkeel_lab::bench::backend::{Answer, BenchBackend};
use evenkeel_lab::bench::generator::{self, GeneratorConfig, Shape, Workload};
use evenkeel_lab::bench::peers::{self, Contender, Measure, PeersConfig};
use evenkeel_lab::bench::relay::Relay;
use evenkeel_lab::interop::caller::call_until;
use evenkeel_lab::interop::client::{Case, run_case};
use evenkeel_lab::interop::server::InteropServer;
use std::error::Error;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// Tools that measure and test proxies.
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
    /// Serves gRPC's interoperability tests.
    InteropServer(InteropServerArguments),
    /// Runs gRPC's interoperability tests, and prints a line for each case.
    InteropClient(InteropClientArguments),
    /// Calls the interoperability server with tonic until SIGTERM, and prints what became of the calls as JSON.
    Caller(CallerArguments),
    /// Compares proxies on this machine, which takes about twenty minutes and both cores.
    Peers(PeersArguments),
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stream {
    /// Endless responses (the backend needs --endless-bytes).
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
    /// Seconds of these, from the beginning, whose calls count while their latencies do not.
    #[arg(long, default_value_t = 0.0)]
    warm_up: f64,
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
    /// Answer a request of one empty message with messages of this many bytes until it is reset.
    #[arg(long)]
    endless_bytes: Option<u32>,
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

#[derive(Args)]
struct InteropServerArguments {
    /// Where to listen; port 0 takes any free port.
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Args)]
struct InteropClientArguments {
    /// The server, or what stands before it.
    #[arg(long)]
    connect: SocketAddr,
    /// Only these cases.
    #[arg(long, value_enum, value_delimiter = ',')]
    case: Vec<Case>,
}

#[derive(Args)]
struct CallerArguments {
    /// The server, or what stands before it.
    #[arg(long)]
    connect: SocketAddr,
    /// Calls in flight, all on one connection.
    #[arg(long, default_value_t = 10)]
    in_flight: usize,
}

#[derive(Args)]
struct PeersArguments {
    /// The program under test.
    #[arg(long, default_value = "target/release/evenkeel")]
    evenkeel: PathBuf,
    /// Folder with the foreign programs.
    #[arg(long, default_value = "target/peers/bin")]
    programs: PathBuf,
    /// One short round: shows that all works, and rough figures.
    #[arg(long)]
    quick: bool,
    /// Only these contenders.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Contender>,
    /// Only these measurements.
    #[arg(long, value_enum, value_delimiter = ',')]
    measure: Vec<Measure>,
    /// Rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Seconds of each block.
    #[arg(long, default_value_t = 2.0)]
    block: f64,
    /// Planned calls per second for the latency.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    /// JSON file for the results; a Markdown file is put beside it.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Generator(arguments) => generate(arguments),
        Command::Backend(arguments) => serve(&arguments),
        Command::Relay(arguments) => relay(arguments),
        Command::InteropServer(arguments) => interop_server(&arguments),
        Command::InteropClient(arguments) => interop_client(arguments),
        Command::Caller(arguments) => call(&arguments),
        Command::Peers(arguments) => compare(arguments),
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
        warm_up: Duration::try_from_secs_f64(arguments.warm_up)?,
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
    let answer = Answer { bytes: arguments.message_bytes, endless_bytes: arguments.endless_bytes };
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

fn interop_server(arguments: &InteropServerArguments) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = InteropServer::start(arguments.listen).await?;
        writeln!(io::stdout(), "ready {}", server.local_addr())?;
        server.ended().await;
        Ok(())
    })
}

fn interop_client(arguments: InteropClientArguments) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cases = if arguments.case.is_empty() { Case::ALL.to_vec() } else { arguments.case };
    let mut failed = 0;
    for case in &cases {
        match runtime.block_on(run_case(arguments.connect, *case)) {
            Ok(()) => writeln!(io::stdout(), "{case}: passed")?,
            Err(error) => {
                failed += 1;
                writeln!(io::stdout(), "{case}: failed: {error}")?;
            }
        }
    }
    if failed > 0 {
        return Err(format!("{failed} of {} cases failed", cases.len()).into());
    }
    Ok(())
}

fn call(arguments: &CallerArguments) -> Result<(), Box<dyn Error>> {
    static STOP: AtomicBool = AtomicBool::new(false);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let calling = call_until(arguments.connect, arguments.in_flight, &STOP, &ENDED);
        tokio::pin!(calling);
        let mut progress = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                report = &mut calling => return Ok::<_, Box<dyn Error>>(report?),
                _ = terminate.recv() => STOP.store(true, Ordering::Relaxed),
                _ = progress.tick() => writeln!(io::stdout(), "calls {}", ENDED.load(Ordering::Relaxed))?,
            }
        }
    })?;
    serde_json::to_writer(io::stdout(), &report)?;
    writeln!(io::stdout())?;
    Ok(())
}

fn compare(arguments: PeersArguments) -> Result<(), Box<dyn Error>> {
    let (rounds, block) = if arguments.quick { (1, 0.5) } else { (arguments.rounds, arguments.block) };
    let config = PeersConfig {
        evenkeel: Some(arguments.evenkeel),
        programs: arguments.programs,
        own_program: std::env::current_exe()?,
        only: arguments.only,
        measures: arguments.measure,
        rounds: rounds.into(),
        block: Duration::try_from_secs_f64(block)?,
        rate: arguments.rate,
    };
    let results = peers::compare(&config, &mut io::stderr())?;
    write!(io::stdout(), "{}", peers::markdown(&results))?;
    if let Some(path) = arguments.out {
        peers::write_files(&results, &path)?;
    }
    Ok(())
}
