//! The system's clipboard.

use std::sync::{Mutex, PoisonError};

/// A clipboard that is opened at the first copy and kept: on Linux the program that copied must stay to hand the text
/// over, so dropping it would empty the clipboard.
#[derive(Default)]
pub(crate) struct Clipboard(Mutex<Option<arboard::Clipboard>>);

impl Clipboard {
    /// Puts `text` on the clipboard.
    ///
    /// # Errors
    /// What the system said, when there is no clipboard or it is held by another program.
    pub(crate) fn copy(&self, text: String) -> Result<(), arboard::Error> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut clipboard = match held.take() {
            Some(clipboard) => clipboard,
            None => arboard::Clipboard::new()?,
        };
        clipboard.set_text(text)?;
        *held = Some(clipboard);
        Ok(())
    }
}

impl std::fmt::Debug for Clipboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clipboard").finish_non_exhaustive()
    }
}
