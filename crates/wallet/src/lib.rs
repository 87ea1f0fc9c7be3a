//! Words, keys, and the encrypted file that keeps them.
//!
//! What it is: plain functions over secrets that are wiped when they go.
//!
//! What it owns: the format of the wallet's file, and the paths by which keys follow from the words.
//!
//! What it never does: it sends nothing, prints nothing, and has no opinion on what is signed.
