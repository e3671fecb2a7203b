//! Digits: telephone events (RFC 4733), and the bodies of INFO.
#![no_main]

#[path = "../../tests/readers/mod.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::digits(bytes);
});
