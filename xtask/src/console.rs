//! What the commands print: whole lines on standard output, in the order in which they happen.
//!
//! Why not `println!`? It panics when the reader has gone (`cargo xtask test | head`). Here a line that nobody
//! can read is dropped and the command goes on, because its exit code still means something.

use std::fmt::Display;
use std::io::Write;
use std::time::Duration;

/// Writes one line.
pub(crate) fn say(line: impl Display) {
    let mut out = std::io::stdout().lock();
    // Flushed at once: between two lines a child process writes to the same terminal or pipe.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A duration for people: `0.4 s`, `59.9 s`, `2 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    // Rounded to tenths first, so that 59.96 s is a minute and not `60.0 s`.
    let tenths = (duration.as_millis() + 50) / 100;
    if tenths < 600 {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let whole = (tenths + 5) / 10;
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_short_durations_in_tenths_and_long_ones_in_minutes() {
        for (millis, text) in [
            (0, "0.0 s"),
            (449, "0.4 s"),
            (59_949, "59.9 s"),
            (59_950, "1 min 00 s"),
            (125_400, "2 min 05 s"),
            (125_500, "2 min 06 s"),
        ] {
            assert_eq!(seconds(Duration::from_millis(millis)), text, "{millis} ms");
        }
    }
}
