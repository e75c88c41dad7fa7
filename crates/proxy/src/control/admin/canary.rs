//! GET /canary and POST /canary/{name}/{command}.

use axum::extract::{Path, RawQuery, State as Shared};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use evenkeel_telemetry::CanarySample;
use serde::Serialize;

use super::{Admin, pretty};
use crate::control::State;
use crate::control::canary::{CanaryRequest, CanaryView, Command, RefusedCommand, view};
use crate::control::supervisor::Request;

/// The names of all states, for metrics.
const STATES: [&str; 7] = ["idle", "running", "paused", "manual", "promoted", "aborted", "rolled_back"];

/// All canaries.
pub(super) async fn status(Shared(admin): Shared<Admin>) -> Response {
    #[derive(Serialize)]
    struct Answer {
        canaries: Vec<CanaryView>,
    }
    let canaries = view(&admin.state.canaries());
    pretty(&Answer { canaries })
}

/// Canaries for the metrics.
pub(super) fn samples(state: &State) -> Vec<CanarySample> {
    let sample = |view: CanaryView| CanarySample {
        name: view.name,
        weight_percent: view.weight_percent,
        state: view.state,
        states: &STATES,
    };
    view(&state.canaries()).into_iter().map(sample).collect()
}

/// Gives a command to a canary.
pub(super) async fn command(
    Shared(admin): Shared<Admin>,
    Path((name, command)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let command = match parse(&command, query.as_deref()) {
        Ok(command) => command,
        Err((status, text)) => return (status, text).into_response(),
    };
    let (answer, result) = tokio::sync::oneshot::channel();
    let request = CanaryRequest::Command { name, command, answer };
    let sent = admin.requests.send(Request::Canary(request)).await;
    match (sent, result.await) {
        (Ok(()), Ok(Ok(_))) => status(Shared(admin)).await,
        (Ok(()), Ok(Err(error @ RefusedCommand::Unknown { .. }))) => {
            (StatusCode::NOT_FOUND, format!("{error}\n")).into_response()
        }
        (Ok(()), Ok(Err(error))) => (StatusCode::CONFLICT, format!("{error}\n")).into_response(),
        _ => (StatusCode::CONFLICT, "draining: the weights stay as they are\n").into_response(),
    }
}

fn parse(command: &str, query: Option<&str>) -> Result<Command, (StatusCode, &'static str)> {
    Ok(match command {
        "start" => Command::Start,
        "pause" => Command::Pause,
        "resume" => Command::Resume,
        "promote" => Command::Promote,
        "abort" => Command::Abort,
        "set" => {
            let weight = query.and_then(|query| query.strip_prefix("weight=")?.parse().ok());
            let help = "set needs a weight: POST /canary/NAME/set?weight=PERCENT, from 0 to 100\n";
            Command::Set(weight.ok_or((StatusCode::BAD_REQUEST, help))?)
        }
        _ => {
            let help = "no such command; there are start, set, pause, resume, promote and abort\n";
            return Err((StatusCode::NOT_FOUND, help));
        }
    })
}

#[cfg(test)]
mod tests {
    use evenkeel_balance::canary::Phase;

    use super::*;

    #[test]
    fn the_metrics_know_every_state() {
        assert_eq!(Phase::ALL.map(Phase::name), STATES);
    }

    #[test]
    fn a_weight_is_a_number() {
        assert_eq!(parse("set", Some("weight=7")), Ok(Command::Set(7)));
        assert_eq!(parse("abort", None), Ok(Command::Abort));
        for query in [None, Some(""), Some("weight="), Some("weight=-1"), Some("weight=1.5"), Some("w=1")] {
            assert_eq!(parse("set", query).unwrap_err().0, StatusCode::BAD_REQUEST, "{query:?}");
        }
        assert_eq!(parse("undo", None).unwrap_err().0, StatusCode::NOT_FOUND);
    }
}
