//! Session descriptions: read, settled and answered.
#![no_main]

#[path = "../../tests/readers/mod.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::session_description(bytes);
});
