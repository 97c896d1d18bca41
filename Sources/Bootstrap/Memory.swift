internal import CMalloc

/// How the process asks the system for memory.
enum Memory {
    /// Keeps blocks of 128 KB and more outside malloc's heap, so that a large body's memory goes back to the system when the
    /// body is done.
    ///
    /// glibc starts so, but raises the threshold to the largest block it has seen freed, up to 32 MB, and its heaps then
    /// fragment: 64 connections that post 1 MB each cost 190 MB without this line and 85 MB with it (glibc manual,
    /// "Memory Allocation Tunables").
    static func returnLargeBlocks() {
        _ = mallopt(M_MMAP_THRESHOLD, 128 << 10)
    }
}
