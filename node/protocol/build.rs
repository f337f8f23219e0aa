//! Compiles the .proto files with a compiler in Rust, so that building needs no `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/quadraft.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".quadraft.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
