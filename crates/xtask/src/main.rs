//! Chores of this repository: what a machine can check of its documents and its shape.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

mod arrows;
mod controls;
mod errors;
mod repository;

use std::process::ExitCode;

fn main() -> ExitCode {
    let found = match std::env::args().nth(1).as_deref() {
        Some("arrows") => arrows::check(),
        Some("controls") => controls::check(),
        Some("errors") => errors::check(std::env::args().nth(2).as_deref() == Some("--write")),
        Some("repository") => repository::check(),
        _ => Err("usage: xtask arrows | controls | errors [--write] | repository".to_owned()),
    };
    match found {
        Ok(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
