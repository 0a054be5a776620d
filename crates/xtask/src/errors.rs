//! docs/errors.md, made from the codes: what each means, and who can act on it.

use std::fmt::Write as _;
use std::fs;

use strongroom_wire::code::{Blame, Code};

/// Compares the page with what the codes say, or writes it.
pub(crate) fn check(write: bool) -> Result<String, String> {
    let page = page();
    if write {
        fs::write(PAGE, &page).map_err(|error| format!("{PAGE}: {error}"))?;
    } else if fs::read_to_string(PAGE).ok().as_ref() != Some(&page) {
        return Err(format!("{PAGE} is not what the codes say; run: cargo run -p strongroom-xtask -- errors --write"));
    }
    Ok(format!("{} codes in {PAGE}", Code::ALL.len()))
}

fn page() -> String {
    let mut page = String::from(HEAD);
    for code in Code::ALL {
        let who = match code.blame() {
            Blame::Asker => "the asker",
            Blame::Peer => "nobody: the channel is closed",
            Blame::World => "the operator, or whoever runs the called API",
            Blame::Bug => "us",
        };
        let retry = if code.retryable() { "yes" } else { "no" };
        writeln!(page, "| `{code}` | {} | {who} | {retry} |", code.sentence()).expect("a text takes what is written");
    }
    page
}

const PAGE: &str = "docs/errors.md";
const HEAD: &str = "# Errors

Every refusal carries a stable code, a sentence, and for the member also the rule that refused and the command that would
change it; a guest is told neither of those two. A code never changes its meaning and is never reused.

What a refusal never reveals: a value or a part of one, whether a reference exists that the guest was not granted (absent,
removed and forbidden ones are all `reference_unknown`), what other guests do, or text of a foreign error that might quote the
request.

| code | what it says | who can act | may the same request succeed later? |
| --- | --- | --- | --- |
";
