//! `evenkeel check` and `evenkeel schema`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use evenkeel_config::{ConfigErrors, Zone, parse_in_zone, parse_with_lists};
use evenkeel_proxy::control::{ReloadError, read_config, read_config_from, read_list};
use serde_json::{Value, json};

use crate::args::{CheckArgs, LogFormat};

/// Checks a configuration file, and the endpoint lists that it names; prints every error at once.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (name, text) = read(&args.file)?;
    let found = Found::of(&name, &text, args.zone.as_ref(), !args.no_lists);
    if found.is_nothing() {
        println!("{name}: valid");
        return Ok(ExitCode::SUCCESS);
    }
    match args.format {
        LogFormat::Text => eprint!("{}", found.render(std::io::stderr().is_terminal())),
        LogFormat::Json => println!("{}", found.to_json(&name)),
    }
    Ok(ExitCode::FAILURE)
}

/// What is wrong.
struct Found {
    /// With the configuration.
    config: Option<ConfigErrors>,
    /// With each endpoint list that is at fault.
    lists: Vec<ConfigErrors>,
}

impl Found {
    fn of(name: &str, text: &str, zone: Option<&Zone>, with_lists: bool) -> Self {
        let (config, lists) = if with_lists {
            parse_with_lists(name, text, zone, |path| read_list(path).map_err(|error| error.to_string()))
        } else {
            (parse_in_zone(name, text, zone), Vec::new())
        };
        Self { config: config.err(), lists }
    }

    fn is_nothing(&self) -> bool {
        self.config.is_none() && self.lists.is_empty()
    }

    /// For people: the configuration first.
    fn render(&self, colour: bool) -> String {
        let all = self.config.iter().chain(&self.lists);
        all.map(|errors| errors.render(colour)).collect::<Vec<_>>().join("\n")
    }

    /// For programs: the object of the configuration, with those of the lists in `lists`.
    fn to_json(&self, name: &str) -> Value {
        let none = || json!({ "source": name, "errors": [], "omitted": 0 });
        let mut found = self.config.as_ref().map_or_else(none, ConfigErrors::to_json);
        found["lists"] = self.lists.iter().map(ConfigErrors::to_json).collect();
        found
    }
}

/// Prints the schema.
pub(crate) fn schema() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&evenkeel_config::schema())?);
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<(String, String), ReloadError> {
    if file == Path::new("-") {
        let name = "<stdin>";
        return Ok((name.to_owned(), read_config_from(std::io::stdin().lock(), name)?));
    }
    Ok((file.display().to_string(), read_config(file)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a configuration whose clusters have the lists `a` and `b` of a folder.
    fn found(folder: &Path, with_lists: bool) -> Found {
        let folder = folder.display();
        let text = format!(
            "listeners: [{{address: '127.0.0.1:1', routes: [{{cluster: a}}]}}]\n\
             clusters:\n- {{name: a, target: 'file:{folder}/a.yaml'}}\n- {{name: b, target: 'file:{folder}/b.yaml'}}\n"
        );
        Found::of("evenkeel.yaml", &text, None, with_lists)
    }

    #[test]
    fn lists_are_read_and_reported_with_their_own_lines() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a.yaml", "- 127.0.0.1:2\n");
        write("b.yaml", "[]\n");
        assert!(found(folder.path(), true).is_nothing());
        write("a.yaml", "- 127.0.0.1:2\n- nowhere\n");
        write("b.yaml", "- {address: '127.0.0.1:1', weight: 0}\n");
        let all = found(folder.path(), true);
        let (a, b) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
        let report = all.render(false);
        assert!(report.contains(&format!("{}:2:3", a.display())), "{report}");
        assert!(
            report.contains("all weights are 0") && report.contains(&format!("{}:1:1", b.display())),
            "{report}"
        );
        let told = all.to_json("evenkeel.yaml");
        assert_eq!((&told["source"], &told["errors"]), (&json!("evenkeel.yaml"), &json!([])));
        let list = &told["lists"][0];
        assert_eq!((&list["source"], &list["errors"][0]["line"]), (&json!(a), &json!(2)));
        assert_eq!(told["lists"][1]["errors"][0]["code"], "all_weights_zero");
        assert!(found(folder.path(), false).is_nothing(), "nobody wanted the lists");
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error_of_the_target() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.yaml"), "[]").unwrap();
        std::fs::create_dir(folder.path().join("b.yaml")).unwrap();
        let told = found(folder.path(), true).to_json("evenkeel.yaml");
        let error = &told["errors"][0];
        assert_eq!((&error["code"], &error["line"]), (&json!("unreadable_list"), &json!(4)));
        assert_eq!((&error["path"], &told["lists"]), (&json!("clusters[1].target"), &json!([])));
        let text = error["message"].as_str().unwrap();
        assert!(text.ends_with("cannot be read: it is a directory; name a regular file"), "{text}");
        std::fs::remove_dir(folder.path().join("b.yaml")).unwrap();
        let gone = found(folder.path(), true);
        assert!(gone.render(false).contains("evenkeel.yaml:4:"), "the report shows the line");
        let error = &gone.to_json("evenkeel.yaml")["errors"][0];
        let (text, help) = (error["message"].as_str().unwrap(), error["help"].as_str().unwrap());
        assert!(
            text.contains("No such file") && text.ends_with("check the path and its permissions"),
            "{text}"
        );
        assert!(help.ends_with("`--no-lists`"), "{help}");
    }
}
