//! What libraries in C have to say: kept for the caller instead of printed.

/// Give this to a library as the function that its messages go to (level, text, a pointer that is
/// not used).
pub use crate::sys::clog::keep;

/// The messages of this thread's calls since the last time, in order.
pub fn take() -> Vec<String> {
    crate::sys::clog::take()
}
