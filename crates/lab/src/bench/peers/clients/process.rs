//! A foreign client's process, whose lines are read within bounds of time.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that wait to be read; the client's pipe takes what is beyond.
const LINES_MAX: usize = 16;
/// Bytes read of what a client prints: these clients print about a kilobyte.
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// Why a block by a foreign client is no sample.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum ClientError {
    #[error("{0} is not installed (cargo xtask peers)")]
    Absent(&'static str),
    #[error("the client could not be started: {0}")]
    Start(#[from] io::Error),
    #[error("the client printed nothing for {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the client ended early: {0}")]
    Ended(String),
    #[error("the client printed `{0}`, which is no report")]
    Unreadable(String),
    #[error("calls failed: {0}")]
    Calls(String),
}

/// A client that runs; dropping it ends it.
pub(super) struct ClientProcess {
    child: Child,
    lines: Receiver<String>,
    /// Where its standard error goes.
    log: PathBuf,
}

impl ClientProcess {
    /// Starts it on the calling thread's core.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self, ClientError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let mut child = command.spawn()?;
        let output = child.stdout.take().expect("its output is piped");
        let (sender, lines) = sync_channel(LINES_MAX);
        // Ends with the process, or with the receiver.
        #[expect(
            clippy::disallowed_methods,
            reason = "a pipe cannot be read within a bound of time otherwise"
        )]
        thread::spawn(move || {
            for line in BufReader::new(output.take(OUTPUT_BYTES_MAX)).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, lines, log: log.to_owned() })
    }

    /// The next line that it prints.
    pub(super) fn line(&self, within: Duration) -> Result<String, ClientError> {
        self.lines.recv_timeout(within).map_err(|error| match error {
            RecvTimeoutError::Timeout => ClientError::Silent(within),
            RecvTimeoutError::Disconnected => ClientError::Ended(self.last_words()),
        })
    }

    /// Sends it an empty line.
    pub(super) fn prompt(&mut self) -> Result<(), ClientError> {
        let input = self.child.stdin.as_mut().expect("its input is piped and stays open");
        input.write_all(b"\n").map_err(|_closed| ClientError::Ended(self.last_words()))
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned()
    }
}

impl Drop for ClientProcess {
    fn drop(&mut self) {
        // It has ended by itself, unless it went silent.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> (tempfile::TempDir, ClientProcess) {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let client = ClientProcess::start(command, &folder.path().join("log")).unwrap();
        (folder, client)
    }

    #[test]
    fn a_client_waits_until_it_is_prompted() {
        let (_folder, mut client) = shell("echo ready; read line; echo \"done$line\"");
        assert_eq!(client.line(SOON).unwrap(), "ready");
        client.prompt().unwrap();
        assert_eq!(client.line(SOON).unwrap(), "done");
    }

    #[test]
    fn an_early_end_is_reported_with_the_last_words() {
        let (_folder, client) = shell("echo trouble >&2; echo >&2; exit 1");
        assert!(matches!(client.line(SOON), Err(ClientError::Ended(words)) if words == "trouble"));
    }

    #[test]
    fn a_silent_client_is_given_up_and_ended() {
        let (_folder, client) = shell("read line");
        let silent = client.line(Duration::from_millis(1));
        assert_eq!(silent.unwrap_err().to_string(), "the client printed nothing for 0 s");
        // Returns only once the process has ended.
        drop(client);
    }
}
