//! What is wrong with a configuration: every fault at once, each with its place, what it is and what to do.

use std::cell::RefCell;
use std::fmt;

/// Where something was written: `file:line`, or the name of an environment variable or a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file, or the variable.
    pub name: String,
    /// From 1, where a line is meant.
    pub line: Option<usize>,
}

impl Origin {
    pub(super) fn line(file: &str, line: usize) -> Self {
        Origin { name: file.into(), line: Some(line) }
    }

    pub(super) fn whole(name: impl Into<String>) -> Self {
        Origin { name: name.into(), line: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}; {remedy}")]
pub struct ConfigError {
    /// Where.
    pub at: Origin,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Everything that is wrong, file by file and line by line; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            let end = if i + 1 == self.0.len() { "" } else { "\n" };
            write!(f, "{error}{end}")?;
        }
        Ok(())
    }
}

/// Collects faults while reading goes on, so that one run tells them all.
#[derive(Default)]
pub(super) struct Faults(RefCell<Vec<ConfigError>>);

impl Faults {
    pub(super) fn add(&self, at: &Origin, what: impl Into<String>, remedy: impl Into<String>) {
        self.0.borrow_mut().push(ConfigError { at: at.clone(), what: what.into(), remedy: remedy.into() });
    }

    /// The value, unless something was wrong.
    pub(super) fn settle<T>(self, value: T) -> Result<T, ConfigErrors> {
        let mut faults = self.0.into_inner();
        let mut files: Vec<String> = Vec::new();
        for fault in &faults {
            if !files.contains(&fault.at.name) {
                files.push(fault.at.name.clone());
            }
        }
        faults.sort_by_key(|f| (files.iter().position(|name| *name == f.at.name), f.at.line));
        if faults.is_empty() { Ok(value) } else { Err(ConfigErrors(faults)) }
    }
}
