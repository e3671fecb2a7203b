//! What was said as words: lower case, without punctuation or fillers, each knowing its clause and sentence.
//!
//! In goes a recogniser's text, with punctuation or without; out come [`Spoken`] words. Knows nothing of meaning.

/// One word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Lower case; apostrophes straight, negations with theirs (`isn't`, also from `isnt`).
    pub text: String,
    /// Counts the parts between commas, full stops and contrasting words.
    pub clause: usize,
    /// Counts the sentences.
    pub sentence: usize,
}

/// An utterance as words.
#[derive(Clone, Debug, Default)]
pub struct Spoken {
    /// All of them, in order.
    pub words: Vec<Word>,
    sentences: Vec<Sentence>,
}

/// A sentence's text, and whether it ended with a question mark.
#[derive(Clone, Debug, Default)]
struct Sentence {
    text: String,
    question: bool,
}

/// Sounds that are no words.
const FILLERS: [&str; 8] = ["uh", "um", "er", "erm", "ah", "hmm", "mhm", "uhm"];
/// Words that begin a new thought where no comma says so.
const CONTRASTS: [&str; 2] = ["but", "because"];
/// Negations as written by recognisers that drop apostrophes.
const BARE_NEGATIONS: [&str; 15] = [
    "arent", "cant", "couldnt", "didnt", "doesnt", "dont", "hadnt", "hasnt", "havent", "isnt", "shouldnt", "wasnt",
    "werent", "wont", "wouldnt",
];

impl Spoken {
    /// Takes a text apart. Never more than its own size.
    pub fn new(text: &str) -> Self {
        let mut spoken = Spoken { words: Vec::new(), sentences: vec![Sentence::default()] };
        let mut clause = 0;
        for piece in text.split_whitespace() {
            let sentence = spoken.sentences.len() - 1;
            for part in piece.split(['-', '–', '—', '/']) {
                spoken.push(part, &mut clause, sentence);
            }
            spoken.close(piece, &mut clause);
        }
        spoken
    }

    fn push(&mut self, part: &str, clause: &mut usize, sentence: usize) {
        let text = normal(part);
        if text.is_empty() || FILLERS.contains(&text.as_str()) {
            return;
        }
        if CONTRASTS.contains(&text.as_str()) {
            *clause += 1;
        }
        self.words.push(Word { text, clause: *clause, sentence });
    }

    /// Adds the piece to its sentence, and ends clause or sentence where its last character does.
    fn close(&mut self, piece: &str, clause: &mut usize) {
        let Some(current) = self.sentences.last_mut() else { return };
        if !current.text.is_empty() {
            current.text.push(' ');
        }
        current.text.push_str(piece);
        match piece.trim_end_matches(['"', '\'', ')', '”', '’']).chars().last() {
            Some(end @ ('.' | '!' | '?' | '…')) => {
                current.question = end == '?';
                *clause += 1;
                self.sentences.push(Sentence::default());
            }
            Some(',' | ';' | ':' | '-' | '–' | '—') => *clause += 1,
            Some(_) | None => {}
        }
    }

    /// A sentence as it was written.
    pub fn sentence(&self, sentence: usize) -> &str {
        self.sentences.get(sentence).map_or("", |s| s.text.as_str())
    }

    /// Whether it ended with a question mark.
    pub fn is_question(&self, sentence: usize) -> bool {
        self.sentences.get(sentence).is_some_and(|s| s.question)
    }

    /// The words of a sentence, by their places.
    pub fn places(&self, sentence: usize) -> std::ops::Range<usize> {
        let start = self.words.partition_point(|w| w.sentence < sentence);
        start..self.words.partition_point(|w| w.sentence <= sentence)
    }

    /// The word at a place.
    pub fn at(&self, place: usize) -> Option<&str> {
        self.words.get(place).map(|w| w.text.as_str())
    }
}

/// A word as patterns know it, empty where nothing is left.
pub fn normal(piece: &str) -> String {
    let lower: String = piece.to_lowercase().replace(['’', '‘', 'ʼ'], "'");
    let kept = |c: char| c.is_alphanumeric() || matches!(c, '$' | '€' | '£' | '%');
    let word = lower.trim_matches(|c: char| !kept(c));
    // `5,000` and `5000` are one amount.
    if word.chars().any(|c| c.is_ascii_digit()) {
        return word.replace(',', "");
    }
    if word == "cannot" {
        return "can't".into();
    }
    match word.strip_suffix('t') {
        Some(stem) if BARE_NEGATIONS.contains(&word) => format!("{stem}'t"),
        Some(_) | None => word.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(spoken: &Spoken) -> Vec<&str> {
        spoken.words.iter().map(|w| w.text.as_str()).collect()
    }

    #[test]
    fn words_lose_case_punctuation_and_fillers() {
        let cases = [
            ("That is, uh, too EXPENSIVE!", vec!["that", "is", "too", "expensive"]),
            ("It isn’t $5,000 – it cannot be.", vec!["it", "isn't", "$5000", "it", "can't", "be"]),
            ("we dont want a low-budget film", vec!["we", "don't", "want", "a", "low", "budget", "film"]),
            ("20% off", vec!["20%", "off"]),
            ("", vec![]),
            ("... --- ,", vec![]),
        ];
        for (text, words) in cases {
            assert_eq!(texts(&Spoken::new(text)), words, "{text}");
        }
    }

    #[test]
    fn clauses_and_sentences_are_counted() {
        let spoken = Spoken::new("No, it is $79.99. Fine but why? Ok");
        let places: Vec<_> = spoken.words.iter().map(|w| (w.text.as_str(), w.clause, w.sentence)).collect();
        let expected = [
            ("no", 0, 0),
            ("it", 1, 0),
            ("is", 1, 0),
            ("$79.99", 1, 0),
            ("fine", 2, 1),
            ("but", 3, 1),
            ("why", 3, 1),
            ("ok", 4, 2),
        ];
        assert_eq!(places, expected);
        assert_eq!(spoken.sentence(1), "Fine but why?");
        assert!(spoken.is_question(1) && !spoken.is_question(0) && !spoken.is_question(9));
        assert_eq!(spoken.places(1), 4..7);
    }
}
