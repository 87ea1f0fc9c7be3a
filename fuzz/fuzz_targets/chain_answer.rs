//! Answers of a chain's endpoints: read as what was asked for, or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| chain::fuzzing::answer(data));
