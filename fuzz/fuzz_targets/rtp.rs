//! RTP: the header, the payload through every decoder, and comfort noise.
#![no_main]

#[path = "../../tests/readers/mod.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::rtp(bytes);
});
