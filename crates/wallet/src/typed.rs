//! What a person typed and nobody else may see: a password, the words, a foreign key file.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{disk, error::WalletError};

/// How many characters a new password may have. Fewer are guessed in an afternoon, whatever the derivation costs; more
/// are a text that was pasted by mistake.
pub const PASSWORD_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=256;

/// A phrase or a password is a line, a foreign key file at most this.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// The most bytes that one character becomes when it is composed: NFKC of U+FDFA is 18 letters of two bytes.
const COMPOSED_BYTES: usize = 36;

/// Text that is wiped when it is dropped, and that no `Debug` shows.
///
/// It crosses a boundary (a control socket, a window) as plain text, because somebody must type it somewhere; whoever
/// reads it there wipes what it was read from.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Typed(Zeroizing<String>);

impl Typed {
    /// Takes the text over; it is not copied.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// What a file holds instead of somebody typing it, without the line end. Nobody but its owner may read the file.
    ///
    /// # Errors
    /// [`WalletError::Missing`], [`WalletError::TooOpen`], [`WalletError::Damaged`] when it is too long or no text,
    /// [`WalletError::File`].
    pub fn read(path: &Path) -> Result<Self, WalletError> {
        Ok(Self(disk::read(path, MAX_FILE_BYTES)?).without_line_end())
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether this may become a password.
    ///
    /// # Errors
    /// [`WalletError::PasswordShort`] and [`WalletError::PasswordLong`].
    pub fn check_new_password(&self) -> Result<(), WalletError> {
        let characters = self.0.chars().count();
        if characters < *PASSWORD_CHARACTERS.start() {
            return Err(WalletError::PasswordShort {
                least: *PASSWORD_CHARACTERS.start(),
            });
        }
        self.check_length(characters)
    }

    /// The password as bytes: composed (NFKC, Unicode Standard Annex 15), so that two keyboards that write `é` in two ways
    /// open the same file.
    pub(crate) fn password_bytes(&self) -> Result<Zeroizing<Vec<u8>>, WalletError> {
        let characters = self.0.chars().count();
        self.check_length(characters)?;
        // Large enough from the start: a buffer that grows leaves copies behind.
        let mut composed = Zeroizing::new(String::with_capacity(characters * COMPOSED_BYTES));
        composed.extend(self.0.nfkc());
        let bytes = std::mem::take(&mut *composed).into_bytes();
        Ok(Zeroizing::new(bytes))
    }

    fn check_length(&self, characters: usize) -> Result<(), WalletError> {
        if characters > *PASSWORD_CHARACTERS.end() {
            return Err(WalletError::PasswordLong {
                most: *PASSWORD_CHARACTERS.end(),
            });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Typed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Typed(…)")
    }
}

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl From<&str> for Typed {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl Typed {
    /// Takes the last line end away, as it stands at the end of a typed line or a file.
    #[must_use]
    pub fn without_line_end(mut self) -> Self {
        let kept = self.0.trim_end_matches(['\r', '\n']).len();
        // `truncate` leaves the bytes behind the new end in the buffer: they are wiped with it.
        let mut end = self.0.split_off(kept);
        end.zeroize();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ways_to_write_one_letter_are_one_password() {
        let composed = Typed::from("caf\u{e9} au lait");
        let apart = Typed::from("cafe\u{301} au lait");
        assert_eq!(
            *composed.password_bytes().unwrap(),
            *apart.password_bytes().unwrap()
        );
    }

    #[test]
    fn the_buffer_of_the_longest_password_never_grows() {
        let longest = Typed::new("\u{fdfa}".repeat(*PASSWORD_CHARACTERS.end()));
        let bytes = longest.password_bytes().unwrap();
        assert!(bytes.capacity() <= *PASSWORD_CHARACTERS.end() * COMPOSED_BYTES);
    }

    #[test]
    fn a_new_password_is_neither_short_nor_a_novel() {
        assert!(matches!(
            Typed::from("seven77").check_new_password(),
            Err(WalletError::PasswordShort { least: 8 })
        ));
        assert!(Typed::from("eight888").check_new_password().is_ok());
        assert!(matches!(
            Typed::new("x".repeat(257)).check_new_password(),
            Err(WalletError::PasswordLong { most: 256 })
        ));
    }

    #[test]
    fn nothing_typed_is_shown() {
        let typed = Typed::from("correct horse\r\n").without_line_end();
        assert_eq!(typed.expose(), "correct horse");
        assert!(!format!("{typed:?}").contains("horse"));
    }
}
