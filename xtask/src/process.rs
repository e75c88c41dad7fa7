//! Running other programs: shown as a shell line, watched line by line, ended when they take too long.
//!
//! No child reads from the terminal: a command that asks a question would wait forever in CI.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a program that was told to end (SIGTERM) may take before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// Lines of a watched program that may wait for the reader; a program that is further ahead blocks on its pipe.
const LINES_WAITING_MAX: usize = 1_024;

/// The command as one could type it: environment, program, arguments, quoted where the shell needs it.
pub(crate) fn shell(command: &Command) -> String {
    let mut words = Vec::new();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", name.display(), quoted(value)));
        }
    }
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    words.join(" ")
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Runs the command with this process' own output; true if it ended with exit code 0.
///
/// # Errors
/// The program cannot be started.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    Ok(start(command.stdin(Stdio::null()))?.wait().context("waiting for a child process")?.success())
}

/// Runs the command silently and gives back what it wrote to standard output.
///
/// # Errors
/// The program cannot be started, or fails: the error then is the last line it wrote to standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8_lossy(&collect(command)?.stdout).into_owned())
}

/// Runs the command silently and gives back what it wrote to standard output and then to standard error.
///
/// # Errors
/// As for [`output`].
pub(crate) fn both_outputs(command: &mut Command) -> Result<String> {
    let output = collect(command)?;
    Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// Runs the command, whose standard error is this process' own, and gives back whether it ended well and what it wrote to
/// standard output.
///
/// # Errors
/// The program cannot be started.
pub(crate) fn captured(command: &mut Command) -> Result<(bool, String)> {
    let name = command.get_program().display().to_string();
    let child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let output = child.wait_with_output().with_context(|| format!("waiting for `{name}`"))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn collect(command: &mut Command) -> Result<Output> {
    let name = command.get_program().display().to_string();
    let child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))?;
    let output = child.wait_with_output().with_context(|| format!("waiting for `{name}`"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("`{name}` failed ({}): {}", output.status, last_line(&errors).unwrap_or("it wrote no reason"));
    }
    Ok(output)
}

/// The last line with text in it.
pub(crate) fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty())
}

/// How a watched program ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself.
    Exited(ExitStatus),
    /// By us, because its time was up.
    TimedOut,
}

/// Runs the command and hands each line of its standard output to `on_line`; standard error is this process' own.
///
/// With a `limit`, a program that takes longer is ended, first by SIGTERM so that it can end what it started.
///
/// # Errors
/// The program cannot be started or waited for.
pub(crate) fn watch(
    command: &mut Command,
    limit: Option<Duration>,
    on_line: &mut dyn FnMut(&str),
) -> Result<Ended> {
    let started = now();
    let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stdout = child.stdout.take().expect("standard output was piped two lines above");
    let lines = read_lines(stdout)?;
    let in_time = relay(&lines, limit.map(|limit| started + limit), on_line);
    if in_time {
        return Ok(Ended::Exited(child.wait().context("waiting for a child process")?));
    }
    terminate(&mut child, &lines, on_line)?;
    Ok(Ended::TimedOut)
}

/// Passes lines on until the program closes its output (true) or the deadline passes (false).
fn relay(lines: &Receiver<String>, deadline: Option<Instant>, on_line: &mut dyn FnMut(&str)) -> bool {
    loop {
        let line = match deadline {
            None => lines.recv().map_err(|_closed| RecvTimeoutError::Disconnected),
            Some(deadline) => lines.recv_timeout(deadline.saturating_duration_since(now())),
        };
        match line {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

/// Asks the child to end, waits [`GRACE`], then kills it.
fn terminate(child: &mut Child, lines: &Receiver<String>, on_line: &mut dyn FnMut(&str)) -> Result<()> {
    // The child has not been waited for, so its id cannot have been given to another process.
    let asked = succeeds(Command::new("kill").args(["-TERM", &child.id().to_string()])).unwrap_or(false);
    if asked {
        relay(lines, Some(now() + GRACE), on_line);
    }
    // No error matters here: a child that has ended meanwhile cannot be killed, and need not be.
    let _ = child.kill();
    child.wait().context("waiting for a child process")?;
    Ok(())
}

/// Reads lines on a thread of their own, so that the caller can wait for them with a deadline.
///
/// The thread ends with the pipe, or with the first line that nobody waits for any more.
fn read_lines(pipe: impl Read + Send + 'static) -> Result<Receiver<String>> {
    let (sender, receiver): (SyncSender<String>, _) = sync_channel(LINES_WAITING_MAX);
    let read = move || {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        while matches!(pipe.read_until(b'\n', &mut bytes), Ok(read) if read > 0) {
            let line = String::from_utf8_lossy(&bytes);
            if sender.send(line.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
                return;
            }
            bytes.clear();
        }
    };
    let named = std::thread::Builder::new().name("child output".to_owned());
    named.spawn(read).context("starting a thread that reads a child's output")?;
    Ok(receiver)
}

fn start(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("`{}` cannot be started", command.get_program().display()))
}

/// The monotonic clock, for durations that are shown and for limits on other programs.
#[expect(clippy::disallowed_methods, reason = "a developer command is the edge: it times real programs")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn watched(script: &str, limit: Option<Duration>) -> (Ended, Vec<String>) {
        let mut lines = Vec::new();
        let ended = watch(&mut sh(script), limit, &mut |line| lines.push(line.to_owned())).unwrap();
        (ended, lines)
    }

    #[test]
    fn shows_a_command_as_it_would_be_typed() {
        let mut command = Command::new("cargo");
        command.env("RUSTDOCFLAGS", "-D warnings").env_remove("CI").args(["doc", "it's", "", "--x=a/b"]);
        assert_eq!(shell(&command), r"RUSTDOCFLAGS='-D warnings' cargo doc 'it'\''s' '' --x=a/b");
    }

    #[test]
    fn names_the_program_that_is_missing() {
        let error = output(&mut Command::new("no-such-program-at-all")).unwrap_err();
        assert_eq!(error.to_string(), "`no-such-program-at-all` cannot be started");
    }

    #[test]
    fn a_failure_carries_the_last_line_of_standard_error() {
        let error = output(&mut sh("echo first >&2; echo 'second ' >&2; echo >&2; exit 3")).unwrap_err();
        assert_eq!(error.to_string(), "`sh` failed (exit status: 3): second");
    }

    #[test]
    fn hands_on_every_line_also_an_unfinished_last_one() {
        let (ended, lines) = watched("printf 'a\\r\\nb\\n\\nlast'; exit 7", None);
        assert_eq!(lines, ["a", "b", "", "last"]);
        assert!(matches!(ended, Ended::Exited(status) if status.code() == Some(7)));
    }

    #[test]
    fn a_program_past_its_limit_is_asked_to_end_and_may_say_goodbye() {
        let script =
            "tail -f /dev/null > /dev/null & trap 'kill $!; echo bye; exit 0' TERM; echo up; wait $!";
        let (ended, lines) = watched(script, Some(Duration::from_secs(1)));
        assert_eq!(ended, Ended::TimedOut);
        assert_eq!(lines, ["up", "bye"]);
    }
}
