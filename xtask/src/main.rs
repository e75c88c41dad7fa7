//! Developer commands: test, bench, fuzz, tidy, peers.

fn main() {}
