//! `evenkeel check` and `evenkeel schema`.

use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;

use crate::args::{CheckArgs, LogFormat};

/// Checks a configuration file; prints every error at once.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (name, text) = read(&args.file)?;
    let Err(errors) = evenkeel_config::parse(&name, &text) else {
        println!("{name}: valid");
        return Ok(ExitCode::SUCCESS);
    };
    match args.format {
        LogFormat::Text => eprint!("{}", errors.render(std::io::stderr().is_terminal())),
        LogFormat::Json => println!("{}", errors.to_json()),
    }
    Ok(ExitCode::FAILURE)
}

/// Prints the schema.
pub(crate) fn schema() -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string_pretty(&evenkeel_config::schema())?);
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<(String, String)> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read the standard input as UTF-8")?;
        return Ok(("<stdin>".to_owned(), text));
    }
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read {name}; check the path and its permissions"))?;
    Ok((name, text))
}
