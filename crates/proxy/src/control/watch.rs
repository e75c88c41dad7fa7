//! Watching the configuration file: a changed file is reloaded without being asked.
//!
//! The folder is watched, not the file: editors replace files, and Kubernetes swaps a link beside them. Events only say
//! that something may have changed; the text decides. One change makes several events, hence the pause before reading.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Sender, channel};

use super::supervisor::Request;

/// Quiet time after an event before the file is read: a rename or a link swap is over by then.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Follows the file for as long as the supervisor lives. Where watching is impossible (inotify is exhausted), SIGHUP still
/// works, and a line says so.
pub(super) fn start(path: PathBuf, requests: Sender<Request>) {
    let (wake, mut events) = channel(1);
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
        let mut known = tokio::fs::read(&path).await.ok();
        loop {
            tokio::select! {
                event = events.recv() => if event.is_none() { return },
                () = requests.closed() => return,
            }
            tokio::time::sleep(DEBOUNCE).await;
            // A file that is not there for a moment is about to be replaced.
            let Ok(text) = tokio::fs::read(&path).await else { continue };
            if known.as_ref() != Some(&text) {
                known = Some(text);
                if requests.send(Request::Reload(None)).await.is_err() {
                    return;
                }
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
}
