//! GDAL's virtual file systems: those that would reach a network or a pipe are closed.
#![allow(unsafe_code, reason = "GDAL takes its file systems as C callbacks")]

use std::ffi::{CString, c_char, c_void};
use std::ptr;

/// Names under which GDAL would open connections, or read what belongs to the process.
const CLOSED: &[&str] = &[
    "/vsicurl/",
    "/vsicurl?",
    "/vsicurl_streaming/",
    "/vsis3/",
    "/vsis3_streaming/",
    "/vsigs/",
    "/vsigs_streaming/",
    "/vsiaz/",
    "/vsiaz_streaming/",
    "/vsiadls/",
    "/vsioss/",
    "/vsioss_streaming/",
    "/vsiswift/",
    "/vsiswift_streaming/",
    "/vsihdfs/",
    "/vsiwebhdfs/",
    "/vsistdin/",
    "/vsistdin?",
    "/vsistdout/",
    "/vsistdout_redirect/",
    "/vsicrypt/",
];

/// Puts a handler that opens nothing in the place of each of [`CLOSED`].
pub(super) fn install() {
    for prefix in CLOSED {
        let prefix = CString::new(*prefix).expect("a constant without NUL");
        // SAFETY: the struct is GDAL's own, complete before it is handed over and freed by the function
        // that belongs to it; GDAL copies both it and the prefix. The one callback set keeps nothing.
        unsafe {
            let callbacks = gdal_sys::VSIAllocFilesystemPluginCallbacksStruct();
            (*callbacks).open = Some(refuse);
            gdal_sys::VSIInstallPluginHandler(prefix.as_ptr(), callbacks);
            gdal_sys::VSIFreeFilesystemPluginCallbacksStruct(callbacks);
        }
    }
}

unsafe extern "C" fn refuse(_: *mut c_void, _: *const c_char, _: *const c_char) -> *mut c_void {
    ptr::null_mut()
}
