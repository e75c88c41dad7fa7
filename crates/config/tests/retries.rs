//! What the keys mean that say how calls are tried again.

use core::time::Duration;

use evenkeel_balance::retry::{CodeSet, HedgingPolicy, RetryBudgetConfig, RetryPolicy};
use evenkeel_config::{Config, ConfigErrors, Retry, parse};
use evenkeel_grpc::Code;

/// A configuration whose only route and cluster have these keys besides what they need.
fn config(route: &str, cluster: &str) -> Result<Config, ConfigErrors> {
    let text = format!(
        "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a, {route}}}]}}]\n\
         clusters: [{{name: a, target: 'ipv4:127.0.0.1:2', {cluster}}}]\n"
    );
    parse("text", &text)
}

fn retry(route: &str) -> Option<Retry> {
    let config = config(route, "").unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    config.listeners[0].routes[0].retry
}

#[test]
fn without_the_key_nothing_is_tried_again_and_an_empty_mapping_has_the_policys_own_defaults() {
    assert_eq!(retry(""), None);
    let default = Retry { policy: RetryPolicy::default(), is_idempotent: false };
    assert_eq!(retry("retry: {}"), Some(default));
    let cluster = &config("", "").unwrap().clusters[0];
    assert_eq!((cluster.retry_budget, cluster.retry_throttling), (RetryBudgetConfig::default(), None));
}

#[test]
fn statuses_are_named_in_either_case_and_unavailable_includes_resets() {
    let on = |names: &str| retry(&format!("retry: {{retry_on: [{names}]}}")).unwrap().policy.retry_on;
    let unavailable = on("unavailable");
    assert!(unavailable.codes.contains(Code::Unavailable) && unavailable.reset);
    assert_eq!(on("UNAVAILABLE"), unavailable);
    let aborted = on("aborted, resource_exhausted");
    assert!(aborted.codes.contains(Code::Aborted) && aborted.codes.contains(Code::ResourceExhausted));
    assert!(!aborted.reset && on("reset").reset && on("reset").codes.is_empty());
    assert!(on("reset").connect_failure && on("").refused_stream);
}

#[test]
fn a_budget_and_throttling_belong_to_the_cluster() {
    let cluster = "retry_budget: {percent: 10, min_concurrency: 0, window: off}, \
                   retry_throttling: {max_tokens: 10, token_ratio: 0.1}";
    let cluster = config("retry: {}", cluster).unwrap().clusters.remove(0);
    let budget = RetryBudgetConfig { percent: 10, min_concurrency: 0, window: None };
    assert_eq!(cluster.retry_budget, budget);
    let throttling = cluster.retry_throttling.unwrap();
    assert_eq!((throttling.max_tokens(), throttling.token_ratio().get()), (10, 0.1));
}

#[test]
fn hedging_has_its_own_defaults_and_what_is_printed_can_be_read() {
    let hedge = |route: &str| config(route, "").unwrap().listeners[0].routes[0].hedge;
    assert_eq!(hedge(""), None);
    assert_eq!(hedge("hedge: {}, idempotent: true"), Some(HedgingPolicy::default()));
    let text = "hedge: {max_attempts: 3, delay: 0s, non_fatal: [aborted, INTERNAL]}, idempotent: true";
    let policy = hedge(text).unwrap();
    assert_eq!((policy.max_attempts, policy.hedging_delay), (3, Duration::ZERO));
    assert_eq!(policy.non_fatal, CodeSet::of(&[Code::Internal, Code::Aborted]));
    let written = config(text, "").unwrap();
    assert_eq!(parse("printed", &serde_json::to_string(&written).unwrap()).unwrap(), written);
}

#[test]
fn what_is_printed_can_be_read_and_means_the_same() {
    let route = "retry: {max_attempts: 4, retry_on: [deadline_exceeded, unavailable], per_try_timeout: 200ms}, \
                 idempotent: true";
    let written = config(route, "retry_throttling: {max_tokens: 100, token_ratio: 0.5}").unwrap();
    let policy = written.listeners[0].routes[0].retry.unwrap().policy;
    assert_eq!((policy.max_attempts, policy.per_try_timeout), (4, Some(Duration::from_millis(200))));
    let printed = serde_json::to_string(&written).unwrap();
    assert_eq!(parse("printed", &printed).unwrap(), written);
}

#[test]
fn contradictions_values_out_of_bounds_and_unknown_names_are_told() {
    for (route, expected) in [
        ("idempotent: true", "retry"),
        ("idempotent: true, retry: {retry_on: [unavailable]}", "`idempotent` has no effect"),
        ("idempotent: true, retry: {}", "`idempotent` has no effect"),
        ("timeout: 99ms, retry: {initial_backoff: 100ms}", "above `timeout`"),
        ("hedge: {}", "idempotent: true"),
        ("hedge: {}, idempotent: true, retry: {}", "keep one of them"),
        ("hedge: {max_attempts: 6}, idempotent: true", "5"),
        ("hedge: {delay: 2m}, idempotent: true", "1m"),
        ("hedge: {non_fatal: [unavailble]}, idempotent: true", "unavailable"),
        ("hedge: {non_fatal: [reset]}, idempotent: true", "reset"),
        ("retry: {retry_on: [deadline_exceeded]}", "idempotent"),
        ("retry: {retry_on: [unavailble]}", "unavailable"),
        ("retry: {retry_on: [ok]}", "ok"),
        ("retry: {max_attempts: 1}", "2"),
        ("retry: {max_attempts: 6}", "5"),
        ("retry: {initial_backoff: 1s}", "max_backoff"),
        ("retry: {retry_on: [unavailable], per_try_timeout: 1s}", "deadline_exceeded"),
        ("retry: {retry_on: [unavailable, aborted, UNAVAILABLE]}", "`retry_on` has no effect"),
        ("hedge: {non_fatal: [aborted, aborted]}, idempotent: true", "`non_fatal` has no effect"),
        (
            "timeout: 1s, idempotent: true, retry: {retry_on: [deadline_exceeded], per_try_timeout: 2s}",
            "above `timeout`",
        ),
        (
            "timeout: 1s, idempotent: true, retry: {retry_on: [deadline_exceeded], per_try_timeout: 1s}",
            "1s is as long as `timeout`, which is 1s",
        ),
        ("timeout: 1s, idempotent: true, hedge: {delay: 1001ms}", "above `timeout`"),
        ("timeout: 1s, idempotent: true, hedge: {delay: 1s}", "1s is as long as `timeout`, which is 1s"),
        (
            "timeout: 50ms, idempotent: true, hedge: {}",
            "`delay`, by default 100ms, is above `timeout`, which is 50ms",
        ),
        ("timeout: 100ms, idempotent: true, hedge: {max_attempts: 3}", "by default 100ms, is as long as"),
    ] {
        let errors = config(route, "").unwrap_err().render(false).to_string();
        assert!(errors.contains(expected), "{route}: {errors}");
    }
    for (cluster, expected) in [
        ("retry_budget: {percent: 101}", "100"),
        ("retry_throttling: {max_tokens: 10}", "token_ratio"),
        ("retry_throttling: {max_tokens: 0, token_ratio: 1}", "1"),
    ] {
        let errors = config("", cluster).unwrap_err().render(false).to_string();
        assert!(errors.contains(expected), "{cluster}: {errors}");
    }
}

#[test]
fn times_that_come_before_the_timeout_are_taken() {
    for route in [
        "timeout: 101ms, idempotent: true, hedge: {}",
        "timeout: 50ms, idempotent: true, hedge: {delay: 49ms}",
        "timeout: 1s, idempotent: true, retry: {retry_on: [deadline_exceeded], per_try_timeout: 999ms}",
    ] {
        assert!(config(route, "").is_ok(), "{route}");
    }
    let default = config("timeout: 50ms, idempotent: true, hedge: {}", "").unwrap_err();
    assert_eq!(default.errors()[0].place.path, "listeners[0].routes[0].hedge");
}

#[test]
fn what_is_needed_is_said_as_it_can_be_written() {
    let hedge = config("hedge: {}", "").unwrap_err();
    let help = |errors: &ConfigErrors| errors.errors()[0].fault.help().unwrap_or_default();
    assert_eq!(help(&hedge), "write `idempotent: true` beside it, if a call may be done twice");
    assert!(config("hedge: {}, idempotent: true", "").is_ok());
    // What makes `idempotent` useful can be added as it is said.
    let alone = config("idempotent: true", "").unwrap_err();
    let told = alone.errors()[0].fault.to_string();
    assert_eq!(told, "`idempotent` needs `hedge` or `retry_on: [deadline_exceeded]`");
    for added in ["hedge: {}", "retry: {retry_on: [deadline_exceeded]}"] {
        assert!(help(&alone).contains(&format!("`{added}`")), "{}", help(&alone));
        assert!(config(&format!("idempotent: true, {added}"), "").is_ok(), "{added}");
    }
    // The key belongs to the route, not into the list; and one fault is enough.
    let route = "retry: {retry_on: [deadline_exceeded], per_try_timeout: 1s}";
    let late = config(route, "").unwrap_err();
    assert_eq!((late.errors().len(), late.errors()[0].fault.code()), (1, "needs"), "{late}");
    assert_eq!(help(&late), "write `idempotent: true` at the route, if a call may be done twice");
    assert!(config(&format!("{route}, idempotent: true"), "").is_ok());
    let attempts = config("retry: {retry_on: [unavailable], per_try_timeout: 1s}", "").unwrap_err();
    let added = "add `deadline_exceeded` to `retry_on`, and `idempotent: true` to the route, if a call may be done twice";
    assert_eq!(help(&attempts), added);
    let both = "retry: {retry_on: [unavailable, deadline_exceeded], per_try_timeout: 1s}, idempotent: true";
    assert!(config(both, "").is_ok());
    for key in ["sticky_by: x-user", "canary: {stable: a, canary: a}"] {
        let found = help(&config(key, "").unwrap_err());
        assert!(
            found.starts_with("write `split: [") && found.ends_with("in place of `cluster`"),
            "{key}: {found}"
        );
    }
}
