//! Streams: one record each, in a slab, found by identifier or by key without a search.
//!
//! A record lives until the stream is closed *and* its owner has released it ([`StreamStore::remove`] is called by
//! the connection then). So a slot under SETTINGS_MAX_CONCURRENT_STREAMS is freed when the work that the stream
//! caused is over, not when a RST_STREAM arrives: that is what bounds a reset flood (CVE-2023-44487).

mod queue;

pub use queue::{Queue, QueueTail};

use core::time::Duration;

use hashbrown::HashTable;

use crate::flow::{ReceiveWindow, SendCredit};

/// Names a stream of one connection. A key outlives its stream harmlessly: it is checked against the identifier,
/// and identifiers are never used twice on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StreamKey {
    slot: u32,
    id: u32,
}

impl StreamKey {
    /// The stream identifier on the wire.
    #[must_use]
    pub fn id(self) -> u32 {
        self.id
    }
}

/// One direction of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// No header section yet.
    Head,
    /// The header section has passed; DATA and trailers may follow.
    Body,
    /// END_STREAM or RST_STREAM has passed.
    Closed,
}

/// Whether a stream was cut off before both sides had ended it, and by whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// It was not.
    No,
    /// We reset it, so frames that were on their way may still come.
    ByUs,
    /// The peer reset it, or its GOAWAY says that it never took it: nothing more may come.
    ByPeer,
}

/// The record of one stream.
#[derive(Debug)]
pub struct Stream {
    /// The identifier on the wire.
    pub id: u32,
    /// What the owner put here when the stream was opened or accepted.
    pub token: u32,
    /// The peer's half.
    pub receive: Half,
    /// Our half.
    pub send: Half,
    /// Whether it was cut off.
    pub cut: Cut,
    /// Whether the owner still has work for this stream.
    pub owned: bool,
    /// Whether the stream stands in the connection's list of streams with something to send.
    pub listed: bool,
    /// Whether the last DATA frame was empty (CVE-2019-9518).
    pub empty_data: bool,
    /// What the peer may send.
    pub window: ReceiveWindow,
    /// What we may send.
    pub credit: SendCredit,
    /// DATA bytes that content-length still promises.
    pub content_left: Option<u64>,
    /// When the stream was opened.
    pub opened_at: Duration,
    /// When queued output first waited for a window of useful size.
    pub dribble_since: Option<Duration>,
    /// Output that windows or the transport hold back; allocated only then.
    pub queue: Option<Box<Queue>>,
}

impl Stream {
    fn new(id: u32, token: u32, now: Duration, window: u32) -> Self {
        Self {
            id,
            token,
            receive: Half::Head,
            send: Half::Head,
            cut: Cut::No,
            owned: true,
            listed: false,
            empty_data: false,
            window: ReceiveWindow::new(window),
            credit: SendCredit::default(),
            content_left: None,
            opened_at: now,
            dribble_since: None,
            queue: None,
        }
    }

    /// Ends both directions at once; the queue, if there is one, is the caller's to discard.
    pub fn cut_off(&mut self, by: Cut) -> Option<Box<Queue>> {
        self.receive = Half::Closed;
        self.send = Half::Closed;
        self.cut = by;
        self.queue.take()
    }

    /// Whether both directions have ended.
    #[inline]
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.receive == Half::Closed && self.send == Half::Closed
    }
}

/// The streams of one connection.
///
/// Bounds: as many records as [`crate::Limits::max_concurrent_streams`] (peer's streams), or as the owner opens under the
/// peer's SETTINGS_MAX_CONCURRENT_STREAMS, which may be without bound (own streams: a proxy opens one for each stream of its
/// clients, which are bounded). An idle connection owns no memory here.
#[derive(Debug, Default)]
pub struct StreamStore {
    slots: Vec<Option<Stream>>,
    free: Vec<u32>,
    by_id: HashTable<(u32, u32)>,
}

impl StreamStore {
    /// Adds a stream that is known not to exist.
    pub fn insert(&mut self, id: u32, token: u32, now: Duration, window: u32) -> StreamKey {
        let stream = Stream::new(id, token, now, window);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(stream);
                slot
            }
            None => {
                self.slots.push(Some(stream));
                (self.slots.len() - 1) as u32
            }
        };
        self.by_id.insert_unique(spread(id), (id, slot), |&(id, _)| spread(id));
        StreamKey { slot, id }
    }

    /// The key of a live stream.
    #[inline]
    #[must_use]
    pub fn key(&self, id: u32) -> Option<StreamKey> {
        let &(id, slot) = self.by_id.find(spread(id), |&(other, _)| other == id)?;
        Some(StreamKey { slot, id })
    }

    /// The record behind a key, unless the stream is gone.
    #[inline]
    #[must_use]
    pub fn get(&self, key: StreamKey) -> Option<&Stream> {
        self.slots.get(key.slot as usize)?.as_ref().filter(|stream| stream.id == key.id)
    }

    /// The record behind a key, unless the stream is gone.
    #[inline]
    pub fn get_mut(&mut self, key: StreamKey) -> Option<&mut Stream> {
        self.slots.get_mut(key.slot as usize)?.as_mut().filter(|stream| stream.id == key.id)
    }

    /// Removes a stream, if it is there. What it holds is to be settled before.
    pub fn remove(&mut self, key: StreamKey) {
        let Some(place) = self.slots.get_mut(key.slot as usize) else { return };
        if place.as_ref().is_none_or(|stream| stream.id != key.id) {
            return;
        }
        *place = None;
        if let Ok(entry) = self.by_id.find_entry(spread(key.id), |&(other, _)| other == key.id) {
            entry.remove();
        }
        self.free.push(key.slot);
        if self.by_id.is_empty() {
            self.shrink();
        }
    }

    /// Streams that exist.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether no stream exists.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The keys of all streams.
    pub fn keys(&self) -> impl Iterator<Item = StreamKey> + '_ {
        self.by_id.iter().map(|&(id, slot)| StreamKey { slot, id })
    }

    /// The records of all streams.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.slots.iter_mut().flatten()
    }

    /// Gives memory back once a connection that had many streams has none: 10 000 idle connections must be cheap.
    fn shrink(&mut self) {
        const KEEP: usize = 16;
        if self.slots.len() > KEEP {
            self.slots.truncate(KEEP);
            self.free.clear();
            self.free.extend((0..KEEP as u32).rev());
        }
    }

    /// Frees everything that an idle connection does not need; called when it becomes idle for some time.
    pub fn compact(&mut self) {
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// Spreads identifiers over the table: they are small odd or even numbers in sequence. A peer that chose them to
/// collide could at most make a table of [`crate::Limits::max_concurrent_streams`] entries linear.
#[inline]
fn spread(id: u32) -> u64 {
    u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_stale_key_finds_nothing_even_when_its_slot_is_used_again() {
        let mut streams = StreamStore::default();
        let old = streams.insert(1, 7, NOW, 10);
        streams.remove(old);
        assert!(streams.is_empty());
        let new = streams.insert(3, 8, NOW, 10);
        streams.remove(old);
        assert!(streams.get(old).is_none() && streams.len() == 1);
        assert_eq!(streams.get(new).map(|s| s.token), Some(8));
        assert_eq!(streams.key(1), None);
        assert_eq!(streams.key(3), Some(new));
    }

    #[test]
    fn keeps_count_through_churn() {
        let mut streams = StreamStore::default();
        let mut live = Vec::new();
        for id in (1..2000).step_by(2) {
            live.push(streams.insert(id, id, NOW, 10));
            if live.len() > 100 {
                let gone = live.remove((id as usize * 7) % live.len());
                streams.remove(gone);
            }
            assert_eq!(streams.len(), live.len());
        }
        for key in live {
            assert_eq!(streams.get(key).map(|s| s.token), Some(key.id()));
            streams.remove(key);
        }
        assert!(streams.is_empty());
        assert!(streams.slots.len() <= 16, "an emptied store gives its memory back");
    }
}
