//! Handing the recovery phrase over to the member: shown once and re-entered in part, or written to a file of their own.

use std::path::Path;

use strongroom_client::crypto::factor::Phrase;
use strongroom_client::crypto::{CryptoRng, os_rng};
use strongroom_client::files;
use zeroize::Zeroizing;

use crate::app::App;
use crate::code::OwnCode;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::prompt::Prompter;

/// Whether the phrase may be shown here at all: never as JSON, and never where nobody looks.
pub(crate) fn can_be_shown(app: &App) -> Result<(), Failure> {
    if app.out.json || app.global.no_input || !crate::output::to_terminal() {
        return Err(Failure::new(
            Exit::Usage,
            OwnCode::PhraseNotShown,
            "the recovery phrase is shown at a terminal only, and never as JSON",
        )
        .hint("--phrase-to-file FILE writes it to a new file that only you can read"));
    }
    Ok(())
}

/// Hands the phrase over, and makes sure that it was taken.
pub(crate) fn hand_over(app: &App, prompter: &Prompter, phrase: &Phrase, file: Option<&Path>) -> Result<(), Failure> {
    // EXPOSE: this is the one time that the member sees the words.
    let words = phrase.expose_words();
    if let Some(path) = file {
        let text = Zeroizing::new(format!("{}\n", words.as_str()));
        files::create(path, text.as_bytes())?;
        app.out.note(&format!("The recovery phrase is in {}. Print it, then destroy the file.", path.display()));
        return Ok(());
    }
    let list: Vec<&str> = words.split(' ').collect();
    app.out.text(&numbered(&list))?;
    prompter.line("Press Enter when you have written the words down. ")?;
    // The words leave the screen and, where the terminal knows how, its memory of lines.
    app.out.text("\x1b[2J\x1b[3J\x1b[H")?;
    for number in three_numbers() {
        loop {
            let typed = prompter.hidden(&format!("Word {}: ", number + 1))?;
            if typed.trim().eq_ignore_ascii_case(list[number]) {
                break;
            }
            app.out.note("That is another word. Look again; Control-C gives up, and nothing has been made yet.");
        }
    }
    Ok(())
}

fn numbered(list: &[&str]) -> String {
    let mut text = Zeroizing::new(String::with_capacity(2048));
    text.push_str(
        "Your recovery phrase. Whoever has these words can open the vault: they are the root of everything.\n\
         Write them on paper, in this order, and keep the paper away from this machine. They are shown once.\n\n",
    );
    for (row, words) in list.chunks(4).enumerate() {
        for (column, word) in words.iter().enumerate() {
            text.push_str(&format!("{:>4} {word:<10}", row * 4 + column + 1));
        }
        text.push('\n');
    }
    text.to_string()
}

/// Three different places among the 24, in order.
fn three_numbers() -> [usize; 3] {
    let rng: &mut dyn CryptoRng = &mut os_rng();
    loop {
        let mut bytes = [0; 3];
        rng.fill_bytes(&mut bytes);
        // 240 is the largest multiple of 24 below 256.
        if bytes.iter().any(|byte| *byte >= 240) {
            continue;
        }
        let mut numbers = bytes.map(|byte| usize::from(byte) % 24);
        numbers.sort_unstable();
        if numbers[0] != numbers[1] && numbers[1] != numbers[2] {
            return numbers;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_numbered_and_three_are_asked_for() {
        let text = numbered(&["abandon"; 24]);
        assert!(text.contains("   1 abandon") && text.contains("  24 abandon"));
        for _ in 0..100 {
            let [a, b, c] = three_numbers();
            assert!(a < b && b < c && c < 24);
        }
    }
}
