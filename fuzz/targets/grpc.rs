#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tower_singleflight::middleware::fuzzing::grpc(bytes));
