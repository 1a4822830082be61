//! Compressors as the library's objects: its own, and gzip by libdeflate.
//!
//! gzip is what systemd-repart writes by default, and zlib's level 9 is most of the time that takes.
//! libdeflate gives the same stream format, somewhat smaller, in a third of the time, so the gzip
//! compressor is ours; every other one is the library's.

use std::ffi::c_int;
use std::mem::MaybeUninit;

use libdeflater::CompressionLvl;

use super::{Code, Object, raw};
use crate::parameters::{Algorithm, BlockSize, Compression};

const GZIP_DEFAULT_LEVEL: u32 = 9;

/// A compressor or decompressor of blocks.
#[derive(Debug)]
pub(crate) struct Compressor(Object<raw::sqfs_compressor_t>);

// SAFETY: an object of the library has no tie to the thread that made it, and is used through
// `&mut self` (or by the C library's own threads, which take copies).
unsafe impl Send for Compressor {}

impl Compressor {
    /// What compresses blocks of an image.
    pub(crate) fn new(compression: Compression, block_size: BlockSize) -> Result<Self, Code> {
        Ours::object(compression, block_size).map(Self)
    }

    /// What decompresses blocks of an image.
    pub(crate) fn decompressor(algorithm: Algorithm, block_size: BlockSize) -> Result<Self, Code> {
        let flags = u16::try_from(raw::SQFS_COMP_FLAG_UNCOMPRESS).map_err(|_| Code::UNSUPPORTED)?;
        library(algorithm, None, block_size, flags).map(Self)
    }

    pub(super) fn pointer(&self) -> *mut raw::sqfs_compressor_t {
        self.0.pointer()
    }

    /// Writes the options behind the superblock; whether there were any.
    pub(super) fn write_options(&self, file: *mut raw::sqfs_file_t) -> Result<bool, Code> {
        let object = self.pointer();
        // SAFETY: a live compressor, of which every one has this function, and a live file.
        let written = unsafe {
            let function = (*object).write_options.ok_or(Code::UNSUPPORTED)?;
            function(object, file)
        };
        Code::check(written).map(|bytes| bytes > 0)
    }

    /// Decompresses `input` into `output`; how many bytes of it that gave.
    pub(crate) fn decompress(&mut self, input: &[u8], output: &mut [u8]) -> Result<usize, Code> {
        let object = self.pointer();
        let size = u32::try_from(input.len()).map_err(|_| Code::COMPRESSOR)?;
        let room = u32::try_from(output.len()).map_err(|_| Code::COMPRESSOR)?;
        // SAFETY: a live compressor that nobody else uses meanwhile (`&mut`); both buffers have the
        // sizes that are passed, and the decompressors bound their writes by them.
        let result = unsafe {
            let function = (*object).do_block.ok_or(Code::UNSUPPORTED)?;
            function(object, input.as_ptr(), size, output.as_mut_ptr(), room)
        };
        usize::try_from(Code::check(result)?)
            .ok()
            .filter(|length| *length > 0 && *length <= output.len())
            .ok_or(Code::COMPRESSOR)
    }
}

fn library(
    algorithm: Algorithm,
    level: Option<u32>,
    block_size: BlockSize,
    flags: u16,
) -> Result<Object<raw::sqfs_compressor_t>, Code> {
    let mut config = MaybeUninit::<raw::sqfs_compressor_config_t>::zeroed();
    let mut object = std::ptr::null_mut();
    let bytes = usize::try_from(block_size.bytes()).map_err(|_| Code::UNSUPPORTED)?;
    // SAFETY: the configuration is plain numbers, for which zero bytes are valid; both calls write
    // only through the pointers given, which live until after them.
    unsafe {
        let set = raw::sqfs_compressor_config_init(
            config.as_mut_ptr(),
            u32::from(algorithm.id()),
            bytes,
            flags,
        );
        Code::check(set)?;
        let mut config = config.assume_init();
        if let Some(level) = level {
            config.level = level;
        }
        Code::check(raw::sqfs_compressor_create(
            &raw const config,
            &raw mut object,
        ))?;
        Object::own(object)
    }
}

/// What compresses; begins with the library's table of functions.
///
/// The library's own compressors are wrapped, because its lz4 one says that a block was compressed
/// when it grew, which no reader accepts.
#[repr(C)]
struct Ours {
    base: raw::sqfs_compressor_t,
    compression: Compression,
    block_size: BlockSize,
    /// The library's compressor: for its options, and to compress where `deflate` does not.
    library: Object<raw::sqfs_compressor_t>,
    deflate: Option<libdeflater::Compressor>,
}

impl Ours {
    fn object(
        compression: Compression,
        block_size: BlockSize,
    ) -> Result<Object<raw::sqfs_compressor_t>, Code> {
        let algorithm = compression.algorithm();
        let deflate = match algorithm {
            Algorithm::Gzip => {
                let level = compression.level().unwrap_or(GZIP_DEFAULT_LEVEL);
                let level = i32::try_from(level).map_err(|_| Code::UNSUPPORTED)?;
                let level = CompressionLvl::new(level).map_err(|_| Code::UNSUPPORTED)?;
                Some(libdeflater::Compressor::new(level))
            }
            _ => None,
        };
        let ours = Box::new(Self {
            base: raw::sqfs_compressor_t {
                base: raw::sqfs_object_t {
                    destroy: Some(destroy),
                    copy: Some(copy),
                },
                get_configuration: Some(get_configuration),
                write_options: Some(write_options),
                read_options: Some(read_options),
                do_block: Some(do_block),
            },
            compression,
            block_size,
            library: library(algorithm, compression.level(), block_size, 0)?,
            deflate,
        });
        // SAFETY: a fresh box whose destructor, `destroy`, frees it.
        unsafe { Object::own(Box::into_raw(ours).cast()) }
    }
}

unsafe extern "C" fn destroy(object: *mut raw::sqfs_object_t) {
    // SAFETY: made by `Box::into_raw` in `Ours::object`; the owner destroys once.
    drop(unsafe { Box::from_raw(object.cast::<Ours>()) });
}

unsafe extern "C" fn copy(object: *const raw::sqfs_object_t) -> *mut raw::sqfs_object_t {
    // SAFETY: the library copies only live objects.
    let ours = unsafe { &*object.cast::<Ours>() };
    match Ours::object(ours.compression, ours.block_size) {
        Ok(object) => std::mem::ManuallyDrop::new(object).pointer().cast(),
        Err(_) => std::ptr::null_mut(),
    }
}

unsafe extern "C" fn get_configuration(
    object: *const raw::sqfs_compressor_t,
    config: *mut raw::sqfs_compressor_config_t,
) {
    // SAFETY: a live object that wraps a live one of the library's, and room for a configuration.
    unsafe {
        let library = (*object.cast::<Ours>()).library.pointer();
        if let Some(function) = (*library).get_configuration {
            function(library, config);
        }
    }
}

unsafe extern "C" fn write_options(
    object: *mut raw::sqfs_compressor_t,
    file: *mut raw::sqfs_file_t,
) -> c_int {
    // SAFETY: a live object that wraps a live one of the library's, and the file that we were given.
    unsafe {
        let library = (*object.cast::<Ours>()).library.pointer();
        match (*library).write_options {
            Some(function) => function(library, file),
            None => Code::UNSUPPORTED.0,
        }
    }
}

unsafe extern "C" fn read_options(
    _: *mut raw::sqfs_compressor_t,
    _: *mut raw::sqfs_file_t,
) -> c_int {
    Code::UNSUPPORTED.0
}

unsafe extern "C" fn do_block(
    object: *mut raw::sqfs_compressor_t,
    input: *const u8,
    size: u32,
    output: *mut u8,
    room: u32,
) -> i32 {
    // SAFETY: a live object that is used by one thread (each worker has its copy), `size` bytes of
    // input and room for `room` bytes of output.
    let result = unsafe {
        let ours = &mut *object.cast::<Ours>();
        let library = ours.library.pointer();
        match (&mut ours.deflate, (*library).do_block) {
            (Some(deflate), _) => compress(deflate, (input, size), (output, room)),
            (None, Some(function)) => function(library, input, size, output, room),
            (None, None) => Code::UNSUPPORTED.0,
        }
    };
    // 0 says "store it as it is": it did not get smaller.
    if u32::try_from(result).is_ok_and(|length| length >= size) {
        0
    } else {
        result
    }
}

/// # Safety
/// The pointers must be to as many bytes as stand beside them; the output need not be initialised.
unsafe fn compress(
    deflate: &mut libdeflater::Compressor,
    (input, size): (*const u8, u32),
    (output, room): (*mut u8, u32),
) -> i32 {
    let (Ok(size), Ok(room)) = (usize::try_from(size), usize::try_from(room)) else {
        return Code::COMPRESSOR.0;
    };
    // SAFETY: by this function's own contract; the output is initialised before a slice is made.
    let (input, output) = unsafe {
        output.write_bytes(0, room);
        (
            std::slice::from_raw_parts(input, size),
            std::slice::from_raw_parts_mut(output, room),
        )
    };
    let compressed = deflate.zlib_compress(input, output).unwrap_or(0);
    i32::try_from(compressed).unwrap_or(0)
}
