//! A text that must not be seen.

/// A secret: `Debug` shows nothing, comparison takes the same time whatever differs.
#[derive(Clone, serde::Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Takes over a secret.
    pub fn new(text: String) -> Self {
        Secret(text)
    }
    /// The secret itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// Whether `other` is the same.
    pub fn matches(&self, other: &str) -> bool {
        self.0.len() == other.len() && self.0.bytes().zip(other.bytes()).fold(0, |d, (a, b)| d | (a ^ b)) == 0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_and_matches_only_itself() {
        let secret = Secret::new("open sesame".into());
        assert_eq!(format!("{secret:?}"), "<secret>");
        assert!(secret.matches("open sesame"));
        assert!(!secret.matches("open sesamE") && !secret.matches("open") && !secret.matches(""));
    }
}
