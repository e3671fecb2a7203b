//! Word error rate: how many words of a reference were heard wrongly, missed or invented.

#![allow(dead_code, reason = "every test uses its own part")]

use std::ops::AddAssign;

/// Words as they count: lower case, no punctuation; `$`, `%` and apostrophes stay, a comma inside a number goes.
pub fn words(text: &str) -> Vec<String> {
    let text: String = text.to_lowercase().chars().filter(|c| *c != ',').collect();
    let counts = |c: char| c.is_ascii_alphanumeric() || "$%'".contains(c);
    text.split(|c| !counts(c)).filter(|w| !w.is_empty()).map(String::from).collect()
}

/// Errors against a reference of so many words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    pub substituted: usize,
    pub missed: usize,
    pub invented: usize,
    pub words: usize,
}

impl Errors {
    /// The least number of errors that turn `reference` into `heard`, over the whole of both.
    pub fn between(reference: &str, heard: &str) -> Errors {
        let (reference, heard) = (words(reference), words(heard));
        // One row of the edit-distance table: the best way to each prefix of what was heard.
        let mut row: Vec<Errors> = (0..=heard.len()).map(|n| Errors { invented: n, ..Errors::default() }).collect();
        for (n, wanted) in reference.iter().enumerate() {
            let mut diagonal = row[0];
            row[0].missed = n + 1;
            for (m, got) in heard.iter().enumerate() {
                let kept = Errors { substituted: diagonal.substituted + usize::from(wanted != got), ..diagonal };
                let missed = Errors { missed: row[m + 1].missed + 1, ..row[m + 1] };
                let invented = Errors { invented: row[m].invented + 1, ..row[m] };
                diagonal = row[m + 1];
                row[m + 1] = [kept, missed, invented].into_iter().min_by_key(|e| e.count()).unwrap();
            }
        }
        Errors { words: reference.len(), ..row[heard.len()] }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.substituted + self.missed + self.invented
    }

    /// In per cent of the reference's words.
    pub fn percent(&self) -> f64 {
        100.0 * self.count() as f64 / self.words.max(1) as f64
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Errors) {
        self.substituted += other.substituted;
        self.missed += other.missed;
        self.invented += other.invented;
        self.words += other.words;
    }
}

#[test]
fn errors_are_counted_by_kind() {
    let errors = Errors::between("It's $2,000, or 15% off.", "its $2000 or or 15 off now");
    assert_eq!(errors, Errors { substituted: 2, missed: 0, invented: 2, words: 5 });
    assert_eq!(Errors::between("one two three", "").missed, 3);
    assert_eq!(Errors::between("Okay, go ahead.", "okay go ahead").count(), 0);
}
