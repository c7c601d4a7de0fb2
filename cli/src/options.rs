//! Options of a request that are neither place nor engine: parameters, faulty sources, quality.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use graticule_common::literal::Literal;
use graticule_common::proto::v1 as pb;
use graticule_common::wire;

/// How to compute.
#[derive(Args, Debug)]
pub struct HowArgs {
    /// Value of a parameter of the graft; JSON if it reads as such, else text. May be given several times
    #[arg(long = "param", value_name = "NAME=VALUE", help_heading = "Request", value_parser = parameter)]
    parameters: Vec<(String, Literal)>,
    /// What a source file that is missing, changed or corrupt does
    #[arg(long, value_name = "WHAT", default_value = "fail", help_heading = "Request")]
    on_error: OnError,
    /// Which pixels of the files may be read where the result is coarser than they are
    #[arg(long, value_name = "WHICH", default_value = "exact", help_heading = "Request")]
    quality: Quality,
    /// Refuse what would take more seconds of processor time, as `explain` estimates it
    #[arg(long, value_name = "SECONDS", help_heading = "Request")]
    max_cpu_s: Option<f64>,
    /// Refuse what would read more bytes of stored pixels, as `explain` counts them
    #[arg(long, value_name = "BYTES", help_heading = "Request")]
    max_bytes: Option<u64>,
}

/// What a faulty source does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// Ends the request; nothing is written
    Fail,
    /// Its pixels are invalid; each such source is listed
    Skip,
}

/// Which pixels may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Quality {
    /// Those of full resolution
    Exact,
    /// Overviews: fast, for looking at
    Display,
}

impl HowArgs {
    /// Values of parameters, by name.
    pub fn parameters(&self) -> pb::ValueMap {
        let members: BTreeMap<String, pb::Value> =
            self.parameters.iter().map(|(name, value)| (name.clone(), wire::literal_to(value))).collect();
        pb::ValueMap { members }
    }

    /// The same as JSON.
    pub fn parameters_json(&self) -> serde_json::Value {
        self.parameters.iter().map(|(name, value)| (name.clone(), value.to_json())).collect()
    }

    /// Adds what these options say.
    pub fn apply(&self, options: &mut pb::Options) {
        options.skip_faulty = self.on_error == OnError::Skip;
        options.display_quality = self.quality == Quality::Display;
        (options.max_cpu_s, options.max_read_bytes) = (self.max_cpu_s, self.max_bytes);
    }

    /// A name that is given two values.
    pub fn repeated(&self) -> Option<&str> {
        let names = self.parameters.iter().enumerate();
        let mut twice =
            names.filter(|(at, (name, _))| self.parameters[..*at].iter().any(|(other, _)| other == name));
        twice.next().map(|(_, (name, _))| name.as_str())
    }
}

/// `NAME=VALUE`.
fn parameter(text: &str) -> Result<(String, Literal), String> {
    let (name, value) = text.split_once('=').ok_or("it is written NAME=VALUE")?;
    if name.is_empty() {
        return Err("it has no name; write NAME=VALUE".into());
    }
    let value = serde_json::from_str(value).unwrap_or_else(|_| Literal::Str(value.to_owned()));
    Ok((name.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_where_they_read_as_such() {
        let value = |text| parameter(text).unwrap().1;
        assert_eq!(value("n=3"), Literal::Int(3));
        assert_eq!(value("n=3.0"), Literal::Float(3.0));
        assert_eq!(value("n=2020-06-01"), Literal::Str("2020-06-01".into()));
        assert_eq!(value("n=\"3\""), Literal::Str("3".into()));
        assert_eq!(value("n=a=b"), Literal::Str("a=b".into()));
        assert_eq!(value("n="), Literal::Str(String::new()));
        assert_eq!(value("n=[1, true]"), Literal::List(vec![Literal::Int(1), Literal::Bool(true)]));
        assert!(parameter("n").is_err() && parameter("=1").is_err());
    }
}
