//! Errors that point at file, line and column, and show the line.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use crate::limits::CONFIG_EXCERPT_CHARS_MAX;

/// A value with the bytes of the file that it was read from.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub value: T,
    pub place: Range<usize>,
}

/// Why a config was refused: every error that was found, in the order of the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file could not be read at all.
    #[error("{}: cannot read the config: {source}; name another file with --config", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could be read, but not accepted.
    #[error("{}", paragraphs(.0))]
    Wrong(Vec<ConfigError>),
}

/// One error in a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Name of the file.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong, what was expected, and the nearest word.
    pub message: String,
    /// The line as it is written, with a caret under the place.
    pub excerpt: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError { file, line, column, message, excerpt } = self;
        write!(f, "{file}:{line}:{column}: {message}\n{excerpt}")
    }
}

fn paragraphs(errors: &[ConfigError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<At<String>>,
}

impl Problems {
    /// `what` is wrong at `place`, `expected` says what would be right.
    pub fn report(&mut self, place: &Range<usize>, what: String, expected: &str) {
        self.found.push(At { value: format!("{what}; expected {expected}"), place: place.clone() });
    }

    /// As [`Problems::report`], with the nearest of the `possible` words if one is near.
    pub fn report_word(
        &mut self,
        place: &Range<usize>,
        what: String,
        expected: &str,
        word: &str,
        possible: &[&str],
    ) {
        let meant = match nearest(word, possible) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => String::new(),
        };
        let value = format!("{what}; expected {expected}{meant}");
        self.found.push(At { value, place: place.clone() });
    }

    /// `what` is part of the contract and not built yet.
    pub fn report_later(&mut self, place: &Range<usize>, what: &str) {
        self.found.push(At { value: format!("{what}: not supported yet"), place: place.clone() });
    }

    /// The text is not TOML.
    pub fn report_syntax(&mut self, place: &Range<usize>, message: String) {
        self.found.push(At { value: message, place: place.clone() });
    }

    /// TOML's own error. It knows "duplicate key" but does not say which, and cannot show what nobody sees.
    pub fn report_toml(&mut self, text: &str, error: &toml::de::Error) {
        let place = error.span().unwrap_or(0..0);
        if let Some((at, character)) = invisible(text, &place) {
            let code = u32::from(character);
            let what = format!("an invisible character (U+{code:04X}) stands here");
            let expected =
                "none outside of quotes: delete it; copied text and joined files often have one";
            return self.report(&(at..at + character.len_utf8()), what, expected);
        }
        let message = match (error.message(), text.get(place.clone())) {
            ("duplicate key", Some(key)) => {
                format!("{key} is there twice; expected each key and table once")
            }
            (message, _) => message.to_owned(),
        };
        self.report_syntax(&place, message);
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The errors in the order of the file.
    pub fn into_errors(mut self, file: &str, text: &str) -> ConfigErrors {
        self.found.sort_by_key(|problem| problem.place.start);
        let locate = |problem: &At<String>| locate(file, text, problem);
        ConfigErrors::Wrong(self.found.iter().map(locate).collect())
    }
}

/// The first character that no editor shows, in the line of a mistake and not behind it.
fn invisible(text: &str, place: &Range<usize>) -> Option<(usize, char)> {
    let hides = |character: char| {
        let known = matches!(character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
        known || (character.is_whitespace() && !character.is_ascii())
    };
    let start = text.get(..place.start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text.floor_char_boundary(place.end.max(place.start + 1).min(text.len()));
    let line = text.get(start..end.max(start))?;
    line.char_indices().find(|(_, it)| hides(*it)).map(|(at, it)| (start + at, it))
}

/// Words in quotes, the last joined with "or".
pub(super) fn any_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// The word that was probably meant: at most a third of it mistyped.
fn nearest<'a>(word: &str, possible: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&word.to_lowercase(), known);
    possible
        .iter()
        .map(|&known| (distance(known), known))
        .filter(|&(mistakes, known)| mistakes <= (known.chars().count() / 3).max(1))
        .min()
        .map(|(_, known)| known)
}

fn locate(file: &str, text: &str, problem: &At<String>) -> ConfigError {
    let start = text.floor_char_boundary(problem.place.start);
    let end = text.floor_char_boundary(problem.place.end).max(start);
    let (before, after) = text.split_at(start);
    let line = before.matches('\n').count() + 1;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = start + after.find('\n').unwrap_or(after.len());
    let chars_in = |from: usize, to: usize| text.get(from..to).unwrap_or("").chars().count();
    let offset = chars_in(line_start, start);
    let width = chars_in(start, end.min(line_end)).max(1);
    let source = text.get(line_start..line_end).unwrap_or("");
    ConfigError {
        file: file.to_owned(),
        line,
        column: offset + 1,
        message: problem.value.clone(),
        excerpt: excerpt(line, source, offset, width),
    }
}

/// The line with its number, and below it carets at `offset` (in characters). A long line is cut
/// around the place; control characters are shown as blanks.
fn excerpt(line: usize, source: &str, offset: usize, width: usize) -> String {
    let cut = offset.saturating_sub(CONFIG_EXCERPT_CHARS_MAX / 2);
    let shown: String = source
        .chars()
        .skip(cut)
        .take(CONFIG_EXCERPT_CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let carets = width.min(CONFIG_EXCERPT_CHARS_MAX / 2);
    let indent = " ".repeat(offset - cut);
    let number = format!("{line} | {shown}");
    let gutter = " ".repeat(line.to_string().len());
    format!("  {}\n  {gutter} | {indent}{}", number.trim_end(), "^".repeat(carets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, place: Range<usize>) -> String {
        locate("f", text, &At { value: "wrong".into(), place }).to_string()
    }

    #[test]
    fn columns_count_characters_from_one() {
        assert_eq!(shown("a\nü = 1\n", 5..6), "f:2:3: wrong\n  2 | ü = 1\n    |   ^");
    }

    #[test]
    fn places_outside_the_text_are_shown_at_its_end() {
        assert_eq!(shown("ab", 90..99), "f:1:3: wrong\n  1 | ab\n    |   ^");
        assert_eq!(shown("", 0..0), "f:1:1: wrong\n  1 |\n    | ^");
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}X{}", "a".repeat(1000), "b".repeat(1000));
        let shown = shown(&text, 1000..1001);
        assert!(shown.lines().all(|line| line.len() < 200), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[1].find('X'), lines[2].find('^'));
    }

    #[test]
    fn the_nearest_word_is_near() {
        assert_eq!(nearest("crossovr", &["lan", "crossover"]), Some("crossover"));
        assert_eq!(nearest("Lan", &["lan", "crossover"]), Some("lan"));
        assert_eq!(nearest("nothing-like-it", &["lan", "crossover"]), None);
    }
}
