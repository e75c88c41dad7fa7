use std::fs;

use evenkeel_balance::canary::{Phase, Version};
use evenkeel_grpc::Code;

use super::*;

const NOW: Duration = Duration::from_secs(7);

/// A configuration with one canary, and these keys of it.
fn config(split: &str, keys: &str) -> Config {
    config_of(split, keys, ["ipv4:127.0.0.1:2", "ipv4:127.0.0.1:3"])
}

/// The same, with the targets of the first two clusters.
fn config_of(split: &str, keys: &str, [stable, canary]: [&str; 2]) -> Config {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{split: [{split}], \
         canary: {{stable: a, canary: b, name: next{keys}}}}}]}}]\n\
         clusters: [{{name: a, target: '{stable}'}}, {{name: b, target: '{canary}'}}, \
         {{name: c, target: 'ipv4:127.0.0.1:4'}}]\n"
    );
    evenkeel_config::parse("text", &text).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

const TWO: &str = "{cluster: a, weight: 9}, {cluster: b, weight: 1}";
const THREE: &str = "{cluster: a, weight: 6}, {cluster: c, weight: 10}, {cluster: b, weight: 4}";

fn destination(config: &Config) -> &Destination {
    &config.listeners[0].routes[0].destination
}

fn placed(config: &Config) -> Canaries {
    let mut canaries = Canaries::default();
    canaries.place(config, file::Saved::default(), true, NOW);
    canaries
}

/// How many of 100 evenly spread calls each cluster gets.
fn shares(canaries: &Canaries, config: &Config) -> [usize; 3] {
    let split = canaries.split(destination(config));
    let mut counts = [0; 3];
    for call in 0..100 {
        counts[split.choose(u64::MAX / 100 * call + u64::MAX / 200)] += 1;
    }
    counts
}

#[test]
fn a_canary_shares_what_its_two_clusters_get_and_a_third_keeps_its_own() {
    let config = config(THREE, "");
    let mut canaries = placed(&config);
    assert_eq!(shares(&canaries, &config), [30, 20, 50]);
    for (weight, expected) in [(0, [50, 0, 50]), (10, [45, 5, 50]), (100, [0, 50, 50])] {
        canaries.command("next", Command::Set(weight), NOW).unwrap();
        assert_eq!(shares(&canaries, &config), expected, "{weight} %");
    }
}

#[test]
fn a_worse_version_is_taken_back_by_a_tick() {
    let config = config(TWO, "");
    let mut canaries = placed(&config);
    canaries.command("next", Command::Start, NOW).unwrap();
    assert_eq!(shares(&canaries, &config), [90, 10, 0]);
    let split = canaries.split(destination(&config));
    let observed = &split.versions().unwrap().observed;
    for _ in 0..20 {
        observed.record(Version::Canary, Code::Unavailable, None);
        (0..9).for_each(|_| observed.record(Version::Stable, Code::Ok, None));
    }
    assert!(canaries.tick(NOW + TICK));
    assert_eq!(shares(&canaries, &config), [100, 0, 0]);
    assert_eq!(canaries.list[0].canary.progress().phase, Phase::RolledBack);
    assert!(!canaries.tick(NOW + 2 * TICK));
}

#[test]
fn a_reload_keeps_the_state_while_the_clusters_are_the_same() {
    let before = config(TWO, "");
    let mut canaries = placed(&before);
    canaries.command("next", Command::Set(25), NOW).unwrap();
    let other_weights = config("{cluster: b, weight: 5}, {cluster: a, weight: 5}", ", min_calls: 7");
    canaries.place(&other_weights, file::Saved::default(), true, NOW);
    assert_eq!(shares(&canaries, &other_weights), [75, 25, 0]);
    let other_clusters = config(THREE, "");
    canaries.place(&other_clusters, file::Saved::default(), true, NOW);
    assert_eq!(canaries.list[0].canary.progress().phase, Phase::Idle);
    assert_eq!(shares(&canaries, &other_clusters), [30, 20, 50]);
}

/// Where the canary's cluster leads to another version, what the one before did says nothing of it.
#[test]
fn another_target_is_another_version_and_begins_anew() {
    let (stable, canary) = ("ipv4:127.0.0.1:2", "ipv4:127.0.0.1:3");
    let grown = "ipv4:127.0.0.1:3,127.0.0.1:5";
    let (other, name) = ("ipv4:127.0.0.1:6", "dns:///orders-next:50051");
    for (command, to, weight) in [
        (Command::Promote, [stable, canary], Some(100)),
        (Command::Promote, [stable, grown], Some(100)),
        (Command::Promote, [other, canary], Some(100)),
        (Command::Promote, [stable, other], None),
        (Command::Promote, [stable, name], None),
        (Command::Abort, [stable, other], None),
        (Command::Start, [stable, grown], Some(10)),
        (Command::Start, [other, canary], None),
        (Command::Start, [stable, other], None),
    ] {
        let mut canaries = placed(&config_of(TWO, "", [stable, canary]));
        canaries.command("next", command, NOW).unwrap();
        let saved = canaries.to_save();
        let next = config_of(TWO, "", to);
        canaries.place(&next, file::Saved::default(), true, NOW);
        assert_eq!(canaries.list[0].canary.weight(), weight, "{command:?}, then a reload with {to:?}");
        let mut restarted = Canaries::default();
        restarted.place(&next, saved, true, NOW);
        assert_eq!(restarted.list[0].canary.weight(), weight, "{command:?}, then a restart with {to:?}");
    }
}

#[test]
fn a_file_of_a_version_before_origins_were_saved_is_read() {
    let before = config(TWO, "");
    let mut canaries = placed(&before);
    canaries.command("next", Command::Set(33), NOW).unwrap();
    let mut saved = serde_json::to_value(canaries.to_save()).unwrap();
    saved["canaries"]["next"].as_object_mut().unwrap().remove("origins").unwrap();
    let mut restarted = Canaries::default();
    restarted.place(&before, serde_json::from_value(saved).unwrap(), true, NOW);
    assert_eq!(restarted.list[0].canary.weight(), Some(33));
}

#[test]
fn one_that_starts_by_itself_does_so_once() {
    let auto = config(TWO, ", auto: true");
    let mut canaries = placed(&auto);
    assert_eq!(shares(&canaries, &auto), [90, 10, 0]);
    canaries.command("next", Command::Abort, NOW).unwrap();
    canaries.place(&auto, file::Saved::default(), true, NOW);
    assert_eq!(canaries.list[0].canary.progress().phase, Phase::Aborted);
    let mut careful = Canaries::default();
    careful.place(&auto, file::Saved::default(), false, NOW);
    assert_eq!(careful.list[0].canary.progress().phase, Phase::Idle);
}

#[test]
fn commands_that_make_no_sense_say_why() {
    let mut canaries = placed(&config(TWO, ""));
    let told = |canaries: &mut Canaries, name: &str, command| {
        canaries.command(name, command, NOW).unwrap_err().to_string()
    };
    assert_eq!(told(&mut canaries, "b", Command::Start), "there is no canary \"b\"; there are: next");
    assert!(told(&mut canaries, "next", Command::Pause).contains("idle"));
    assert!(told(&mut canaries, "next", Command::Set(101)).contains("0 to 100"));
    assert!(told(&mut Canaries::default(), "x", Command::Start).contains("add `canary:"));
}

#[test]
fn what_is_saved_is_there_after_a_restart_and_of_other_clusters_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    assert_eq!(file::read(&path).unwrap(), file::Saved::default(), "there is no file yet");
    let before = config(TWO, "");
    let mut canaries = placed(&before);
    canaries.command("next", Command::Set(33), NOW).unwrap();
    file::write(&path, &canaries.to_save()).unwrap();
    file::write(&path, &canaries.to_save()).unwrap();
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["state.json"], "nothing is left beside it");

    let restarted = |config: &Config| {
        let mut canaries = Canaries::default();
        canaries.place(config, file::read(&path).unwrap(), true, Duration::ZERO);
        canaries.list[0].canary.weight()
    };
    assert_eq!(restarted(&before), Some(33));
    assert_eq!(restarted(&config(THREE, "")), None);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    for (text, told) in
        [("", "damaged"), ("{\"version\": 1", "damaged"), ("{\"version\": 2, \"canaries\": {}}", "version 2")]
    {
        fs::write(&path, text).unwrap();
        let error = file::read(&path).unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains(told), "{error}");
    }
    let error = file::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("`state_file`"), "{error}");
    let nowhere = folder.path().join("no/state.json");
    let error = file::write(&nowhere, &file::Saved::default()).unwrap_err().to_string();
    assert!(error.contains("cannot save") && error.contains("`state_file`"), "{error}");
}
