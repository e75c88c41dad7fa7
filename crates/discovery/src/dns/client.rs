//! Questions to name servers and to the hosts file.
//!
//! A thin layer over hickory-resolver that turns its many results into the three that matter: records, the statement
//! that there are none, or no statement at all. Its cache is off: freshness is the schedule's business, and a cache
//! would answer with what is known already. It sends EDNS0 and repeats a truncated answer's question over TCP. An
//! unanswered datagram is sent again after a third of a second, as often as three times (RFC 1035 section 4.2.1 wants
//! such retransmission); a question that got *any* answer is not repeated before the next resolution.

use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::system_conf::read_system_conf;
use hickory_resolver::{Hosts, TokioResolver};
use tokio::time::timeout;

use super::search::Search;
use crate::options::{MAX_SEARCH_DOMAINS, ResolveOptions};

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Why a question brought no records.
#[derive(Clone, Debug)]
pub(super) enum Unanswered {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name has no records of this type.
    NoRecords,
    /// The name server answered with this error code.
    Code(ResponseCode),
    /// No answer in time.
    Timeout,
    /// The exchange failed.
    Exchange(NetError),
}

impl Unanswered {
    /// Whether this is a statement that there are no records, rather than no statement.
    pub(super) fn is_empty_answer(&self) -> bool {
        matches!(self, Self::NoSuchName | Self::NoRecords)
    }

    /// Whether this is to be acted on rather than `other`: no statement before a statement of absence (there may be
    /// addresses after all), "no such records" before "no such name" (the name was right).
    pub(super) fn outranks(&self, other: &Self) -> bool {
        let rank = |reason: &Self| match reason {
            Self::NoSuchName => 0,
            Self::NoRecords => 1,
            Self::Timeout => 2,
            Self::Exchange(_) => 3,
            Self::Code(_) => 4,
        };
        rank(self) > rank(other)
    }
}

impl From<NetError> for Unanswered {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) if none.response_code == ResponseCode::NXDomain => {
                Self::NoSuchName
            }
            NetError::Dns(DnsError::NoRecordsFound(_)) => Self::NoRecords,
            NetError::Dns(DnsError::ResponseCode(code)) => Self::Code(code),
            NetError::Timeout => Self::Timeout,
            error => Self::Exchange(error),
        }
    }
}

/// The response code as RFC 1035 and RFC 6895 write it.
pub(super) fn code_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::Refused => "REFUSED".into(),
        code => format!("response code {} ({code})", u16::from(code)),
    }
}

/// Asks name servers and the hosts file.
#[derive(Debug)]
pub(super) struct Client {
    /// Where the name servers' addresses came from failed, and why; the hosts file can still answer.
    resolver: Result<TokioResolver, NetError>,
    hosts: Hosts,
    search: Search,
    query_timeout: Duration,
    files: Files,
}

/// Modification times of the files a [`Client`] was made from; `None` where there is no such file.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    resolv_conf: Option<SystemTime>,
    hosts: Option<SystemTime>,
}

impl Files {
    fn now(options: &ResolveOptions) -> Self {
        let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
        Self {
            resolv_conf: modified(Path::new(RESOLV_CONF)),
            hosts: options.hosts_file.as_deref().and_then(modified),
        }
    }
}

impl Client {
    /// A client for `authority`, the name server a target names, else for those of `options`, else the system's.
    ///
    /// Reads two small files of the system, without a thread of its own for that.
    pub(super) fn new(authority: Option<SocketAddr>, options: &ResolveOptions) -> Self {
        let files = Files::now(options);
        let hosts = options.hosts_file.as_deref().map(read_hosts).unwrap_or_default();
        let system = read_system_conf();
        let search = match (&options.search, &system) {
            (Some(list), _) => Search::new(list),
            (None, Ok((config, opts))) => system_search(config, opts),
            (None, Err(_)) => Search { domains: Vec::new(), ndots: 1 },
        };
        let nameservers = authority.map(|authority| vec![authority]).or_else(|| options.nameservers.clone());
        let config = match nameservers {
            Some(addresses) => Ok(config_for(&addresses)),
            None => system.map(|(config, _)| config),
        };
        let resolver = config.and_then(|config| resolver(config, options.query_timeout));
        Self { resolver, hosts, search, query_timeout: options.query_timeout, files }
    }

    /// Whether the system's configuration has changed since this client was made from it.
    pub(super) fn is_outdated(&self, options: &ResolveOptions) -> bool {
        self.files != Files::now(options)
    }

    /// How relative names are completed.
    pub(super) fn search(&self) -> &Search {
        &self.search
    }

    /// Why there are no name servers to ask.
    pub(super) fn configuration_error(&self) -> Option<&NetError> {
        self.resolver.as_ref().err()
    }

    /// The addresses the hosts file has for `name`.
    pub(super) fn hosts(&self, name: &Name) -> Vec<IpAddr> {
        let addresses = |kind| {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
            lookup
                .iter()
                .flat_map(|lookup| lookup.answers().iter())
                .filter_map(|record| record.data.ip_addr())
                .collect()
        };
        let mut both: Vec<IpAddr> = addresses(RecordType::AAAA);
        both.append(&mut addresses(RecordType::A));
        both
    }

    /// Asks for the `kind` records of an absolute `name`.
    pub(super) async fn ask(&self, name: Name, kind: RecordType) -> Result<Lookup, Unanswered> {
        let resolver = self.resolver.as_ref().map_err(|error| Unanswered::Exchange(error.clone()))?;
        // The library's timeout is per exchange; a chain of CNAMEs takes several.
        let lookup = timeout(self.query_timeout, resolver.lookup(name, kind))
            .await
            .map_err(|_elapsed| Unanswered::Timeout)??;
        if lookup.answers().iter().any(|record| record.record_type() == kind) {
            Ok(lookup)
        } else {
            Err(Unanswered::NoRecords)
        }
    }
}

fn resolver(config: ResolverConfig, query_timeout: Duration) -> Result<TokioResolver, NetError> {
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = query_timeout;
    // No repetition after an error: the schedule decides. Lost datagrams are repeated a level below.
    options.attempts = 0;
    options.cache_size = 0;
    options.edns0 = true;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

fn config_for(nameservers: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.into())
    };
    ResolverConfig::from_parts(None, Vec::new(), nameservers.iter().map(server).collect())
}

fn system_search(config: &ResolverConfig, opts: &ResolverOpts) -> Search {
    // Without `search`, the domain of the host's own name is searched.
    let domains = if config.search().is_empty() { config.domain().into_iter() } else { None.into_iter() };
    let domains = domains.chain(config.search()).take(MAX_SEARCH_DOMAINS).cloned().collect();
    Search { domains, ndots: opts.ndots }
}

/// Reads the hosts file; one that cannot be read has no entries, as in the C library.
fn read_hosts(path: &Path) -> Hosts {
    let mut hosts = Hosts::default();
    if let Err(error) = File::open(path).and_then(|file| hosts.read_hosts_conf(file)) {
        tracing::debug!(?path, %error, "cannot read the hosts file");
    }
    hosts
}
