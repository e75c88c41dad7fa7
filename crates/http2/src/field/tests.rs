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
    ids.iter().for_each(|id| store.release(*id));
}

#[test]
fn a_block_keeps_literals_of_any_length_whole() {
    let mut store = FieldStore::new(7);
    let (name, value) = (vec![b'n'; 70_000], vec![b'v'; 140_000]);
    let mut block = FieldBlock::new();
    block.push_literal(&name, &value, true);
    block.push_literal(b"x-bin", b"2", false);
    let field = block.get(&store, 0);
    assert_eq!((field.name, field.value, field.size), (&name[..], &value[..], 210_032));
    assert!(field.never_index && !field.binary);
    let field = block.get(&store, 1);
    assert_eq!((field.name, field.value, field.size), (&b"x-bin"[..], &b"2"[..], 38));
    assert!(!field.never_index && field.binary);
    assert_eq!(block.size(), 210_070);
    block.clear(&mut store);
    assert_eq!((block.len(), block.size()), (0, 0));
}

#[test]
fn a_field_is_the_same_interned_and_as_a_literal() {
    let mut store = FieldStore::new(7);
    let fields: [(&[u8], &[u8]); 5] =
        [(b"te", b"gzip"), (b"grpc-trace-bin", b"AA"), (b"X", b""), (b":path", b"/a"), (b"x", b" ")];
    for (name, value) in fields {
        let mut block = FieldBlock::new();
        let id = store.intern(name, value);
        block.push_retained(&store, id, true);
        block.push_literal(name, value, false);
        let (interned, literal) = (block.get(&store, 0), block.get(&store, 1));
        assert_eq!(Field { id: None, by_reference: false, ..interned }, literal);
        assert_eq!(block.find(&store, interned.name_token), Some(interned));
        assert_eq!(block.find_bytes(&store, name), Some(interned));
        block.clear(&mut store);
    }
}

#[test]
fn a_cleared_block_keeps_room_for_a_usual_list_only() {
    let mut store = FieldStore::new(7);
    let mut block = FieldBlock::new();
    block.push_literal(b"x", &[b'v'; 100], false);
    block.clear(&mut store);
    assert!(block.capacity().0 >= 101 && block.capacity().1 >= 1);
    (0..65).for_each(|_| block.push_literal(b"x", &[b'v'; 64], false));
    block.clear(&mut store);
    assert_eq!(block.capacity(), (0, 0));
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
