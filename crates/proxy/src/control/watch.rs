//! Watching the configuration file: a changed file is reloaded without being asked.
//!
//! The folder is watched, not the file: editors replace files, and Kubernetes swaps a link beside them. Events only say
//! that something may have changed; the supervisor compares the text with the one it loaded last. One change makes several
//! events, hence the pause before reading.

use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Sender, channel};

use super::supervisor::Request;

/// Quiet time after an event before the file is read: a rename or a link swap is over by then.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Follows the file for as long as the supervisor lives. Where watching is impossible (inotify is exhausted), SIGHUP still
/// works, and a line says so.
pub(super) fn start(path: &Path, requests: Sender<Request>) {
    let (wake, mut events) = channel(1);
    // What changed between the start's reading and now made no event.
    let _ = wake.try_send(());
    let on_event = move |event: notify::Result<Event>| {
        if event.is_ok_and(|event| !is_change(&event)) {
            return;
        }
        // One waiting event is as good as many.
        let _ = wake.try_send(());
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let watcher = RecommendedWatcher::new(on_event, notify::Config::default())
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
    let watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            tracing::warn!(%error, file = %path.display(), "the configuration file cannot be watched; send SIGHUP to reload it");
            return;
        }
    };
    tokio::spawn(async move {
        // Dropped with the task, which ends the watch.
        let _watcher = watcher;
        loop {
            tokio::select! {
                event = events.recv() => if event.is_none() { return },
                () = requests.closed() => return,
            }
            tokio::time::sleep(DEBOUNCE).await;
            if requests.send(Request::FileTouched).await.is_err() {
                return;
            }
        }
    });
}

/// Whether an event may mean new contents. Reading the file is an event, too, and must not lead to reading it again.
fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(access) => access == AccessKind::Close(AccessMode::Write),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_a_file_is_no_change_of_it() {
        let event = |kind| Event::new(kind);
        assert!(!is_change(&event(EventKind::Access(AccessKind::Open(AccessMode::Any)))));
        assert!(!is_change(&event(EventKind::Access(AccessKind::Read))));
        assert!(!is_change(&event(EventKind::Access(AccessKind::Close(AccessMode::Read)))));
        assert!(is_change(&event(EventKind::Access(AccessKind::Close(AccessMode::Write)))));
        assert!(is_change(&event(EventKind::Any)));
    }

    #[tokio::test]
    async fn the_first_look_needs_no_event() {
        let folder = tempfile::tempdir().unwrap();
        let (requests, mut inbox) = channel(1);
        start(&folder.path().join("evenkeel.yaml"), requests);
        assert!(matches!(inbox.recv().await, Some(Request::FileTouched)));
    }
}
