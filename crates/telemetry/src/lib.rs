//! One table of events, from which metrics and the access log are made.
