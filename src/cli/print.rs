//! Words on a terminal or in a pipe: colours only where a person sees them.

use std::io::{IsTerminal, Write};

/// Whether the standard output is a terminal that wants colours (<https://no-color.org>).
pub fn colours() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints one line; `false` if nobody reads any more.
pub fn line(text: &str) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).is_ok()
}

/// How a word is to be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Look at it.
    Warn,
    /// Something failed.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
}

/// `text` in its tone, or plain.
pub fn paint(text: &str, tone: Tone, colours: bool) -> String {
    let code = match tone {
        Tone::Good => 32,
        Tone::Warn => 33,
        Tone::Bad => 31,
        Tone::Dim => 2,
        Tone::Bold => 1,
    };
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
