//! Inputs for readers, from a seed: good ones broken in a few places, two grown together, or noise.

use sotto::media::seed::Seed;
use std::path::Path;

/// What is put in where text is read: what is beside the limits of numbers, and what parts things.
const PIECES: [&[u8]; 16] = [
    b"\r\n",
    b"\r\n ",
    b"\r\n\r\n",
    b";",
    b",",
    b"\"",
    b"<",
    b">",
    b"=",
    b"%00",
    b"0",
    b"-1",
    b"65536",
    b"4294967296",
    b"99999999999999999999",
    b"\xC3\x28",
];

/// How many inputs each reader is given: few where every change is tested, `SOTTO_HOSTILE_INPUTS` where that is set.
pub fn inputs() -> u32 {
    std::env::var("SOTTO_HOSTILE_INPUTS").map_or(50_000, |n| n.parse().expect("SOTTO_HOSTILE_INPUTS is a number"))
}

/// The good ones: the corpora of the fuzz targets.
pub fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<_> = std::fs::read_dir(&path).unwrap().map(|f| f.unwrap().path()).collect();
    // The same order everywhere, so that a seed says everything.
    files.sort();
    let bytes: Vec<_> = files.into_iter().map(|f| std::fs::read(f).unwrap()).collect();
    assert!(!bytes.is_empty(), "{}", path.display());
    bytes
}

/// The next input; noise has `longest` bytes at most.
pub fn input(seed: &mut Seed, good: &[Vec<u8>], longest: u64) -> Vec<u8> {
    let mut bytes = match good.get(seed.below(good.len() as u64 + 1) as usize) {
        Some(good) => good.clone(),
        None => (0..seed.below(longest)).map(|_| seed.bits() as u8).collect(),
    };
    for _ in 0..seed.below(4) {
        damage(seed, &mut bytes, good);
    }
    bytes
}

fn damage(seed: &mut Seed, bytes: &mut Vec<u8>, good: &[Vec<u8>]) {
    let at = seed.below(bytes.len() as u64 + 1) as usize;
    let end = (at + seed.below(20) as usize).min(bytes.len());
    match seed.below(7) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, seed.bits() as u8),
        2 => drop(bytes.drain(at..end)),
        3 => drop(bytes.splice(at..at, PIECES[seed.below(PIECES.len() as u64) as usize].iter().copied())),
        4 => {
            let again = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, again));
        }
        5 => {
            let other = &good[seed.below(good.len() as u64) as usize];
            let from = seed.below(other.len() as u64 + 1) as usize;
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => bytes.iter_mut().skip(at).take(1).for_each(|b| *b = seed.bits() as u8),
    }
}
