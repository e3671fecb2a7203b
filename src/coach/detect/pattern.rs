//! Phrase patterns: sequences of words, as playbooks write them.
//!
//! `too|very expensive` is one of two words and then a third; `really?` may be missing; `...` is up to four words that
//! do not negate; `{competitor}` is a name of the playbook's list, also slightly misheard; `{amount}` is a number.
//! Everything is matched within one sentence, whatever its case and punctuation.

use super::guard::negates;
use super::words::{Spoken, normal};
use std::ops::Range;
use std::sync::Arc;

/// The longest run of words that `...` stands for.
const GAP: usize = 4;
/// Parts in one pattern: bounds the work of matching.
const MAX_PARTS: usize = 16;

/// A phrase to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    OneOf { choices: Vec<Choice>, optional: bool },
    Gap,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Word(String),
    Competitor,
    Amount,
}

/// Where a pattern was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The words.
    pub places: Range<usize>,
    /// The name that stood for `{competitor}`, as the playbook writes it.
    pub competitor: Option<Arc<str>>,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing to look for.
    #[error("holds no word that must be there")]
    Empty,
    /// Too long.
    #[error("holds more than {MAX_PARTS} words")]
    Long,
    /// A gap with nothing on one side would match anything.
    #[error("begins or ends with ...")]
    OpenGap,
    /// Two gaps without a word between.
    #[error("holds two ... in a row")]
    DoubleGap,
    /// An unknown slot.
    #[error("holds {0}, which is neither {{competitor}} nor {{amount}}")]
    Slot(String),
    /// Something that is no word.
    #[error("holds {0:?}, which is no word")]
    NoWord(String),
}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let parts = text.split_whitespace().map(part).collect::<Result<Vec<_>, _>>()?;
        let needed = |p: &Part| !matches!(p, Part::Gap | Part::OneOf { optional: true, .. });
        if !parts.iter().any(needed) {
            return Err(PatternError::Empty);
        }
        if parts.len() > MAX_PARTS {
            return Err(PatternError::Long);
        }
        if parts.first() == Some(&Part::Gap) || parts.last() == Some(&Part::Gap) {
            return Err(PatternError::OpenGap);
        }
        if parts.windows(2).any(|pair| pair == [Part::Gap, Part::Gap]) {
            return Err(PatternError::DoubleGap);
        }
        Ok(Pattern(parts))
    }

    /// Whether it looks for a competitor's name.
    pub fn names_competitor(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::OneOf { choices, .. } if choices.contains(&Choice::Competitor)))
    }

    /// The first place of a sentence's words, from `from` on, where it is found.
    pub fn find(&self, spoken: &Spoken, places: Range<usize>, competitors: &[Arc<str>]) -> Option<Found> {
        let seeker = Seeker { spoken, end: places.end, competitors };
        places.into_iter().find_map(|start| {
            let mut competitor = None;
            let end = seeker.rest(&self.0, start, &mut competitor)?;
            (end > start).then_some(Found { places: start..end, competitor })
        })
    }
}

fn part(text: &str) -> Result<Part, PatternError> {
    if text == "..." {
        return Ok(Part::Gap);
    }
    let (choices, optional) = text.strip_suffix('?').map_or((text, false), |choices| (choices, true));
    let choices = choices.split('|').map(choice).collect::<Result<_, _>>()?;
    Ok(Part::OneOf { choices, optional })
}

fn choice(text: &str) -> Result<Choice, PatternError> {
    match text {
        "{competitor}" => Ok(Choice::Competitor),
        "{amount}" => Ok(Choice::Amount),
        _ if text.contains(['{', '}']) => Err(PatternError::Slot(text.into())),
        _ => word(text).map(Choice::Word),
    }
}

fn word(text: &str) -> Result<String, PatternError> {
    let word = normal(text);
    let same = word == text.to_lowercase().replace('’', "'") || word == "can't";
    if word.is_empty() || !same || word.contains('-') {
        return Err(PatternError::NoWord(text.into()));
    }
    Ok(word)
}

/// Matches parts against words, trying the longer way where there are two.
struct Seeker<'a> {
    spoken: &'a Spoken,
    end: usize,
    competitors: &'a [Arc<str>],
}

impl Seeker<'_> {
    /// The place after the last word, if all `parts` are found from `at` on.
    fn rest(&self, parts: &[Part], at: usize, competitor: &mut Option<Arc<str>>) -> Option<usize> {
        let Some((part, rest)) = parts.split_first() else { return Some(at) };
        match part {
            Part::OneOf { choices, optional } => {
                let taken = choices.iter().find_map(|choice| self.choice(choice, rest, at, competitor));
                taken.or_else(|| optional.then(|| self.rest(rest, at, competitor)).flatten())
            }
            Part::Gap => self.gap(rest, at, competitor),
        }
    }

    fn choice(&self, choice: &Choice, rest: &[Part], at: usize, competitor: &mut Option<Arc<str>>) -> Option<usize> {
        let heard = self.word(at)?;
        match choice {
            Choice::Word(word) if word == heard => self.rest(rest, at + 1, competitor),
            Choice::Amount if is_amount(heard) => self.rest(rest, at + 1, competitor),
            Choice::Word(_) | Choice::Amount => None,
            Choice::Competitor => {
                let (name, words) = self.competitor(at)?;
                *competitor = Some(name);
                self.rest(rest, at + words, competitor)
            }
        }
    }

    fn gap(&self, rest: &[Part], at: usize, competitor: &mut Option<Arc<str>>) -> Option<usize> {
        for place in at..=at + GAP {
            if let Some(end) = self.rest(rest, place, competitor) {
                return Some(end);
            }
            // What is negated in between is not what the pattern says.
            if self.word(place).is_none_or(negates) {
                return None;
            }
        }
        None
    }

    fn word(&self, at: usize) -> Option<&str> {
        if at < self.end { self.spoken.at(at) } else { None }
    }

    /// The competitor whose name begins here, and how many words it takes: the likest one.
    fn competitor(&self, at: usize) -> Option<(Arc<str>, usize)> {
        let mut best: Option<(usize, &Arc<str>, usize)> = None;
        for name in self.competitors {
            let wanted = joined(name.split_whitespace().map(normal));
            // A recogniser may write one word as two (`north wind`), or two as one.
            for words in 1..=name.split_whitespace().count() + 1 {
                let Some(distance) = self.likeness(at, words, &wanted) else { continue };
                if best.is_none_or(|(least, _, _)| distance < least) {
                    best = Some((distance, name, words));
                }
            }
        }
        best.map(|(_, name, words)| (name.clone(), words))
    }

    /// How many letters differ between the next `words` words and a name, if few enough.
    fn likeness(&self, at: usize, words: usize, wanted: &str) -> Option<usize> {
        let heard = (at..at + words).map(|place| self.word(place)).collect::<Option<Vec<_>>>()?;
        let heard = joined(heard.into_iter().map(|w| w.strip_suffix("'s").unwrap_or(w).to_owned()));
        let allowed = match wanted.chars().count() {
            // Short names lie close to ordinary words.
            0..=4 => 0,
            // Two letters off, `northward` would be Northwind.
            5..=9 => 1,
            _ => 2,
        };
        let allowed = if words == 1 { allowed } else { allowed.min(1) };
        let distance = strsim::osa_distance(&heard, wanted);
        (distance <= allowed).then_some(distance)
    }
}

fn joined(words: impl Iterator<Item = String>) -> String {
    words.collect()
}

/// A number, with or without its currency.
fn is_amount(word: &str) -> bool {
    let digits = word.trim_start_matches(['$', '€', '£']);
    digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pattern: &str, text: &str) -> Option<Found> {
        let names: Vec<Arc<str>> = vec!["Northwind".into(), "Contoso".into(), "Acme".into(), "Blue Yonder Air".into()];
        let spoken = Spoken::new(text);
        Pattern::parse(pattern).unwrap().find(&spoken, 0..spoken.words.len(), &names)
    }

    #[test]
    fn phrases_are_found_as_written() {
        let cases = [
            ("too expensive", "That is TOO expensive.", true),
            ("too expensive", "too very expensive", false),
            ("too|very really? expensive", "very expensive", true),
            ("too|very really? expensive", "very, really expensive", true),
            ("too|very really? expensive", "really expensive", false),
            ("price ... high", "the price is a bit high", true),
            ("price ... high", "price high", true),
            ("price ... high", "the price is one two three four high", false),
            ("price ... high", "the price is not high", false),
            ("{amount} is too much", "$79 is too much", true),
            ("{amount} is too much", "5,000 is too much", true),
            ("{amount} is too much", "he is too much", false),
            ("can't afford", "we cannot afford it", true),
            ("can't afford", "we cant afford it", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(found(pattern, text).is_some(), expected, "{pattern} in {text}");
        }
    }

    #[test]
    fn a_name_is_heard_even_when_slightly_wrong() {
        let cases = [
            ("we use Northwind", Some("Northwind")),
            ("northwind's price", Some("Northwind")),
            ("north wind offered us", Some("Northwind")),
            ("we use northwin", Some("Northwind")),
            ("we go northward", None),
            ("contosso is better", Some("Contoso")),
            ("acne is a disease", None),
            ("acme then", Some("Acme")),
            ("blue yonder air flies", Some("Blue Yonder Air")),
            ("blue yonder", None),
            ("", None),
        ];
        for (text, name) in cases {
            let competitor = found("{competitor}", text).and_then(|f| f.competitor);
            assert_eq!(competitor.as_deref(), name, "{text}");
        }
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        let cases = [
            ("", PatternError::Empty),
            ("really?", PatternError::Empty),
            ("... price", PatternError::OpenGap),
            ("price ...", PatternError::OpenGap),
            ("price ... ... high", PatternError::DoubleGap),
            ("{price} high", PatternError::Slot("{price}".into())),
            ("too, expensive", PatternError::NoWord("too,".into())),
            ("a||b", PatternError::NoWord(String::new())),
            ("low-budget", PatternError::NoWord("low-budget".into())),
        ];
        for (text, error) in cases {
            assert_eq!(Pattern::parse(text), Err(error), "{text}");
        }
        assert_eq!(Pattern::parse(&"a ".repeat(17)), Err(PatternError::Long));
    }
}
