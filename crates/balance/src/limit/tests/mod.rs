use core::time::Duration;

use super::{Dropped, PendingQueue};

mod adaptive;
mod overload;
mod pending;
mod sharing;

/// Takes the call whose turn it is out of a queue, as whoever serves it does. `dropped` is told those before it that are too late.
fn pop<T: Copy>(
    queue: &mut PendingQueue<T>,
    now: Duration,
    attempt: Duration,
    mut dropped: impl FnMut(T, Dropped),
) -> Option<T> {
    while let Some(turn) = queue.next_turn(None, now, attempt) {
        let (key, call, too_late) = (turn.key, *turn.call, turn.too_late);
        let Some(reason) = too_late else { return queue.depart(key, now) };
        queue.remove(key);
        dropped(call, reason);
    }
    None
}
