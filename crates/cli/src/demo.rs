//! `evenkeel demo`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};
use evenkeel_config::{Config, Flags, ListenAddress};
use evenkeel_lab::demo::{DemoConfig, DemoProxy, Output, Slow};
use evenkeel_proxy::control::{ConfigSource, Proxy, StartOptions};

use crate::args::DemoArgs;

/// What a slow backend's calls take longer: far beyond the others' 3 ms, far below a client's patience.
const SLOW_BY: Duration = Duration::from_millis(150);

/// Runs the demo.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let config = config_of(args)?;
    let policy = args.policy.clone();
    let start = move |backends: &[SocketAddr]| start_proxy(backends, &policy);
    evenkeel_lab::demo::run(&config, start, &mut std::io::stdout())?;
    Ok(ExitCode::SUCCESS)
}

/// The demo that the arguments ask for; what a duration and a rate may be at most is the demo's own to say.
fn config_of(args: &DemoArgs) -> anyhow::Result<DemoConfig> {
    let Ok(duration) = Duration::try_from_secs_f64(args.duration) else {
        bail!("--duration {}: give a number of seconds, a day at most", args.duration);
    };
    if !args.rate.is_finite() || args.rate < 1.0 {
        bail!("--rate {}: give at least one call per second", args.rate);
    }
    Ok(DemoConfig {
        duration,
        rate: args.rate as u32,
        slow: args.slow.map(|backend| Slow { backend, extra: SLOW_BY }),
        kill: args.kill,
        output: if args.json { Output::Json } else { Output::Auto },
        ..DemoConfig::default()
    })
}

/// Starts the real proxy in front of the backends, on a thread of its own.
fn start_proxy(backends: &[SocketAddr], policy: &str) -> anyhow::Result<DemoProxy> {
    let list: Vec<String> = backends.iter().map(ToString::to_string).collect();
    let target = format!("ipv4:{}", list.join(","));
    let flags = Flags {
        listen: "127.0.0.1:0",
        to: &target,
        policy: Some(policy),
        workers: None,
        admin: Some("off"),
        zone: None,
    };
    let config = Config::from_flags(&flags)?;
    let (ready, started) = mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("demo-proxy".into()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error.into()))),
        };
        runtime.block_on(async move {
            let proxy = Proxy::start(config, ConfigSource::Flags, StartOptions::default()).await;
            match proxy {
                Ok(proxy) => {
                    let address = proxy.listeners().first().cloned();
                    drop(ready.send(Ok(address)));
                    // Either way the demo is over; the process ends with it.
                    let _ = stopped.await;
                }
                Err(error) => drop(ready.send(Err(anyhow::Error::from(error)))),
            }
        });
    })?;
    let address = started.recv().context("the proxy's thread ended")??;
    let Some(ListenAddress::Tcp(address)) = address else { bail!("the proxy does not listen on TCP") };
    Ok(DemoProxy::new(address, move || {
        let _ = stop.send(());
        let _ = thread.join();
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(duration: f64, rate: f64) -> DemoArgs {
        DemoArgs { duration, rate, slow: None, kill: false, policy: "random".into(), json: true }
    }

    #[test]
    fn a_duration_that_is_none_is_refused_with_what_to_give() {
        // 2^64 seconds are one more than a duration can hold.
        for seconds in [-1.0, 18_446_744_073_709_551_616.0, 1e20, f64::NAN, f64::INFINITY] {
            let error = config_of(&args(seconds, 10.0)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--duration {seconds}: give a number of seconds")), "{error}");
        }
        for (seconds, is_good) in
            [(0.0, false), (1.0, true), (86_400.0, true), (86_401.0, false), (1e19, false)]
        {
            assert_eq!(config_of(&args(seconds, 10.0)).unwrap().check().is_ok(), is_good, "{seconds}");
        }
    }

    #[test]
    fn a_rate_below_one_is_refused_and_a_fraction_of_a_call_is_left_out() {
        for rate in [0.0, 0.99, -5.0, f64::NAN, f64::INFINITY] {
            let error = config_of(&args(1.0, rate)).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--rate {rate}: give at least one")), "{error}");
        }
        assert_eq!(config_of(&args(1.0, 1.9)).unwrap().rate, 1);
    }
}
