//! Several targets as one: [`watch_all()`] starts a watch for each, and merges what they give into one list.
//!
//! Rule: the list holds the endpoints of all targets, in their order, each with its target's place; an address that two of them have
//! counts once, as the first's. There is none before each target has answered or failed once: a second name that is quicker
//! than the first would else get calls that are not its own. After that a failure of one takes nothing from the others, as it
//! takes nothing from itself.

use std::sync::Arc;

use evenkeel_balance::MAX_ENDPOINTS;
use evenkeel_config::PlacedTarget;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Notify, watch as channel};
use tokio::task::JoinSet;

use crate::endpoints::Endpoints;
use crate::error::ResolveError;
use crate::options::ResolveOptions;
use crate::state::ResolverState;
use crate::watch::{Watch, read_local, watch};

/// Starts to resolve all of `targets`, as [`watch()`] does one, and keeps the merged list fresh until the returned [`Watch`] is
/// dropped. Those with a weight of 0 are left out.
///
/// The state is that of all: `successes` and `failures` are sums, `error` is that of the first target that has one,
/// `last_success` the oldest of those that are resolved again and again.
///
/// # Panics
/// Outside of a tokio runtime with time and I/O enabled.
#[must_use]
pub fn watch_all(targets: &[PlacedTarget], options: &ResolveOptions, mut rng: SmallRng) -> Watch {
    if let [placed] = targets
        && *placed == PlacedTarget::from(placed.target.clone())
    {
        return watch(&placed.target, options, rng);
    }
    let used = targets.iter().filter(|placed| placed.weight > 0);
    let parts: Vec<Part> = used
        .map(|placed| {
            let watch = watch(&placed.target, options, SmallRng::from_rng(&mut rng));
            Part { placed: placed.clone(), watch }
        })
        .collect();
    let (publish, receiver) = channel::channel(ResolverState::default());
    merge(&parts, &publish);
    if parts.iter().all(|part| part.watch.is_fixed()) {
        return Watch::of_fixed(receiver, publish);
    }
    let wakes = parts.iter().flat_map(|part| part.watch.wakes()).map(Arc::clone).collect();
    let task = tokio::spawn(keep_merged(parts, publish)).abort_handle();
    Watch::of_task(receiver, wakes, task)
}

/// The endpoints of targets that need no name server, as they are now; `None` if one of them is a name. Reading a file blocks.
///
/// # Errors
/// The first file that cannot be read, or is no list of endpoints.
pub fn read_all_local(targets: &[PlacedTarget]) -> Option<Result<Endpoints, ResolveError>> {
    let mut placed = Vec::new();
    for target in targets.iter().filter(|placed| placed.weight > 0) {
        match read_local(&target.target)? {
            Ok(found) => placed.extend(found.iter().map(|endpoint| target.place(endpoint))),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(Endpoints::new(placed, MAX_ENDPOINTS)))
}

/// One of the targets.
struct Part {
    placed: PlacedTarget,
    watch: Watch,
}

/// Runs until it is dropped: merges again after each change of a part.
async fn keep_merged(parts: Vec<Part>, publish: channel::Sender<ResolverState>) {
    let changed = Arc::new(Notify::new());
    let mut readers = JoinSet::new();
    for part in &parts {
        let (mut states, changed) = (part.watch.subscribe(), Arc::clone(&changed));
        readers.spawn(async move {
            while states.changed().await.is_ok() {
                changed.notify_one();
            }
        });
    }
    loop {
        changed.notified().await;
        merge(&parts, &publish);
    }
}

fn merge(parts: &[Part], publish: &channel::Sender<ResolverState>) {
    let states: Vec<Source> = parts
        .iter()
        .map(|part| Source {
            placed: &part.placed,
            state: part.watch.state(),
            is_fixed: part.watch.is_fixed(),
        })
        .collect();
    publish.send_modify(|merged| merge_states(&states, merged));
}

/// What is known of one target.
struct Source<'a> {
    placed: &'a PlacedTarget,
    state: ResolverState,
    /// Whether its answer does not grow old.
    is_fixed: bool,
}

fn merge_states(sources: &[Source<'_>], merged: &mut ResolverState) {
    let states = || sources.iter().map(|source| &source.state);
    merged.error = states().find_map(|state| state.error.clone());
    merged.successes = states().map(|state| state.successes).sum();
    merged.failures = states().map(|state| state.failures).sum();
    let resolved = sources.iter().filter(|source| !source.is_fixed);
    merged.last_success = resolved.filter_map(|source| source.state.last_success).min();
    let has_answered = |state: &ResolverState| state.endpoints.is_some() || state.failures > 0;
    if !states().all(has_answered) || states().all(|state| state.endpoints.is_none()) {
        return;
    }
    let placed = sources.iter().flat_map(|source| {
        let found = source.state.endpoints.as_deref().unwrap_or_default();
        found.iter().map(|endpoint| source.placed.place(endpoint))
    });
    merged.replace(Endpoints::new(placed, MAX_ENDPOINTS));
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use evenkeel_balance::{Address, EndpointSpec, Locality};
    use evenkeel_config::Target;
    use tokio::time::Instant;

    use super::*;

    fn target(name: &str) -> Target {
        format!("dns:///{name}:1").parse().unwrap()
    }

    fn list(ports: &[u16]) -> Endpoints {
        let address = |port: &u16| Address::from(SocketAddr::from(([127, 0, 0, 1], *port)));
        Endpoints::new(ports.iter().map(|port| (address(port), 1)), 8)
    }

    /// Port, weight and priority of each.
    fn shown(state: &ResolverState) -> Option<Vec<(u16, u32, u8)>> {
        let port = |spec: &EndpointSpec| match spec.address {
            Address::Tcp(address) => address.port(),
            Address::Unix(_) => 0,
        };
        let list = state.endpoints.as_deref()?;
        Some(list.iter().map(|spec| (port(spec), spec.weight, spec.priority)).collect())
    }

    #[test]
    fn the_list_waits_for_each_first_answer_and_then_for_none() {
        let near = PlacedTarget::from(target("near"));
        let far = PlacedTarget { priority: 1, weight: 2, ..target("far").into() };
        let now = Instant::now();
        let (mut of_near, mut of_far) = (ResolverState::default(), ResolverState::default());
        let mut merged = ResolverState::default();
        let mut merge = |of_near: &ResolverState, of_far: &ResolverState| {
            let source =
                |placed, state: &ResolverState| Source { placed, state: state.clone(), is_fixed: false };
            merge_states(&[source(&near, of_near), source(&far, of_far)], &mut merged);
            merged.clone()
        };
        assert_eq!(shown(&merge(&of_near, &of_far)), None);
        of_far.succeed(now, list(&[3]));
        assert_eq!(shown(&merge(&of_near, &of_far)), None, "nobody knows the first yet");
        of_near.fail(Arc::new(ResolveError::NoSuchName { name: "near".into() }));
        let state = merge(&of_near, &of_far);
        assert_eq!(shown(&state), Some(vec![(3, 2, 1)]));
        assert!(state.error.unwrap().to_string().contains("near"));
        let later = now + Duration::from_secs(1);
        of_near.succeed(later, list(&[1, 2, 3]));
        let state = merge(&of_near, &of_far);
        assert_eq!(shown(&state), Some(vec![(1, 1, 0), (2, 1, 0), (3, 1, 0)]), "of both the first counts");
        assert_eq!((state.generation, state.successes, state.failures), (2, 2, 1));
        assert_eq!((state.last_success, state.error.is_some()), (Some(now), false));
        // A failure later takes nothing away.
        of_near.fail(Arc::new(ResolveError::NoSuchName { name: "near".into() }));
        assert_eq!(merge(&of_near, &of_far).generation, 2);
        // The same set in another order is no change.
        of_near.succeed(later, list(&[2, 1, 3]));
        assert_eq!(merge(&of_near, &of_far).generation, 2);
    }

    #[tokio::test]
    async fn targets_that_name_their_addresses_are_there_at_once() {
        let place = |zone: &str| Some(Arc::new(Locality { zone: zone.into(), ..Locality::default() }));
        let near =
            PlacedTarget { locality: place("a"), .."ipv4:127.0.0.1:1".parse::<Target>().unwrap().into() };
        let far = PlacedTarget { priority: 3, .."dns:///127.0.0.1:2".parse::<Target>().unwrap().into() };
        let out = PlacedTarget { weight: 0, .."ipv4:127.0.0.1:3".parse::<Target>().unwrap().into() };
        let rng = SmallRng::seed_from_u64(1);
        let watch = watch_all(&[near, far, out], &ResolveOptions::default(), rng);
        assert!(watch.is_fixed());
        let state = watch.state();
        assert_eq!(shown(&state), Some(vec![(1, 1, 0), (2, 1, 3)]));
        assert_eq!(state.endpoints.unwrap()[0].locality, place("a"));
        assert_eq!(state.last_success, None, "no answer that grows old");
        watch.resolve_now().request();
    }

    #[tokio::test]
    async fn a_file_beside_addresses_is_followed_and_ends_with_the_watch() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.yaml");
        std::fs::write(&path, "[{address: '127.0.0.1:2', priority: 1}]").unwrap();
        let file = PlacedTarget { priority: 1, ..Target::File(path.clone()).into() };
        let near = "ipv4:127.0.0.1:1".parse::<Target>().unwrap().into();
        let rng = SmallRng::seed_from_u64(1);
        let watch = watch_all(&[near, file], &ResolveOptions::default(), rng);
        assert!(!watch.is_fixed());
        let mut states = watch.subscribe();
        let both = states.wait_for(|state| state.endpoints.is_some()).await.unwrap().clone();
        assert_eq!(shown(&both), Some(vec![(1, 1, 0), (2, 1, 2)]));
        drop(watch);
        while states.changed().await.is_ok() {}
    }
}
