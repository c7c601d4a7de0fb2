//! What stands after `?` in an address, as typed values.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use graticule_common::graft::Parameters;
use graticule_common::literal::Literal;

use super::body::object;
use super::error::HttpError;

/// The names and values of a query, each name at most once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pairs(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Pairs {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let read = Query::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let wrong = |error: axum::extract::rejection::QueryRejection| {
            HttpError::invalid(format!("what stands after `?` cannot be read: {}", error.body_text()))
        };
        Pairs::new(read.map_err(wrong)?.0)
    }
}

impl Pairs {
    fn new(pairs: Vec<(String, String)>) -> Result<Self, HttpError> {
        let twice =
            pairs.iter().enumerate().find(|(at, (name, _))| pairs[..*at].iter().any(|(n, _)| n == name));
        match twice {
            Some((_, (name, _))) => {
                let name: String = name.chars().take(64).collect();
                Err(HttpError::invalid(format!("`{name}` stands twice in the address")))
            }
            None => Ok(Pairs(pairs)),
        }
    }

    /// The value of a name; an empty one is none.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// A finite number.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn number(&self, name: &str) -> Result<Option<f64>, HttpError> {
        let read = |text: &str| {
            let number = text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
            number.ok_or_else(|| wrong(name, text, "a number"))
        };
        self.get(name).map(read).transpose()
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// It is none, or beyond them.
    pub(crate) fn whole(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, HttpError> {
        let read = |text: &str| {
            let number = text.trim().parse::<u64>().ok().filter(|number| (least..=most).contains(number));
            number.ok_or_else(|| wrong(name, text, &format!("a whole number from {least} to {most}")))
        };
        self.get(name).map(read).transpose()
    }

    /// So many finite numbers, with commas between them.
    ///
    /// # Errors
    /// They are none, or more or fewer.
    pub(crate) fn numbers<const N: usize>(&self, name: &str) -> Result<Option<[f64; N]>, HttpError> {
        let read = |text: &str| {
            let numbers: Option<Vec<f64>> = text
                .split(',')
                .map(|part| part.trim().parse::<f64>().ok().filter(|number| number.is_finite()))
                .collect();
            let numbers = numbers.and_then(|numbers| <[f64; N]>::try_from(numbers).ok());
            numbers.ok_or_else(|| wrong(name, text, &format!("{N} numbers with commas between them")))
        };
        self.get(name).map(read).transpose()
    }

    /// Values of a graft's parameters: a JSON object.
    ///
    /// # Errors
    /// It is none.
    pub(crate) fn parameters(&self) -> Result<Parameters, HttpError> {
        let Some(text) = self.get("parameters") else { return Ok(Parameters::new()) };
        let members: Vec<(String, Literal)> = object(text.as_bytes())
            .map_err(|error| HttpError { message: format!("`parameters`: {}", error.message), ..error })?;
        Ok(members.into_iter().collect())
    }
}

/// A value that is not what it must be.
pub(crate) fn wrong(name: &str, text: &str, expected: &str) -> HttpError {
    let text: String = text.chars().take(64).collect();
    HttpError::invalid(format!("`{name}` must be {expected}, it is `{text}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[(&str, &str)]) -> Result<Pairs, HttpError> {
        Pairs::new(text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn values_are_what_they_must_be() {
        let known =
            [("n", " 1.5"), ("i", "7"), ("b", "1,2,3,-4.5"), ("e", ""), ("parameters", r#"{"a": 1}"#)];
        let known = pairs(&known).unwrap();
        assert_eq!(known.number("n"), Ok(Some(1.5)));
        assert_eq!((known.number("e"), known.number("x")), (Ok(None), Ok(None)));
        assert_eq!(known.whole("i", 1, 7), Ok(Some(7)));
        assert_eq!(known.numbers("b"), Ok(Some([1.0, 2.0, 3.0, -4.5])));
        assert_eq!(known.parameters().unwrap()["a"], Literal::Int(1));
        assert!(known.whole("i", 8, 9).is_err() && known.whole("n", 0, 9).is_err());
        assert!(known.numbers::<3>("b").is_err() && known.numbers::<5>("b").is_err());
        for text in ["NaN", "inf", "1e999", "x", "1 2", "0x1", "--1"] {
            let pairs = pairs(&[("v", text)]).unwrap();
            assert!(pairs.number("v").is_err() && pairs.whole("v", 0, 9).is_err(), "{text}");
            assert!(pairs.numbers::<1>("v").is_err(), "{text}");
        }
        for text in ["[]", "1", "{", r#"{"a": NaN}"#] {
            let error = pairs(&[("parameters", text)]).unwrap().parameters().unwrap_err();
            assert!(error.message.contains("`parameters`"), "{text}: {}", error.message);
        }
        assert!(pairs(&[("a", "1"), ("a", "1")]).is_err());
    }
}
