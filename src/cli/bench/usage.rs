//! What a thread of this process has used, as /proc tells it (proc(5)), and what the process holds on its heap.

use rustix::thread::gettid;
use std::fs;
use std::io;
use std::ops::Sub;
use std::time::Duration;

/// Of `utime` and `stime`: the same on every Linux we run on (getconf CLK_TCK).
const TICKS_A_SECOND: f64 = 100.0;
/// Seconds of a thread's time below which it is not worth telling apart.
const ENOUGH: f64 = 1.0;

/// A thread of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thread(i32);

impl Thread {
    /// The calling thread.
    pub fn own() -> Thread {
        Thread(gettid().as_raw_nonzero().get())
    }

    /// The youngest of this name.
    pub fn named(name: &str) -> io::Result<Thread> {
        let mut youngest = None;
        for entry in fs::read_dir("/proc/self/task")? {
            let thread = entry?.file_name().to_string_lossy().parse().map(Thread).ok();
            let its_name = |t: &Thread| fs::read_to_string(t.file("comm")).unwrap_or_default();
            youngest = youngest.max(thread.filter(|t| its_name(t).trim_end() == name));
        }
        youngest.ok_or_else(|| io::Error::other(format!("there is no thread {name}")))
    }

    /// What it has used until now.
    pub fn usage(self) -> io::Result<Usage> {
        let (scheduled, stat, status) = (self.read("schedstat")?, self.read("stat")?, self.read("status")?);
        let [cpu, waited] = numbers(&scheduled, [0, 1]);
        // After the name, which may hold anything (proc(5)): the fields from the third on.
        let [user, system] = numbers(stat.rsplit_once(')').map_or("", |(_, rest)| rest), [11, 12]);
        let switches = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches(':').trim().parse::<u64>().unwrap_or(0)
        };
        Ok(Usage {
            cpu: Duration::from_nanos(cpu as u64),
            waited: Duration::from_nanos(waited as u64),
            user: user / TICKS_A_SECOND,
            system: system / TICKS_A_SECOND,
            switches: switches("voluntary_ctxt_switches") + switches("nonvoluntary_ctxt_switches"),
        })
    }

    fn file(self, name: &str) -> String {
        format!("/proc/self/task/{}/{name}", self.0)
    }

    fn read(self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.file(name))
    }
}

fn numbers<const N: usize>(text: &str, at: [usize; N]) -> [f64; N] {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    at.map(|n| fields.get(n).and_then(|f| f.parse().ok()).unwrap_or(0.0))
}

/// What a thread has used, since its start or between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Time on a core.
    pub cpu: Duration,
    /// Time it was ready and had no core.
    pub waited: Duration,
    /// Seconds in the program and in the kernel, as the kernel samples them: for their proportion.
    user: f64,
    system: f64,
    /// Context switches.
    pub switches: u64,
}

impl Usage {
    /// Which part of it was the kernel's; `None` where it is too little to tell by a hundred samples a second.
    pub fn system_share(&self) -> Option<f64> {
        let both = self.user + self.system;
        (both >= ENOUGH).then(|| self.system / both)
    }
}

impl Sub for Usage {
    type Output = Usage;
    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            waited: self.waited.saturating_sub(before.waited),
            user: self.user - before.user,
            system: self.system - before.system,
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

/// Bytes of the heap in use, all threads together; `None` where the allocator does not tell.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
pub fn heap() -> Option<u64> {
    // SAFETY: takes nothing, and reads the allocator's own counters under the allocator's own locks (mallinfo(3)).
    let info = unsafe { libc::mallinfo2() };
    Some((info.uordblks + info.hblkhd) as u64)
}

/// Bytes of the heap in use, all threads together; `None` where the allocator does not tell.
#[cfg(not(target_env = "gnu"))]
pub fn heap() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::clock;

    #[test]
    fn a_thread_that_works_has_used_its_time() {
        let worker = std::thread::Builder::new().name("a-busy-one".into()).spawn(|| {
            let (begin, before) = (clock::now(), Thread::own().usage().unwrap());
            assert_eq!(Thread::named("a-busy-one").unwrap(), Thread::own());
            while (Thread::own().usage().unwrap() - before).cpu < Duration::from_millis(30) {
                assert!(begin.elapsed() < Duration::from_secs(60), "it never got its 30 ms");
            }
            let used = Thread::own().usage().unwrap() - before;
            assert!(used.cpu <= begin.elapsed() + Duration::from_millis(5), "{used:?}");
            assert_eq!(used.system_share(), None, "30 ms are no sample");
            let sampled = Usage { user: 0.5, system: 1.5, ..used };
            assert_eq!(sampled.system_share(), Some(0.75));
        });
        worker.unwrap().join().unwrap();
        assert!(Thread::named("nobody-is-called-this").is_err());
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_allocated_is_counted() {
        let before = heap().unwrap();
        let held = vec![1u8; 64_000_000];
        // Other tests of this process allocate and free too, but not as much.
        assert!(heap().unwrap() > before + 32_000_000);
        drop(std::hint::black_box(held));
    }
}
