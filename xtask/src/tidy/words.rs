//! Rules about words that must not be in the project's files.
//!
//! The words are put together with `concat!` so that this file does not break its own rules.

use super::{Finding, Tree};

/// One word that is refused.
struct Word {
    rule: &'static str,
    text: &'static str,
    /// Only Rust files are searched; else all text files.
    rust_only: bool,
    remedy: &'static str,
}

const UNFINISHED: &str = "finish it, or write an issue and say here what holds today";
const HOST: &str =
    "name the package, not the host it comes from: mirrors and other networks have other hosts";
const MACHINE: &str =
    "a path of one machine; use a path relative to the checkout, or one that the user gives";

const WORDS: [Word; 16] = [
    any("unfinished", concat!("TO", "DO"), UNFINISHED),
    any("unfinished", concat!("FIX", "ME"), UNFINISHED),
    Word {
        rule: "ignored-test",
        text: concat!("#[ig", "nore]"),
        rust_only: true,
        remedy: "say why: a reason after `ignore =`, with what would let the test run again",
    },
    any("registry-host", concat!("crates", ".io"), HOST),
    any("registry-host", concat!("py", "pi.org"), HOST),
    any("registry-host", concat!("python", "hosted.org"), HOST),
    any("registry-host", concat!("npm", "js.org"), HOST),
    any("registry-host", concat!("npm", "js.com"), HOST),
    any("registry-host", concat!("proxy.go", "lang.org"), HOST),
    any("registry-host", concat!("sum.go", "lang.org"), HOST),
    any("registry-host", concat!("maven", ".org"), HOST),
    any("registry-host", concat!("deb.deb", "ian.org"), HOST),
    any("machine-path", concat!("/ho", "me/"), MACHINE),
    any("machine-path", concat!("/ro", "ot/"), MACHINE),
    any("machine-path", concat!("/Us", "ers/"), MACHINE),
    any("machine-path", concat!("/wo", "rk/"), MACHINE),
];

const fn any(rule: &'static str, text: &'static str, remedy: &'static str) -> Word {
    Word { rule, text, rust_only: false, remedy }
}

/// Every occurrence of a refused word.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter() {
        for word in WORDS.iter().filter(|word| !word.rust_only || path.ends_with(".rs")) {
            // Searched as a whole first: nearly no file has the word at all.
            if !text.contains(word.text) {
                continue;
            }
            for (index, line) in text.lines().enumerate().filter(|(_, line)| holds(line, word.text)) {
                findings.push(Finding {
                    path: path.to_owned(),
                    line: Some(index + 1),
                    rule: word.rule,
                    message: format!("`{}` in `{}`: {}", word.text, line.trim(), word.remedy),
                });
            }
        }
    }
    findings
}

/// Whether the line has the word standing alone, and not as a part of a longer one.
///
/// The lock file's source names, for example, have a host's name followed by `-index`; and a folder of that name in
/// the middle of a longer path says nothing about a machine. A dot before the word is no part of it: hosts have
/// subdomains.
fn holds(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, found)| {
        let before = line[..at].chars().next_back();
        let after = line[at + found.len()..].chars().next();
        let path = word.starts_with('/');
        let joins_before = |c: char| c.is_alphanumeric() || c == '_' || (path && ".-/}*".contains(c));
        let joins_after = |c: char| !path && (c.is_alphanumeric() || c == '_' || c == '-');
        !before.is_some_and(joins_before) && !after.is_some_and(joins_after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<(&'static str, usize)> {
        check(&Tree::of(&[(path, text)])).iter().map(|f| (f.rule, f.line.unwrap())).collect()
    }

    #[test]
    fn finds_each_refused_word_standing_alone() {
        for word in &WORDS {
            let text = format!("fine\n// {} here\n", word.text);
            assert_eq!(rules("crates/a/src/lib.rs", &text), [(word.rule, 2)], "{}", word.text);
        }
    }

    #[test]
    fn finds_a_host_behind_a_subdomain_or_a_scheme() {
        for prefix in ["https://", "https://index.", "\"static."] {
            let text = format!("see {prefix}{}/x", concat!("crates", ".io"));
            assert_eq!(rules("docs/a.md", &text), [("registry-host", 1)], "{text}");
        }
    }

    #[test]
    fn finds_a_machine_path_after_a_quote_or_an_equals_sign() {
        for prefix in ["\"", "=", " ", "("] {
            let text = format!("dir{prefix}{}me", concat!("/ho", "me/"));
            assert_eq!(rules("run", &text), [("machine-path", 1)], "{text}");
        }
    }

    #[test]
    fn leaves_longer_words_alone() {
        for text in [
            concat!("registry+https://example.test/crates", ".io-index"),
            concat!("MASTO", "DON and TO", "DOS and my_TO", "DO_list"),
            concat!("frame", "/wo", "rk/item and ./ho", "me/x and {root}/wo", "rk/y"),
        ] {
            assert_eq!(rules("crates/a/src/lib.rs", text), [], "{text}");
        }
    }

    #[test]
    fn a_test_may_be_switched_off_with_a_reason_and_prose_may_name_the_attribute() {
        let reasoned = concat!("#[ig", "nore = \"needs the network namespace of a later test\"]");
        assert_eq!(rules("crates/a/src/lib.rs", reasoned), []);
        assert_eq!(rules("docs/a.md", concat!("never write #[ig", "nore]")), []);
    }
}
