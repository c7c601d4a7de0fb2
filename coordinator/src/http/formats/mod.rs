//! Results as bytes that clients read.
