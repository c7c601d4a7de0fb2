//! Writes common/src/proto from the .proto files beside this crate: `make gen`.
//!
//! The generated code is committed, so that a plain build needs neither protoc nor this crate.

use std::path::Path;

use anyhow::Context;
use prost::Message;

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = root.join("../common/src/proto");
    let names = ["raster", "plan", "compute", "fleet", "worker", "catalog"];
    let files: Vec<_> = names.iter().map(|name| root.join(format!("graticule/v1/{name}.proto"))).collect();
    let mut compiler = protox::Compiler::new([root])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .out_dir(&out)
        // Tile bytes are passed through without copying.
        .bytes(".graticule.v1.TileChunk.data")
        // Equal messages have equal bytes.
        .btree_map(".")
        .compile_fds(descriptors.clone())
        .context("generating code")?;
    // Comments are for readers of the .proto files; reflection needs only names and types.
    let mut bare = descriptors;
    bare.file.iter_mut().for_each(|file| file.source_code_info = None);
    std::fs::write(out.join("descriptors.bin"), bare.encode_to_vec())?;
    Ok(())
}
