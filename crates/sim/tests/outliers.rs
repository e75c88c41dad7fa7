//! Outlier detection: a backend that fails is out, and comes back.

mod support;

use std::time::Duration;

use evenkeel_balance::outlier::OutlierConfig;
use evenkeel_sim::{CallPlan, Down, Fault, Happening, Setup};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_backend_that_dies_under_load_is_ejected_and_has_its_share_again_once_it_is_back() {
    let design = |seed| {
        let mut setup = Setup::calm(seed, 2, 3);
        setup.outliers = Some(OutlierConfig {
            base_ejection: 500 * MS,
            consecutive_failures: Some(2),
            max_ejected_percent: 34,
            ..OutlierConfig::default()
        });
        setup.backends[0].delay = 3 * MS;
        setup.faults.push((200 * MS, Fault::Restart(0, 50 * MS, Down::Refused)));
        for number in 0..6000 {
            setup.calls.push(CallPlan::unary(number as usize % 2, 20 * MS + number * MS / 2));
        }
        setup
    };
    let test = "a_backend_that_dies_under_load_is_ejected_and_has_its_share_again_once_it_is_back";
    support::each_seed(test, 5, design, |outcome| {
        let times = |happening| outcome.stats.of(happening);
        assert_eq!(times(Happening::Ejected), 1);
        assert!(times(Happening::EjectedTried) >= 3, "as many trials as must succeed");
        assert_eq!(times(Happening::EjectedReturned), 1);
        let later = outcome.calls.iter().filter(|record| record.plan.start_at > 2000 * MS);
        let (all, on_it) = later
            .fold((0, 0), |(all, on_it), record| (all + 1, on_it + usize::from(record.backend == Some(0))));
        assert!((all * 30..=all * 37).contains(&(on_it * 100)), "{on_it} of {all}");
    });
}
