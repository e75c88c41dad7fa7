//! The binary `evenkeel`: arguments, wiring and signals; no logic.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

mod admin;
mod args;
mod canary;
mod check;
mod demo;
mod explain;
mod logging;
mod proxy;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use evenkeel_proxy::control::ReloadError;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let result = match args.command {
        args::Command::Proxy(proxy) => proxy::run(&proxy),
        args::Command::Check(check) => check::run(&check),
        args::Command::Schema => check::schema(),
        args::Command::Canary(canary) => canary::run(&canary),
        args::Command::Explain(explain) => explain::run(&explain),
        args::Command::Demo(demo) => demo::run(&demo),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref() {
                // All that is wrong with a file is more than a sentence.
                Some(ReloadError::Invalid(errors)) => {
                    eprint!("{}", errors.render(std::io::stderr().is_terminal()));
                }
                _ => eprintln!("evenkeel: {}", sentence(&error)),
            }
            ExitCode::FAILURE
        }
    }
}

/// An error and those of its causes that it does not tell by itself.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("the disk is full");
        let silent = anyhow::Error::new(cause()).context("cannot write x");
        assert_eq!(sentence(&silent), "cannot write x: the disk is full");
        let telling = anyhow::Error::new(cause()).context("cannot write x: the disk is full; make room");
        assert_eq!(sentence(&telling), "cannot write x: the disk is full; make room");
    }
}
