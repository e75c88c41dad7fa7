//! `evenkeel proxy`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use evenkeel_config::{Config, Flags};
use evenkeel_proxy::control::{ConfigSource, Proxy, StartOptions};
use tokio::signal::unix::{SignalKind, signal};

use crate::args::ProxyArgs;
use crate::logging::Log;

/// How often the log tells what it had to leave out.
const TELL_DROPPED: Duration = Duration::from_secs(10);

/// Runs a proxy until it has drained.
pub(crate) fn run(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    // Dropped last: what a drain says at its end, and why a start failed, is written.
    let mut log = Log::start(args)?;
    let (config, source) = load(args)?;
    let options = StartOptions { reuse_port: args.reuse_port };
    // The workers have threads of their own; the control plane has little to do.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let result = runtime.block_on(serve(config, source, options, &mut log));
    log.tell_dropped();
    result.map(|()| ExitCode::SUCCESS)
}

fn load(args: &ProxyArgs) -> anyhow::Result<(Config, ConfigSource)> {
    if let Some(path) = &args.config {
        let mut source = ConfigSource::file(path.clone(), args.zone.clone());
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
        zone: args.zone.as_ref(),
    };
    Ok((Config::from_flags(&flags)?, ConfigSource::Flags))
}

async fn serve(
    config: Config,
    source: ConfigSource,
    options: StartOptions,
    log: &mut Log,
) -> anyhow::Result<()> {
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
    let mut tell_dropped = tokio::time::interval(TELL_DROPPED);
    let mut finished = tokio::spawn(async move { proxy.finished().await });
    loop {
        tokio::select! {
            _ = &mut finished => return Ok(()),
            _ = tell_dropped.tick() => log.tell_dropped(),
            _ = terminate.recv() => handle.drain().await,
            _ = interrupt.recv() => handle.drain().await,
            // What is wrong with the file is in the log.
            _ = hangup.recv() => drop(handle.reload().await),
            _ = user1.recv() => handle.reopen_log().await,
        }
    }
}
