//! Foreign text in messages: quoted so that it cannot disturb a terminal, and compared with what was probably meant.

use std::fmt::{self, Write};

/// Characters of foreign text that a message repeats; the rest is cut off.
const MAX_QUOTED_CHARS: usize = 80;

/// The text between backticks, without control characters and not too long.
pub(crate) fn quoted(text: &str) -> Quoted<'_> {
    Quoted(text)
}

/// See [`quoted`].
pub(crate) struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('`')?;
        for c in self.0.chars().take(MAX_QUOTED_CHARS) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { f.write_char(c)? }
        }
        if self.0.chars().nth(MAX_QUOTED_CHARS).is_some() {
            f.write_str("...")?;
        }
        f.write_char('`')
    }
}

/// The candidate that was probably meant: the nearest one, if at most a third of the letters (and one) differ.
///
/// A transposition counts as one difference, as the commonest slip of the keyboard should.
pub(crate) fn closest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer than any key or name here: comparing it would take time and give nothing.
    if text.len() > 2 * MAX_QUOTED_CHARS {
        return None;
    }
    let distance = |candidate: &str| strsim::osa_distance(&text.to_lowercase(), &candidate.to_lowercase());
    let (nearest, differences) = candidates
        .into_iter()
        .map(|candidate| (candidate, distance(candidate)))
        .min_by_key(|(_, differences)| *differences)?;
    let letters = text.chars().count().max(nearest.chars().count());
    (differences <= letters / 3 && differences < letters).then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_without_control_characters_and_cuts_off() {
        assert_eq!(quoted("a b").to_string(), "`a b`");
        assert_eq!(quoted("a\u{1b}[31m\n").to_string(), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted(&"x".repeat(80)).to_string().len(), 82);
        assert_eq!(quoted(&"x".repeat(81)).to_string(), format!("`{}...`", "x".repeat(80)));
    }

    #[test]
    fn suggests_the_nearest_if_it_is_near() {
        let known = ["policy", "target", "name", "dns"];
        assert_eq!(closest("polcy", known), Some("policy"));
        assert_eq!(closest("Policy", known), Some("policy"));
        assert_eq!(closest("tagret", known), Some("target"));
        assert_eq!(closest("dsn", known), Some("dns"));
        assert_eq!(closest("weight", known), None);
        assert_eq!(closest("x", known), None);
        assert_eq!(closest("", known), None);
        assert_eq!(closest("policy", []), None);
        assert_eq!(closest(&"p".repeat(1000), known), None);
    }
}
