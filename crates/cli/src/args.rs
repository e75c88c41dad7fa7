//! The command line.

use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};
use evenkeel_config::Zone;

/// gRPC load balancing: balances calls, not connections.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Balances every gRPC call over the endpoints of a target
    Proxy(ProxyArgs),
    /// Checks a configuration file, and the endpoint lists that it names, without starting anything
    Check(CheckArgs),
    /// Prints the JSON Schema of the configuration file
    Schema,
    /// Shows and commands the canaries of a running proxy
    Canary(CanaryArgs),
    /// Tells which route, cluster and endpoint a call would get, and why
    Explain(ExplainArgs),
    /// Shows balancing and recovery live: three backends, the proxy, and a load
    Demo(DemoArgs),
}

const PROXY_EXAMPLES: &str = "Examples:
  evenkeel proxy --listen 0.0.0.0:50051 --to dns:///orders:50051
  evenkeel proxy --listen 127.0.0.1:50051 --to ipv4:127.0.0.2:50051,127.0.0.3:50051 --policy round_robin
  evenkeel proxy --config evenkeel.yaml
  evenkeel proxy --config evenkeel.yaml --zone eu-a

Signals:
  SIGTERM, SIGINT   go away without losing a call, then exit 0; a second one cuts calls off
  SIGHUP            read the configuration file again
  SIGUSR1           open the access log's file again";

#[derive(Debug, ClapArgs)]
#[command(after_help = PROXY_EXAMPLES)]
pub(crate) struct ProxyArgs {
    /// Where to listen: an IP address and port, or unix:PATH
    #[arg(
        long,
        value_name = "ADDR",
        required_unless_present = "config",
        conflicts_with = "config",
        requires = "to"
    )]
    pub(crate) listen: Option<String>,

    /// Where the calls go: dns:///HOST:PORT, ipv4:A:P,B:P, `ipv6:[A]:P`, unix:PATH, file:PATH, dns+srv:///NAME
    #[arg(long, value_name = "TARGET", conflicts_with = "config", requires = "listen")]
    pub(crate) to: Option<String>,

    /// How an endpoint is chosen: least_request (default), round_robin, weighted_round_robin, peak_ewma, prequal, random
    /// or pick_first; policies that hash need a configuration file
    #[arg(long, value_name = "POLICY", conflicts_with = "config")]
    pub(crate) policy: Option<String>,

    /// Worker threads [default: one per core]
    #[arg(long, value_name = "N", conflicts_with = "config")]
    pub(crate) workers: Option<u64>,

    /// Where the admin interface listens, or "off" [default: 127.0.0.1:9901]
    #[arg(long, value_name = "ADDR", conflicts_with = "config")]
    pub(crate) admin: Option<String>,

    /// Configuration file, instead of the flags above
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The zone that this proxy runs in: ZONE, REGION/ZONE or REGION/ZONE/SUB_ZONE, instead of `node` in the file
    #[arg(long, value_name = "ZONE", env = "EVENKEEL_ZONE")]
    pub(crate) zone: Option<Zone>,

    /// Share the port with a proxy that runs already, so that this one can replace it
    #[arg(long)]
    pub(crate) reuse_port: bool,

    /// What is logged: error, warn, info, debug, or a filter such as evenkeel_proxy=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "EVENKEEL_LOG")]
    pub(crate) log: String,

    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// For machines: one JSON object a line
    Json,
}

#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Exit code: 0 if the file is valid, and so are the endpoint lists that it names, 1 if not; then
every error is shown with its line and column.

Examples:
  evenkeel check evenkeel.yaml
  evenkeel check --format json evenkeel.yaml
  evenkeel check --no-lists evenkeel.yaml   where the proxy's endpoint lists are not"
)]
pub(crate) struct CheckArgs {
    /// The configuration file; - reads standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// How errors look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) format: LogFormat,

    /// Do not read the endpoint lists of file: targets
    #[arg(long)]
    pub(crate) no_lists: bool,

    /// The zone that the proxy will run in, as `evenkeel proxy --zone` has it
    #[arg(long, value_name = "ZONE", env = "EVENKEEL_ZONE")]
    pub(crate) zone: Option<Zone>,
}

const CANARY_EXAMPLES: &str = "Examples:
  evenkeel canary status
  evenkeel canary start                    the only canary; else name it: evenkeel canary start orders-next
  evenkeel canary set 25 orders-next       25 % of the calls, and no more judging
  evenkeel canary abort --admin unix:/run/evenkeel.sock

A started canary goes through its steps by itself, and back to the stable cluster at once if it is worse.";

#[derive(Debug, ClapArgs)]
#[command(after_help = CANARY_EXAMPLES)]
pub(crate) struct CanaryArgs {
    #[command(subcommand)]
    pub(crate) command: CanaryCommand,

    /// Where the proxy's admin interface listens: HOST:PORT, or unix:PATH
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:9901",
        env = "EVENKEEL_ADMIN",
        global = true
    )]
    pub(crate) admin: String,

    /// Prints the proxy's answer as JSON, nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum CanaryCommand {
    /// Shows all canaries: state, weight, what both versions did, and what a step waits for
    Status,
    /// Begins with the first step
    Start {
        /// Which canary [default: the only one]
        name: Option<String>,
    },
    /// Gives it this share of the calls, and judges it no more
    Set {
        /// The canary's share in percent
        #[arg(value_parser = clap::value_parser!(u32).range(0..=100))]
        weight: u32,
        /// Which canary [default: the only one]
        name: Option<String>,
    },
    /// Stays at the step that it is in; it still goes back if it is worse
    Pause {
        /// Which canary [default: the only one]
        name: Option<String>,
    },
    /// Goes on with the step that it was paused in
    Resume {
        /// Which canary [default: the only one]
        name: Option<String>,
    },
    /// Gives it all calls now
    Promote {
        /// Which canary [default: the only one]
        name: Option<String>,
    },
    /// Gives all calls back to the stable cluster now
    Abort {
        /// Which canary [default: the only one]
        name: Option<String>,
    },
}

const EXPLAIN_EXAMPLES: &str = "Examples:
  evenkeel explain --method /shop.Orders/Get
  evenkeel explain --method /shop.Orders/Get --header x-user=anna --authority orders.example
  evenkeel explain --method /shop.Orders/Get --header x-user=anna --json | jq -r '.clusters[0].endpoint'
  evenkeel explain --method /shop.Orders/Get --config evenkeel.yaml

A running proxy answers for its state at this moment. A file is explained as if every endpoint could be reached. No call is sent.";

#[derive(Debug, ClapArgs)]
#[command(after_help = EXPLAIN_EXAMPLES)]
pub(crate) struct ExplainArgs {
    /// The call's path: /package.Service/Method
    #[arg(long, value_name = "PATH")]
    pub(crate) method: String,

    /// Metadata of the call; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub(crate) headers: Vec<String>,

    /// The call's authority, with or without a port
    #[arg(long, value_name = "AUTHORITY", default_value = "")]
    pub(crate) authority: String,

    /// The client's address, where keys are made of it
    #[arg(long, value_name = "IP")]
    pub(crate) peer_ip: Option<String>,

    /// The listener that the call comes in at, as the configuration has it [default: the first]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listener: Option<String>,

    /// Where the proxy's admin interface listens: HOST:PORT, or unix:PATH
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:9901",
        env = "EVENKEEL_ADMIN",
        conflicts_with = "config"
    )]
    pub(crate) admin: String,

    /// A configuration file, instead of a running proxy
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The zone that a proxy with the file runs in, as `evenkeel proxy --zone` has it
    #[arg(long, value_name = "ZONE", requires = "config")]
    pub(crate) zone: Option<Zone>,

    /// Prints the answer as JSON, nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
#[command(after_help = "Examples:
  evenkeel demo
  evenkeel demo --duration 30 --slow 2 --kill
  evenkeel demo --json > summary.json")]
pub(crate) struct DemoArgs {
    /// Seconds until it ends by itself
    #[arg(long, value_name = "SECONDS", default_value_t = 20.0)]
    pub(crate) duration: f64,

    /// Calls per second
    #[arg(long, value_name = "RATE", default_value_t = 1000.0)]
    pub(crate) rate: f64,

    /// Makes this backend slow after a quarter of the time (1, 2 or 3)
    #[arg(long, value_name = "N")]
    pub(crate) slow: Option<usize>,

    /// Kills a backend midway; it comes back later
    #[arg(long)]
    pub(crate) kill: bool,

    /// How an endpoint is chosen
    #[arg(long, value_name = "POLICY", default_value = "least_request")]
    pub(crate) policy: String,

    /// Prints the summary as JSON, nothing else
    #[arg(long)]
    pub(crate) json: bool,
}
