//! A configuration from command-line arguments, without a file: one listener, one route, one cluster.
//!
//! The arguments are laid out as a configuration's tree whose places lie in a line of text that looks like the command, so
//! that the one reader and the one resolution serve both, and errors look the same.

use std::collections::HashMap;

use crate::errors::{ConfigErrors, Reports, Span};
use crate::lists::Lists;
use crate::model::Config;
use crate::raw::{RawConfig, Read};
use crate::resolve::resolve;
use crate::tree::{Key, Node, Value};
use crate::zone::Zone;

/// The name of the only cluster, in metrics and logs.
const CLUSTER: &str = "default";

/// What is given on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags<'a> {
    /// `--listen`: where calls come in.
    pub listen: &'a str,
    /// `--to`: the target they go to.
    pub to: &'a str,
    /// `--policy`: a policy's name.
    pub policy: Option<&'a str>,
    /// `--workers`: worker threads.
    pub workers: Option<u64>,
    /// `--admin`: where the admin interface listens, or `off`.
    pub admin: Option<&'a str>,
    /// `--zone`: where the proxy runs.
    pub zone: Option<&'a Zone>,
}

impl Config {
    /// The configuration that a command line means, with defaults for all else.
    ///
    /// # Errors
    /// Everything that is wrong with the arguments, as [`parse`](crate::parse) reports it; the path of each error is
    /// the argument's name, such as `--listen`.
    pub fn from_flags(flags: &Flags<'_>) -> Result<Self, ConfigErrors> {
        let mut line = CommandLine::default();
        let listen = line.text("--listen", flags.listen);
        let to = line.text("--to", flags.to);
        let route = mapping([("cluster", text(CLUSTER))]);
        let listener = mapping([("address", listen), ("routes", list(route))]);
        let mut cluster = vec![("name", text(CLUSTER)), ("target", to)];
        cluster.extend(flags.policy.map(|policy| ("policy", line.text("--policy", policy))));
        let mut top = vec![("listeners", list(listener)), ("clusters", list(mapping(cluster)))];
        top.extend(flags.workers.map(|workers| {
            ("workers", line.argument("--workers", &workers.to_string(), Value::Integer(workers.into())))
        }));
        top.extend(flags.admin.map(|admin| {
            let value = line.text("--admin", admin);
            ("admin", if admin == "off" { value } else { mapping([("address", value)]) })
        }));
        line.resolve(&mapping(top), flags.zone)
    }
}

/// The arguments as one line of text, and where in it each value stands.
#[derive(Default)]
struct CommandLine {
    text: String,
    names: HashMap<Span, String>,
}

impl CommandLine {
    fn text(&mut self, name: &str, value: &str) -> Node {
        self.argument(name, value, Value::Text(value.to_owned()))
    }

    fn argument(&mut self, name: &str, written: &str, value: Value) -> Node {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        self.text.push_str(name);
        self.text.push(' ');
        let span = Span::new(self.text.len(), written.len());
        self.text.push_str(written);
        self.names.insert(span, name.to_owned());
        Node { span, value }
    }

    fn resolve(self, root: &Node, zone: Option<&Zone>) -> Result<Config, ConfigErrors> {
        let mut reports = Reports::default();
        let config = RawConfig::read(root, &mut reports).map(|mut raw| {
            if let Some(zone) = zone {
                zone.place(&mut raw);
            }
            resolve(&raw, &Lists::default(), &mut reports)
        });
        reports.settle();
        match config {
            Some(config) if reports.is_empty() => Ok(config),
            _ => Err(reports.finish("command line", &self.text, &self.names)),
        }
    }
}

fn text(value: &str) -> Node {
    Node { span: Span::default(), value: Value::Text(value.to_owned()) }
}

fn list(entry: Node) -> Node {
    Node { span: Span::default(), value: Value::List(vec![entry]) }
}

fn mapping(entries: impl IntoIterator<Item = (&'static str, Node)>) -> Node {
    let key = |name: &str| Key { span: Span::default(), name: name.to_owned() };
    let entries = entries.into_iter().map(|(name, node)| (key(name), node)).collect();
    Node { span: Span::default(), value: Value::Mapping(entries) }
}
