//! Did planning change, visibly?
