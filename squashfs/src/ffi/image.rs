//! One image being written: the library's processor, tables and meta-data writers in their order.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use filetree::{WriteAt, WriteError};

use super::sink::Sink;
use super::{Code, Compressor, Object, raw};
use crate::parameters::Parameters;

/// What the superblock says where a table is missing.
const NO_TABLE: u64 = u64::MAX;

/// What the library aligns blocks to where it is asked to (it is not).
const DEVICE_BLOCK: usize = 4096;

const MAX_THREADS: u32 = 64;

/// Blocks in flight for each thread: enough that none waits while a file is opened.
const BACKLOG: u32 = 10;

/// An image under construction. First the data of all files, then [`Image::end_data`], then inodes
/// and directories, then [`Image::finish`].
///
/// Fields are dropped in their order: users of an object before the object.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    objects: Objects,
    files: FileSlots,
    compressor: Compressor,
    sink: Sink<'a>,
}

/// What the library keeps of the image. Dropped in this order too.
#[derive(Debug)]
struct Objects {
    processor: Option<Object<raw::sqfs_block_processor_t>>,
    _blocks: Object<raw::sqfs_block_writer_t>,
    directories: Object<raw::sqfs_dir_writer_t>,
    inode_table: Object<raw::sqfs_meta_writer_t>,
    directory_table: Object<raw::sqfs_meta_writer_t>,
    xattrs: Object<raw::sqfs_xattr_writer_t>,
    ids: Object<raw::sqfs_id_table_t>,
    fragments: Object<raw::sqfs_frag_table_t>,
    superblock: raw::sqfs_super_t,
}

/// Where a file's data came to lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileLayout {
    /// Bytes of the file.
    pub(crate) size: u64,
    /// Where its first block begins in the image.
    pub(crate) start: u64,
    /// How many of its bytes are in blocks that are not stored.
    pub(crate) sparse: u64,
    /// The fragment that has its tail, `u32::MAX` for none.
    pub(crate) fragment: u32,
    /// The tail's offset in that fragment.
    pub(crate) fragment_offset: u32,
    /// The stored size of every block.
    pub(crate) blocks: Vec<u32>,
}

/// A directory's listing, as its inode refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The listing's place in the directory table: block offset.
    pub(crate) block: u32,
    /// The listing's place in that block.
    pub(crate) offset: u16,
    /// Bytes of the listing, without the 3 that every inode adds.
    pub(crate) size: u32,
    /// How many index entries there are.
    pub(crate) indexes: u16,
    /// The index entries as they are stored.
    pub(crate) index: Vec<u8>,
}

/// The inodes that the processor fills while it works: it keeps pointers to these places.
#[derive(Debug)]
struct FileSlots(Box<[UnsafeCell<*mut raw::sqfs_inode_generic_t>]>);

impl FileSlots {
    fn new(count: usize) -> Self {
        Self(
            (0..count)
                .map(|_| UnsafeCell::new(std::ptr::null_mut()))
                .collect(),
        )
    }
}

impl Drop for FileSlots {
    fn drop(&mut self) {
        for slot in &mut self.0 {
            let inode = std::mem::replace(slot.get_mut(), std::ptr::null_mut());
            if !inode.is_null() {
                // SAFETY: allocated by the library for us, and its processor is gone (it is dropped
                // before, or was taken by `end_data`).
                unsafe { raw::sqfs_free(inode.cast()) };
            }
        }
    }
}

impl Objects {
    /// Makes all objects. Whoever owns them must drop them before `compressor` and `sink`.
    fn create(
        parameters: &Parameters,
        compressor: &Compressor,
        sink: &Sink<'_>,
    ) -> Result<Self, Code> {
        let memory = raw::SQFS_META_WRITER_KEEP_IN_MEMORY;
        let export = raw::SQFS_DIR_WRITER_CREATE_EXPORT_TABLE;
        // The target cannot be read back; and duplicates are the caller's (see `begin_file`).
        let hash_only = raw::SQFS_BLOCK_WRITER_HASH_COMPARE_ONLY;
        let superblock = superblock(parameters, compressor, sink)?;
        // SAFETY: each call gets live objects made before it and is owned at once; by the order of
        // declaration, and of the fields after, users are dropped before what they use.
        unsafe {
            let fragments = Object::own(raw::sqfs_frag_table_create(0))?;
            let blocks = raw::sqfs_block_writer_create(sink.pointer(), DEVICE_BLOCK, hash_only);
            let blocks = Object::own(blocks)?;
            let processor = processor(parameters, compressor, &blocks, &fragments)?;
            let inode_table = meta_writer(sink, compressor, 0)?;
            let directory_table = meta_writer(sink, compressor, memory)?;
            let directories = raw::sqfs_dir_writer_create(directory_table.pointer(), export);
            Ok(Self {
                processor: Some(processor),
                _blocks: blocks,
                directories: Object::own(directories)?,
                inode_table,
                directory_table,
                xattrs: Object::own(raw::sqfs_xattr_writer_create(0))?,
                ids: Object::own(raw::sqfs_id_table_create(0))?,
                fragments,
                superblock,
            })
        }
    }
}

/// Writes a first superblock and the compressor's options behind it.
fn superblock(
    parameters: &Parameters,
    compressor: &Compressor,
    sink: &Sink<'_>,
) -> Result<raw::sqfs_super_t, Code> {
    let mut superblock = MaybeUninit::zeroed();
    let algorithm = u32::from(parameters.compression.algorithm().id());
    let block_size = size(parameters.block_size.bytes())?;
    // SAFETY: the superblock is plain numbers, for which zero bytes are valid; the file is live.
    let mut superblock = unsafe {
        Code::check(raw::sqfs_super_init(
            superblock.as_mut_ptr(),
            block_size,
            parameters.time,
            algorithm,
        ))?;
        let superblock: raw::sqfs_super_t = superblock.assume_init();
        Code::check(raw::sqfs_super_write(&raw const superblock, sink.pointer()))?;
        superblock
    };
    if compressor.write_options(sink.pointer())? {
        superblock.flags |= flag(raw::SQFS_FLAG_COMPRESSOR_OPTIONS);
    }
    Ok(superblock)
}

/// # Safety
/// The processor must be dropped before everything that is passed.
unsafe fn processor(
    parameters: &Parameters,
    compressor: &Compressor,
    blocks: &Object<raw::sqfs_block_writer_t>,
    fragments: &Object<raw::sqfs_frag_table_t>,
) -> Result<Object<raw::sqfs_block_processor_t>, Code> {
    let threads = u32::try_from(parameters.threads.get())
        .unwrap_or(MAX_THREADS)
        .min(MAX_THREADS);
    let description = raw::sqfs_block_processor_desc_t {
        size: u32::try_from(size_of::<raw::sqfs_block_processor_desc_t>())
            .map_err(|_| Code::UNSUPPORTED)?,
        max_block_size: parameters.block_size.bytes(),
        num_workers: threads,
        max_backlog: threads * BACKLOG,
        cmp: compressor.pointer(),
        wr: blocks.pointer(),
        tbl: fragments.pointer(),
        file: std::ptr::null_mut(),
        uncmp: std::ptr::null_mut(),
    };
    let mut processor = std::ptr::null_mut();
    // SAFETY: a complete description of live objects, and a place for the answer, which is owned.
    unsafe {
        let made = raw::sqfs_block_processor_create_ex(&raw const description, &raw mut processor);
        Code::check(made)?;
        Object::own(processor)
    }
}

impl<'a> Image<'a> {
    /// Begins an image that will have `files` files with data of their own.
    pub(crate) fn begin(
        parameters: &Parameters,
        files: usize,
        target: &'a mut dyn WriteAt,
    ) -> Result<Self, WriteError> {
        let algorithm = parameters.compression.algorithm();
        let compressor =
            Compressor::new(parameters.compression, parameters.block_size).map_err(|code| {
                WriteError::Parameters(format!(
                    "squashfs with {} compression: {}; use another Compression=",
                    algorithm.name(),
                    code.text()
                ))
            })?;
        let sink = Sink::new(target);
        match Objects::create(parameters, &compressor, &sink) {
            Ok(objects) => Ok(Self {
                objects,
                files: FileSlots::new(files),
                compressor,
                sink,
            }),
            Err(code) => Err(sink.explain("beginning the image", code)),
        }
    }

    /// Begins the data of file number `slot`, each of which has one use.
    pub(crate) fn begin_file(&mut self, slot: usize, fragment: bool) -> Result<(), WriteError> {
        // Finding duplicates is the caller's: the library would compare 32-bit checksums only, as
        // the target cannot be read back.
        let mut flags = raw::SQFS_BLK_DONT_DEDUPLICATE;
        if !fragment {
            flags |= raw::SQFS_BLK_DONT_FRAGMENT;
        }
        let processor = self.processor();
        let place = self.files.0.get(slot).map(UnsafeCell::get);
        // SAFETY: a slot is empty before its one use, which is checked, and stays where it is until
        // the processor is gone.
        let place = place.filter(|place| unsafe { (**place).is_null() });
        let (Some(processor), Some(place)) = (processor, place) else {
            return Err(self.explain("beginning a file", Code(raw::SQFS_ERROR_SEQUENCE)));
        };
        // SAFETY: a live processor and a place that outlives it.
        let begun = unsafe {
            raw::sqfs_block_processor_begin_file(processor, place, std::ptr::null_mut(), flags)
        };
        self.check("beginning a file", begun)
    }

    /// Adds `bytes` to the file that was begun.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let Some(processor) = self.processor() else {
            return Err(self.explain("writing file data", Code(raw::SQFS_ERROR_SEQUENCE)));
        };
        // SAFETY: a live processor; it copies the bytes before it returns.
        let appended = unsafe {
            raw::sqfs_block_processor_append(processor, bytes.as_ptr().cast(), bytes.len())
        };
        self.check("writing file data", appended)
    }

    /// Ends the file that was begun.
    pub(crate) fn end_file(&mut self) -> Result<(), WriteError> {
        let Some(processor) = self.processor() else {
            return Err(self.explain("ending a file", Code(raw::SQFS_ERROR_SEQUENCE)));
        };
        // SAFETY: a live processor.
        let ended = unsafe { raw::sqfs_block_processor_end_file(processor) };
        self.check("ending a file", ended)
    }

    /// Waits for all data to be written. Only then [`Image::file`] answers.
    pub(crate) fn end_data(&mut self) -> Result<(), WriteError> {
        let Some(processor) = self.objects.processor.take() else {
            return Ok(());
        };
        // SAFETY: a live processor, which is destroyed after this call.
        let finished = unsafe { raw::sqfs_block_processor_finish(processor.pointer()) };
        drop(processor);
        self.check("writing file data", finished)?;
        self.objects.superblock.inode_table_start = self.sink.end();
        Ok(())
    }

    /// Where the data of file number `slot` lies.
    pub(crate) fn file(&self, slot: usize) -> Result<FileLayout, WriteError> {
        let place = self
            .files
            .0
            .get(slot)
            .filter(|_| self.objects.processor.is_none());
        // SAFETY: the processor is gone, so nobody else writes the slot.
        let inode = place.and_then(|place| NonNull::new(unsafe { *place.get() }));
        let inode =
            inode.ok_or_else(|| self.explain("reading a file's layout", Code::UNSUPPORTED))?;
        let mut layout = FileLayout::default();
        let mut start = 0;
        // SAFETY: a file's inode made by the library; its accessors answer for basic and extended
        // ones; `payload_bytes_used` bytes of block sizes lie behind the fixed part.
        unsafe {
            let inode = inode.as_ptr();
            raw::sqfs_inode_get_file_size(inode, &raw mut layout.size);
            raw::sqfs_inode_get_file_block_start(inode, &raw mut start);
            raw::sqfs_inode_get_frag_location(
                inode,
                &raw mut layout.fragment,
                &raw mut layout.fragment_offset,
            );
            if u32::from((*inode).base.type_) == raw::SQFS_INODE_EXT_FILE {
                layout.sparse = (*inode).data.file_ext.sparse;
            }
            let count = usize::try_from((*inode).payload_bytes_used).unwrap_or(0) / 4;
            let blocks = (&raw const (*inode).extra).cast::<u32>();
            layout.blocks = std::slice::from_raw_parts(blocks, count).to_vec();
        }
        layout.start = start;
        if layout.fragment == u32::MAX {
            layout.fragment_offset = 0;
        }
        Ok(layout)
    }

    /// The index of an owner or group in the table of IDs.
    pub(crate) fn id(&mut self, id: u32) -> Result<u16, WriteError> {
        let mut index = 0;
        // SAFETY: a live table, and a place for the answer.
        let found = unsafe {
            raw::sqfs_id_table_id_to_index(self.objects.ids.pointer(), id, &raw mut index)
        };
        self.check("adding an owner (squashfs holds 65,536 of them)", found)?;
        Ok(index)
    }

    /// The index of a set of extended attributes, none of them empty-handed.
    pub(crate) fn xattrs<'b>(
        &mut self,
        pairs: impl Iterator<Item = (&'b CStr, &'b [u8])>,
    ) -> Result<u32, WriteError> {
        let doing = "adding extended attributes";
        let xattrs = self.objects.xattrs.pointer();
        let mut index = 0;
        // SAFETY: a live writer, which copies what it is given; a place for the answer.
        unsafe {
            self.check(doing, raw::sqfs_xattr_writer_begin(xattrs, 0))?;
            for (key, value) in pairs {
                let added = raw::sqfs_xattr_writer_add(
                    xattrs,
                    key.as_ptr(),
                    value.as_ptr().cast(),
                    value.len(),
                );
                self.check(doing, added)?;
            }
            self.check(doing, raw::sqfs_xattr_writer_end(xattrs, &raw mut index))?;
        }
        Ok(index)
    }

    /// Appends an inode as it is stored; where it lies (block offset << 16 | offset in the block).
    pub(crate) fn inode(&mut self, bytes: &[u8]) -> Result<u64, WriteError> {
        let (mut block, mut offset) = (0, 0);
        // SAFETY: a live writer, which copies the bytes; places for the answer.
        let appended = unsafe {
            let table = self.objects.inode_table.pointer();
            raw::sqfs_meta_writer_get_position(table, &raw mut block, &raw mut offset);
            raw::sqfs_meta_writer_append(table, bytes.as_ptr().cast(), bytes.len())
        };
        self.check("writing inodes", appended)?;
        Ok(block << 16 | u64::from(offset))
    }

    /// Writes the listing of a directory: name, inode number, inode place and mode of each entry,
    /// in the order of the names.
    pub(crate) fn listing<'b>(
        &mut self,
        entries: impl Iterator<Item = (&'b CStr, u32, u64, u16)>,
    ) -> Result<Layout, WriteError> {
        let doing = "writing directories";
        let writer = self.objects.directories.pointer();
        // SAFETY: a live writer, which copies the names; what it allocates is read, then freed.
        unsafe {
            self.check(doing, raw::sqfs_dir_writer_begin(writer, 0))?;
            for (name, number, place, mode) in entries {
                let added =
                    raw::sqfs_dir_writer_add_entry(writer, name.as_ptr(), number, place, mode);
                self.check(doing, added)?;
            }
            self.check(doing, raw::sqfs_dir_writer_end(writer))?;
            let (count, index) = self.directory_index(writer)?;
            let overflow = |_| self.explain(doing, Code(raw::SQFS_ERROR_OVERFLOW));
            let place = raw::sqfs_dir_writer_get_dir_reference(writer);
            Ok(Layout {
                block: u32::try_from(place >> 16).map_err(overflow)?,
                offset: u16::try_from(place & 0xffff).unwrap_or_default(),
                size: u32::try_from(raw::sqfs_dir_writer_get_size(writer)).map_err(overflow)?,
                indexes: count,
                index,
            })
        }
    }

    /// The index that the library made for the listing just written.
    ///
    /// # Safety
    /// `writer` is live, and its last listing has ended.
    unsafe fn directory_index(
        &self,
        writer: *mut raw::sqfs_dir_writer_t,
    ) -> Result<(u16, Vec<u8>), WriteError> {
        // An index comes with extended inodes only; 0 as set of attributes asks for one.
        // SAFETY: by this function's own contract. The inode has `payload_bytes_used` bytes of index
        // behind its fixed part, and is freed once.
        unsafe {
            let inode = raw::sqfs_dir_writer_create_inode(writer, 0, 0, 0);
            if inode.is_null() {
                return Err(self.explain("writing directories", Code::ALLOC));
            }
            let count = (*inode).data.dir_ext.inodex_count;
            let length = usize::try_from((*inode).payload_bytes_used).unwrap_or(0);
            let index = (&raw const (*inode).extra).cast::<u8>();
            let index = std::slice::from_raw_parts(index, length).to_vec();
            raw::sqfs_free(inode.cast());
            Ok((count, index))
        }
    }

    /// Writes all tables and the superblock; how many bytes the image has.
    pub(crate) fn finish(
        &mut self,
        inodes: u32,
        root_number: u32,
        root: u64,
    ) -> Result<u64, WriteError> {
        self.objects.superblock.inode_count = inodes;
        self.objects.superblock.root_inode_ref = root;
        self.finish_inodes()?;
        let sink = self.sink.pointer();
        let compressor = self.compressor.pointer();
        let superblock = &raw mut self.objects.superblock;
        // SAFETY: live objects all, and a superblock that only these calls use meanwhile.
        let written = unsafe {
            [
                raw::sqfs_frag_table_write(
                    self.objects.fragments.pointer(),
                    sink,
                    superblock,
                    compressor,
                ),
                raw::sqfs_dir_writer_write_export_table(
                    self.objects.directories.pointer(),
                    sink,
                    compressor,
                    root_number,
                    root,
                    superblock,
                ),
                raw::sqfs_id_table_write(self.objects.ids.pointer(), sink, superblock, compressor),
                raw::sqfs_xattr_writer_flush(
                    self.objects.xattrs.pointer(),
                    sink,
                    superblock,
                    compressor,
                ),
            ]
        };
        for code in written {
            self.check("writing the tables", code)?;
        }
        if self.objects.superblock.export_table_start == NO_TABLE {
            return Err(self.explain("writing the export table", Code::ALLOC));
        }
        // The library says "always" where there are fragments at all; the tails of bigger files have
        // blocks of their own here.
        self.objects.superblock.flags &= !flag(raw::SQFS_FLAG_ALWAYS_FRAGMENTS);
        self.objects.superblock.bytes_used = self.sink.end();
        // SAFETY: a live file; the superblock is only read.
        let code = unsafe { raw::sqfs_super_write(&raw const self.objects.superblock, sink) };
        self.check("writing the superblock", code)?;
        Ok(self.objects.superblock.bytes_used)
    }

    fn finish_inodes(&mut self) -> Result<(), WriteError> {
        let doing = "writing inodes and directories";
        let (inodes, directories) = (
            self.objects.inode_table.pointer(),
            self.objects.directory_table.pointer(),
        );
        // SAFETY: live writers.
        unsafe {
            self.check(doing, raw::sqfs_meta_writer_flush(inodes))?;
            self.check(doing, raw::sqfs_meta_writer_flush(directories))?;
            self.objects.superblock.directory_table_start = self.sink.end();
            self.check(doing, raw::sqfs_meta_write_write_to_file(directories))
        }
    }

    fn processor(&self) -> Option<*mut raw::sqfs_block_processor_t> {
        self.objects.processor.as_ref().map(Object::pointer)
    }

    fn check(&self, doing: &str, code: c_int) -> Result<(), WriteError> {
        Code::check(code)
            .map(|_| ())
            .map_err(|code| self.explain(doing, code))
    }

    fn explain(&self, doing: &str, code: Code) -> WriteError {
        self.sink.explain(doing, code)
    }
}

/// # Safety
/// The writer must be dropped before `sink` and `compressor`.
unsafe fn meta_writer(
    sink: &Sink<'_>,
    compressor: &Compressor,
    flags: u32,
) -> Result<Object<raw::sqfs_meta_writer_t>, Code> {
    // SAFETY: live objects, and what is returned is owned by nobody else.
    unsafe {
        Object::own(raw::sqfs_meta_writer_create(
            sink.pointer(),
            compressor.pointer(),
            flags,
        ))
    }
}

fn flag(bits: u32) -> u16 {
    u16::try_from(bits).unwrap_or_default()
}

fn size(bytes: u32) -> Result<usize, Code> {
    usize::try_from(bytes).map_err(|_| Code::UNSUPPORTED)
}
