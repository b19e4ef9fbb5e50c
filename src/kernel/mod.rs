//! Layer `kernel`.
