//! `evenkeel canary`: shows and commands the canaries of a running proxy, through its admin interface.

use std::process::ExitCode;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::admin::exchange;
use crate::args::{CanaryArgs, CanaryCommand};

/// Asks the proxy, and prints what it answers.
pub(crate) fn run(args: &CanaryArgs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(ask(args))?;
    if args.json {
        print!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let answer: Value =
        serde_json::from_str(&text).context("the answer is no JSON: is that the proxy's admin interface?")?;
    let canaries = answer["canaries"].as_array().map(Vec::as_slice).unwrap_or_default();
    if canaries.is_empty() {
        println!("no canaries: add `canary: {{stable: ..., canary: ...}}` to a route with a split");
    }
    for canary in canaries {
        print!("{}", describe(canary));
    }
    Ok(ExitCode::SUCCESS)
}

async fn ask(args: &CanaryArgs) -> anyhow::Result<String> {
    let (verb, name, query) = match &args.command {
        CanaryCommand::Status => return exchange(&args.admin, "GET", "/canary").await,
        CanaryCommand::Set { weight, name } => ("set", name, format!("?weight={weight}")),
        CanaryCommand::Start { name } => ("start", name, String::new()),
        CanaryCommand::Pause { name } => ("pause", name, String::new()),
        CanaryCommand::Resume { name } => ("resume", name, String::new()),
        CanaryCommand::Promote { name } => ("promote", name, String::new()),
        CanaryCommand::Abort { name } => ("abort", name, String::new()),
    };
    let name = match name {
        Some(name) => name.clone(),
        None => only(&exchange(&args.admin, "GET", "/canary").await?)?,
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_name) {
        bail!("\"{name}\" cannot be a canary's name; `evenkeel canary status` lists them");
    }
    exchange(&args.admin, "POST", &format!("/canary/{name}/{verb}{query}")).await
}

/// The name of the only canary.
fn only(text: &str) -> anyhow::Result<String> {
    let answer: Value = serde_json::from_str(text)?;
    let canaries = answer["canaries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = canaries.iter().filter_map(|canary| canary["name"].as_str()).collect();
    match names[..] {
        [name] => Ok(name.to_owned()),
        [] => bail!(
            "the proxy has no canary: add `canary: {{stable: ..., canary: ...}}` to a route with a split"
        ),
        _ => bail!("there are several canaries; say which: {}", names.join(", ")),
    }
}

/// A canary for people.
fn describe(canary: &Value) -> String {
    let text = |key: &str| canary[key].as_str().unwrap_or("?").to_owned();
    let number = |value: &Value| value.as_f64().unwrap_or(0.0);
    let mut out = format!("{}: {}, {} %", text("name"), text("state"), number(&canary["weight_percent"]));
    let step = &canary["step"];
    if step.is_object() {
        let (elapsed, of) = (number(&step["elapsed_seconds"]), number(&step["duration_seconds"]));
        out += &format!(", step {} of {}, {elapsed:.0} of {of:.0} s", step["number"], step["of"]);
    }
    if let Some(waits_for) = canary["waits_for"].as_str() {
        out += &format!(", waits for {waits_for}");
    }
    out.push('\n');
    for (version, window) in [("stable", "stable_window"), ("canary", "canary_window")] {
        let window = &canary[window];
        let failed = number(&window["error_rate"]) * 100.0;
        out += &format!("  {version} {}: {} calls, {failed:.2} % failed", text(version), window["calls"]);
        if let Some(latency) = window["latency_ms"].as_f64() {
            out += &format!(", latency quantile {latency:.1} ms");
        }
        out.push('\n');
    }
    for comparison in canary["comparisons"].as_array().into_iter().flatten() {
        let (finding, told) = (comparison["finding"].as_str(), comparison["text"].as_str());
        out += &format!("  {}: {}\n", finding.unwrap_or("?"), told.unwrap_or("?"));
    }
    if let Some(comparison) = canary["rolled_back_for"].as_str() {
        out += &format!("  rolled back for {comparison}\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_only_canary_needs_no_name_and_several_do() {
        assert_eq!(only(r#"{"canaries": [{"name": "a"}]}"#).unwrap(), "a");
        let told = |text: &str| only(text).unwrap_err().to_string();
        assert!(told(r#"{"canaries": []}"#).contains("no canary"));
        assert!(told(r#"{"canaries": [{"name": "a"}, {"name": "b"}]}"#).ends_with("say which: a, b"));
    }

    #[test]
    fn a_running_canary_is_told_with_its_numbers() {
        let canary = serde_json::json!({
            "name": "next", "state": "running", "weight_percent": 20.0, "stable": "orders", "canary": "orders-next",
            "step": { "number": 2, "of": 4, "duration_seconds": 300.0, "elapsed_seconds": 65.2 },
            "waits_for": "time",
            "stable_window": { "calls": 4500, "error_rate": 0.0102, "latency_ms": 24.5 },
            "canary_window": { "calls": 500, "error_rate": 0.0, "latency_ms": null },
            "comparisons": [{ "finding": "fine", "text": "errors: ..." }],
            "rolled_back_for": null,
        });
        let expected = "next: running, 20 %, step 2 of 4, 65 of 300 s, waits for time\n\
            \x20 stable orders: 4500 calls, 1.02 % failed, latency quantile 24.5 ms\n\
            \x20 canary orders-next: 500 calls, 0.00 % failed\n\
            \x20 fine: errors: ...\n";
        assert_eq!(describe(&canary), expected);
    }
}
