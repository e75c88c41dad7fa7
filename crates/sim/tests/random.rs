//! Worlds drawn from ranges, thousands of them.

mod support;

use evenkeel_sim::{Happening, Scenario, World};

#[test]
fn everything_holds_in_every_world() {
    let stats =
        support::run_seeds("everything_holds_in_every_world", |seed| Scenario::everything().draw(seed));
    println!("{stats:#?}");
    if support::runs_whole_suite() {
        let unseen: Vec<Happening> = stats.unseen().collect();
        assert!(unseen.is_empty(), "what never happens is not tested: {unseen:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    for seed in 0..20 {
        let run = || World::new(Scenario::everything().draw(seed)).run().unwrap();
        let (one, other) = (run(), run());
        assert_eq!((one.trace, one.events), (other.trace, other.events), "seed {seed}");
        assert_eq!(one.stats, other.stats, "seed {seed}");
    }
    let trace = |seed| World::new(Scenario::everything().draw(seed)).run().unwrap().trace;
    assert_ne!(trace(1), trace(2));
}
