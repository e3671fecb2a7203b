//! A core for each media thread: its caches stay warm, and no other media thread waits for it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;

/// Why a thread has no core of its own.
#[derive(Debug)]
pub(super) enum NoCore {
    /// The environment: there are more media threads than cores we may use.
    TooFew(usize),
    /// The environment: the kernel or a sandbox refuses.
    Refused(rustix::io::Errno),
}

impl fmt::Display for NoCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCore::TooFew(cores) => write!(f, "[media] shards is more than the {cores} cores there are"),
            NoCore::Refused(error) => write!(f, "the kernel gives it no core of its own: {error}"),
        }
    }
}

/// Binds the calling thread to a core, `number` from the last of those this process may use: interrupts like the first.
pub(super) fn take(number: usize, of: usize) -> Result<(), NoCore> {
    let allowed = sched_getaffinity(None).map_err(NoCore::Refused)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).rev().filter(|core| allowed.is_set(*core)).collect();
    let core = cores.get(number).filter(|_| of <= cores.len()).ok_or(NoCore::TooFew(cores.len()))?;
    let mut own = CpuSet::new();
    own.set(*core);
    sched_setaffinity(None, &own).map_err(NoCore::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_one_core_or_says_why_not() {
        std::thread::spawn(|| {
            let before = sched_getaffinity(None).unwrap().count();
            let most = before as usize + 1;
            assert!(matches!(take(0, most), Err(NoCore::TooFew(_))));
            assert_eq!(sched_getaffinity(None).unwrap().count(), before, "nothing is changed by a refusal");
            take(0, 1).unwrap();
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        })
        .join()
        .unwrap();
    }
}
