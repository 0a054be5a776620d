//! Exit codes: one table, for the command, its help and its man pages.

macro_rules! exits {
    ($($name:ident = $code:literal, $meaning:literal;)*) => {
        /// How a command ended, as scripts see it. A code never changes its meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Exit { $(#[doc = $meaning] $name = $code,)* }

        impl Exit {
            /// Every code with its meaning.
            pub const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $meaning),)*];
        }
    };
}

exits! {
    Done = 0, "Done.";
    Refused = 1, "The vault or the server said no; the code on standard error says why.";
    Usage = 2, "The command was not understood, or an argument is outside of what is allowed.";
    Locked = 3, "The vault is locked, this device has no live session, or it has no vault yet.";
    Unreachable = 4, "The server or the vault process could not be reached.";
    Alarm = 5, "Integrity: the vault, its log or its settings are not what this device knows. Stop and look.";
    Cancelled = 6, "You said no, or the command was interrupted.";
    Pending = 7, "The member has been asked; nothing was done yet.";
    Local = 8, "Something on this machine: a file, the terminal, the clipboard, a program.";
    Bug = 70, "Strongroom made a mistake.";
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// The table as text, for `help exit-codes` and the man page.
#[must_use]
pub(crate) fn table() -> String {
    let mut text = String::new();
    for (exit, meaning) in Exit::ALL {
        text.push_str(&format!("{:>4}  {meaning}\n", exit.code()));
    }
    text.push_str("\n`strongroom exec` ends with the exit code of the program that it started.\n");
    text
}
