//! `generate`: passwords and passphrases, on this device, without any vault.

use clap::Args;
use serde_json::json;
use strongroom_client::generate::Recipe;

use crate::app::App;
use crate::failure::Failure;

/// What is made.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "What is generated")]
pub(crate) struct GenerateArgs {
    /// So many characters (8 to 256)
    #[arg(long, value_name = "NUMBER", conflicts_with = "words")]
    pub(crate) length: Option<usize>,
    /// So many words (4 to 23) instead of characters
    #[arg(long, value_name = "NUMBER")]
    pub(crate) words: Option<usize>,
    /// Letters and digits alone
    #[arg(long)]
    pub(crate) no_symbols: bool,
}

/// `generate`
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  strongroom generate
  strongroom generate --words 6
  strongroom generate --length 40 --no-symbols")]
pub(crate) struct Generate {
    #[command(flatten)]
    pub(crate) what: GenerateArgs,
}

impl From<&GenerateArgs> for Recipe {
    fn from(args: &GenerateArgs) -> Self {
        match args.words {
            Some(count) => Self::Words { count },
            None => Self::Characters { length: args.length.unwrap_or(24), symbols: !args.no_symbols },
        }
    }
}

/// Runs `generate`.
pub(crate) fn run(app: &App, args: &Generate) -> Result<(), Failure> {
    let recipe = Recipe::from(&args.what);
    let made = recipe.make().map_err(|e| Failure::usage(e.to_string()))?;
    app.out.result(&json!({ "value": made.as_str(), "bits": recipe.bits() }), || made.to_string())?;
    if !app.out.json {
        app.out.note(&format!("{} random bits. `item add --generate` keeps one without showing it.", recipe.bits()));
    }
    Ok(())
}
