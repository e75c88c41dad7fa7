//! Configuration: raw as written, resolved as used, its schema and its error reports.
