//! GDAL's virtual file systems: those that would reach a network or a pipe are closed, and one of ours
//! serves [`RemoteFile`]s.
//!
//! A file is mounted under a number, and only while its dataset is open: no text that GDAL reads out of
//! a file can name one.
#![allow(unsafe_code, reason = "GDAL takes its file systems as C callbacks")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gdal_sys::{VSIStatBufL, vsi_l_offset};

use super::super::remote::RemoteFile;

/// Where remote files appear.
const PREFIX: &CStr = c"/vsigraticule/";

/// Remote files that are mounted, by number.
static MOUNTED: Mutex<BTreeMap<u64, Arc<RemoteFile>>> = Mutex::new(BTreeMap::new());

/// A remote file that GDAL can open, until this is dropped.
#[derive(Debug)]
pub(super) struct Mount {
    number: u64,
    pub(super) file: Arc<RemoteFile>,
}

impl Mount {
    pub(super) fn new(file: RemoteFile) -> Mount {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (number, file) = (NEXT.fetch_add(1, Ordering::Relaxed), Arc::new(file));
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).insert(number, file.clone());
        Mount { number, file }
    }

    /// Its name for GDAL.
    pub(super) fn name(&self) -> String {
        format!("{}{}", PREFIX.to_string_lossy(), self.number)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.number);
    }
}

/// Names under which GDAL would open connections, or read what belongs to the process.
const CLOSED: &[&CStr] = &[
    c"/vsicurl/",
    c"/vsicurl?",
    c"/vsicurl_streaming/",
    c"/vsis3/",
    c"/vsis3_streaming/",
    c"/vsigs/",
    c"/vsigs_streaming/",
    c"/vsiaz/",
    c"/vsiaz_streaming/",
    c"/vsiadls/",
    c"/vsioss/",
    c"/vsioss_streaming/",
    c"/vsiswift/",
    c"/vsiswift_streaming/",
    c"/vsihdfs/",
    c"/vsiwebhdfs/",
    c"/vsistdin/",
    c"/vsistdin?",
    c"/vsistdout/",
    c"/vsistdout_redirect/",
    c"/vsicrypt/",
];

/// Mounts our file system, and puts a handler that opens nothing in the place of each of [`CLOSED`].
pub(super) fn install() {
    for prefix in CLOSED.iter().chain(&[PREFIX]) {
        let is_ours = *prefix == PREFIX;
        // SAFETY: the struct is GDAL's own, zeroed but for what is set here, complete before it is handed
        // over, and freed by the function that belongs to it; GDAL copies it. It keeps the pointer to the
        // prefix for as long as the process lives, and so long a constant does. The callbacks keep to the signatures of the bindings and use no user data.
        unsafe {
            let callbacks = gdal_sys::VSIAllocFilesystemPluginCallbacksStruct();
            (*callbacks).open = Some(if is_ours { open } else { refuse });
            if is_ours {
                (*callbacks).stat = Some(stat);
                (*callbacks).tell = Some(tell);
                (*callbacks).seek = Some(seek);
                (*callbacks).read = Some(read);
                (*callbacks).eof = Some(eof);
                (*callbacks).close = Some(close);
            }
            gdal_sys::VSIInstallPluginHandler(prefix.as_ptr(), callbacks);
            gdal_sys::VSIFreeFilesystemPluginCallbacksStruct(callbacks);
        }
    }
}

unsafe extern "C" fn refuse(_: *mut c_void, _: *const c_char, _: *const c_char) -> *mut c_void {
    ptr::null_mut()
}

/// An open file as GDAL holds it. It uses one from one thread at a time.
struct Cursor {
    file: Arc<RemoteFile>,
    at: u64,
    is_at_end: bool,
}

/// The file that is mounted under a name, which comes without the prefix.
///
/// # Safety
/// `name` is a C string or null.
unsafe fn mounted(name: *const c_char) -> Option<Arc<RemoteFile>> {
    if name.is_null() {
        return None;
    }
    // SAFETY: as promised by the caller, and not kept.
    let name = unsafe { CStr::from_ptr(name) }.to_str().ok()?;
    let number = name.parse().ok()?;
    MOUNTED.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
}

unsafe extern "C" fn open(_: *mut c_void, name: *const c_char, access: *const c_char) -> *mut c_void {
    // SAFETY: GDAL hands over C strings that live during the call.
    let (file, is_read) = unsafe {
        let is_read =
            !access.is_null() && !CStr::from_ptr(access).to_bytes().iter().any(|c| b"wa+".contains(c));
        (mounted(name), is_read)
    };
    match file {
        Some(file) if is_read => Box::into_raw(Box::new(Cursor { file, at: 0, is_at_end: false })).cast(),
        _ => ptr::null_mut(),
    }
}

unsafe extern "C" fn stat(_: *mut c_void, name: *const c_char, status: *mut VSIStatBufL, _: c_int) -> c_int {
    // SAFETY: GDAL hands over a C string that lives during the call.
    let Some(file) = (unsafe { mounted(name) }) else { return -1 };
    let Ok(length) = i64::try_from(file.length()) else { return -1 };
    // SAFETY: GDAL hands over a zeroed buffer; the bindings leave the type open that is `struct stat64`
    // of the C library GDAL is built for, and so is this.
    unsafe {
        let status: *mut libc::stat64 = status.cast();
        (*status).st_size = length;
        (*status).st_mode = libc::S_IFREG;
    }
    0
}

/// # Safety
/// `file` came from [`open`], was not closed, and is used by no other thread.
unsafe fn cursor<'a>(file: *mut c_void) -> &'a mut Cursor {
    // SAFETY: as promised by the caller; `open` made it from a box of this type.
    unsafe { &mut *file.cast() }
}

unsafe extern "C" fn tell(file: *mut c_void) -> vsi_l_offset {
    // SAFETY: GDAL calls with what `open` gave it, from one thread at a time.
    unsafe { cursor(file) }.at
}

unsafe extern "C" fn seek(file: *mut c_void, offset: vsi_l_offset, whence: c_int) -> c_int {
    // SAFETY: as in `tell`.
    let cursor = unsafe { cursor(file) };
    let base = match whence {
        libc::SEEK_SET => 0,
        libc::SEEK_CUR => cursor.at,
        libc::SEEK_END => cursor.file.length(),
        _ => return -1,
    };
    // GDAL passes steps backwards as what wraps round.
    cursor.at = base.wrapping_add(offset);
    cursor.is_at_end = false;
    0
}

unsafe extern "C" fn read(file: *mut c_void, buffer: *mut c_void, size: usize, count: usize) -> usize {
    // SAFETY: as in `tell`.
    let cursor = unsafe { cursor(file) };
    let Some(len) = size.checked_mul(count).filter(|len| *len > 0 && !buffer.is_null()) else { return 0 };
    // SAFETY: GDAL hands over `size * count` bytes to write to. They are set before a slice of them is
    // made, because GDAL may not have done so.
    let bytes = unsafe {
        ptr::write_bytes(buffer.cast::<u8>(), 0, len);
        std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len)
    };
    // A panic must not pass through C.
    let read = catch_unwind(AssertUnwindSafe(|| cursor.file.read_at(cursor.at, bytes))).unwrap_or(None);
    let Some(read) = read else { return 0 };
    cursor.at += read as u64;
    cursor.is_at_end = read < len;
    read / size
}

unsafe extern "C" fn eof(file: *mut c_void) -> c_int {
    // SAFETY: as in `tell`.
    unsafe { cursor(file) }.is_at_end.into()
}

unsafe extern "C" fn close(file: *mut c_void) -> c_int {
    // SAFETY: as in `tell`; GDAL does not use it again.
    drop(unsafe { Box::from_raw(file.cast::<Cursor>()) });
    0
}
