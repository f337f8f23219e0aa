#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| quadraft_node::fuzzing::peers_file(data));
