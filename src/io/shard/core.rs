//! A core for each media thread: its caches stay warm, and no other media thread waits for it.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::fmt;

/// Cores that must be left for everybody else (SIP, listening, disks). Where there are fewer, a bound thread waits for its
/// core while the other is free: on two busy cores that was measured to cost up to twice the CPU of an unbound one.
const OTHERS: usize = 2;

/// Why a thread has no core of its own.
#[derive(Debug, PartialEq)]
pub(super) enum NoCore {
    /// The environment: too few cores are left for everybody else.
    TooFew(usize),
    /// The environment: the kernel or a sandbox refuses.
    Refused(rustix::io::Errno),
}

impl fmt::Display for NoCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoCore::TooFew(cores) => {
                write!(f, "of {cores} cores, [media] shards leaves fewer than {OTHERS} for everything else")
            }
            NoCore::Refused(error) => write!(f, "the kernel gives it no core of its own: {error}"),
        }
    }
}

/// Binds the calling thread to a core of its own, if it can have one.
pub(super) fn take(number: usize, of: usize) -> Result<(), NoCore> {
    let allowed = sched_getaffinity(None).map_err(NoCore::Refused)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    let mut own = CpuSet::new();
    own.set(choose(number, of, &cores)?);
    sched_setaffinity(None, &own).map_err(NoCore::Refused)
}

/// The core for thread `number` of `of`, counted from the last: interrupts like the first.
fn choose(number: usize, of: usize, cores: &[usize]) -> Result<usize, NoCore> {
    let enough = of + OTHERS <= cores.len();
    cores.iter().rev().nth(number).copied().filter(|_| enough && number < of).ok_or(NoCore::TooFew(cores.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_for_each_while_two_are_left() {
        let rows: [(usize, usize, &[usize], Option<usize>); 7] = [
            (0, 1, &[0, 1, 2], Some(2)),
            (0, 2, &[0, 1, 2, 3], Some(3)),
            (1, 2, &[0, 1, 2, 3], Some(2)),
            (0, 1, &[4, 6, 9], Some(9)),
            (0, 1, &[0, 1], None),
            (1, 2, &[0, 1, 2], None),
            (0, 1, &[], None),
        ];
        for (number, of, cores, expected) in rows {
            let wanted = expected.ok_or(NoCore::TooFew(cores.len()));
            assert_eq!(choose(number, of, cores), wanted, "thread {number} of {of} on {cores:?}");
        }
    }

    #[test]
    fn a_thread_that_can_be_bound_is_on_one_core_and_another_keeps_all() {
        std::thread::spawn(|| {
            let before = sched_getaffinity(None).unwrap().count();
            match take(0, 1) {
                Ok(()) => assert_eq!(sched_getaffinity(None).unwrap().count(), 1),
                Err(NoCore::TooFew(cores)) => {
                    assert!(cores < 1 + OTHERS);
                    assert_eq!(sched_getaffinity(None).unwrap().count(), before);
                }
                Err(NoCore::Refused(error)) => panic!("{error}"),
            }
        })
        .join()
        .unwrap();
    }
}
