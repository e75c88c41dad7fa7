//! Flow control: the ledger of what a peer may send, and the window of what we may (RFC 9113 section 6.9).
//!
//! Receiving, each byte of DATA is in exactly one of three places: *available* (the peer may still send it),
//! *held* (it arrived and its consumer has not finished with it), or *returned*. The invariant that keeps a
//! connection from stalling or growing without bound (h2 0.4.13 to 0.4.15 and Go's CVE-2026-78663 broke it) is
//!
//! ```text
//! available + pending == size - max(0, held - allowance)        pending: returned, not yet announced
//! ```
//!
//! A window below the initial 65 535 bytes is known to the peer only once it has read our SETTINGS. What it sends before
//! may make `available` negative (section 6.9.2): the peer's own count is as negative from then on.
//!
//! Worked numbers: size 65 535, allowance 0. The peer sends 40 000: available 25 535, held 40 000. The consumer
//! finishes 40 000: held 0, and 40 000 is more than the 25 535 that are left, so a WINDOW_UPDATE of 40 000 leaves. A unary call
//! of less than half the window never causes one.
//!
//! Why what is left, and not half of the size, is the measure: bytes that are held for one stream are missing from the
//! connection's window. When a backend that reads nothing held more than half of it, half a window could not be returned any
//! more, and the other streams of that client waited for ever.

use crate::error::Violation;

/// The largest window there may be (RFC 9113 section 6.9.1).
pub const WINDOW_MAX: i64 = 0x7fff_ffff;

/// What the peer may send to us, on one stream or on the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReceiveWindow {
    size: u32,
    available: i64,
    held: u32,
}

impl ReceiveWindow {
    /// A window of `size` bytes, all of them available.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { size, available: i64::from(size), held: 0 }
    }

    /// Takes `bytes` that arrived. `grace` is how many more than available are forgiven: what a peer may send that has
    /// not read our SETTINGS yet.
    ///
    /// # Errors
    /// [`Violation::WindowExceeded`] if the peer was not allowed to send as many.
    #[inline]
    pub fn receive(&mut self, bytes: u32, grace: u32) -> Result<(), Violation> {
        if i64::from(bytes) > self.available + i64::from(grace) {
            return Err(Violation::WindowExceeded);
        }
        self.available -= i64::from(bytes);
        self.held += bytes;
        Ok(())
    }

    /// The consumer has finished with `bytes`.
    #[inline]
    pub fn release(&mut self, bytes: u32) {
        debug_assert!(bytes <= self.held, "released {bytes} of {} held bytes", self.held);
        self.held = self.held.saturating_sub(bytes);
    }

    /// The increment to announce now: what was returned, once it is no less than what the peer may still send. Where nothing is
    /// held that is half of the window.
    ///
    /// `allowance` is how many held bytes do not count against the window.
    #[inline]
    pub fn announce(&mut self, allowance: u32) -> Option<u32> {
        let target = self.size.saturating_sub(self.held.saturating_sub(allowance));
        let pending = u32::try_from(i64::from(target) - self.available).unwrap_or(0);
        if pending == 0 || i64::from(pending) < self.available {
            return None;
        }
        self.available += i64::from(pending);
        Some(pending)
    }

    /// Makes the window larger by `bytes` and available at once, as a WINDOW_UPDATE that the caller sends.
    pub fn enlarge(&mut self, bytes: u32) {
        self.size += bytes;
        self.available += i64::from(bytes);
    }

    /// Bytes that arrived and were not yet released.
    #[inline]
    #[must_use]
    pub fn held(&self) -> u32 {
        self.held
    }

    /// Bytes that the peer may still send.
    #[must_use]
    pub fn available(&self) -> u32 {
        u32::try_from(self.available).unwrap_or(0)
    }
}

/// What we may send to the peer. Kept as a sum relative to the initial window, so that a change of
/// SETTINGS_INITIAL_WINDOW_SIZE costs nothing for each stream (CVE-2026-78669); may be negative (section 6.9.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SendCredit(i64);

impl SendCredit {
    /// What may be sent with this initial window: negative after a reduction.
    #[inline]
    #[must_use]
    pub fn window(self, initial: u32) -> i64 {
        i64::from(initial) + self.0
    }

    /// Takes a WINDOW_UPDATE.
    ///
    /// # Errors
    /// [`Violation::WindowOverflow`] if the window would exceed 2^31-1 (nginx CVE-2026-123007 is this check missing).
    #[inline]
    pub fn grow(&mut self, increment: u32, initial: u32) -> Result<(), Violation> {
        if self.window(initial) + i64::from(increment) > WINDOW_MAX {
            return Err(Violation::WindowOverflow);
        }
        self.0 += i64::from(increment);
        Ok(())
    }

    /// Takes `bytes` that were sent.
    #[inline]
    pub fn spend(&mut self, bytes: usize) {
        self.0 -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_peer_may_fill_the_window_but_not_exceed_it() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.receive(100, 0), Ok(()));
        assert_eq!(window.receive(1, 0), Err(Violation::WindowExceeded));
    }

    #[test]
    fn announces_half_a_window_at_once_and_nothing_less() {
        let mut window = ReceiveWindow::new(100);
        window.receive(49, 0).unwrap();
        window.release(49);
        assert_eq!(window.announce(0), None);
        window.receive(1, 0).unwrap();
        window.release(1);
        assert_eq!(window.announce(0), Some(50));
        assert_eq!(window.announce(0), None);
    }

    #[test]
    fn bytes_that_are_held_for_long_do_not_keep_the_rest_from_being_announced() {
        let mut window = ReceiveWindow::new(100);
        window.receive(80, 0).unwrap();
        for _ in 0..10 {
            window.receive(20, 0).unwrap();
            window.release(20);
            assert_eq!(window.announce(0), Some(20));
        }
    }

    #[test]
    fn a_peer_that_has_not_read_our_settings_may_overdraw_a_small_window_by_the_grace_only() {
        let mut window = ReceiveWindow::new(100);
        assert_eq!(window.receive(131, 30), Err(Violation::WindowExceeded));
        assert_eq!(window.receive(130, 30), Ok(()));
        assert_eq!(window.available(), 0);
        window.release(80);
        assert_eq!(window.announce(0), Some(80), "50 bytes are held and 30 are overdrawn");
        assert_eq!((window.held(), window.available()), (50, 50));
        assert_eq!(window.receive(51, 0), Err(Violation::WindowExceeded));
    }

    #[test]
    fn bytes_within_the_allowance_do_not_slow_the_peer() {
        let mut window = ReceiveWindow::new(100);
        window.receive(100, 0).unwrap();
        assert_eq!(window.announce(80), Some(80));
        assert_eq!((window.held(), window.available()), (100, 80));
    }

    #[test]
    fn a_send_window_may_reach_the_maximum_but_not_pass_it() {
        let mut credit = SendCredit::default();
        assert_eq!(credit.grow(0x7fff_ffff - 65_535, 65_535), Ok(()));
        assert_eq!(credit.grow(1, 65_535), Err(Violation::WindowOverflow));
        credit.spend(1);
        assert_eq!(credit.grow(1, 65_535), Ok(()));
    }

    #[test]
    fn a_smaller_initial_window_makes_the_window_negative() {
        let mut credit = SendCredit::default();
        credit.spend(60_000);
        assert_eq!(credit.window(16_384), -43_616);
        credit.grow(43_617, 16_384).unwrap();
        assert_eq!(credit.window(16_384), 1);
    }

    proptest! {
        /// A send window is what was granted less what was spent, whatever the initial window became meanwhile, and never
        /// beyond 2^31-1.
        #[test]
        fn a_send_window_is_what_was_granted_less_what_was_spent(
            initials in (0_u32..=0x7fff_ffff, 0_u32..=0x7fff_ffff),
            steps in proptest::collection::vec((any::<bool>(), 0_u32..=0x7fff_ffff), 0..100),
        ) {
            let (first, then) = initials;
            let mut credit = SendCredit::default();
            let (mut granted, mut spent) = (0_i64, 0_i64);
            for (grows, amount) in steps {
                if grows {
                    let fits = i64::from(first) + granted - spent + i64::from(amount) <= WINDOW_MAX;
                    prop_assert_eq!(credit.grow(amount, first).is_ok(), fits);
                    granted += if fits { i64::from(amount) } else { 0 };
                } else {
                    let bytes = i64::from(amount).min(credit.window(first).max(0));
                    credit.spend(bytes as usize);
                    spent += bytes;
                }
                prop_assert_eq!(credit.window(first), i64::from(first) + granted - spent);
                prop_assert_eq!(credit.window(then), i64::from(then) + granted - spent);
                prop_assert!((0..=WINDOW_MAX).contains(&credit.window(first)));
            }
        }

        /// granted = received + available, and held never exceeds what was granted.
        #[test]
        fn credit_is_conserved(size in 1_u32..200_000, steps in proptest::collection::vec((0_u32..70_000, 0_u32..70_000), 0..200)) {
            let mut window = ReceiveWindow::new(size);
            let (mut granted, mut received, mut released) = (u64::from(size), 0_u64, 0_u64);
            for (arrive, release) in steps {
                let arrive = arrive.min(window.available());
                window.receive(arrive, 0).unwrap();
                received += u64::from(arrive);
                let release = release.min(window.held());
                window.release(release);
                released += u64::from(release);
                granted += u64::from(window.announce(0).unwrap_or(0));
                prop_assert_eq!(granted, received + u64::from(window.available()));
                prop_assert_eq!(u64::from(window.held()), received - released);
                prop_assert!(window.available() + window.held() <= size);
            }
            window.release(window.held());
            window.announce(0);
            prop_assert!(window.available() > size / 2, "a window that is released entirely never stalls");
        }
    }
}
