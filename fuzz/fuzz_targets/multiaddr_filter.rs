//! Addresses that people type, files hold and strangers tell: judged, never a panic, and none of a home from outside.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| network::fuzzing::address_gate(data));
