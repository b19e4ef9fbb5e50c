//! Plan: what is to be done, and what is refused and why.
