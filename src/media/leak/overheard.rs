//! Tells whether what is said on one line comes back by others: what was said and what the others brought, 20 ms of both at
//! a time, in; the lag of what came back out. Unlike the guard it changes nothing.
//!
//! It comes back by a telephone, a conference and two networks, later than any room's echo: three searches look for it, each
//! in what was said 240 ms before that of the last, and cover 790 ms together.

use super::search::Search;
use crate::media::FRAME;

/// How many searches, and how many frames lie between them: less than the 310 ms that each covers.
const SEARCHES: usize = 3;
const APART: usize = 12;
/// Frames of what was said that are remembered.
const PAST: usize = (SEARCHES - 1) * APART + 1;

/// One line's listener.
pub struct Overheard {
    searches: [Box<Search>; SEARCHES],
    said: Box<[[i16; FRAME]; PAST]>,
    at: usize,
}

impl Default for Overheard {
    fn default() -> Self {
        Overheard { searches: Default::default(), said: Box::new([[0; FRAME]; PAST]), at: 0 }
    }
}

impl Overheard {
    /// Both at 8 kHz. Answers the lag in milliseconds where the one is found in the other. Costs next to nothing while
    /// nothing was said of late.
    pub fn hear(&mut self, said: &[i16; FRAME], heard: &[i16; FRAME]) -> Option<usize> {
        let Overheard { searches, said: past, at } = self;
        *at = (*at + 1) % PAST;
        past[*at] = *said;
        let mut found = None;
        for (n, search) in searches.iter_mut().enumerate() {
            search.take(&past[(*at + PAST - n * APART) % PAST], heard);
            if found.is_none() && search.could_be_found() {
                found = search.look(0..0).map(|echo| echo.lag / 8 + n * APART * 20);
            }
        }
        found
    }
}
