//! Money: what this computer pays and is paid.
//!
//! Joins the chain, the books and the keys. Without a network's file none of it runs, and everything else works as before.

mod price;
pub mod settings;
pub mod view;
