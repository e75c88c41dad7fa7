//! Reports of broken files, as people and programs see them.

#![expect(clippy::unwrap_used, reason = "the lint knows the functions of tests only by their attribute")]

use evenkeel_config::{Config, ConfigErrors, Flags, parse, parse_endpoints};

fn errors(name: &str) -> ConfigErrors {
    let path = format!("{}/tests/broken/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    parse(&format!("{name}.yaml"), &std::fs::read_to_string(path).unwrap()).unwrap_err()
}

/// The report as people see it, one snapshot per broken file.
macro_rules! reports {
    ($($test:ident: $file:literal,)*) => {
        $(#[test]
        fn $test() {
            insta::assert_snapshot!(errors($file).render(false));
        })*
    };
}

reports! {
    unknown_keys_wrong_kinds_and_meanings_are_reported_together: "several",
    what_depends_on_two_places_shows_both: "unreachable",
    values_out_of_bounds_are_reported_with_their_bounds: "bounds",
    a_repeated_key_does_not_hide_what_else_is_wrong: "duplicate_keys",
    what_contradicts_itself_in_a_route_is_refused: "routing",
    what_could_never_happen_is_refused: "never",
    a_budget_that_allows_nothing_is_shown_beside_what_needs_it: "budget",
    what_is_missing_or_too_much_is_told_as_it_can_be_mended: "hints",
    tabs_are_no_indentation: "tabs",
    a_yaml_bomb_is_refused: "bomb",
    every_value_of_the_wrong_kind_is_reported: "kinds",
    text_that_is_no_yaml_is_reported_alone: "syntax",
}

#[test]
fn programs_get_the_same_as_json() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&errors("unreachable").to_json()).unwrap());
}

#[test]
fn logs_get_one_line() {
    assert_eq!(
        errors("duplicate_keys").to_string(),
        "duplicate_keys.yaml:8:5: clusters[0].target: the key `target` stands here twice; remove it (and 2 more errors)"
    );
    assert_eq!(
        errors("tabs").to_string(),
        "tabs.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)"
    );
}

#[test]
fn colour_is_used_only_if_asked_for() {
    let errors = errors("several");
    assert!(!errors.render(false).contains('\u{1b}'));
    assert!(errors.render(true).contains('\u{1b}'));
}

#[test]
fn arguments_are_reported_like_files() {
    let flags = Flags {
        listen: "localhost:50051",
        to: "ipv4:10.0.0.1",
        policy: Some("roundrobin"),
        workers: Some(0),
        admin: Some("of"),
        ..Flags::default()
    };
    insta::assert_snapshot!(Config::from_flags(&flags).unwrap_err().render(false));
}

#[test]
fn endpoint_lists_are_reported_like_configurations() {
    let text = "- 10.0.0.1:50051\n- nowhere\n- {address: 10.0.0.2, wieght: 3}\n- {weight: 70000}\n- 5\n";
    insta::assert_snapshot!(parse_endpoints("orders.yaml", text).unwrap_err().render(false));
}

/// What the only error about this line of a route, a cluster or the top says.
fn told(route: &str, cluster: &str, top: &str) -> (String, Option<String>) {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a, {route}}}]}}]\n\
         clusters: [{{name: a, target: b, {cluster}}}]\n{top}\n"
    );
    let errors = parse("text", &text).unwrap_err();
    assert_eq!(errors.errors().len(), 1, "{errors}");
    let fault = &errors.errors()[0].fault;
    (fault.to_string(), fault.help())
}

#[test]
fn what_is_more_than_can_be_held_is_quoted_as_it_was_written() {
    for (route, top, written) in [
        ("timeout: 99999999999999999999h", "", "`99999999999999999999h`"),
        ("", "drain: {grace: 213503982334602d}", "`213503982334602d`"),
        ("", "replay: {per_call: 99999999999999999999GiB}", "`99999999999999999999GiB`"),
        ("", "overload: {memory: 99999999999999999999%}", "`99999999999999999999%`"),
        ("", "overload: {memory: 99999999999999999999MiB}", "`99999999999999999999MiB`"),
        ("timeout: 366d", "", "366d"),
        ("", "replay: {per_call: 17MiB}", "17MiB"),
    ] {
        let (text, _) = told(route, "", top);
        assert!(text.starts_with(&format!("{written} is out of bounds: at least")), "{text}");
    }
    let digits = "9".repeat(1000);
    let (text, _) = told(&format!("timeout: {digits}s"), "", "");
    assert!(text.starts_with(&format!("`{}...` is out", &digits[..80])), "{text}");
}

#[test]
fn words_that_mean_off_elsewhere_are_told_that_off_does_here() {
    for key in ["outlier_detection", "health_check", "slow_start", "subset"] {
        for word in ["no", "No", "OFF", "Off", "none", "false", "'False'"] {
            let (text, help) = told("", &format!("{key}: {word}"), "");
            assert!(text.starts_with("expected a value or `off`, found "), "{word}: {text}");
            assert_eq!(help.as_deref(), Some("write `off`"), "{word}");
        }
        for word in ["on", "On", "yes", "'true'"] {
            let (_, help) = told("", &format!("{key}: {word}"), "");
            assert_eq!(help.as_deref(), Some("write `off`, or the value that it is to have"), "{word}");
        }
    }
    let number = told("", "circuit_breakers: {max_requests: NONE}", "");
    assert_eq!(number.1.as_deref(), Some("write `off`"));
}

#[test]
fn lines_that_are_too_long_to_read_are_not_shown() {
    let report = |length: usize| {
        let padding = "x".repeat(length - "polcy: # ".len());
        parse("one.yaml", &format!("polcy: # {padding}")).unwrap_err().render(false)
    };
    assert!(report(400).contains("xxx"));
    let report = report(401);
    assert!(report.starts_with("  × one.yaml:1:1: polcy: unknown key `polcy`\n"), "{report}");
    assert!(report.ends_with("3 errors in one.yaml\n") && !report.contains("xxx"), "{report}");
}
