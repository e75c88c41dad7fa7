//! `evenkeel check` and `evenkeel schema`.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use evenkeel_proxy::control::{ReloadError, read_config, read_config_from};

use crate::args::{CheckArgs, LogFormat};

/// Checks a configuration file; prints every error at once.
pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let (name, text) = read(&args.file)?;
    let Err(errors) = evenkeel_config::parse_in_zone(&name, &text, args.zone.as_ref()) else {
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

fn read(file: &Path) -> Result<(String, String), ReloadError> {
    if file == Path::new("-") {
        let name = "<stdin>";
        return Ok((name.to_owned(), read_config_from(std::io::stdin().lock(), name)?));
    }
    Ok((file.display().to_string(), read_config(file)?))
}
