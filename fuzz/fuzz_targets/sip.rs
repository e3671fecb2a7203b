//! SIP in a datagram: the door, the stack's reader, what is mended for it, and what calls read.
#![no_main]

#[path = "../../tests/readers/mod.rs"]
mod readers;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    readers::datagram(bytes);
});
