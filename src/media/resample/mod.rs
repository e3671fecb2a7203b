//! Between sample rates: streams frame by frame for the live mix ([`Resampler`]) and for the detector of speech
//! ([`Upsampler`]), whole buffers for files and synthesised speech ([`convert`]). Mono throughout; knows nothing of time beyond its own delay.

mod kernel;
mod stream;
mod upsampler;
mod whole;

pub use stream::{DELAY, Resampler};
pub use upsampler::Upsampler;
pub use whole::{UnusableRate, convert, to_16k};
