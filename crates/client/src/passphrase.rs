//! Whether a passphrase is strong enough: 12 characters, and 4 by zxcvbn.

use strongroom_wire::limits::{PASSPHRASE_BYTES_MAX, PASSPHRASE_CHARS_MIN};
use zxcvbn::Score;

/// Why a passphrase is not taken. `advice` never repeats it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseWeak {
    /// Too few characters.
    #[error("a passphrase has at least {PASSPHRASE_CHARS_MIN} characters; this one has {chars}")]
    Short {
        /// How many it has.
        chars: usize,
    },
    /// More bytes than are taken.
    #[error("a passphrase has at most {PASSPHRASE_BYTES_MAX} bytes")]
    Long,
    /// Someone could guess it.
    #[error("this passphrase could be guessed{}", advice.iter().map(|line| format!("; {line}")).collect::<String>())]
    Guessable {
        /// What would make it better.
        advice: Vec<String>,
    },
}

/// Checks a passphrase that the member chose.
///
/// # Errors
/// [`PassphraseWeak`] says why not, and what would be better.
pub fn check(passphrase: &str) -> Result<(), PassphraseWeak> {
    let chars = passphrase.chars().count();
    if passphrase.len() > PASSPHRASE_BYTES_MAX {
        return Err(PassphraseWeak::Long);
    }
    if chars < PASSPHRASE_CHARS_MIN {
        return Err(PassphraseWeak::Short { chars });
    }
    let estimate = zxcvbn::zxcvbn(passphrase, &["strongroom", "vault"]);
    if estimate.score() == Score::Four {
        return Ok(());
    }
    let mut advice = Vec::new();
    if let Some(feedback) = estimate.feedback() {
        advice.extend(feedback.warning().map(|warning| tidy(&warning.to_string())));
        advice.extend(feedback.suggestions().iter().map(|suggestion| tidy(&suggestion.to_string())));
    }
    if advice.is_empty() {
        advice.push("take five or more words that have nothing to do with each other".to_owned());
    }
    Err(PassphraseWeak::Guessable { advice })
}

/// A sentence as a part of another.
fn tidy(sentence: &str) -> String {
    let sentence = sentence.trim_end_matches('.');
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_common_ones_are_refused_with_advice() {
        assert_eq!(check("hunter2"), Err(PassphraseWeak::Short { chars: 7 }));
        assert_eq!(check(&"x".repeat(2_000)), Err(PassphraseWeak::Long));
        for weak in ["password1234", "aaaaaaaaaaaaaaaa", "qwertyuiopas", "strongroom vault"] {
            let Err(PassphraseWeak::Guessable { advice }) = check(weak) else { panic!("{weak} passed") };
            assert!(!advice.is_empty());
            assert!(!advice.iter().any(|line| line.contains(weak)));
        }
        assert_eq!(check("fig lantern oboe mistral quarry"), Ok(()));
    }
}
