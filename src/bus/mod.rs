//! Layer `bus`.
