//! `strongroom-bench-floor`: the least that a program can do where one of ours does more. An ordinary program of Rust
//! (position-independent, system allocator) that links SQLCipher.
//!
//! `print` prints a line. `answer PATH KEY` opens a database, reads its schema, and answers each byte with a byte.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "it is asked to")]

mod bare;

use std::error::Error;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["print"] => {
            println!("floor");
            Ok(())
        }
        ["answer", path, key] => answer(Path::new(path), key),
        _ => Err("print | answer PATH KEY".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn answer(path: &Path, key: &str) -> Result<(), Box<dyn Error>> {
    let database = bare::open(path, Some(key))?;
    database.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    let mut byte = [0];
    while input.read(&mut byte)? == 1 {
        output.write_all(&byte)?;
        output.flush()?;
    }
    Ok(())
}
