//! The binary `evenkeel`: arguments, wiring and signals; no logic.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line program prints")]

mod args;
mod check;
mod demo;
mod proxy;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    let result = match args.command {
        args::Command::Proxy(proxy) => proxy::run(&proxy),
        args::Command::Check(check) => check::run(&check),
        args::Command::Schema => check::schema(),
        args::Command::Demo(demo) => demo::run(&demo),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("evenkeel: {error:#}");
            ExitCode::FAILURE
        }
    }
}
