//! A hint to the cache.

/// Tells the cache that an entry of a table will be wanted soon; changes nothing.
#[inline]
pub(crate) fn prefetch<T>(table: &[T], id: u32) {
    #[cfg(target_arch = "x86_64")]
    if let Some(entry) = table.get(id as usize) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has SSE, and a prefetch reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(entry).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (table, id);
}
