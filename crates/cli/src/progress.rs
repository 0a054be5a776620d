//! Progress bars, on standard error and only where someone looks.

use std::io::IsTerminal as _;

use indicatif::{ProgressBar, ProgressStyle};

use crate::app::App;

/// A bar that counts `what`, or none where standard error is no terminal.
pub(crate) fn bar(app: &App, what: &'static str) -> Option<ProgressBar> {
    if app.out.quiet || app.out.json || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(0);
    let template = format!("{{bar:30}} {{pos}} of {{len}} {what} {{elapsed}}");
    bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    Some(bar)
}

/// So many of so many are done.
pub(crate) fn advance(bar: Option<&ProgressBar>, done: u64, total: u64) {
    if let Some(bar) = bar {
        bar.set_length(total);
        bar.set_position(done);
    }
}

/// The bar leaves the screen.
pub(crate) fn finish(bar: Option<ProgressBar>) {
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}
