use super::{Ring, RingSize, RingSizeError};
use crate::hash::hash_bytes;
use crate::policy::consistent::Share;

/// In the order of the keys, as a table hands them on.
fn shares(of: &[(&str, u32)]) -> Vec<Share> {
    let share = |((key, weight), place): (&(&str, u32), u32)| Share {
        key: (*key).into(),
        weight: *weight,
        place,
        group: 0,
    };
    of.iter().zip(0..).map(share).collect()
}

fn ring(of: &[(&str, u32)], min: u32, max: u32) -> Ring {
    Ring::new(&shares(of), RingSize::in_all(min, max).unwrap())
}

/// The entries as (hash, key).
fn entries<'a>(ring: &Ring, of: &[(&'a str, u32)]) -> Vec<(u64, &'a str)> {
    ring.entries().iter().map(|entry| (entry.hash, of[entry.owner as usize].0)).collect()
}

fn counts(ring: &Ring, endpoints: usize) -> Vec<usize> {
    let count = |owner| ring.stands().filter(|(_, other)| *other as usize == owner).count();
    (0..endpoints).map(count).collect()
}

const SIX: [(&str, u32); 6] = [("90", 1), ("91", 1), ("92", 1), ("93", 1), ("94", 1), ("95", 1)];

#[test]
fn has_the_entries_that_envoy_has() {
    // From envoy's ring_hash_lb_test.cc, BasicWithHostname: six hosts, a ring of 12.
    let expected = [
        (1975508444536362413, "95"),
        (2376063919839173711, "95"),
        (2386806903309390596, "93"),
        (6749904478991551885, "94"),
        (6803900775736438537, "93"),
        (7225015537174310577, "92"),
        (8787465352164086522, "90"),
        (11282020843382717940, "92"),
        (13723418369486627818, "91"),
        (13776502110861797421, "90"),
        (14338313586354474791, "91"),
        (15364271037087512980, "94"),
    ];
    assert_eq!(entries(&ring(&SIX, 12, 4_096), &SIX), expected);
}

#[test]
fn has_the_entries_that_grpc_has() {
    // The weights of grpc-go's example, 3, 3 and 4, and its ring of 10. Entries i of an endpoint: XXH64("<key>_<i>").
    let of = [("a", 3), ("b", 3), ("c", 4)];
    let mut expected: Vec<(u64, &str)> = Vec::new();
    for (key, weight) in of {
        expected.extend((0..weight).map(|number| (hash_bytes(format!("{key}_{number}").as_bytes()), key)));
    }
    expected.sort_unstable();
    assert_eq!(entries(&ring(&of, 10, 20), &of), expected);
}

#[test]
fn is_as_large_as_grpcs() {
    // ceil(0.3 * min) / 0.3, rounded up, at most max: grpc-go's newRing with the sizes of its own test.
    let of = [("a", 3), ("b", 3), ("c", 4)];
    for (min, max, size) in
        [(3, 20, 4), (4, 20, 7), (6, 20, 7), (8, 20, 10), (3, 8, 4), (4, 8, 7), (6, 8, 7), (8, 8, 8)]
    {
        assert_eq!(ring(&of, min, max).len(), size, "{min} {max}");
    }
    let ring = ring(&of, 7, 7);
    assert_eq!((ring.len(), counts(&ring, 3)), (7, vec![3, 2, 2]));
}

#[test]
fn shares_what_is_not_whole_out_as_it_comes() {
    // Envoy's example: four hosts, at most six entries, 1.5 each.
    let of = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
    assert_eq!(counts(&ring(&of, 6, 6), 4), [2, 1, 2, 1]);
    // As many entries as endpoints, and too few for all.
    assert_eq!(counts(&ring(&of, 1, 4), 4), [1, 1, 1, 1]);
    assert_eq!(counts(&ring(&of, 1, 2), 4), [1, 0, 1, 0]);
}

#[test]
fn the_heaviest_weights_make_no_more_entries_than_allowed() {
    let of = [("a", u32::MAX), ("b", 1), ("c", u32::MAX)];
    let ring = ring(&of, 1_024, 4_096);
    assert_eq!(ring.len(), 4_096);
    assert_eq!(counts(&ring, 3)[0].abs_diff(2_048), 0);
}

#[test]
fn finds_the_first_entry_at_or_behind_a_hash() {
    for of in [&SIX[..], &SIX[..1]] {
        for max in [1, 2, 3, 12, 100, 4_096] {
            let ring = ring(of, max.min(1_024), max);
            let hashes: Vec<u64> = ring.entries().iter().map(|entry| entry.hash).collect();
            let last = *hashes.last().unwrap();
            for (index, hash) in hashes.iter().copied().enumerate() {
                assert_eq!(ring.find(hash), index);
                let next = if hash == last { 0 } else { index + 1 };
                assert_eq!(ring.find(hash + 1), next, "{max}");
            }
            assert_eq!((ring.find(0), ring.find(u64::MAX)), (0, 0));
            for number in 0..1_000_u32 {
                let hash = hash_bytes(&number.to_be_bytes());
                let naive = hashes.iter().position(|entry| *entry >= hash).unwrap_or(0);
                assert_eq!(ring.find(hash), naive);
            }
        }
    }
}

#[test]
fn a_number_for_each_gives_the_lightest_that_many_up_to_the_largest_size() {
    let counts_of = |of: &[(&str, u32)], entries, max| {
        let ring = Ring::new(&shares(of), RingSize::each(entries, max).unwrap());
        counts(&ring, of.len())
    };
    assert_eq!(counts_of(&SIX, 128, 65_536), [128; 6]);
    assert_eq!(counts_of(&SIX[..1], 128, 65_536), [128]);
    assert_eq!(counts_of(&[("a", 3), ("b", 1), ("c", 2)], 100, 600), [300, 100, 200]);
    assert_eq!(counts_of(&[("a", 3), ("b", 1), ("c", 2)], 100, 300), [150, 50, 100]);
}

#[test]
fn sizes_that_make_no_ring_are_refused() {
    for new in [RingSize::in_all, RingSize::each] {
        assert_eq!(new(0, 1), Err(RingSizeError::Zero));
        assert!(new(1, 1).is_ok());
        assert_eq!(new(2, 1), Err(RingSizeError::AboveMax { least: 2, max: 1 }));
        assert!(new(1, 8_388_608).is_ok());
        assert_eq!(new(1, 8_388_609), Err(RingSizeError::TooLarge(8_388_609)));
    }
    assert_eq!(RingSize::in_all(1_024, 4_096), Ok(RingSize::GRPC));
    assert_eq!(RingSize::each(128, 32_768), Ok(RingSize::default()));
    assert_eq!((RingSize::GRPC.min_in_all(), RingSize::GRPC.entries_each()), (Some(1_024), None));
    let each = RingSize::default();
    assert_eq!((each.min_in_all(), each.entries_each(), each.max()), (None, Some(128), 32_768));
}
