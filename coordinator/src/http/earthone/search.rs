//! Searches as the client sends them: filters, an order, a part at a time. Pure.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use graticule_common::predicate::{Predicate, PredicateError, is_time};
use graticule_common::scene::{Properties, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Documents of one answer; the client comes back for more.
const PAGE_MAX: usize = 1000;
/// Bytes of documents after which an answer ends.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of a text that is searched for.
const TEXT_BYTES_MAX: usize = 1024;

/// A document that is searched: its attributes, `id` among them.
pub(super) type Document = Properties;

/// What is searched for.
#[derive(Debug)]
pub(super) struct Search {
    filter: Predicate,
    text: Option<String>,
    sort: Option<Sort>,
    limit: Option<usize>,
    after: Option<After>,
}

#[derive(Debug, PartialEq, Eq)]
struct Sort {
    name: String,
    is_ascending: bool,
}

/// Where an answer ended: what the next one begins after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct After {
    value: Value,
    id: String,
    limit: Option<usize>,
}

/// Why a search is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum SearchError {
    /// A member of another kind.
    #[error("`{name}` is not {wanted}")]
    Member {
        /// Its name.
        name: &'static str,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// A filter.
    #[error(transparent)]
    Filter(#[from] PredicateError),
    /// Something that is not searched by.
    #[error("`{name}` is not searched by here; leave it out")]
    Unsupported {
        /// Its name.
        name: &'static str,
    },
}

/// A part of what was found.
#[derive(Debug)]
pub(super) struct Page {
    /// The documents.
    pub documents: Vec<Document>,
    /// How many there are in all parts.
    pub count: usize,
    /// What to ask with for the next part.
    pub continuation: Option<String>,
}

impl Search {
    /// Reads the body of a search, and the continuation of its URL.
    pub(super) fn read(body: &Map<String, Value>, continuation: Option<&str>) -> Result<Search, SearchError> {
        let member = |name: &'static str| body.get(name).filter(|value| !value.is_null());
        let text = |name: &'static str| match member(name) {
            None => Ok(None),
            Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX => Ok(Some(text.clone())),
            Some(_) => Err(SearchError::Member { name, wanted: "a text of at most 1024 bytes" }),
        };
        for name in ["intersects", "geometry"] {
            if member(name).is_some() {
                return Err(SearchError::Unsupported { name });
            }
        }
        let filter = match member("filter") {
            None => Predicate::And(Vec::new()),
            Some(Value::String(filter)) => read_filter(filter)?,
            Some(_) => return Err(SearchError::Member { name: "filter", wanted: "a text of JSON" }),
        };
        let sort = text("sort")?.map(|text| match text.strip_prefix('-') {
            Some(name) => Sort { name: name.to_owned(), is_ascending: false },
            None => Sort { name: text, is_ascending: true },
        });
        let limit = match member("limit") {
            None => None,
            Some(limit) => {
                let wanted = SearchError::Member { name: "limit", wanted: "a number from 0" };
                let limit = limit.as_u64().or_else(|| limit.as_str()?.parse().ok()).ok_or(wanted)?;
                Some(usize::try_from(limit).unwrap_or(usize::MAX))
            }
        };
        let after = continuation.map(|text| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            serde_json::from_slice::<After>(&bytes).ok()
        });
        let wanted = SearchError::Member { name: "continuation", wanted: "one that this server gave" };
        let after = match after {
            None => None,
            Some(after) => Some(after.ok_or(wanted)?),
        };
        let limit = after.as_ref().map_or(limit, |after| after.limit);
        Ok(Search { filter, text: text("text")?, sort, limit, after })
    }

    /// What is found among documents.
    pub(super) fn page(&self, documents: Vec<Document>) -> Page {
        let mut found: Vec<_> = documents.into_iter().filter(|document| self.finds(document)).collect();
        let count = found.len();
        found.sort_by(|a, b| self.order((self.key(a), id(a)), (self.key(b), id(b))));
        if let Some(After { value, id: last, .. }) = &self.after {
            found.retain(|document| {
                self.order((self.key(document), id(document)), (value, last)) == Ordering::Greater
            });
        }
        let mut bytes = 0;
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut fits = |document: &Document| {
            let before = bytes;
            bytes += serde_json::to_string(document).map_or(0, |text| text.len());
            before == 0 || bytes <= PAGE_BYTES_MAX
        };
        let shown = found.iter().take(PAGE_MAX.min(limit)).take_while(|document| fits(document)).count();
        let rest = limit - shown;
        let has_more = found.len() > shown && rest > 0;
        found.truncate(shown);
        let continuation = found.last().filter(|_| has_more).map(|last| {
            let (value, id) = (self.key(last).clone(), id(last).to_owned());
            let after = After { value, id, limit: self.limit.map(|_| rest) };
            URL_SAFE_NO_PAD.encode(json!(after).to_string())
        });
        Page { documents: found, count, continuation }
    }

    fn finds(&self, document: &Document) -> bool {
        let has_text = |text: &String| {
            let text = text.to_lowercase();
            let shown = ["name", "description"].into_iter().filter_map(|name| document.get(name)?.as_str());
            shown.into_iter().any(|shown| shown.to_lowercase().contains(&text))
        };
        self.filter.holds(document) && self.text.as_ref().is_none_or(has_text)
    }

    fn key<'a>(&self, document: &'a Document) -> &'a Value {
        let name = self.sort.as_ref().map(|sort| &sort.name);
        name.and_then(|name| document.get(name)).unwrap_or(&Value::Null)
    }

    /// The order of two documents: by what is sorted by, then by id.
    fn order(&self, a: (&Value, &str), b: (&Value, &str)) -> Ordering {
        let Some(Sort { name, is_ascending }) = &self.sort else { return a.1.cmp(b.1) };
        let order = compare(name, a.0, b.0).then_with(|| a.1.cmp(b.1));
        if *is_ascending { order } else { order.reverse() }
    }
}

fn id(document: &Document) -> &str {
    document.get("id").and_then(Value::as_str).unwrap_or_default()
}

/// Values of one kind by their order; kinds in an order of their own.
fn compare(name: &str, a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(_) => 2,
        Value::String(_) => 3,
        Value::Array(_) | Value::Object(_) => 4,
    };
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0))
        }
        (Value::String(a), Value::String(b)) => {
            match is_time(name).then(|| Timestamp::parse(a).zip(Timestamp::parse(b))) {
                Some(Some((a, b))) => a.cmp(&b),
                _ => a.cmp(b),
            }
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Reads filters. `eq` with a list, which the client sends for several ids, means one of them.
fn read_filter(text: &str) -> Result<Predicate, SearchError> {
    match serde_json::from_str::<Value>(text) {
        Ok(Value::Array(mut parts)) if parts.iter().any(|part| part["val"].is_array()) => {
            for part in &mut parts {
                if let (Some("eq"), Value::Array(values)) = (part["op"].as_str(), &part["val"]) {
                    let name = &part["name"];
                    let one = |value| json!({"op": "eq", "name": name, "val": value});
                    *part = json!({"or": values.iter().map(one).collect::<Vec<_>>()});
                }
            }
            Ok(Predicate::parse(&Value::Array(parts).to_string())?)
        }
        _ => Ok(Predicate::parse(text)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents() -> Vec<Document> {
        let document = |id: &str, tags: &[&str], size: u32, created: &str| {
            let value = json!({
                "id": id, "name": id, "storage_type": "dyncomp", "tags": tags, "size_bytes": size,
                "created": created, "description": format!("About {id}"),
            });
            serde_json::from_value(value).unwrap()
        };
        vec![
            document("c", &["x"], 3, "2026-01-01T00:00:00.5Z"),
            document("a", &["x", "y"], 30, "2026-01-01T00:00:00Z"),
            document("b", &[], 7, "2025-01-01T00:00:00Z"),
        ]
    }

    fn search(body: Value) -> Result<Page, SearchError> {
        let Value::Object(body) = body else { panic!("{body}") };
        Ok(Search::read(&body, None)?.page(documents()))
    }

    fn ids(page: &Page) -> Vec<&str> {
        page.documents.iter().map(id).collect()
    }

    #[test]
    fn filters_of_the_client() {
        let found = |filter: &str| {
            let page = search(json!({"filter": filter})).unwrap();
            page.documents.iter().map(|document| id(document).to_owned()).collect::<Vec<_>>().join("")
        };
        assert_eq!(found(r#"[{"op":"eq","name":"storage_type","val":"dyncomp"}]"#), "abc");
        assert_eq!(found(r#"[{"op":"eq","name":"storage_type","val":"data"}]"#), "");
        assert_eq!(
            found(r#"[{"op":"eq","name":"tags","val":"x"},{"op":"gt","name":"size_bytes","val":3}]"#),
            "a"
        );
        assert_eq!(found(r#"[{"op":"prefix","name":"name","val":"b"}]"#), "b");
        assert_eq!(
            found(r#"[{"or":[{"op":"eq","name":"id","val":"a"},{"op":"eq","name":"id","val":"c"}]}]"#),
            "ac"
        );
        assert_eq!(found(r#"[{"name":"id","op":"eq","val":["c","b","no"]}]"#), "bc");
        assert_eq!(found(r#"[{"op":"gte","name":"created","val":"2026-01-01T00:00:00+00:00"}]"#), "ac");
    }

    #[test]
    fn orders_and_texts() {
        assert_eq!(ids(&search(json!({})).unwrap()), ["a", "b", "c"]);
        assert_eq!(ids(&search(json!({"sort": "size_bytes"})).unwrap()), ["c", "b", "a"]);
        assert_eq!(ids(&search(json!({"sort": "-created"})).unwrap()), ["c", "a", "b"]);
        assert_eq!(ids(&search(json!({"sort": "-nothing"})).unwrap()), ["c", "b", "a"]);
        assert_eq!(ids(&search(json!({"text": "ABOUT B"})).unwrap()), ["b"]);
        let none = search(json!({"limit": 0})).unwrap();
        assert_eq!((none.documents.len(), none.count, none.continuation), (0, 3, None));
        let two = search(json!({"limit": 2})).unwrap();
        assert_eq!((ids(&two), two.count), (vec!["a", "b"], 3));
        assert_eq!(two.continuation, None, "no more was asked for");
    }

    #[test]
    fn answers_go_on_where_the_last_one_ended() {
        let many = |from: usize| -> Vec<Document> {
            let document = |at: usize| json!({"id": format!("{at:05}"), "half": at / 2});
            (from..2500).map(|at| serde_json::from_value(document(at)).unwrap()).collect()
        };
        for (body, expected) in [
            (json!({}), 2500_usize),
            (json!({"sort": "half"}), 2500),
            (json!({"sort": "-half"}), 2500),
            (json!({"limit": 1700}), 1700),
            (json!({"limit": "1000"}), 1000),
        ] {
            let Value::Object(body) = body else { panic!() };
            let (mut seen, mut continuation, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = Search::read(&body, continuation.as_deref()).unwrap().page(many(0));
                assert_eq!(page.count, 2500);
                seen.extend(ids(&page).into_iter().map(str::to_owned));
                continuation = page.continuation;
                pages += 1;
                if continuation.is_none() {
                    break;
                }
            }
            assert_eq!((seen.len(), pages), (expected, expected.div_ceil(PAGE_MAX)), "{body:?}");
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), expected, "none twice: {body:?}");
        }
        // Who deletes what was found misses nothing.
        let first = Search::read(&Map::new(), None).unwrap().page(many(0));
        let next = Search::read(&Map::new(), first.continuation.as_deref()).unwrap().page(many(1000));
        assert_eq!(id(&next.documents[0]), "01000");
        // Large documents: one at least, then as many as fit.
        let large = |at: usize| json!({"id": at.to_string(), "description": "x".repeat(PAGE_BYTES_MAX / 2)});
        let large = (0..3).map(|at| serde_json::from_value(large(at)).unwrap()).collect();
        let page = Search::read(&Map::new(), None).unwrap().page(large);
        assert_eq!(page.documents.len(), 1);
        assert!(page.continuation.is_some());
    }

    #[test]
    fn what_is_no_search_is_an_error() {
        for bad in [
            json!({"filter": "gASVHg=="}),
            json!({"filter": []}),
            json!({"filter": "[{\"op\": \"near\", \"name\": \"a\", \"val\": 1}]"}),
            json!({"limit": -1}),
            json!({"limit": []}),
            json!({"sort": 1}),
            json!({"text": "x".repeat(2000)}),
            json!({"intersects": "{}"}),
        ] {
            assert!(search(bad.clone()).is_err(), "{bad}");
        }
        for bad in ["", "x", "!!", "e30"] {
            assert!(Search::read(&Map::new(), Some(bad)).is_err(), "{bad}");
        }
    }
}
