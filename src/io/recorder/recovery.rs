//! What a dead process left behind: files are mended, and it is found out how far they go.

use super::{path, playback, wav};
use crate::config::Format;
use crate::id::{CallId, LegId, Tenant};
use crate::media::pcm::Rate;
use crate::time::MediaTime;
use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Mends the recording of a call that was being written when its process died, and answers where it ends; none where it
/// is gone, or nothing of it can be read.
pub fn recover(store: &Path, tenant: &Tenant, call: CallId, leg: Option<LegId>) -> Option<MediaTime> {
    [Format::Wav, Format::Opus].into_iter().find_map(|format| {
        let path = path(store, tenant, call, leg, format);
        let file = OpenOptions::new().read(true).write(true).open(&path).ok()?;
        let mended = mend(file, format);
        if let Err(error) = &mended {
            tracing::warn!(path = %path.display(), %error, "a recording that was being written cannot be read");
        }
        mended.ok()
    })
}

fn mend(file: File, format: Format) -> io::Result<MediaTime> {
    let (hz, samples) = match format {
        Format::Wav => wav::mend(&file).map(|(shape, samples)| (shape.hz, samples))?,
        Format::Opus => playback::mend(file).map(|(rate, samples)| (rate.hz(), samples))?,
    };
    let hz = i64::from(hz.clamp(1, Rate::Full.hz()));
    Ok(MediaTime(samples.saturating_mul(i64::from(Rate::Full.hz())) / hz))
}
