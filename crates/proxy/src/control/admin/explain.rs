//! GET /explain: what a call would get, and why.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Admin, pretty};
use crate::control::explain::{self, InquiryFields};

const HELP: &str = "ask with ?method=/package.Service/Method, and &header=name%3Dvalue for each metadata, &authority=, &peer_ip= and \
    &listener= as you like\n";

/// The parameters of the query, in their order.
type Parameters = Vec<(String, String)>;

/// Explains a call.
pub(super) async fn explain(
    Shared(admin): Shared<Admin>,
    query: Result<Query<Parameters>, QueryRejection>,
) -> Response {
    let asked = match query.map_err(|error| error.to_string()).and_then(|Query(given)| parse(given)) {
        Ok(asked) => asked,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}; {HELP}")).into_response(),
    };
    let state = Arc::clone(&admin.state);
    // The workers are asked, which blocks.
    match tokio::task::spawn_blocking(move || explain::explain(&state, &asked)).await {
        Ok(Ok(explanation)) => pretty(&explanation),
        Ok(Err(error)) => (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

fn parse(given: Parameters) -> Result<InquiryFields, String> {
    let mut asked = InquiryFields::default();
    let mut has_method = false;
    for (name, value) in given {
        match name.as_str() {
            "method" => (asked.method, has_method) = (value, true),
            "header" => asked.headers.push(value),
            "authority" => asked.authority = value,
            "peer_ip" => asked.peer_ip = Some(value),
            "listener" => asked.listener = Some(value),
            _ => return Err(format!("there is no parameter \"{name}\"")),
        }
    }
    if has_method { Ok(asked) } else { Err("the parameter \"method\" is missing".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_those_of_the_question_and_no_others() {
        let given = |text: &str| {
            let pairs = text.split('&').filter_map(|pair| pair.split_once(':'));
            parse(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
        };
        let asked =
            given("method:/a.B/C&header:a=b&header:c=d&authority:x&peer_ip:1.2.3.4&listener:l").unwrap();
        assert_eq!(asked.method, "/a.B/C");
        assert_eq!(asked.headers, ["a=b", "c=d"]);
        let rest = (asked.authority.as_str(), asked.peer_ip.as_deref(), asked.listener.as_deref());
        assert_eq!(rest, ("x", Some("1.2.3.4"), Some("l")));
        assert!(given("header:a=b").unwrap_err().contains("\"method\" is missing"));
        assert!(given("method:/a.B/C&methods:x").unwrap_err().contains("\"methods\""));
    }
}
