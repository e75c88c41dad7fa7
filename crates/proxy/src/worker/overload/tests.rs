use super::*;

const LIMIT: u64 = 1_000_000;
const T0: Duration = Duration::from_secs(10);

#[test]
fn each_level_begins_at_its_share_and_not_a_byte_before() {
    assert_eq!(Level::of(0, LIMIT), Level::Calm);
    let mut below = Level::Calm;
    for (at, level) in
        [(850_000, Level::Shrink), (920_000, Level::Drain), (950_000, Level::Refuse), (980_000, Level::Shed)]
    {
        assert_eq!(Level::of(at - 1, LIMIT), below);
        assert_eq!(Level::of(at, LIMIT), level);
        below = level;
    }
    assert_eq!(Level::of(u64::MAX, LIMIT), Level::Shed);
    assert_eq!(Level::of(u64::MAX / 2, u64::MAX), Level::Calm, "large limits do not overflow");
}

#[test]
fn refusing_for_five_seconds_becomes_shedding_and_relief_starts_the_wait_anew() {
    let mut patience = Patience::default();
    let mut level = |after: Duration, total| patience.level(T0 + after, total, LIMIT);
    assert_eq!(level(Duration::ZERO, 950_000), Level::Refuse);
    assert_eq!(level(REFUSE_MAX - Duration::from_nanos(1), 960_000), Level::Refuse);
    assert_eq!(level(REFUSE_MAX, 950_000), Level::Shed);
    assert_eq!(level(REFUSE_MAX, 949_999), Level::Drain);
    assert_eq!(level(REFUSE_MAX, 950_000), Level::Refuse);
    assert_eq!(level(2 * REFUSE_MAX - Duration::from_nanos(1), 950_000), Level::Refuse);
}

#[test]
fn workers_together_shed_what_is_too_much_and_hardly_more() {
    let total = 985_000;
    let held = [500_000, 300_000, 185_000, 0];
    let shed: Vec<u64> = held.iter().map(|held| to_shed(*held, total, LIMIT)).collect();
    assert_eq!(shed[3], 0, "who holds nothing gives nothing");
    let sum: u64 = shed.iter().sum();
    assert!((65_000..65_003).contains(&sum), "{shed:?}");
    assert_eq!(to_shed(980_000, 980_000, LIMIT), 60_000);
    assert_eq!(to_shed(900_000, 920_000, LIMIT), 0);
    assert_eq!(to_shed(10, u64::MAX, 0), 10, "never more than is held");
    assert_eq!(to_shed(10, 0, 0), 0);
}

#[test]
fn a_connection_accepted_under_pressure_gets_less() {
    let usual = Limits::edge();
    let same = Level::Calm.limits(usual);
    assert_eq!(same.max_concurrent_streams, usual.max_concurrent_streams);
    let less = Level::Shrink.limits(usual);
    let windows = (less.max_concurrent_streams, less.stream_window_bytes, less.connection_window_bytes);
    assert_eq!(windows, (25, 16_384, 65_536));
    let tiny = Limits { max_concurrent_streams: 3, stream_window_bytes: 1_000, ..usual };
    let less = Level::Shed.limits(tiny);
    assert_eq!((less.max_concurrent_streams, less.stream_window_bytes), (1, 1_000));
}

#[test]
fn a_worker_publishes_once_its_sum_has_changed_enough_and_takes_it_back_at_its_end() {
    let accountant = Accountant::new(LIMIT);
    let mut account = Account::new(Arc::clone(&accountant));
    let mut other = Account::new(Arc::clone(&accountant));
    account.charge(0, PUBLISH_BYTES as usize - 1);
    assert!(!account.look(T0));
    assert_eq!(accountant.total(), 0);
    account.add_spare(1);
    assert!(!account.look(T0));
    assert_eq!(accountant.total(), PUBLISH_BYTES);

    other.charge(0, 834_000);
    assert!(other.look(T0), "the sum of both counts");
    assert_eq!((other.level(), account.level()), (Level::Shrink, Level::Calm));
    assert!(account.look(T0));
    other.charge(834_000, 0);
    assert!(!other.look(T0));
    assert!(!account.look(T0));
    assert_eq!(account.level(), Level::Calm);
    drop(account);
    assert_eq!(accountant.total(), 0);
}

#[test]
fn a_worker_that_holds_something_looks_again_although_nothing_happens() {
    let mut account = Account::new(Accountant::new(u64::MAX));
    account.charge(0, 10 * LOOK_BYTES_MIN as usize);
    account.look(T0);
    assert_eq!(account.deadline(), None, "without a limit there is nothing to look for");
    let mut account = Account::new(Accountant::new(1 << 30));
    account.charge(0, LOOK_BYTES_MIN as usize - 1);
    account.look(T0);
    assert_eq!(account.deadline(), None);
    account.charge(0, 1);
    assert_eq!(account.deadline(), Some(T0 + LOOK_PERIOD));
}

#[test]
fn what_requests_take_counts_exactly_for_their_worker_and_once_it_is_much_for_the_others() {
    let accountant = Accountant::new(LIMIT);
    let mut account = Account::new(Arc::clone(&accountant));
    let mut other = Account::new(Arc::clone(&accountant));
    let much = PUBLISH_BYTES as usize;
    account.keep(much - 1);
    other.keep(10);
    assert_eq!((account.kept_by_all(), other.kept_by_all()), (PUBLISH_BYTES - 1, 10));
    account.keep(1);
    assert_eq!((account.kept_by_all(), other.kept_by_all()), (PUBLISH_BYTES, PUBLISH_BYTES + 10));
    other.keep(much);
    assert_eq!(accountant.kept(), 2 * PUBLISH_BYTES + 10);
    account.forget_kept(much - 1);
    assert_eq!((account.kept_by_all(), other.kept_by_all()), (PUBLISH_BYTES + 11, 2 * PUBLISH_BYTES + 10));
    account.forget_kept(1);
    assert_eq!(other.kept_by_all(), PUBLISH_BYTES + 10);
    drop(other);
    assert_eq!((account.kept(), account.kept_by_all(), accountant.kept()), (0, 0, 0));
}
