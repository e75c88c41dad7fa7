//! The proxies that are compared, and how each is started.
//!
//! Fairness: HTTP/2 without TLS on both sides, kept connections, one worker, no access log, stream limits out of the way,
//! the same stream windows (64 KiB, the default of all of them). The configurations are the files under `configs/`.

use super::PROXY_CORE;
use super::PeersConfig;
use super::process::{Process, StartError};
use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A proxy that takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    /// The program under test.
    Evenkeel,
    /// HAProxy.
    Haproxy,
    /// nginx with `grpc_pass`.
    Nginx,
    /// nghttp2's proxy.
    Nghttpx,
    /// Envoy with the nghttp2 codec.
    EnvoyNghttp2,
    /// Envoy with the oghttp2 codec.
    EnvoyOghttp2,
    /// The byte relay: no proxy for HTTP, the floor.
    Relay,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Evenkeel => "evenkeel",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Nghttpx => "nghttpx",
            Self::EnvoyNghttp2 => "envoy-nghttp2",
            Self::EnvoyOghttp2 => "envoy-oghttp2",
            Self::Relay => "relay",
        })
    }
}

/// What all contenders have in common in one comparison.
#[derive(Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) config: &'a PeersConfig,
    pub(super) backends: &'a [SocketAddr],
    /// Folder for configurations and logs.
    pub(super) directory: &'a Path,
    /// Open files that a process may have.
    pub(super) descriptors: u64,
}

impl Contender {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 7] = [
        Self::Evenkeel,
        Self::Haproxy,
        Self::Nginx,
        Self::Nghttpx,
        Self::EnvoyNghttp2,
        Self::EnvoyOghttp2,
        Self::Relay,
    ];

    fn program(self, config: &PeersConfig) -> Result<PathBuf, StartError> {
        let path = match self {
            Self::Evenkeel => {
                config.evenkeel.clone().unwrap_or_else(|| PathBuf::from("evenkeel (see --evenkeel)"))
            }
            Self::Relay => config.own_program.clone(),
            Self::Haproxy => config.programs.join("haproxy"),
            Self::Nginx => config.programs.join("nginx"),
            Self::Nghttpx => config.programs.join("nghttpx"),
            Self::EnvoyNghttp2 | Self::EnvoyOghttp2 => config.programs.join("envoy"),
        };
        if path.exists() { Ok(path) } else { Err(StartError::Absent(path)) }
    }

    /// The version that the program reports, empty if it reports none.
    pub(super) fn version(self, setting: &Setting<'_>) -> String {
        let flag = match self {
            Self::Haproxy | Self::Nginx => "-v",
            _ => "--version",
        };
        let Ok(program) = self.program(setting.config) else { return String::new() };
        let Ok(output) = Command::new(program).arg(flag).stdin(Stdio::null()).output() else {
            return String::new();
        };
        let text = [output.stdout, output.stderr].concat();
        version_in(&String::from_utf8_lossy(&text)).to_owned()
    }

    /// Starts it in front of the backends and waits until it accepts connections.
    pub(super) fn start(self, setting: &Setting<'_>) -> Result<Process, StartError> {
        let program = self.program(setting.config)?;
        let listen = free_address()?;
        let mut command = Command::new(program);
        let write = |name: &str, template: &str| -> io::Result<PathBuf> {
            let path = setting.directory.join(name);
            fs::write(&path, fill(template, listen, setting))?;
            Ok(path)
        };
        match self {
            Self::Evenkeel => {
                let to = format!("ipv4:{}", list(setting.backends));
                return Self::start_evenkeel(setting, &to, &self.to_string());
            }
            Self::Haproxy => {
                command.arg("-f").arg(write("haproxy.cfg", include_str!("configs/haproxy.cfg"))?);
            }
            Self::Nginx => {
                command.arg("-c").arg(write("nginx.conf", include_str!("configs/nginx.conf"))?);
                command.args(["-e", "stderr"]);
            }
            Self::Nghttpx => {
                let config = write("nghttpx.conf", include_str!("configs/nghttpx.conf"))?;
                command.arg(format!("--conf={}", config.display()));
            }
            Self::EnvoyNghttp2 | Self::EnvoyOghttp2 => {
                let oghttp2 = (self == Self::EnvoyOghttp2).to_string();
                let template = include_str!("configs/envoy.yaml").replace("{oghttp2}", &oghttp2);
                command.arg("--config-path").arg(write(&format!("{self}.yaml"), &template)?);
                command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]);
            }
            Self::Relay => {
                command.args([
                    "relay",
                    "--listen",
                    &listen.to_string(),
                    "--connect",
                    &list(setting.backends),
                ]);
            }
        }
        Process::start(command, PROXY_CORE, listen, &setting.directory.join(format!("{self}.log")))
    }

    /// Starts our own program in front of a target; `name` is its log's.
    pub(super) fn start_evenkeel(setting: &Setting<'_>, to: &str, name: &str) -> Result<Process, StartError> {
        let listen = free_address()?;
        let mut command = Command::new(Self::Evenkeel.program(setting.config)?);
        command.args([
            "proxy",
            "--listen",
            &listen.to_string(),
            "--to",
            to,
            "--workers",
            "1",
            "--admin",
            "off",
        ]);
        Process::start(command, PROXY_CORE, listen, &setting.directory.join(format!("{name}.log")))
    }
}

/// The first word that begins with a digit and has a dot: programs put their names, paths and dates around it.
pub(super) fn version_in(text: &str) -> &str {
    let words = text.split(|c: char| c.is_whitespace() || c == '/');
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    words.into_iter().find(is_version).unwrap_or_default()
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// An address of 127.0.0.1 that was free a moment ago: these programs cannot report a port that the system chose.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Fills a template: `{name}` anywhere, and a line that begins with `@each ` once for each backend.
fn fill(template: &str, listen: SocketAddr, setting: &Setting<'_>) -> String {
    let mut text = String::new();
    for line in template.lines() {
        let Some(line) = line.strip_prefix("@each ") else {
            writeln!(text, "{line}").expect("writing to a string cannot fail");
            continue;
        };
        for (number, backend) in setting.backends.iter().enumerate() {
            let line = line
                .replace("{n}", &number.to_string())
                .replace("{backend}", &backend.to_string())
                .replace("{backend_host}", &backend.ip().to_string())
                .replace("{backend_port}", &backend.port().to_string());
            writeln!(text, "{line}").expect("writing to a string cannot fail");
        }
    }
    // HAProxy wants descriptors for both sides of each connection, and some of its own.
    let maxconn = setting.descriptors.saturating_sub(200) / 2;
    text.replace("{listen}", &listen.to_string())
        .replace("{listen_host}", &listen.ip().to_string())
        .replace("{listen_port}", &listen.port().to_string())
        .replace("{directory}", &setting.directory.display().to_string())
        .replace("{descriptors}", &setting.descriptors.to_string())
        .replace("{maxconn}", &maxconn.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\n", "2.6.12-1+deb12u4"),
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("nghttpx nghttp2/1.52.0", "1.52.0"),
            ("\n/opt/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n", "1.40.0"),
            ("no number", ""),
        ] {
            assert_eq!(version_in(said), version);
        }
    }

    #[test]
    fn templates_have_no_gap_left() {
        let config = PeersConfig {
            evenkeel: None,
            programs: PathBuf::new(),
            own_program: PathBuf::new(),
            only: Vec::new(),
            measures: Vec::new(),
            rounds: 1,
            block: std::time::Duration::from_secs(1),
            rate: 1.0,
        };
        let backends = [SocketAddr::from(([127, 0, 0, 2], 4000)), SocketAddr::from(([127, 0, 0, 3], 4001))];
        let setting = Setting {
            config: &config,
            backends: &backends,
            directory: Path::new("folder"),
            descriptors: 20_000,
        };
        for template in [
            include_str!("configs/haproxy.cfg"),
            include_str!("configs/nginx.conf"),
            include_str!("configs/nghttpx.conf"),
            &include_str!("configs/envoy.yaml").replace("{oghttp2}", "true"),
        ] {
            let text = fill(template, SocketAddr::from(([127, 0, 0, 1], 5000)), &setting);
            // Envoy's file has braces of its own, with a space or a colon in them.
            let gaps =
                text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(inside, _)| inside);
            let gaps: Vec<&str> =
                gaps.filter(|gap| gap.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
            assert!(gaps.is_empty(), "{gaps:?} in {text}");
            assert!(text.contains("4000") && text.contains("4001") && !text.contains("@each"), "{text}");
        }
    }
}
