//! Prefetching: asks the processor to load a cell of memory that is read soon.
//!
//! The rows of a large fleet do not fit the processor's near caches. While a system call runs, the
//! row of the next connection can be loaded.

/// Asks the processor to load `cells[index]`, if there is such a cell.
///
/// This is a hint: the program reads nothing. On processors other than x86-64 it does nothing.
#[inline]
pub fn prefetch<T>(cells: &[T], index: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(cell) = cells.get(index) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch neither reads nor writes, and the address is that of a live value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(cell).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (cells, index);
}
