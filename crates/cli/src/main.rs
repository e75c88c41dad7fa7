//! The binary `evenkeel`: arguments, wiring and signals; no logic.

fn main() {}
