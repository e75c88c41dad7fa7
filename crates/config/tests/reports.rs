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
