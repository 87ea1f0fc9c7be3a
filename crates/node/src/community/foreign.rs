//! Text that a stranger's file gives itself, fit for a screen.

/// Characters of such a text: the longest names that models of the catalogue have are half as long.
const MAX_CHARS: usize = 80;

/// Marks in a row that stand above or below a letter: Vietnamese and Hebrew take two.
const MAX_MARKS: usize = 2;

/// One short line without control characters, marks that turn the direction of writing, and marks that nobody sees. `None` where nothing
/// is left.
pub(super) fn line(text: &str) -> Option<String> {
    let mut line = String::new();
    let (mut chars, mut marks, mut gap) = (0, 0, false);
    for mark in text.chars() {
        if mark.is_whitespace() || mark.is_control() {
            gap = true;
            continue;
        }
        if is_unseen(mark) {
            continue;
        }
        marks = if is_combining(mark) { marks + 1 } else { 0 };
        // What a first letter would carry has no letter here.
        if marks > MAX_MARKS || (marks > 0 && (line.is_empty() || gap)) {
            continue;
        }
        let room = chars + usize::from(gap && chars > 0);
        if room >= MAX_CHARS {
            line.push('…');
            break;
        }
        if gap && chars > 0 {
            line.push(' ');
        }
        gap = false;
        line.push(mark);
        chars = room + 1;
    }
    (!line.is_empty()).then_some(line)
}

/// Marks that have no width, or turn the direction of what follows: two texts that differ in them look alike.
fn is_unseen(mark: char) -> bool {
    matches!(mark,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffd}'
        | '\u{e000}'..='\u{f8ff}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}')
}

/// Marks that stand on the letter before them.
fn is_combining(mark: char) -> bool {
    matches!(mark, '\u{0300}'..='\u{036f}' | '\u{0483}'..='\u{0489}' | '\u{0591}'..='\u{05bd}' | '\u{0610}'..='\u{061a}' | '\u{064b}'..='\u{065f}'
        | '\u{0e31}' | '\u{0e34}'..='\u{0e3a}' | '\u{0e47}'..='\u{0e4e}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{20d0}'..='\u{20ff}'
        | '\u{fe20}'..='\u{fe2f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_calls_itself_is_one_short_line_that_steers_nothing() {
        let said = |text: &str| line(text).unwrap_or_default();
        assert_eq!(said("Tiny Chat 1B"), "Tiny Chat 1B");
        assert_eq!(said("  two\r\n\tlines\u{2028}more "), "two lines more");
        assert_eq!(said("a\u{1b}[31mred\u{9b}0m\u{7}"), "a [31mred 0m");
        assert_eq!(said("Llama\u{202e}DAB\u{2066}\u{200f}"), "LlamaDAB");
        assert_eq!(said("Ll\u{200b}a\u{ad}ma\u{e0041}\u{fe0f}"), "Llama");
        assert_eq!(said("名前 ünï"), "名前 ünï");
        assert_eq!(
            said(&format!("Z{}!", "\u{0301}".repeat(50))),
            "Z\u{0301}\u{0301}!"
        );
        assert_eq!(
            said("<b>x</b> **y**"),
            "<b>x</b> **y**",
            "it is shown as text"
        );
        assert_eq!(line(" \u{200b}\n\u{0301}"), None);
        let long = said(&"ab ".repeat(100));
        assert!(
            long.chars().count() <= MAX_CHARS + 1 && long.ends_with('…'),
            "{long}"
        );
    }
}
