//! `evenkeel proxy`.

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, bail};
use evenkeel_config::{Config, Flags};
use evenkeel_proxy::control::{ConfigSource, Proxy, StartOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, ProxyArgs};

/// Runs a proxy until it has drained.
pub(crate) fn run(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    start_logging(args)?;
    let (config, source) = load(args)?;
    let options = StartOptions { reuse_port: args.reuse_port };
    // The workers have threads of their own; the control plane has little to do.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(serve(config, source, options))?;
    Ok(ExitCode::SUCCESS)
}

fn load(args: &ProxyArgs) -> anyhow::Result<(Config, ConfigSource)> {
    if let Some(path) = &args.config {
        let mut source = ConfigSource::file(path.clone());
        let config = source.load()?;
        return Ok((config, source));
    }
    let (Some(listen), Some(to)) = (&args.listen, &args.to) else {
        bail!("give --listen and --to, or --config; see evenkeel proxy --help");
    };
    let flags = Flags {
        listen,
        to,
        policy: args.policy.as_deref(),
        workers: args.workers,
        admin: args.admin.as_deref(),
    };
    Ok((Config::from_flags(&flags)?, ConfigSource::Flags))
}

fn start_logging(args: &ProxyArgs) -> anyhow::Result<()> {
    // The resolver library logs each forged or late answer without a limit; what matters of it is in our own errors.
    let filter = EnvFilter::try_new(format!("hickory_proto=off,hickory_resolver=off,{}", args.log))
        .with_context(|| format!("--log {}: not a filter; write error, warn, info or debug", args.log))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => subscriber.with_target(false).init(),
        LogFormat::Json => subscriber.json().init(),
    }
    Ok(())
}

async fn serve(config: Config, source: ConfigSource, options: StartOptions) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut user1 = signal(SignalKind::user_defined1())?;
    let mut proxy = Proxy::start(config, source, options).await?;
    for address in proxy.listeners() {
        tracing::info!("listening on {address}");
    }
    if let Some(admin) = proxy.admin() {
        tracing::info!("admin interface on http://{admin}");
    }
    let handle = proxy.handle();
    let mut finished = tokio::spawn(async move { proxy.finished().await });
    loop {
        tokio::select! {
            _ = &mut finished => return Ok(()),
            _ = terminate.recv() => handle.drain().await,
            _ = interrupt.recv() => handle.drain().await,
            // What is wrong with the file is in the log.
            _ = hangup.recv() => drop(handle.reload().await),
            _ = user1.recv() => handle.reopen_log().await,
        }
    }
}
