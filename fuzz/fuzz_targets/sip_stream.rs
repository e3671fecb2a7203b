//! SIP on a connection: the framing, and every message that comes out of it as in `sip`.
#![no_main]

#[path = "../../tests/readers/mod.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::stream(bytes);
});
