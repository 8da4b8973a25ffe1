//! Memory that is looked at soon, asked for ahead: a fleet's rows are spread over more memory than the nearer caches hold, and while a
//! system call runs, what it is followed by can be brought.

/// Asks for `memory[place]`, if there is such a place. Only a hint: nothing is read, and where the processor has no such thing
/// nothing happens.
#[inline]
pub fn fetch<T>(memory: &[T], place: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(cell) = memory.get(place) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it reads and writes nothing, whatever the address; this one is that of a live value.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(cell).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (memory, place);
}
