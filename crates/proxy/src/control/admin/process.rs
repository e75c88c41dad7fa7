//! What the system says about this process, for the metrics that every Prometheus client library has.
//!
//! Source: Prometheus, "Writing client libraries", section "Process metrics".

use evenkeel_telemetry::ProcessSample;
use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, WithCurrentSystemInfo};

/// What the system says about this process now; `None` where /proc cannot be read. Blocks for as long as the list of open
/// files takes: microseconds, or some milliseconds where there are tens of thousands.
pub(super) fn sample() -> Option<ProcessSample> {
    read().inspect_err(|error| tracing::debug!(%error, "the process cannot be looked at in /proc")).ok()
}

fn read() -> ProcResult<ProcessSample> {
    let process = Process::myself()?;
    let stat = process.stat()?;
    let ticks_per_second = procfs::ticks_per_second() as f64;
    let open_files_max = match process.limits()?.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    };
    Ok(ProcessSample {
        cpu_seconds: (stat.utime + stat.stime) as f64 / ticks_per_second,
        resident_bytes: stat.rss_bytes().get(),
        virtual_bytes: stat.vsize,
        open_files: process.fd_count()? as u64,
        open_files_max,
        start_time_seconds: procfs::boot_time_secs()? as f64 + stat.starttime as f64 / ticks_per_second,
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn the_system_knows_this_process() {
        let before = read().unwrap();
        let held: Vec<_> = (0..3).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        let after = read().unwrap();
        assert!(after.cpu_seconds >= before.cpu_seconds);
        assert!(after.virtual_bytes > after.resident_bytes && after.resident_bytes > 100_000);
        // Tests run beside each other, each with files of its own.
        assert!(after.open_files > held.len() as u64);
        assert!(after.open_files_max.is_none_or(|most| most >= after.open_files));
        assert!(after.threads >= 1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert_eq!(before.start_time_seconds, after.start_time_seconds);
        assert!(after.start_time_seconds < now + 1.0 && after.start_time_seconds > 1e9);
    }
}
