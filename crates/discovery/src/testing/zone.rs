//! What the scripted name server answers: from a question's bytes to those of its answer.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::{Edns, Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_resolver::proto::rr::{self, Name, RData, RecordType};

/// Questions remembered; older ones are forgotten.
const MAX_LOGGED: usize = 65_536;

/// CNAMEs followed for one answer.
const MAX_CNAMES: usize = 8;

/// One record of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// Another name, whose records answer.
    Cname(String),
    /// A host and port of a service.
    Srv {
        /// Lower is better.
        priority: u16,
        /// Share among those of the same priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host's name.
        target: String,
    },
}

impl From<Ipv4Addr> for Record {
    fn from(address: Ipv4Addr) -> Self {
        Self::A(address)
    }
}

impl From<Ipv6Addr> for Record {
    fn from(address: Ipv6Addr) -> Self {
        Self::Aaaa(address)
    }
}

impl From<IpAddr> for Record {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::A(address),
            IpAddr::V6(address) => Self::Aaaa(address),
        }
    }
}

impl Record {
    fn data(&self) -> RData {
        match self {
            Self::A(address) => RData::A(A(*address)),
            Self::Aaaa(address) => RData::AAAA(AAAA(*address)),
            Self::Cname(name) => RData::CNAME(CNAME(absolute(name))),
            Self::Srv { priority, weight, port, target } => {
                RData::SRV(SRV::new(*priority, *weight, *port, absolute(target)))
            }
        }
    }
}

/// What to answer instead of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such name. Also the answer for names never set.
    NxDomain,
    /// The name exists, without records of the kind asked for.
    NoData,
    /// The server failed.
    ServFail,
    /// The server will not answer.
    Refused,
    /// No answer at all.
    Silence,
    /// Bytes that are no DNS message, behind the right message id.
    Garbage,
}

/// How a question came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram.
    Udp,
    /// Over a connection.
    Tcp,
}

/// A question the server received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The name asked for, in lower case with its final dot.
    pub name: String,
    /// The kind of records asked for.
    pub kind: RecordType,
    /// How it came.
    pub transport: Transport,
}

/// The names a server knows, and the questions it got.
#[derive(Debug, Default)]
pub(super) struct Zone {
    names: HashMap<Name, Entry>,
    log: VecDeque<Query>,
    pub(super) without_glue: bool,
    pub(super) rotate: bool,
}

#[derive(Debug, Default)]
struct Entry {
    records: Vec<Record>,
    ttl: u32,
    /// Instead of the records; `None` as kind is any kind.
    failures: Vec<(Option<RecordType>, Failure)>,
}

impl Entry {
    fn failure(&self, kind: RecordType) -> Option<Failure> {
        let applies = |(of, _): &&(Option<RecordType>, Failure)| of.is_none_or(|of| of == kind);
        self.failures.iter().find(applies).map(|(_, failure)| *failure)
    }
}

/// The name with a final dot, whether written or not.
pub(super) fn absolute(name: &str) -> Name {
    let mut name = Name::from_utf8(name).expect("tests write valid names");
    name.set_fqdn(true);
    name
}

impl Zone {
    pub(super) fn set(&mut self, name: &str, records: Vec<Record>, ttl: u32) {
        self.names.insert(absolute(name), Entry { records, ttl, failures: Vec::new() });
    }

    pub(super) fn fail(&mut self, name: &str, kind: Option<RecordType>, failure: Failure) {
        let failures = &mut self.names.entry(absolute(name)).or_default().failures;
        failures.retain(|(of, _)| kind.is_some() && *of != kind);
        failures.push((kind, failure));
    }

    pub(super) fn log(&self) -> impl Iterator<Item = &Query> {
        self.log.iter()
    }

    /// Answers the question in `bytes`; `None` is no answer.
    pub(super) fn answer(&mut self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = Message::from_vec(bytes).ok()?;
        let question = request.queries.first()?;
        let (name, kind) = (question.name(), question.query_type());
        if self.log.len() == MAX_LOGGED {
            self.log.pop_front();
        }
        self.log.push_back(Query { name: name.to_lowercase().to_ascii(), kind, transport });

        let mut response = Message::response(request.metadata.id, OpCode::Query);
        response.metadata.recursion_desired = request.metadata.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_query(question.clone());
        if let Some(edns) = &request.edns {
            let mut ours = Edns::new();
            ours.set_max_payload(edns.max_payload());
            response.set_edns(ours);
        }
        match self.failure(name, kind) {
            None => self.fill(&mut response, name, kind),
            Some(Failure::NoData) => {}
            Some(Failure::NxDomain) => response.metadata.response_code = ResponseCode::NXDomain,
            Some(Failure::ServFail) => response.metadata.response_code = ResponseCode::ServFail,
            Some(Failure::Refused) => response.metadata.response_code = ResponseCode::Refused,
            Some(Failure::Silence) => return None,
            Some(Failure::Garbage) => {
                return Some(request.metadata.id.to_be_bytes().into_iter().chain([0xff; 30]).collect());
            }
        }
        let encoded = response.to_vec().expect("a response made of valid parts can be encoded");
        if transport == Transport::Udp && encoded.len() > usize::from(request.max_payload()) {
            return Some(response.truncate().to_vec().expect("a part of a valid response can be encoded"));
        }
        Some(encoded)
    }

    fn failure(&self, name: &Name, kind: RecordType) -> Option<Failure> {
        match self.names.get(name) {
            None => Some(Failure::NxDomain),
            Some(entry) => entry.failure(kind),
        }
    }

    /// Adds the records of `name`, through CNAMEs if need be, and the addresses of SRV targets.
    fn fill(&mut self, response: &mut Message, name: &Name, kind: RecordType) {
        let mut name = name.clone();
        for _ in 0..MAX_CNAMES {
            let Some(entry) = self.names.get_mut(&name) else { return };
            if self.rotate && !entry.records.is_empty() {
                entry.records.rotate_left(1);
            }
            let record = |record: &Record| rr::Record::from_rdata(name.clone(), entry.ttl, record.data());
            let cname = entry.records.iter().find(|record| matches!(record, Record::Cname(_)));
            if let (Some(Record::Cname(target)), true) = (cname, kind != RecordType::CNAME) {
                response.add_answers(cname.map(record));
                name = absolute(target);
                continue;
            }
            response
                .add_answers(entry.records.iter().map(record).filter(|record| record.record_type() == kind));
            break;
        }
        if !self.without_glue {
            let glue: Vec<rr::Record> =
                response.answers.iter().flat_map(|record| self.addresses(record)).collect();
            response.add_additionals(glue);
        }
    }

    /// The address records of an SRV record's target.
    fn addresses(&self, record: &rr::Record) -> Vec<rr::Record> {
        let RData::SRV(service) = &record.data else { return Vec::new() };
        let Some(entry) = self.names.get(&service.target) else { return Vec::new() };
        let addresses =
            entry.records.iter().filter(|record| matches!(record, Record::A(_) | Record::Aaaa(_)));
        addresses
            .map(|record| rr::Record::from_rdata(service.target.clone(), entry.ttl, record.data()))
            .collect()
    }
}
