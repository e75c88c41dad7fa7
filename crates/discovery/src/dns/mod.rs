//! `dns:` and `dns+srv:` targets: one resolution from the name as written to a list of endpoints.
//!
//! ```text
//! hosts file -> search list -> A and AAAA in parallel -> combine -> interleave -> endpoints
//!                          \-> SRV -> best priority -> addresses carried along, or A and AAAA -/
//! ```
//!
//! Each address is an endpoint of its own: DNS cannot say which addresses belong to one server (gRFC A61).
//! A name server's error (SERVFAIL, REFUSED) for one completion of a relative name does not stop the search, silence
//! does, as in the C library: asking a dead server for each of the domains in turn would take minutes.

mod client;
mod families;
mod search;
mod srv;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::time::Duration;

use evenkeel_balance::Address;
use futures_util::StreamExt;
use futures_util::stream;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, sleep_until};

use self::client::{Client, Unanswered, code_name};
use self::families::{Families, addresses, both, combine, time_to_live};
use self::srv::{ServiceTarget, glue, targets};
use crate::endpoints::interleave;
use crate::error::ResolveError;
use crate::options::ResolveOptions;
use crate::refresh::{Answer, Resolve};

/// Targets of an SRV answer that are looked up because the answer did not carry their addresses along; further ones are
/// left out. Name servers that leave addresses out serve a handful of targets.
const MAX_TARGET_LOOKUPS: usize = 256;

/// Targets that are looked up at the same time, with two questions each: as many as the resolver library sends over one
/// connection before it wants answers (32).
const PARALLEL_TARGET_LOOKUPS: usize = 16;

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// The addresses of a host, each with this port.
    Host {
        /// The host as written in the target.
        host: String,
        /// The port.
        port: u16,
    },
    /// The hosts and ports of a service.
    Service {
        /// The service's name as written in the target, as `_grpc._tcp.orders`.
        name: String,
    },
}

impl Question {
    fn name(&self) -> &str {
        match self {
            Self::Host { host, .. } => host,
            Self::Service { name } => name,
        }
    }

    fn records(&self) -> &'static str {
        match self {
            Self::Host { .. } => "A or AAAA",
            Self::Service { .. } => "SRV",
        }
    }
}

/// Resolves one [`Question`], as often as asked.
#[derive(Debug)]
pub(crate) struct DnsResolver {
    question: Question,
    authority: Option<SocketAddr>,
    options: ResolveOptions,
    client: Option<Client>,
    /// The addresses of each name in the last good answer.
    known: HashMap<Name, Families>,
}

impl Resolve for DnsResolver {
    async fn resolve(&mut self) -> Result<Answer, ResolveError> {
        let client = match self.client.take() {
            Some(client) if !client.is_outdated(&self.options) => client,
            _ => Client::new(self.authority, &self.options),
        };
        let asked =
            Asked { client: &client, question: &self.question, options: &self.options, known: &self.known };
        let found = match &self.question {
            Question::Host { host, port } => asked.host(host, *port).await,
            Question::Service { name } => asked.service(name).await,
        };
        self.client = Some(client);
        found.map(|(answer, known)| {
            self.known = known;
            answer
        })
    }
}

impl DnsResolver {
    /// A resolver that asks `authority`, or where there is none the name servers of `options`, or those of the system.
    pub(crate) fn new(question: Question, authority: Option<SocketAddr>, options: ResolveOptions) -> Self {
        Self { question, authority, options, client: None, known: HashMap::new() }
    }
}

/// One resolution under way.
struct Asked<'a> {
    client: &'a Client,
    question: &'a Question,
    options: &'a ResolveOptions,
    known: &'a HashMap<Name, Families>,
}

/// An answer with the addresses to remember for the next time.
type Found = (Answer, HashMap<Name, Families>);

impl Asked<'_> {
    async fn host(&self, host: &str, port: u16) -> Result<Found, ResolveError> {
        let endpoints = |families: Families| -> Vec<(Address, u32)> {
            let with_port = |ip| (SocketAddr::new(ip, port).into(), 1);
            families.interleaved().into_iter().map(with_port).collect()
        };
        let mut failure = Failure::default();
        for name in self.candidates(host)? {
            match self.addresses(&name).await {
                Ok((families, ttl)) => {
                    let known = HashMap::from([(name, families.clone())]);
                    return Ok((Answer { endpoints: endpoints(families), ttl }, known));
                }
                Err(reason) => {
                    if failure.ends_search(name, reason) {
                        break;
                    }
                }
            }
        }
        Err(self.error(failure))
    }

    async fn service(&self, service: &str) -> Result<Found, ResolveError> {
        let mut failure = Failure::default();
        for name in self.candidates(service)? {
            let reason = match self.client.ask(name.clone(), RecordType::SRV).await {
                Ok(lookup) => {
                    let ttl = time_to_live(&lookup);
                    match self.target_addresses(targets(&lookup), glue(&lookup), ttl).await {
                        Ok(found) => return Ok(found),
                        Err(reason) => reason,
                    }
                }
                Err(reason) => reason,
            };
            if failure.ends_search(name, reason) {
                break;
            }
        }
        Err(self.error(failure))
    }

    /// The names to ask for, in order. The hosts file is asked for the name as written, before any completion.
    fn candidates(&self, host: &str) -> Result<Vec<Name>, ResolveError> {
        let invalid = |source| ResolveError::InvalidName { name: host.to_owned(), source };
        let written = Name::from_utf8(host).map_err(invalid)?;
        if !self.client.hosts(&written).is_empty() {
            return Ok(vec![written]);
        }
        if let Some(source) = self.client.configuration_error() {
            return Err(ResolveError::SystemConfiguration { name: host.to_owned(), source: source.clone() });
        }
        self.client.search().candidates(host).map_err(invalid)
    }

    /// The addresses of one name, from the hosts file or the name server.
    async fn addresses(&self, name: &Name) -> Result<(Families, Duration), Unanswered> {
        let local: Families = self.client.hosts(name).into_iter().collect();
        if !local.is_empty() {
            // The file has no TTL: it is looked at again with each resolution.
            return Ok((local, Duration::MAX));
        }
        let v6 = async {
            let lookup = self.client.ask(name.clone(), RecordType::AAAA).await?;
            Ok(addresses(&lookup, |record| match record {
                RData::AAAA(address) => Some(address.0),
                _ => None,
            }))
        };
        let v4 = async {
            let lookup = self.client.ask(name.clone(), RecordType::A).await?;
            Ok(addresses(&lookup, |record| match record {
                RData::A(address) => Some(address.0),
                _ => None,
            }))
        };
        let answers = both(v6, v4, Instant::now() + self.options.query_timeout).await;
        combine(answers, self.known.get(name))
    }

    /// The endpoints of a service's targets. A target that gets no answer keeps its last known addresses, and does not
    /// spoil the answer as long as any target has some.
    async fn target_addresses(
        &self,
        targets: Vec<ServiceTarget>,
        mut known: HashMap<Name, Families>,
        mut ttl: Duration,
    ) -> Result<Found, Unanswered> {
        let mut reason = Unanswered::NoRecords;
        for (host, answer) in self.look_up(&targets, &known).await {
            let families = match answer {
                Ok((families, target_ttl)) => {
                    ttl = ttl.min(target_ttl);
                    families
                }
                Err(silence) if !silence.is_empty_answer() && self.known.contains_key(&host) => {
                    self.known[&host].clone()
                }
                Err(other) => {
                    if other.outranks(&reason) {
                        reason = other;
                    }
                    continue;
                }
            };
            known.insert(host, families);
        }
        let hosts: HashSet<&Name> = targets.iter().map(|target| &target.host).collect();
        known.retain(|host, _| hosts.contains(host));
        let (mut v6, mut v4) = (Vec::new(), Vec::new());
        for target in &targets {
            let endpoint = |ip: IpAddr| (SocketAddr::new(ip, target.port).into(), target.weight);
            if let Some(families) = known.get(&target.host) {
                v6.extend(families.v6.iter().map(|ip| endpoint((*ip).into())));
                v4.extend(families.v4.iter().map(|ip| endpoint((*ip).into())));
            }
        }
        let endpoints = interleave(v6, v4);
        if endpoints.is_empty() { Err(reason) } else { Ok((Answer { endpoints, ttl }, known)) }
    }

    /// Looks up the targets that are not in `glue`, all of them within twice the time of one question.
    async fn look_up(
        &self,
        targets: &[ServiceTarget],
        glue: &HashMap<Name, Families>,
    ) -> HashMap<Name, Result<(Families, Duration), Unanswered>> {
        let mut answers = HashMap::new();
        for ServiceTarget { host, .. } in targets {
            if answers.len() == MAX_TARGET_LOOKUPS {
                let name = self.question.name();
                tracing::warn!(
                    name,
                    "more than {MAX_TARGET_LOOKUPS} SRV targets without addresses; leaving some out"
                );
                break;
            }
            if !glue.contains_key(host) {
                answers.insert(host.clone(), Err(Unanswered::Timeout));
            }
        }
        let missing: Vec<Name> = answers.keys().cloned().collect();
        let lookups = stream::iter(missing)
            .map(|host| async move {
                let answer = self.addresses(&host).await;
                (host, answer)
            })
            .buffer_unordered(PARALLEL_TARGET_LOOKUPS)
            .take_until(sleep_until(Instant::now() + 2 * self.options.query_timeout));
        let mut lookups = pin!(lookups);
        while let Some((host, answer)) = lookups.next().await {
            answers.insert(host, answer);
        }
        answers
    }

    fn error(&self, failure: Failure) -> ResolveError {
        let name = self.question.name().to_owned();
        match failure.reason {
            None | Some((_, Unanswered::NoSuchName)) => ResolveError::NoSuchName { name },
            Some((_, Unanswered::NoRecords)) => {
                ResolveError::NoRecords { name, records: self.question.records() }
            }
            Some((question, Unanswered::Code(code))) => {
                ResolveError::Answer { name, question: question.to_utf8(), answer: code_name(code) }
            }
            Some((_, Unanswered::Timeout)) => {
                ResolveError::Timeout { name, after: self.options.query_timeout }
            }
            Some((_, Unanswered::Exchange(source))) => ResolveError::Exchange { name, source },
        }
    }
}

/// Why none of the names tried so far was resolved: the most telling reason with the name it belongs to.
#[derive(Debug, Default)]
struct Failure {
    reason: Option<(Name, Unanswered)>,
}

impl Failure {
    /// Notes that `name` was not resolved. Returns whether there is no point in trying further names.
    fn ends_search(&mut self, name: Name, reason: Unanswered) -> bool {
        let silent = matches!(reason, Unanswered::Timeout | Unanswered::Exchange(_));
        self.reason = match self.reason.take() {
            None => Some((name, reason)),
            Some((_, ref known)) if reason.outranks(known) => Some((name, reason)),
            earlier => earlier,
        };
        silent
    }
}
