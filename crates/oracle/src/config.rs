//! Configuration: a text gives a value that is written and read as itself, or errors that point into it.

use evenkeel_config::{ConfigErrors, ListenAddress, MAX_ERRORS, Place, Target, parse, parse_endpoints};

/// A text, read as a configuration and as a list of endpoints. A configuration that is shown (as JSON, which is YAML) is
/// read as itself. Errors are ordered, bounded, point at characters of the text, and can be shown in every form.
///
/// # Panics
/// If that does not hold.
pub fn config_parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match parse("fuzz", &text) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.clusters.is_empty());
            for route in config.listeners.iter().flat_map(|listener| &listener.routes) {
                for share in &route.destination.shares {
                    assert_eq!(config.clusters[share.cluster.position].name, share.cluster.name);
                }
            }
            let shown = serde_json::to_string(&config).expect("a configuration has text keys only");
            assert_eq!(parse("shown", &shown), Ok(config), "{shown}");
        }
        Err(errors) => check_errors(&text, &errors),
    }
    match parse_endpoints("fuzz", &text) {
        Ok(list) => assert!(list.iter().all(|listed| listed.weight > 0), "weight 0 gets no calls"),
        Err(errors) => check_errors(&text, &errors),
    }
}

fn check_errors(text: &str, errors: &ConfigErrors) {
    let list = errors.errors();
    assert!((1..=MAX_ERRORS).contains(&list.len()));
    assert!(list.len() == MAX_ERRORS || errors.omitted() == 0);
    assert!(list.is_sorted_by_key(|error| error.place.offset));
    for error in list {
        check_place(text, &error.place);
        if let Some(place) = &error.related {
            check_place(text, place);
        }
        assert!(!error.fault.code().is_empty() && !error.fault.to_string().is_empty());
    }
    let line = errors.to_string();
    assert!(!line.chars().any(char::is_control), "one line for a log: {line:?}");
    // A line of the text may end as it does there.
    let rendered = errors.render(false).replace("\r\n", "\n");
    let harmless = |c: char| !c.is_control() || c == '\n';
    assert!(!rendered.is_empty() && rendered.chars().all(harmless), "no foreign escapes: {rendered:?}");
    assert_eq!(errors.to_json()["errors"].as_array().map(Vec::len), Some(list.len()));
}

fn check_place(text: &str, place: &Place) {
    let before = text.get(..place.offset).expect("a place begins at a character of the text");
    assert!(text.get(place.offset..place.offset + place.len).is_some(), "{place:?} ends at one");
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    assert_eq!(place.line, 1 + before.matches('\n').count(), "{place:?}");
    assert_eq!(place.column, 1 + before[line_start..].chars().count(), "{place:?}");
}

/// A text, read as a target and as an address to listen on: its canonical form is read as the same.
///
/// # Panics
/// If that does not hold.
pub fn target_parse(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Target::parse(&text) {
        Ok(target) => {
            let canonical = target.to_string();
            assert_eq!(Target::parse(&canonical), Ok(target), "{canonical}");
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
    match ListenAddress::parse(&text) {
        Ok(address) => {
            assert!(address.conflicts_with(&address) || address.to_string().ends_with(":0"));
            assert_eq!(ListenAddress::parse(&address.to_string()), Ok(address));
        }
        Err(error) => assert!(!error.to_string().chars().any(char::is_control), "{error:?}"),
    }
}
