//! Rules about `Cargo.toml`: every crate takes its lints and its dependencies' versions from the workspace.
//!
//! Why: a version or a lint level that is set in one crate is one that the others silently do not have.

use anyhow::{Context, Result};
use toml::{Table, Value};

use super::{Finding, Tree};

/// The kinds of dependencies, as tables of a manifest or of one of its targets.
const KINDS: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// Findings in the manifests of all members.
///
/// # Errors
/// A manifest is no TOML.
pub(crate) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (path, text) in tree.iter().filter(|(path, _)| is_member(path)) {
        let manifest: Table = text.parse().with_context(|| format!("{path}: not TOML; correct it"))?;
        if !takes_lints(&manifest) {
            findings.push(finding(
                path,
                "workspace-lints",
                "add `[lints]` with `workspace = true`".to_owned(),
            ));
        }
        for (kind, name) in own_versions(&manifest) {
            let remedy =
                format!("{kind}.{name}: write `workspace = true` and its version into the root Cargo.toml");
            findings.push(finding(path, "workspace-dependency", remedy));
        }
    }
    Ok(findings)
}

/// Members are `crates/*` and `xtask`; fuzz targets, for example, are a workspace of their own.
fn is_member(path: &str) -> bool {
    let folder = path.strip_suffix("/Cargo.toml");
    folder.is_some_and(|folder| folder == "xtask" || folder.strip_prefix("crates/").is_some_and(is_name))
}

fn is_name(folder: &str) -> bool {
    !folder.contains('/')
}

fn finding(path: &str, rule: &'static str, message: String) -> Finding {
    Finding { path: path.to_owned(), line: None, rule, message }
}

fn takes_lints(manifest: &Table) -> bool {
    manifest.get("lints").and_then(|lints| lints.get("workspace")) == Some(&Value::Boolean(true))
}

/// Dependencies that do not come from the workspace, with the table they stand in.
fn own_versions(manifest: &Table) -> Vec<(String, String)> {
    let mut found = own_versions_in(manifest, "");
    for (target, tables) in manifest.get("target").and_then(Value::as_table).into_iter().flatten() {
        if let Some(tables) = tables.as_table() {
            found.extend(own_versions_in(tables, &format!("target.{target}.")));
        }
    }
    found
}

fn own_versions_in(tables: &Table, prefix: &str) -> Vec<(String, String)> {
    let kinds = KINDS.iter().filter_map(|kind| Some((kind, tables.get(*kind)?.as_table()?)));
    let entries = kinds.flat_map(|(kind, table)| table.iter().map(move |(name, entry)| (kind, name, entry)));
    entries
        .filter(|(_, _, entry)| !from_workspace(entry))
        .map(|(kind, name, _)| (format!("{prefix}{kind}"), name.clone()))
        .collect()
}

/// A crate may also depend on itself (`path = "."`), to switch a feature on for its own tests.
fn from_workspace(entry: &Value) -> bool {
    let is_itself = entry.get("path").and_then(Value::as_str) == Some(".");
    entry.get("workspace") == Some(&Value::Boolean(true)) || is_itself
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINTS: &str = "[lints]\nworkspace = true\n";

    fn messages(path: &str, manifest: &str) -> Vec<(&'static str, String)> {
        let findings = check(&Tree::of(&[(path, manifest)])).unwrap();
        findings.into_iter().map(|f| (f.rule, f.message)).collect()
    }

    #[test]
    fn a_member_must_take_the_workspace_lints() {
        for manifest in ["", "[lints]\nworkspace = false\n", "[lints.rust]\nunsafe_code = \"allow\"\n"] {
            let found = messages("crates/a/Cargo.toml", manifest);
            assert_eq!(found.len(), 1, "{manifest}");
            assert_eq!(found[0].0, "workspace-lints", "{manifest}");
        }
        assert_eq!(messages("crates/a/Cargo.toml", LINTS), []);
        assert_eq!(messages("xtask/Cargo.toml", "").len(), 1);
    }

    #[test]
    fn other_workspaces_and_the_root_go_their_own_way() {
        for path in ["Cargo.toml", "fuzz/Cargo.toml", "crates/a/fixtures/Cargo.toml"] {
            assert_eq!(messages(path, "[dependencies]\nserde = \"1\"\n"), [], "{path}");
        }
    }

    #[test]
    fn finds_versions_of_its_own_in_every_table_of_dependencies() {
        let manifest = format!(
            "{LINTS}[dependencies]\nserde.workspace = true\nbytes = \"1\"\n\
             [dev-dependencies]\nh2 = {{ version = \"0.4\" }}\n\
             [build-dependencies]\nprost = {{ path = \"../prost\" }}\n\
             [target.'cfg(unix)'.dependencies]\nmio = {{ workspace = false }}\n"
        );
        let found = messages("crates/a/Cargo.toml", &manifest);
        let named: Vec<&str> = found.iter().map(|(_, message)| message.split(':').next().unwrap()).collect();
        let expected = [
            "dependencies.bytes",
            "dev-dependencies.h2",
            "build-dependencies.prost",
            "target.cfg(unix).dependencies.mio",
        ];
        assert_eq!(named, expected);
        assert!(found.iter().all(|(rule, _)| *rule == "workspace-dependency"));
    }

    #[test]
    fn a_crate_may_switch_on_its_own_features_for_its_tests() {
        let manifest =
            format!("{LINTS}[dev-dependencies]\na = {{ path = \".\", features = [\"testing\"] }}\n");
        assert_eq!(messages("crates/a/Cargo.toml", &manifest), []);
    }

    #[test]
    fn names_the_manifest_that_is_no_toml() {
        let error = check(&Tree::of(&[("crates/a/Cargo.toml", "[lints\n")])).unwrap_err();
        assert_eq!(error.to_string(), "crates/a/Cargo.toml: not TOML; correct it");
    }
}
