#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| anthill::fuzzing::proxy(data));
