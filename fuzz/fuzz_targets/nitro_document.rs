#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| strongroom_nitro::fuzz::document(data));
