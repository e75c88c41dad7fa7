//! Writes the seeds of the corpora anew: `cargo run -p evenkeel-oracle --example write_seeds`.
//!
//! A seed is made here and not by hand, so that one can read what it is and correct it when an input's form changes.
//! Files of other names, such as `regression-*`, stay as they are.

mod connections;
mod hpack;
mod texts;
mod wire;

use std::io::{self, Write};
use std::path::Path;

/// A file of a corpus: its name and its bytes.
type Seed = (&'static str, Vec<u8>);

fn main() -> io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let corpora = [
        ("frame_headers", connections::frames()),
        ("hpack_decode", hpack::blocks()),
        ("hpack_round_trip", hpack::operations()),
        ("server_connection", connections::from_clients()),
        ("client_connection", connections::from_servers()),
        ("grpc_framing", texts::framing()),
        ("grpc_values", texts::values()),
        ("config_parse", texts::configurations(&root)?),
        ("target_parse", texts::targets()),
    ];
    let mut stdout = io::stdout();
    for (target, seeds) in corpora {
        let folder = root.join("fuzz/corpus").join(target);
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in &seeds {
            std::fs::write(folder.join(name), bytes)?;
        }
        writeln!(stdout, "{target}: {} seeds", seeds.len())?;
    }
    Ok(())
}
