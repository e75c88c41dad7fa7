//! The store and blocks together: references are conserved.

use proptest::prelude::*;

use super::*;

#[test]
fn the_static_table_is_always_there_and_costs_no_references() {
    let mut store = FieldStore::new(7);
    assert_eq!(store.find(b":method", b"POST"), Some(FieldId(2)));
    let id = store.intern(b":status", b"200");
    assert_eq!(id.static_index(), Some(8));
    assert_eq!((store.len(), store.references()), (0, 0));
    store.release(id);
    assert_eq!(store.value(id), b"200");
}

#[test]
fn a_field_is_stored_once_and_freed_with_its_last_reference() {
    let mut store = FieldStore::new(7);
    let a = store.intern(b"user-agent", b"grpc-python/1.85");
    let b = store.intern(b"user-agent", b"grpc-python/1.85");
    assert_eq!((a, store.len(), store.references()), (b, 1, 2));
    store.set_note(a, 9);
    store.release(a);
    assert_eq!(store.note(b), 9);
    store.release(b);
    assert_eq!((store.len(), store.find(b"user-agent", b"grpc-python/1.85")), (0, None));
}

#[test]
fn a_slot_that_is_used_again_has_forgotten_its_note() {
    let mut store = FieldStore::new(7);
    let a = store.intern(b"x", b"1");
    store.set_note(a, 9);
    store.release(a);
    let b = store.intern(b"y", b"2");
    assert_eq!((b, store.note(b)), (a, 0));
    store.release(b);
}

#[test]
fn names_and_values_do_not_run_into_each_other() {
    let mut store = FieldStore::new(7);
    let ids = [store.intern(b"ab", b"c"), store.intern(b"a", b"bc"), store.intern(b"abc", b"")];
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    assert_eq!(store.pair(ids[1]), (&b"a"[..], &b"bc"[..]));
    ids.map(|id| store.release(id));
}

#[test]
fn churn_uses_slots_again() {
    let mut store = FieldStore::new(7);
    for round in 0..10_000_u32 {
        let id = store.intern(b"grpc-timeout", format!("{round}u").as_bytes());
        store.release(id);
    }
    assert_eq!(store.slots_ever(), 1);
}

#[test]
fn retain_fields_drops_references_and_keeps_order() {
    let mut store = FieldStore::new(7);
    let mut block = FieldBlock::new();
    for name in [&b"a"[..], b"grpc-timeout", b"c"] {
        let id = store.intern(name, b"1");
        block.push_retained(&store, id, true);
    }
    block.push_literal(b"d", b"22", false);
    let before = block.size();
    block.retain_fields(&mut store, |field| field.name_token != Name::GrpcTimeout);
    let names: Vec<&[u8]> = block.iter(&store).map(|field| field.name).collect();
    assert_eq!(names, [b"a", b"c", b"d"]);
    assert_eq!((before - block.size(), store.references()), (45, 2));
    block.clear(&mut store);
    assert_eq!(store.references(), 0);
}

proptest! {
    #[test]
    fn references_are_conserved(steps in proptest::collection::vec((0_u8..4, 0_u8..6), 0..200)) {
        let mut store = FieldStore::new(3);
        let mut blocks = [FieldBlock::new(), FieldBlock::new()];
        for (step, what) in steps {
            let at = usize::from(what % 2);
            match step {
                0 => {
                    let id = store.intern(b"x", &[b'a' + what]);
                    blocks[at].push_retained(&store, id, false);
                }
                1 => blocks[at].push_literal(b"y", &[b'a' + what], true),
                2 => blocks[at].clear(&mut store),
                _ => {
                    let [first, second] = &mut blocks;
                    if first.len() < 50 {
                        first.copy_from(&mut store, second);
                    }
                }
            }
            let held: usize = blocks
                .iter()
                .map(|block| block.iter(&store).filter(|field| field.id.is_some()).count())
                .sum();
            prop_assert_eq!(store.references(), held as u64);
            for block in &blocks {
                prop_assert_eq!(block.size(), block.iter(&store).map(|field| field.size as usize).sum::<usize>());
            }
        }
        blocks.iter_mut().for_each(|block| block.clear(&mut store));
        prop_assert!(store.is_empty());
    }
}
