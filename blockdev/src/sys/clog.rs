//! A callback that libraries in C give their messages to.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};

thread_local! {
    static MESSAGES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// How many messages are kept until somebody takes them.
const KEPT: usize = 64;

/// Keeps a message for the thread that causes it.
///
/// # Safety
///
/// `message` is null, or text that ends with NUL.
pub unsafe extern "C" fn keep(_level: c_int, message: *const c_char, _user: *mut c_void) {
    if message.is_null() {
        return;
    }
    // SAFETY: not null, and it ends with NUL as the caller promises.
    let text = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    // A thread that ends keeps nothing more.
    let _ = MESSAGES.try_with(|messages| {
        let mut messages = messages.borrow_mut();
        if messages.len() < KEPT {
            messages.push(text.trim().to_owned());
        }
    });
}

/// What this thread's calls have said since the last time.
pub(crate) fn take() -> Vec<String> {
    MESSAGES.take()
}
