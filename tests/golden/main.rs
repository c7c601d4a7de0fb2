//! Golden tests: arrays that an independent numpy.ma program computed, and plans as text.

mod arrays;
mod compat;
mod manual;
mod plans;
