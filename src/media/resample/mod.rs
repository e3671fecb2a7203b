//! Between sample rates: streams frame by frame for the live mix and the ears ([`Resampler`]), whole buffers for files
//! and synthesised speech ([`convert`]). Mono throughout; knows nothing of time beyond its own delay.

mod kernel;
mod stream;
mod whole;

pub use stream::{DELAY, Resampler};
pub use whole::{UnusableRate, convert, to_16k};
