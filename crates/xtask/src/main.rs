//! Chores of this repository: what a machine can check of its documents and its shape.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program for the terminal")]

mod arrows;
mod controls;
mod pages;
mod repository;
mod seconds;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let found = match arguments.as_slice() {
        ["arrows"] => arrows::check(),
        ["controls"] => controls::check(),
        ["pages"] => pages::check(),
        ["pages", "--write"] => pages::write(),
        ["repository"] => repository::check(),
        ["seconds", log] => seconds::table(log),
        _ => Err("usage: xtask arrows | controls | pages [--write] | repository | seconds LOG".to_owned()),
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
