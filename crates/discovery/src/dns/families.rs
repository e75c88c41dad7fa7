//! The addresses of one name: A and AAAA asked for at the same time, and what the pair of answers means.
//!
//! | one family | other family | together |
//! |---|---|---|
//! | addresses | addresses | both |
//! | addresses | none | the addresses |
//! | addresses | no answer | the addresses, and the other family's as last known |
//! | none | none | none |
//! | none or no answer | no answer | a failure |
//!
//! The third row keeps half of a dual-stack service from vanishing when one of the two questions is lost. So that a
//! name server which drops AAAA questions does not hold up each resolution, the slower answer is waited for only
//! [`FAMILY_GRACE`] longer than the faster (RFC 8305 section 3 does likewise when connecting).

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::time::Duration;

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::RData;
use tokio::time::{Instant, sleep_until};

use super::client::Unanswered;
use crate::endpoints::interleave;

/// How much longer the slower family is waited for once the faster has addresses. RFC 8305 suggests 50 ms while a user
/// waits; this runs in the background, where a complete answer is worth more.
pub(super) const FAMILY_GRACE: Duration = Duration::from_secs(1);

/// The addresses of one name by family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Families {
    pub(super) v6: Vec<Ipv6Addr>,
    pub(super) v4: Vec<Ipv4Addr>,
}

impl Families {
    pub(super) fn is_empty(&self) -> bool {
        self.v6.is_empty() && self.v4.is_empty()
    }

    /// All addresses, the families taking turns. IPv6 goes first, as RFC 6724's default policy has it.
    pub(super) fn interleaved(self) -> Vec<IpAddr> {
        interleave(
            self.v6.into_iter().map(IpAddr::V6).collect(),
            self.v4.into_iter().map(IpAddr::V4).collect(),
        )
    }
}

impl FromIterator<IpAddr> for Families {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut families = Self::default();
        for address in addresses {
            match address {
                IpAddr::V4(address) => families.v4.push(address),
                IpAddr::V6(address) => families.v6.push(address),
            }
        }
        families
    }
}

/// One family's addresses, at least one, and for how long they are good.
pub(super) type Answer<T> = Result<(Vec<T>, Duration), Unanswered>;

/// Reads one family's addresses out of a lookup; `address` picks those of the right kind.
pub(super) fn addresses<T>(lookup: &Lookup, address: impl Fn(&RData) -> Option<T>) -> (Vec<T>, Duration) {
    (lookup.answers().iter().filter_map(|record| address(&record.data)).collect(), time_to_live(lookup))
}

/// The shortest TTL of the answer, that of the CNAMEs on the way included.
pub(super) fn time_to_live(lookup: &Lookup) -> Duration {
    let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
    Duration::from_secs(seconds.into())
}

/// Waits for both answers, each until `deadline`, the second no longer than [`FAMILY_GRACE`] after the first.
pub(super) async fn both(
    v6: impl Future<Output = Answer<Ipv6Addr>>,
    v4: impl Future<Output = Answer<Ipv4Addr>>,
    deadline: Instant,
) -> (Answer<Ipv6Addr>, Answer<Ipv4Addr>) {
    let (mut v6, mut v4, mut expiry) = (pin!(v6), pin!(v4), pin!(sleep_until(deadline)));
    let (mut six, mut four) = (None, None);
    while six.is_none() || four.is_none() {
        let usable = tokio::select! {
            biased;
            answer = &mut v6, if six.is_none() => six.insert(answer).is_ok(),
            answer = &mut v4, if four.is_none() => four.insert(answer).is_ok(),
            () = &mut expiry => break,
        };
        if usable {
            expiry.as_mut().reset(deadline.min(Instant::now() + FAMILY_GRACE));
        }
    }
    (six.unwrap_or(Err(Unanswered::Timeout)), four.unwrap_or(Err(Unanswered::Timeout)))
}

/// What the two answers mean together; `known` are the last known addresses of the name.
///
/// # Errors
/// Where neither family has addresses: the more telling of the two reasons.
pub(super) fn combine(
    (v6, v4): (Answer<Ipv6Addr>, Answer<Ipv4Addr>),
    known: Option<&Families>,
) -> Result<(Families, Duration), Unanswered> {
    match (v6, v4) {
        (Ok((v6, six_ttl)), Ok((v4, four_ttl))) => Ok((Families { v6, v4 }, six_ttl.min(four_ttl))),
        (Ok((v6, ttl)), Err(reason)) => {
            let v4 = known.filter(|_| !reason.is_empty_answer()).map(|known| known.v4.clone());
            Ok((Families { v6, v4: v4.unwrap_or_default() }, ttl))
        }
        (Err(reason), Ok((v4, ttl))) => {
            let v6 = known.filter(|_| !reason.is_empty_answer()).map(|known| known.v6.clone());
            Ok((Families { v6: v6.unwrap_or_default(), v4 }, ttl))
        }
        (Err(six), Err(four)) => Err(if six.outranks(&four) { six } else { four }),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use hickory_resolver::proto::op::ResponseCode;

    use super::*;

    const SIX: Ipv6Addr = Ipv6Addr::LOCALHOST;
    const FOUR: Ipv4Addr = Ipv4Addr::LOCALHOST;

    fn good<T>(address: T, ttl: u64) -> Answer<T> {
        Ok((vec![address], Duration::from_secs(ttl)))
    }

    fn known() -> Families {
        Families { v6: vec![SIX], v4: vec![FOUR] }
    }

    #[test]
    fn both_families_count_and_the_shorter_ttl_holds() {
        let together = combine((good(SIX, 9), good(FOUR, 5)), None).unwrap();
        assert_eq!(together, (known(), Duration::from_secs(5)));
    }

    #[test]
    fn a_family_without_addresses_is_dropped_but_one_without_answer_is_remembered() {
        let v4 = |reason| combine((Err(reason), good(FOUR, 5)), Some(&known())).unwrap().0;
        assert_eq!(v4(Unanswered::NoRecords), Families { v6: vec![], v4: vec![FOUR] });
        assert_eq!(v4(Unanswered::Timeout), known());
        let v6 = |reason| combine((good(SIX, 5), Err(reason)), Some(&known())).unwrap().0;
        assert_eq!(v6(Unanswered::NoSuchName), Families { v6: vec![SIX], v4: vec![] });
        assert_eq!(v6(Unanswered::Code(ResponseCode::ServFail)), known());
        let unknown = combine((Err(Unanswered::Timeout), good(FOUR, 5)), None).unwrap().0;
        assert_eq!(unknown, Families { v6: vec![], v4: vec![FOUR] });
    }

    #[test]
    fn nothing_is_known_to_exist_unless_both_families_say_so() {
        let reason = |six, four| combine((Err(six), Err(four)), Some(&known())).unwrap_err();
        assert!(reason(Unanswered::NoRecords, Unanswered::NoRecords).is_empty_answer());
        assert!(matches!(reason(Unanswered::NoSuchName, Unanswered::NoRecords), Unanswered::NoRecords));
        assert!(matches!(reason(Unanswered::NoRecords, Unanswered::Timeout), Unanswered::Timeout));
        assert!(matches!(reason(Unanswered::Timeout, Unanswered::NoRecords), Unanswered::Timeout));
        let refused = Unanswered::Code(ResponseCode::Refused);
        assert!(matches!(reason(refused, Unanswered::Timeout), Unanswered::Code(ResponseCode::Refused)));
    }

    #[test]
    fn families_take_turns_with_ipv6_first() {
        let families = Families { v6: vec![SIX], v4: vec![FOUR, Ipv4Addr::BROADCAST] };
        let order: Vec<IpAddr> = vec![SIX.into(), FOUR.into(), Ipv4Addr::BROADCAST.into()];
        assert_eq!(families.clone().interleaved(), order);
        assert_eq!(order.into_iter().rev().collect::<Families>().v4, [Ipv4Addr::BROADCAST, FOUR]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slower_family_is_waited_for_a_second_once_the_faster_has_addresses() {
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(5);
        let (six, four) = both(pending(), ready(good(FOUR, 5)), deadline).await;
        assert_eq!(begin.elapsed(), FAMILY_GRACE);
        assert!(matches!(six, Err(Unanswered::Timeout)) && four.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn without_addresses_the_slower_family_gets_all_the_time() {
        let begin = Instant::now();
        let deadline = begin + Duration::from_secs(5);
        let (six, four) = both(pending(), ready(Err(Unanswered::NoRecords)), deadline).await;
        assert_eq!(begin.elapsed(), Duration::from_secs(5));
        assert!(matches!(six, Err(Unanswered::Timeout)));
        assert!(matches!(four, Err(Unanswered::NoRecords)));
    }
}
