//! The bodies of a recording client: several parts, rs-metadata among them.
#![no_main]

#[path = "../../tests/readers/mod.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::recording_body(bytes);
});
