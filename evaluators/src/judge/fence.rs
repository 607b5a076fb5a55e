//! Judged text is data: the fence it stands between, and what is done to it before.
//!
//! A fence carries a nonce that the author of the text cannot know, and the text cannot carry it either, because whatever reads like it is taken
//! out here. That holds for the characters of a prompt (`judge/prompt.rs` sees to it that no text gets around this file); what a model makes of
//! them is another matter, and METHOD.md beside this crate says what is known of it.

use std::fmt::Write;

/// The code of one request: 16 to 64 hexadecimal digits in lower case, which nobody who writes judged text can know.
///
/// Random, or derived from the call's id and a secret: a request that is made again may carry the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use `{0}` as a nonce: it must be 16 to 64 hexadecimal digits in lower case")]
pub struct NonceError(String);

impl Nonce {
    /// # Errors
    /// [`NonceError`] where the text is anything but 16 to 64 of `0123456789abcdef`.
    pub fn new(text: impl Into<String>) -> Result<Self, NonceError> {
        let text = text.into();
        // Digits up to f only: `REMOVED` has other letters, so what stands in a nonce's place can never be part of one.
        let good = (16..=64).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if good { Ok(Self(text)) } else { Err(NonceError(text)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text longer than this many characters (about 6,000 tokens) loses its middle: beginnings say what is asked and endings what came of it, and
/// judges get worse as prompts get longer.
pub const TEXT_MAX_CHARS: usize = 24_000;

/// What stands in the place of anything that reads like the nonce.
const REMOVED: &str = "[removed]";

/// `text` between its fences, with nothing in it that could be taken for one.
pub(crate) fn fenced(text: &str, nonce: &Nonce) -> String {
    format!("<<data {nonce}\n{}\ndata {nonce}>>", harmless(text, nonce), nonce = nonce.0)
}

/// The first and the last part of `text`, together at most `chars_max` characters, and between them how much is missing.
pub(crate) fn cut(text: &str, chars_max: usize) -> String {
    let chars = text.chars().count();
    if chars <= chars_max {
        return text.to_owned();
    }
    let at = |index: usize| text.char_indices().nth(index).map_or(text.len(), |(at, _)| at);
    let (head, tail) = (chars_max.div_ceil(2), chars_max / 2);
    format!("{}\n[… {} characters cut here …]\n{}", &text[..at(head)], chars - chars_max, &text[at(chars - tail)..])
}

/// `text` with characters that nobody sees written out, and with nothing that reads like the nonce.
fn harmless(text: &str, nonce: &Nonce) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.replace("\r\n", "\n").chars() {
        if invisible(char) {
            // Writing to a string cannot fail.
            let _ = write!(shown, "⟨U+{:04X}⟩", u32::from(char));
        } else {
            shown.push(char);
        }
    }
    // A text of hidden characters alone would otherwise grow ninefold.
    without(&cut(&shown, TEXT_MAX_CHARS), &nonce.0)
}

/// Characters that change or hide what is read without being seen: control characters, directions, zero widths that join nothing, tags.
///
/// Joiners (U+200C, U+200D) stay: Persian and emoji are written with them.
fn invisible(char: char) -> bool {
    (char.is_control() && !matches!(char, '\n' | '\t'))
        || matches!(char, '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(char, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// `text` without whatever reads like `nonce`: in capitals, in wide, mathematical or Cyrillic letters, with anything between its digits.
fn without(text: &str, nonce: &str) -> String {
    // Each character that counts, with its place; what does not is passed over, so `9f 3a` reads like `9f3a`.
    let (read, places): (Vec<u8>, Vec<(usize, usize)>) =
        text.char_indices().filter_map(|(at, char)| Some((plain(char)?, (at, at + char.len_utf8())))).unzip();
    let (nonce, mut kept, mut from, mut at) = (nonce.as_bytes(), String::with_capacity(text.len()), 0, 0);
    while at + nonce.len() <= read.len() {
        if &read[at..at + nonce.len()] == nonce {
            kept.push_str(&text[from..places[at].0]);
            kept.push_str(REMOVED);
            at += nonce.len();
            from = places[at - 1].1;
        } else {
            at += 1;
        }
    }
    kept.push_str(&text[from..]);
    kept
}

/// The letter or digit that a character is read as; `None` where it is neither, or none that a nonce could have.
fn plain(char: char) -> Option<u8> {
    let code = u32::from(char);
    let letter = |index: u32| b"abcdefghijklmnopqrstuvwxyz".get(index as usize).copied();
    let digit = |index: u32| b"0123456789".get(index as usize).copied();
    match char {
        'a'..='z' | 'A'..='Z' | '0'..='9' => Some(char.to_ascii_lowercase() as u8),
        // Wide forms.
        '\u{ff10}'..='\u{ff19}' => digit(code - 0xff10),
        '\u{ff21}'..='\u{ff3a}' => letter(code - 0xff21),
        '\u{ff41}'..='\u{ff5a}' => letter(code - 0xff41),
        // Mathematical letters come as 26 capitals and 26 small ones, thirteen times; digits as ten, five times.
        '\u{1d400}'..='\u{1d6a3}' => letter((code - 0x1d400) % 26),
        '\u{1d7ce}'..='\u{1d7ff}' => digit((code - 0x1d7ce) % 10),
        // Cyrillic and Greek that look like a, b, c, e.
        'а' | 'А' | 'α' | 'Α' => Some(b'a'),
        'В' | 'Β' | 'Ь' => Some(b'b'),
        'с' | 'С' | 'ϲ' => Some(b'c'),
        'е' | 'Е' | 'Ε' => Some(b'e'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "9f3a1c5be0d24786";

    fn nonce() -> Nonce {
        Nonce::new(NONCE).expect("sixteen digits")
    }

    #[test]
    fn a_nonce_is_hexadecimal_and_long_enough() {
        for bad in ["", "9f3a", "9F3A1C5BE0D24786", "9f3a1c5be0d2478g", &"0".repeat(65)] {
            assert!(Nonce::new(bad).is_err(), "{bad}");
        }
        assert!(Nonce::new("0".repeat(64)).is_ok());
    }

    #[test]
    fn a_long_text_keeps_its_ends_and_says_what_it_lost() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 3), "ab\n[… 4 characters cut here …]\ng");
        assert_eq!(cut("äöüß", 2), "ä\n[… 2 characters cut here …]\nß");
        assert_eq!(cut("abc", 0), "\n[… 3 characters cut here …]\n");
    }

    #[test]
    fn what_reads_like_the_nonce_is_taken_out() {
        for written in [
            "9f3a1c5be0d24786",
            "9F3A1C5BE0D24786",
            "9f3a 1c5b e0d2 4786",
            "9-f-3-a-1-c-5-b-e-0-d-2-4-7-8-6",
            "9f3a\u{200d}1c5be0d24786",
            "9f3a1c5b\ne0d24786",
            "９ｆ３ａ１ｃ５ｂｅ０ｄ２４７８６",
            "𝟗𝐟𝟑𝐚𝟏𝐜𝟓𝐛𝐞𝟎𝐝𝟐𝟒𝟕𝟖𝟔",
            "9f3а1с5bе0d24786",
        ] {
            assert_eq!(harmless(&format!("before {written} after"), &nonce()), "before [removed] after", "{written}");
        }
        let twice = format!("{NONCE}{NONCE}");
        assert_eq!(harmless(&twice, &nonce()), "[removed][removed]");
        // What is left around a removed one is no nonce again.
        let nested = format!("{}{NONCE}{}", &NONCE[..8], &NONCE[8..]);
        assert_eq!(harmless(&nested, &nonce()), "9f3a1c5b[removed]e0d24786");
    }

    #[test]
    fn ordinary_text_stays_as_it_is_and_hidden_characters_are_shown() {
        let ordinary = "Ünïcödé 👩‍👩‍👧 می‌خواهم\t{{ x }}\n<<data ```json {\"a\": 1}";
        assert_eq!(harmless(ordinary, &nonce()), ordinary);
        assert_eq!(harmless("a\u{202e}b\u{e0041}c\rd\u{200b}", &nonce()), "a⟨U+202E⟩b⟨U+E0041⟩c⟨U+000D⟩d⟨U+200B⟩");
    }
}
