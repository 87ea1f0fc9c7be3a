//! Many real programs on one machine, a network made in software between them, and the faults of both.
//!
//! What it is: a tool of those who build the product. It starts the programs that people start, as the journeys do (`tests`),
//! but many at once, breaks some of them in the middle of an answer, and compares every token with what an undisturbed provider
//! gives. Times are measured and never judged here: they go into a file, with the goal beside them.
//!
//! | module | is |
//! |---|---|
//! | `answer` | one question asked by the real program: when its events came, what it kept, and whether that is right |
//! | `crowd` | thirty programs and their faults |
//! | `switch` | TUN devices in network namespaces, and what lies between them: delay, loss, rate, cuts, NAT |
//! | `matrix` | the same answer over many such networks |
//! | `relayed` | providers behind routers, through relays and past them |
//! | `paid` | the pace of an answer that is paid for |
//! | `remote` | what a remote answer costs against a local one |
//! | `hostile` | an honest job beside peers that attack |
//! | `soak` | days of strangers who come and go |
//! | `simulate` | ten thousand nodes in virtual time, beside five hundred real ones in one process |
//! | `figures` | what a run found, as one line of JSON |
//!
//! It never asserts a time, never sends a packet beyond this machine, and nothing of it is packaged. Linux alone: elsewhere there
//! are neither TUN devices nor namespaces to make.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod error;
pub mod figures;

#[cfg(target_os = "linux")]
pub mod answer;
#[cfg(target_os = "linux")]
pub mod crowd;
#[cfg(target_os = "linux")]
pub mod hostile;
#[cfg(target_os = "linux")]
pub mod matrix;
#[cfg(target_os = "linux")]
mod paid;
#[cfg(target_os = "linux")]
pub mod process;
#[cfg(target_os = "linux")]
pub mod ready;
#[cfg(target_os = "linux")]
pub mod reference;
#[cfg(target_os = "linux")]
pub mod relayed;
#[cfg(target_os = "linux")]
pub mod remote;
#[cfg(target_os = "linux")]
pub mod simulate;
#[cfg(target_os = "linux")]
pub mod soak;
#[cfg(target_os = "linux")]
pub mod switch;
