//! [`watch()`]: starts resolving a target, and the handle that ends it.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use evenkeel_balance::{Address, MAX_ENDPOINTS};
use evenkeel_config::Target;
use rand::rngs::SmallRng;
use tokio::sync::{Notify, watch as channel};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::dns::{DnsResolver, Question};
use crate::endpoints::Endpoints;
use crate::error::ResolveError;
use crate::file;
use crate::options::ResolveOptions;
use crate::refresh::keep_fresh;
use crate::state::ResolverState;

/// Starts to resolve `target` and keeps its endpoints fresh until the returned [`Watch`] is dropped.
///
/// `rng` spreads the repetitions after failures; seed it differently in each process. Targets that name their
/// addresses are resolved at once and never again. One watch serves any number of readers: see [`Watch::subscribe`].
///
/// # Panics
/// Outside of a tokio runtime with time and I/O enabled.
///
/// # Examples
/// ```
/// use evenkeel_discovery::{ResolveOptions, watch};
/// use rand::{SeedableRng, rngs::SmallRng};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let target = "ipv4:127.0.0.2:50051,127.0.0.3:50051".parse()?;
/// let watch = watch(&target, &ResolveOptions::default(), SmallRng::seed_from_u64(1));
/// let mut states = watch.subscribe();
/// let state = states.wait_for(|state| state.endpoints.is_some()).await?.clone();
/// assert_eq!(state.endpoints.expect("it was waited for").len(), 2);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn watch(target: &Target, options: &ResolveOptions, rng: SmallRng) -> Watch {
    let name = target.to_string();
    let wake = Arc::new(Notify::new());
    let (publish, receiver) = channel::channel(ResolverState::default());
    let task = match Way::to(target) {
        Way::Named(endpoints) => {
            publish.send_modify(|state| _ = state.succeed(Instant::now(), endpoints));
            return Watch::of_fixed(receiver, publish);
        }
        Way::File(path) => tokio::spawn(file::follow(path.clone(), name, publish)).abort_handle(),
        Way::Asked(question, authority) => {
            let resolver = DnsResolver::new(question, authority, options.clone());
            let task = keep_fresh(resolver, name, options.clone(), rng, publish, Arc::clone(&wake));
            tokio::spawn(task).abort_handle()
        }
    };
    Watch::of_task(receiver, vec![wake], task)
}

/// The endpoints of a target that needs no name server, as they are now: those that it names, or that its file lists. `None` for
/// a name. Reading a file blocks.
///
/// # Errors
/// The file cannot be read, or is no list of endpoints.
pub(crate) fn read_local(target: &Target) -> Option<Result<Endpoints, ResolveError>> {
    match Way::to(target) {
        Way::Named(endpoints) => Some(Ok(endpoints)),
        Way::File(path) => Some(file::read(path, &mut None)),
        Way::Asked(..) => None,
    }
}

/// The way to a target's endpoints.
enum Way<'a> {
    /// It names them.
    Named(Endpoints),
    /// A file lists them.
    File(&'a PathBuf),
    /// A name server is asked: the system's if none is given.
    Asked(Question, Option<SocketAddr>),
}

impl<'a> Way<'a> {
    fn to(target: &'a Target) -> Self {
        let named = |addresses: Vec<Address>| {
            let listed = addresses.into_iter().map(|address| (address, 1));
            Self::Named(Endpoints::new(listed, MAX_ENDPOINTS))
        };
        match target {
            Target::Ip(addresses) => named(addresses.iter().copied().map(Address::from).collect()),
            Target::Unix(path) => named(vec![Address::Unix(path.clone())]),
            Target::File(path) => Self::File(path),
            Target::Dns { host, port, .. } if let Ok(ip) = host.parse::<IpAddr>() => {
                named(vec![SocketAddr::new(ip, *port).into()])
            }
            Target::Dns { authority, host, port } => {
                Self::Asked(Question::Host { host: host.clone(), port: *port }, *authority)
            }
            Target::Srv { authority, name } => {
                Self::Asked(Question::Service { name: name.clone() }, *authority)
            }
        }
    }
}

/// A target being resolved. Dropping it ends the resolution; readers then find their channel closed.
#[derive(Debug)]
pub struct Watch {
    receiver: channel::Receiver<ResolverState>,
    /// Of each name.
    wakes: Arc<[Arc<Notify>]>,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Nothing to do, but the channel must stay open as long as the watch lives.
    Fixed(#[expect(dead_code, reason = "held for its Drop")] channel::Sender<ResolverState>),
    Task(AbortHandle),
}

impl Watch {
    /// What a task publishes, which these wake.
    pub(crate) fn of_task(
        receiver: channel::Receiver<ResolverState>,
        wakes: Vec<Arc<Notify>>,
        task: AbortHandle,
    ) -> Self {
        Self { receiver, wakes: wakes.into(), source: Source::Task(task) }
    }

    /// What was published once and for all.
    pub(crate) fn of_fixed(
        receiver: channel::Receiver<ResolverState>,
        publish: channel::Sender<ResolverState>,
    ) -> Self {
        Self { receiver, wakes: Arc::default(), source: Source::Fixed(publish) }
    }

    pub(crate) fn wakes(&self) -> &[Arc<Notify>] {
        &self.wakes
    }

    /// The newest state.
    #[must_use]
    pub fn state(&self) -> ResolverState {
        self.receiver.borrow().clone()
    }

    /// A further reader, which has seen nothing yet.
    #[must_use]
    pub fn subscribe(&self) -> channel::Receiver<ResolverState> {
        let mut receiver = self.receiver.clone();
        receiver.mark_changed();
        receiver
    }

    /// Whether the target names its addresses. There is nothing to resolve then: its one answer does not grow old.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        matches!(self.source, Source::Fixed(_))
    }

    /// A handle to ask for a resolution at once, for whoever sees connections fail.
    #[must_use]
    pub fn resolve_now(&self) -> ResolveNow {
        ResolveNow { wakes: Arc::clone(&self.wakes) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Source::Task(task) = &self.source {
            task.abort();
        }
    }
}

/// Asks a [`Watch`] to resolve at once. Cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct ResolveNow {
    wakes: Arc<[Arc<Notify>]>,
}

impl ResolveNow {
    /// Asks for a resolution at once: a connection failed, so the endpoints may have changed.
    ///
    /// At most one resolution per [`ResolveOptions::min_refresh`] comes of it, and none during the backoff after a
    /// failure. Does nothing where there is nothing to resolve.
    pub fn request(&self) {
        self.wakes.iter().for_each(|wake| wake.notify_one());
    }
}
