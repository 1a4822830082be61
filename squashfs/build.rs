//! Declares libsquashfs to Rust from the headers that are installed.
//!
//! Generated, not written by hand: the library's objects are structures of function pointers and its
//! inodes a union with a tail, so a slip in a layout would be memory damage, not a compile error.
//! There is no `-sys` crate to take: the one on the registry is for a version without
//! `sqfs_block_processor_create_ex`.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let library = pkg_config::Config::new()
        .atleast_version("1.2.0")
        .probe("libsquashfs1")
        .unwrap_or_else(|error| {
            panic!("libsquashfs is not there: install libsquashfs-dev\n{error}")
        });
    let includes = library
        .include_paths
        .iter()
        .map(|path| format!("-I{}", path.display()));
    let headers = [
        "block",
        "block_processor",
        "block_writer",
        "compressor",
        "dir_writer",
        "error",
        "frag_table",
        "id_table",
        "inode",
        "io",
        "meta_writer",
        "super",
        "xattr_writer",
    ]
    .map(|name| format!("#include <sqfs/{name}.h>\n"))
    .concat();
    let bindings = bindgen::builder()
        .header_contents("libsquashfs.h", &headers)
        .clang_args(includes)
        .allowlist_item("(sqfs|SQFS)_.*")
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .layout_tests(false)
        .generate_comments(false)
        .generate()
        .unwrap_or_else(|error| {
            panic!("the headers of libsquashfs cannot be read (is libclang-dev there?)\n{error}")
        });
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    bindings
        .write_to_file(out.join("bindings.rs"))
        .unwrap_or_else(|error| panic!("cannot write the bindings: {error}"));
}
