//! The address book on disk: read or refused, and kept as it was read.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| network::fuzzing::peer_book(data));
