//! Results as Markdown: a table of medians with their ranges, and the bounds.

use super::blocks::Load;
use super::clients::Client;
use super::results::{PeerResults, Presence, Results, Spread};
use super::verdict::verdicts;
use std::fmt::Write as _;

/// A row's label and the cell of each contender.
type Row = (String, Vec<String>);

/// The results as Markdown.
#[must_use]
pub fn markdown(results: &Results) -> String {
    let mut text = String::new();
    let settings = &results.settings;
    let mut line = |line: &str| writeln!(text, "{line}").expect("writing to a string cannot fail");
    line(&format!(
        "Medians (minimum to maximum); {} rounds, blocks of {} s, for latency and system calls {} of {} s in each round; \
         {}, {} cores, Linux {}, load average {} before.",
        settings.rounds,
        settings.block_seconds,
        settings.short_blocks,
        settings.short_block_seconds,
        settings.processor,
        settings.cores,
        settings.kernel,
        settings.load_average,
    ));
    if let (Some(p50), Some(p99)) = (results.direct_p50_us.median(), results.direct_p99_us.median()) {
        let (p50, p99) = (number(p50), number(p99));
        line(&format!("Latency without a proxy at {} calls/s: p50 {p50} us, p99 {p99} us.", settings.rate));
    }
    line("");
    let names: Vec<&str> = results.peers.iter().map(|peer| peer.name.as_str()).collect();
    line(&format!("| | {} |", names.join(" | ")));
    line(&format!("|---|{}", "---|".repeat(names.len())));
    for (label, cells) in rows(results) {
        line(&format!("| {label} | {} |", cells.join(" | ")));
    }
    line("");
    line("| bound on evenkeel | allowed | measured | |");
    line("|---|---|---|---|");
    for verdict in verdicts(results) {
        let relation = if verdict.at_most { "at most" } else { "at least" };
        let (measured, word) = match (verdict.measured, verdict.is_kept()) {
            (Some(measured), Some(true)) => (number(measured), "kept"),
            (Some(measured), _) => (number(measured), "**missed**"),
            (None, _) => ("-".to_owned(), "not measured"),
        };
        let word = match &verdict.missing {
            Some(reason) if verdict.measured.is_none() => format!("{word}: {reason}"),
            _ => word.to_owned(),
        };
        line(&format!("| {} | {relation} {} | {measured} | {word} |", verdict.claim, verdict.bound));
    }
    line("");
    if let Some(ratio) = results.cpu_ratio(&Client::H2load.to_string(), &["relay"]) {
        let ratio = number(ratio);
        line(&format!("By h2load, 10 x 10 costs evenkeel {ratio} of what it costs the L4 relay (no bound)."));
        line("");
    }
    for peer in &results.peers {
        line(&format!("- {}: {}", peer.name, peer.version));
        for fault in &peer.faults {
            line(&format!("  - no sample: {fault}"));
        }
    }
    for skipped in &results.skipped {
        line(&format!("- {}: skipped: {}", skipped.name, skipped.reason));
    }
    for client in &results.clients {
        match &client.presence {
            Presence::Version(version) => line(&format!("- {}, the client: {version}", client.load)),
            Presence::Missing(reason) => line(&format!("- {}: not measured: {reason}", client.load)),
        }
    }
    text
}

/// The rows that have at least one value.
fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |label: String, cell: &dyn Fn(&PeerResults) -> Option<String>| {
        let cells: Vec<Option<String>> = results.peers.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            rows.push((
                label,
                cells.into_iter().map(|cell| cell.unwrap_or_else(|| "-".to_owned())).collect(),
            ));
        }
    };
    let loads = Load::CPU.iter().map(Load::to_string).chain(Client::ALL.iter().map(Client::to_string));
    for load in loads {
        add(format!("CPU per call at {load}, us"), &|peer| ranged(peer.cpu_us_per_call.get(&load)?));
    }
    let added = |with: &Spread, direct: &Spread| {
        let direct = direct.median()?;
        ranged(&Spread { samples: with.samples.iter().map(|sample| sample - direct).collect() })
    };
    add("added p50 latency, us".to_owned(), &|peer| added(&peer.latency_p50_us, &results.direct_p50_us));
    add("added p99 latency, us".to_owned(), &|peer| added(&peer.latency_p99_us, &results.direct_p99_us));
    // Where the host takes the processor away in most blocks, their median tells of the host.
    add("added p99 latency, lower quartile of the blocks, us".to_owned(), &|peer| {
        let (with, direct) = (peer.latency_p99_us.lower_quartile()?, results.direct_p99_us.lower_quartile()?);
        Some(number(with - direct))
    });
    for direction in ["download", "upload"] {
        let cell = |peer: &PeerResults| ranged(peer.stream_mb_per_cpu_second.get(direction)?);
        add(format!("one large {direction}, MB per CPU second"), &cell);
    }
    add("system calls per call at 1 x 100".to_owned(), &|peer| ranged(&peer.syscalls_per_call));
    add("memory at rest, MiB".to_owned(), &|peer| Some(number(peer.memory?.rest_mib)));
    add("memory per idle connection, bytes".to_owned(), &|peer| {
        Some(number(peer.memory?.per_idle_connection_bytes))
    });
    add("memory per live call, bytes".to_owned(), &|peer| Some(number(peer.memory?.per_live_call_bytes)));
    add("CPU per call at 1 x 1 with 10,000 endpoints, over that with 3".to_owned(), &|peer| {
        peer.endpoints.as_ref()?.ratio().map(number)
    });
    rows
}

fn ranged(spread: &Spread) -> Option<String> {
    let (median, (min, max)) = (spread.median()?, spread.range()?);
    Some(format!("{} ({} to {})", number(median), number(min), number(max)))
}

/// Three significant digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        0.0..1.0 => format!("{value:.3}"),
        1.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
