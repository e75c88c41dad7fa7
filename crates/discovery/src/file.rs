//! `file:` targets: reads a YAML list of endpoints, and again whenever it changes.
//!
//! The *directory* is watched, not the file. A file that is replaced by renaming, as editors and deployment tools do,
//! is a new file that a watch on the old one never hears of; and Kubernetes swaps a whole ConfigMap by renaming the
//! link `..data` beside the file, which is itself a link through it. So any event in the directory makes the file be
//! read again, at most once per [`DEBOUNCE`].
//!
//! Where events cannot be had (no inotify instances left, a network file system, a link into another directory) the
//! file is read each [`POLL_INTERVAL`] all the same.
//!
//! A file that is gone, unreadable or invalid keeps the last good list, with the reason beside it. An empty *list* is
//! somebody's word that there are no endpoints, and is taken as such. Write the new file beside the old and rename it:
//! one that is written in place can be read half done.

use std::path::{Path, PathBuf};
use std::time::Duration;

use evenkeel_balance::MAX_ENDPOINTS;
use evenkeel_config::bounds::MAX_LIST_BYTES;
use evenkeel_config::parse_endpoints;
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};

use crate::endpoints::Endpoints;
use crate::error::ResolveError;
use crate::refresh::Report;
use crate::state::ResolverState;
use crate::text_file::{ReadError, read_file};

/// Size of an endpoint file, in bytes, beyond which it is not read: that of the largest list, 8 MiB.
pub const MAX_FILE_BYTES: usize = MAX_LIST_BYTES;

/// Time between the first event and reading the file: one save is several events, and in a busy directory it bounds the
/// reads to about 13 per second.
const DEBOUNCE: Duration = Duration::from_millis(75);

/// Longest time between two reads.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Runs until it is dropped: reads, publishes, waits for a change.
pub(crate) async fn follow(path: PathBuf, name: String, publish: watch::Sender<ResolverState>) {
    // Capacity one: events say no more than "look again". This side keeps a sender, so that the channel stays open.
    let (events, mut changes) = mpsc::channel(1);
    let mut watcher = event_watcher(events.clone(), &path);
    let mut known = None;
    let mut report = Report::new(publish, name, Instant::now());
    loop {
        if let Some(watcher) = &mut watcher {
            // Each time anew: the directory may not have existed, or may have been replaced.
            let directory = directory_of(&path);
            if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                tracing::debug!(?directory, %error, "cannot watch the directory; polling the endpoint file");
            }
        }
        let file = path.clone();
        let reading = spawn_blocking(move || {
            let outcome = read(&file, &mut known);
            (outcome, known)
        });
        // An error means that the runtime shuts down.
        let Ok((outcome, parsed)) = reading.await else { return };
        known = parsed;
        match outcome {
            Ok(list) => report.success(list, Instant::now()),
            Err(error) => report.failure(error, Instant::now()),
        }
        if timeout(POLL_INTERVAL, changes.recv()).await.is_ok() {
            sleep(DEBOUNCE).await;
            // Before reading: an event that comes while reading must lead to another read.
            while changes.try_recv().is_ok() {}
        }
    }
}

fn event_watcher(events: mpsc::Sender<()>, path: &Path) -> Option<RecommendedWatcher> {
    let handler = move |event: notify::Result<Event>| {
        if event.as_ref().map_or(true, is_change) {
            // Full means that a look is due anyway.
            _ = events.try_send(());
        }
    };
    notify::recommended_watcher(handler)
        .inspect_err(|error| tracing::warn!(?path, %error, "no file events; polling the endpoint file"))
        .ok()
}

/// Whether an event may mean new contents. Reading the file is an event, too, and must not lead to reading it again.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// A valid text and what it means.
pub(crate) struct Parsed {
    text: String,
    list: Endpoints,
}

/// Reads the list. `known` is what was read last: the same text is not parsed again, since most events in a directory
/// with other files in it are none of ours.
pub(crate) fn read(path: &Path, known: &mut Option<Parsed>) -> Result<Endpoints, ResolveError> {
    let refused = |source| match (path.to_owned(), source) {
        (path, ReadError::Kind { .. }) => ResolveError::FileKind { path },
        (path, ReadError::TooLarge { max_bytes: limit }) => ResolveError::FileTooLarge { path, limit },
        (path, source) => ResolveError::FileUnreadable { path, source },
    };
    let text = read_file(path, MAX_FILE_BYTES).map_err(refused)?;
    if let Some(known) = known
        && known.text == text
    {
        return Ok(known.list.clone());
    }
    let list = parse_endpoints(&path.display().to_string(), &text)
        .map_err(|source| ResolveError::FileInvalid { source })?;
    let list = Endpoints::new(list, MAX_ENDPOINTS);
    *known = Some(Parsed { text, list: list.clone() });
    Ok(list)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;
    use tokio::task::AbortHandle;

    use super::*;

    /// Far beyond an event and below [`POLL_INTERVAL`]: what comes in time came by an event.
    const PATIENCE: Duration = Duration::from_secs(20);
    const _: () = assert!(PATIENCE.as_secs() < POLL_INTERVAL.as_secs());

    struct Followed {
        folder: TempDir,
        state: watch::Receiver<ResolverState>,
        task: AbortHandle,
    }

    impl Drop for Followed {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl Followed {
        /// Follows `endpoints.yaml` in a folder that `prepare` fills.
        fn new(prepare: impl FnOnce(&Path)) -> Self {
            let folder = tempfile::tempdir().unwrap();
            prepare(folder.path());
            let (publish, state) = watch::channel(ResolverState::default());
            let path = folder.path().join("endpoints.yaml");
            let task = follow(path, "file:endpoints.yaml".into(), publish);
            Self { folder, state, task: tokio::spawn(task).abort_handle() }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        async fn until(&mut self, done: impl FnMut(&ResolverState) -> bool) -> ResolverState {
            let reached = timeout(PATIENCE, self.state.wait_for(done)).await;
            reached.expect("an event leads to the state in time").expect("the task lives").clone()
        }

        async fn until_ports(&mut self, expected: &[u16]) {
            self.until(|state| ports(state) == expected).await;
        }
    }

    /// An endpoint file with these ports of 127.0.0.1.
    fn list(ports: &[u16]) -> String {
        let line = |port: &u16| format!("- \"127.0.0.1:{port}\"\n");
        if ports.is_empty() { "[]\n".into() } else { ports.iter().map(line).collect() }
    }

    fn ports(state: &ResolverState) -> Vec<u16> {
        let port = |spec: &evenkeel_balance::EndpointSpec| match &spec.address {
            evenkeel_balance::Address::Tcp(address) => address.port(),
            evenkeel_balance::Address::Unix(path) => panic!("unexpected {path:?}"),
        };
        state.endpoints.as_deref().unwrap_or_default().iter().map(port).collect()
    }

    #[tokio::test]
    async fn a_file_replaced_by_renaming_is_read_again() {
        let mut file =
            Followed::new(|folder| fs::write(folder.join("endpoints.yaml"), list(&[1, 2])).unwrap());
        file.until_ports(&[1, 2]).await;
        for port in 3..6 {
            fs::write(file.path("new"), list(&[port])).unwrap();
            fs::rename(file.path("new"), file.path("endpoints.yaml")).unwrap();
            file.until_ports(&[port]).await;
        }
        fs::write(file.path("endpoints.yaml"), list(&[9])).unwrap();
        file.until_ports(&[9]).await;
        assert_eq!(file.state.borrow().generation, 5);
    }

    #[tokio::test]
    async fn a_config_map_swapped_as_kubernetes_does_is_read_again() {
        let mut file = Followed::new(|folder| {
            fs::create_dir(folder.join("..1")).unwrap();
            fs::write(folder.join("..1/endpoints.yaml"), list(&[1])).unwrap();
            symlink("..1", folder.join("..data")).unwrap();
            symlink("..data/endpoints.yaml", folder.join("endpoints.yaml")).unwrap();
        });
        file.until_ports(&[1]).await;
        fs::create_dir(file.path("..2")).unwrap();
        fs::write(file.path("..2/endpoints.yaml"), list(&[2])).unwrap();
        symlink("..2", file.path("..data_tmp")).unwrap();
        fs::rename(file.path("..data_tmp"), file.path("..data")).unwrap();
        fs::remove_dir_all(file.path("..1")).unwrap();
        file.until_ports(&[2]).await;
    }

    #[tokio::test]
    async fn invalid_contents_keep_the_last_good_list_and_show_where_the_fault_is() {
        let mut file = Followed::new(|folder| fs::write(folder.join("endpoints.yaml"), list(&[1])).unwrap());
        file.until_ports(&[1]).await;
        fs::write(file.path("new"), "- \"127.0.0.1:1\"\n- \"nowhere\"\n").unwrap();
        fs::rename(file.path("new"), file.path("endpoints.yaml")).unwrap();
        let state = file.until(|state| state.error.is_some()).await;
        assert_eq!((ports(&state), state.generation), (vec![1], 1));
        let error = state.error.unwrap();
        assert!(matches!(&*error, ResolveError::FileInvalid { .. }), "{error}");
        let sentence = error.to_string();
        assert!(sentence.contains("endpoints.yaml:2:"), "{sentence}");
        fs::write(file.path("endpoints.yaml"), list(&[2])).unwrap();
        let state = file.until(|state| ports(state) == [2]).await;
        assert!(state.error.is_none());
    }

    #[tokio::test]
    async fn a_deleted_file_keeps_the_last_good_list_and_a_restored_one_is_read() {
        let mut file = Followed::new(|folder| fs::write(folder.join("endpoints.yaml"), list(&[1])).unwrap());
        file.until_ports(&[1]).await;
        fs::remove_file(file.path("endpoints.yaml")).unwrap();
        let state = file.until(|state| state.error.is_some()).await;
        assert_eq!(ports(&state), [1]);
        let is_missing = |error: &ResolveError| matches!(error, ResolveError::FileUnreadable { source, .. } if source.is_not_found());
        assert!(is_missing(&state.error.unwrap()));
        fs::write(file.path("endpoints.yaml"), list(&[2])).unwrap();
        file.until_ports(&[2]).await;
    }

    #[tokio::test]
    async fn a_file_that_appears_later_is_read_and_an_empty_list_is_believed() {
        let mut file = Followed::new(|_| {});
        let state = file.until(|state| state.error.is_some()).await;
        assert!(state.endpoints.is_none());
        fs::write(file.path("endpoints.yaml"), list(&[1])).unwrap();
        file.until_ports(&[1]).await;
        fs::write(file.path("endpoints.yaml"), list(&[])).unwrap();
        let state = file.until(|state| state.generation == 2).await;
        assert_eq!(state.endpoints.as_deref().map(<[_]>::len), Some(0));
    }

    /// Paused time jumps to the next poll as soon as nothing else is to be done.
    #[tokio::test(start_paused = true)]
    async fn without_events_the_file_is_read_each_half_minute() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("later");
        let (publish, mut state) = watch::channel(ResolverState::default());
        let path = directory.join("endpoints.yaml");
        let start = Instant::now();
        let task = tokio::spawn(follow(path.clone(), "file:".into(), publish));
        state.wait_for(|state| state.failures == 2).await.unwrap();
        assert_eq!(start.elapsed(), POLL_INTERVAL);
        fs::create_dir(&directory).unwrap();
        fs::write(&path, list(&[1])).unwrap();
        state.wait_for(|state| ports(state) == [1]).await.unwrap();
        task.abort();
    }

    #[test]
    fn only_regular_files_up_to_the_bound_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(read(folder.path(), &mut None), Err(ResolveError::FileKind { .. })));
        let path = folder.path().join("endpoints.yaml");
        let padded = |length: usize| {
            let list = list(&[1]);
            let padding = length - list.len();
            list + "#" + &"x".repeat(padding - 1)
        };
        fs::write(&path, padded(MAX_FILE_BYTES)).unwrap();
        assert_eq!(read(&path, &mut None).unwrap().len(), 1);
        fs::write(&path, padded(MAX_FILE_BYTES + 1)).unwrap();
        assert!(matches!(
            read(&path, &mut None),
            Err(ResolveError::FileTooLarge { limit: MAX_FILE_BYTES, .. })
        ));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(read(&path, &mut None), Err(ResolveError::FileUnreadable { .. })));
    }

    #[test]
    fn the_same_text_is_not_parsed_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("endpoints.yaml");
        let mut known = None;
        let mut read_after = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path, &mut known).map(|list| list.as_ptr())
        };
        let first = read_after(&list(&[1])).unwrap();
        assert_eq!(read_after(&list(&[1])).unwrap(), first, "the very list of before");
        assert_ne!(read_after(&list(&[2])).unwrap(), first);
        assert!(read_after("- \"nowhere\"\n").is_err());
        assert!(read_after(&list(&[2])).is_ok());
    }

    #[test]
    fn the_directory_of_a_bare_name_is_the_current_one() {
        assert_eq!(directory_of(Path::new("endpoints.yaml")), Path::new("."));
        assert_eq!(directory_of(Path::new("/etc/endpoints.yaml")), Path::new("/etc"));
    }

    #[test]
    fn reading_the_file_is_no_change() {
        use notify::event::{CreateKind, ModifyKind, RemoveKind};
        let is_change = |kind| is_change(&Event::new(kind));
        assert!(!is_change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!is_change(EventKind::Access(AccessKind::Read)));
        assert!(!is_change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(is_change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(is_change(EventKind::Create(CreateKind::Any)));
        assert!(is_change(EventKind::Modify(ModifyKind::Any)));
        assert!(is_change(EventKind::Remove(RemoveKind::Any)));
        assert!(is_change(EventKind::Other), "events were lost");
    }

    #[tokio::test]
    async fn the_watching_thread_ends_with_its_watcher() {
        let folder = tempfile::tempdir().unwrap();
        let (events, mut changes) = mpsc::channel(1);
        let mut watcher = event_watcher(events, folder.path()).unwrap();
        watcher.watch(folder.path(), RecursiveMode::NonRecursive).unwrap();
        fs::write(folder.path().join("endpoints.yaml"), list(&[1])).unwrap();
        assert_eq!(timeout(PATIENCE, changes.recv()).await, Ok(Some(())));
        drop(watcher);
        // The thread owns the sender: the channel closes when it has ended.
        let ended = async { while changes.recv().await.is_some() {} };
        timeout(PATIENCE, ended).await.expect("the thread ends");
    }
}
