//! A contender's process: started on its core, watched through `/proc`, ended with the value that holds it.

use crate::clock::{Clock, pause};
use rustix::process::{Pid, Resource, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a contender may take until it accepts connections.
const START_MAX: Duration = Duration::from_secs(15);
/// How long it may take to end when asked.
const END_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at a condition.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// Open files that the setting would like: ten thousand connections on both sides, and some.
const DESCRIPTORS_WANTED: u64 = 40_000;
/// Processes of one contender: a master and its workers.
const PROCESSES_MAX: usize = 64;

/// Why a contender takes no part.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("{0} is not installed")]
    Absent(PathBuf),
    #[error("it could not be started: {0}")]
    Spawn(#[from] io::Error),
    #[error("it ended at once ({status}): {log}")]
    Died { status: String, log: String },
    #[error("it did not listen on {0} within 15 s")]
    Silent(SocketAddr),
}

pub(super) struct Process {
    child: Child,
    /// Where it takes calls.
    pub(super) address: SocketAddr,
}

/// Restricts the calling thread, and what it starts, to one core.
pub(super) fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

/// Allows this program and its children as many open files as it may; returns the number.
pub(super) fn raise_descriptor_limit() -> io::Result<u64> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    let hard = limit.maximum;
    if hard.is_some_and(|hard| hard < DESCRIPTORS_WANTED) {
        limit.current = Some(DESCRIPTORS_WANTED);
        limit.maximum = Some(DESCRIPTORS_WANTED);
        // Only the superuser may; without that the hard limit must do.
        if rustix::process::setrlimit(Resource::Nofile, limit).is_ok() {
            return Ok(DESCRIPTORS_WANTED);
        }
    }
    limit.maximum = hard;
    limit.current = Some(hard.unwrap_or(DESCRIPTORS_WANTED).min(DESCRIPTORS_WANTED));
    rustix::process::setrlimit(Resource::Nofile, limit)?;
    Ok(limit.current.unwrap_or(DESCRIPTORS_WANTED))
}

impl Process {
    /// Starts a program on `core` and waits until it accepts connections at `address`.
    pub(super) fn start(
        mut command: Command,
        core: usize,
        address: SocketAddr,
        log: &Path,
    ) -> Result<Self, StartError> {
        let output = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let own = sched_getaffinity(None).map_err(io::Error::from)?;
        pin(core)?;
        let spawned = command.spawn();
        sched_setaffinity(None, &own).map_err(io::Error::from)?;
        let mut process = Self { child: spawned?, address };
        let clock = Clock::start();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = process.child.try_wait()? {
                let text = fs::read_to_string(log).unwrap_or_default();
                let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message");
                return Err(StartError::Died { status: status.to_string(), log: line.to_owned() });
            }
            if clock.now() > START_MAX {
                return Err(StartError::Silent(address));
            }
            pause(LOOK_INTERVAL);
        }
        Ok(process)
    }

    /// The process and all its descendants.
    pub(super) fn tree(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while next < pids.len() && pids.len() < PROCESSES_MAX {
            for task in tasks(pids[next]) {
                let children = fs::read_to_string(task.join("children")).unwrap_or_default();
                pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
            next += 1;
        }
        pids
    }

    /// CPU time that all its threads have used, user and system, as the scheduler counts it (`schedstat`).
    pub(super) fn cpu_time(&self) -> Duration {
        let of_task = |task: PathBuf| {
            let text = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0)
        };
        Duration::from_nanos(self.tree().into_iter().flat_map(tasks).map(of_task).sum())
    }

    /// Resident memory of all its processes in bytes.
    pub(super) fn resident_bytes(&self) -> u64 {
        let of_process = |pid: u32| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
            line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        self.tree().into_iter().map(of_process).sum()
    }
}

/// The folders of a process's threads.
fn tasks(pid: u32) -> Vec<PathBuf> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    entries.map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// When a process was started, in the kernel's ticks; with its id it names the process, which the id alone does not.
fn started_at(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name, in parentheses, may hold anything; the start is field 22, the 20th after the name.
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

impl Drop for Process {
    fn drop(&mut self) {
        let tree: Vec<(u32, Option<u64>)> =
            self.tree().into_iter().map(|pid| (pid, started_at(pid))).collect();
        signal(self.child.id(), Signal::TERM);
        let clock = Clock::start();
        while clock.now() < END_MAX && matches!(self.child.try_wait(), Ok(None)) {
            pause(LOOK_INTERVAL);
        }
        // Workers that outlived their master, and whatever ignored the request.
        for (pid, start) in tree {
            if start.is_some() && started_at(pid) == start {
                signal(pid, Signal::KILL);
            }
        }
        // Reaps the child; it has ended or was killed just now.
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn core_of_this_thread() -> usize {
        let set = sched_getaffinity(None).unwrap();
        (0..CpuSet::MAX_CPU).find(|core| set.is_set(*core)).unwrap()
    }

    #[test]
    fn a_tree_is_watched_and_ended_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        // The process listens nowhere; the address of this listener stands in for it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let script = "(while :; do :; done) & wait";
        let process =
            Process::start(shell(script), core_of_this_thread(), address, &folder.path().join("log"))
                .unwrap();
        while process.tree().len() < 2 || process.cpu_time() < Duration::from_millis(5) {
            pause(Duration::from_millis(1));
        }
        let tree = process.tree();
        assert!(process.resident_bytes() > 0);
        drop(process);
        let child_ended = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", tree[1])).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        while !child_ended() {
            pause(Duration::from_millis(1));
        }
        assert_eq!(started_at(tree[0]), None);
    }

    #[test]
    fn a_program_that_ends_at_once_is_reported_with_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap()
        };
        let script = "echo first; echo 'unknown option: --listen' >&2; exit 3";
        let started =
            Process::start(shell(script), core_of_this_thread(), address, &folder.path().join("log"));
        let Err(StartError::Died { status, log }) = started else { panic!("it should have ended") };
        assert_eq!((status.as_str(), log.as_str()), ("exit status: 3", "unknown option: --listen"));
    }
}
