//! A folder for the data of a server that lives no longer than a verb: it goes when the verb does.

use crate::io::clock;
use std::io;
use std::path::{Path, PathBuf};

/// The folder could not be made, or does not take a file: the environment.
#[derive(Debug, thiserror::Error)]
#[error("no room for data in {0}: {1}")]
pub struct ScratchError(PathBuf, io::Error);

/// A folder of its own below the system's temporary one.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one, named after the verb.
    pub fn make(verb: &str) -> Result<Scratch, ScratchError> {
        let path = std::env::temp_dir().join(format!("sotto-{verb}-{:016x}", clock::random()));
        std::fs::create_dir(&path).map_err(|e| ScratchError(path.clone(), e))?;
        Ok(Scratch(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Something that is elsewhere appears in it.
    pub fn link(&self, name: &str, to: &Path) -> Result<(), ScratchError> {
        let path = self.0.join(name);
        std::os::unix::fs::symlink(to, &path).map_err(|e| ScratchError(path, e))
    }

    /// A file in it.
    pub fn file(&self, name: &str, text: &str) -> Result<PathBuf, ScratchError> {
        let path = self.0.join(name);
        std::fs::write(&path, text).map_err(|e| ScratchError(path.clone(), e))?;
        Ok(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "a scratch folder stays behind");
        }
    }
}
