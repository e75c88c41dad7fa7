//! The two text formats and the choice between them.
//!
//! OpenMetrics is what Prometheus asks for first, and what the encoder writes. Its classic text format is what `curl`,
//! `promtool check metrics` and older scrapers read. They differ in the family names of counters (`x` with samples
//! `x_total`, against `x_total` all through), so that a body must agree with its content type: sent as classic text, an
//! OpenMetrics body parses, but all its counters are without type and help.
//!
//! Sources: OpenMetrics 1.0.0, "Text format"; Prometheus, "Exposition formats".

/// A text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// Prometheus' text format 0.0.4.
    ClassicText,
}

impl Format {
    /// The value of `content-type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::ClassicText => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The format for a request with this `Accept` header (empty if there is none): OpenMetrics if it is named and
    /// not less welcome than plain text, else classic text. A wildcard names nothing: `curl` sends `*/*`.
    #[must_use]
    pub fn negotiate(accept: &str) -> Self {
        let (mut open_metrics, mut plain) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let (media_type, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = quality(parameters);
            match media_type.trim().to_ascii_lowercase().as_str() {
                "application/openmetrics-text" => open_metrics = open_metrics.max(weight),
                "text/plain" => plain = plain.max(weight),
                _ => {}
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain { Self::OpenMetrics } else { Self::ClassicText }
    }
}

/// The `q` parameter ([RFC 9110 section 12.4.2]): 1 if it is missing, 0 if it is malformed.
///
/// [RFC 9110 section 12.4.2]: https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2
fn quality(parameters: &str) -> f32 {
    let value = parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
    });
    let weight = value.map_or(Ok(1.0), str::parse::<f32>).unwrap_or(0.0);
    if (0.0..=1.0).contains(&weight) { weight } else { 0.0 }
}

/// Rewrites OpenMetrics, as the encoder of `prometheus-client` writes it (HELP before TYPE, neither exemplars nor
/// timestamps), to the classic text format.
pub(super) fn to_classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().filter(|(named, _)| *named == name) {
                push(&mut out, &["# HELP ", name, suffix, " ", text, "\n"]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            push(&mut out, &[line, "\n"]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_gets_open_metrics() {
        let accept = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Format::negotiate(accept), Format::OpenMetrics);
    }

    #[test]
    fn whoever_does_not_name_open_metrics_gets_classic_text() {
        for accept in ["", "*/*", "text/plain", "text/html, */*;q=0.8", ",;,", "application/openmetrics"] {
            assert_eq!(Format::negotiate(accept), Format::ClassicText, "{accept}");
        }
    }

    #[test]
    fn the_weights_decide() {
        for (accept, expected) in [
            ("application/openmetrics-text;q=0.5, text/plain;q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text;q=0.4, text/plain;q=0.5", Format::ClassicText),
            ("Application/OpenMetrics-Text; Q=0.6 , text/plain;q=0.5", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::ClassicText),
            ("application/openmetrics-text;q=nan", Format::ClassicText),
            ("application/openmetrics-text;q=7", Format::ClassicText),
        ] {
            assert_eq!(Format::negotiate(accept), expected, "{accept}");
        }
    }

    #[test]
    fn classic_text_names_counters_and_infos_in_full() {
        let open_metrics = "# HELP a Calls: # of them.\n# TYPE a counter\na_total{x=\"# EOF\"} 1\n\
                            # HELP b Build.\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                            # HELP c_seconds Age.\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\nc_seconds 2.0\n\
                            # TYPE d unknown\nd 1\n# EOF\n";
        let classic = "# HELP a_total Calls: # of them.\n# TYPE a_total counter\na_total{x=\"# EOF\"} 1\n\
                       # HELP b_info Build.\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                       # HELP c_seconds Age.\n# TYPE c_seconds gauge\nc_seconds 2.0\n\
                       # TYPE d untyped\nd 1\n";
        assert_eq!(to_classic(open_metrics), classic);
    }
}
