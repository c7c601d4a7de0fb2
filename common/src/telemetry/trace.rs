//! A place in a trace, and its text in headers: W3C Trace Context, level 1
//! (<https://www.w3.org/TR/trace-context/>).

use std::fmt;

/// Header, or key of gRPC metadata, that carries it.
pub const TRACEPARENT: &str = "traceparent";

/// Length of the text in version 00: `00-<32>-<16>-<2>`.
const LENGTH: usize = 55;

/// Which span of which trace. Neither id is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    trace: u128,
    span: u64,
    is_sampled: bool,
}

impl TraceContext {
    /// A span of a trace; `None` where an id is zero, which means that there is none.
    pub fn new(trace: u128, span: u64, is_sampled: bool) -> Option<Self> {
        (trace != 0 && span != 0).then_some(TraceContext { trace, span, is_sampled })
    }

    /// Another span of the same trace; `None` where its id is zero.
    pub fn with_span(self, span: u64) -> Option<Self> {
        TraceContext::new(self.trace, span, self.is_sampled)
    }

    /// The trace's id.
    pub fn trace(&self) -> u128 {
        self.trace
    }

    /// The trace's id as headers and log lines have it.
    pub fn trace_text(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span's id.
    pub fn span(&self) -> u64 {
        self.span
    }

    /// Whether whoever began the trace wants it kept.
    pub fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Reads a `traceparent`; `None` where it is none. Later versions are read as far as version 00 goes,
    /// as the specification asks.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_matches([' ', '\t']);
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let parts: Vec<&str> = known.split('-').collect();
        let [version, trace, span, flags] = parts[..] else { return None };
        let version = hex(version, 2)?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        if !fits {
            return None;
        }
        let span = u64::try_from(hex(span, 16)?).ok()?;
        TraceContext::new(hex(trace, 32)?, span, hex(flags, 2)? & 1 == 1)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.is_sampled))
    }
}

/// So many digits, all of them lower case.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    fits.then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's example.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_specification() {
        let context = TraceContext::parse(EXAMPLE).unwrap();
        assert_eq!(context.trace(), 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
        assert_eq!((context.span(), context.is_sampled()), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.to_string(), EXAMPLE);
        assert_eq!(context.trace_text(), "0af7651916cd43dd8448eb211c80319c");
        let child = context.with_span(1).unwrap();
        assert_eq!(child.to_string(), "00-0af7651916cd43dd8448eb211c80319c-0000000000000001-01");
    }

    #[test]
    fn only_the_sampled_flag_means_something() {
        let with = |flags: &str| format!("{}{flags}", &EXAMPLE[..53]);
        for (flags, is_sampled) in [("00", false), ("01", true), ("fe", false), ("ff", true), ("09", true)] {
            assert_eq!(TraceContext::parse(&with(flags)).unwrap().is_sampled(), is_sampled, "{flags}");
        }
    }

    #[test]
    fn what_the_specification_refuses() {
        let ids = &EXAMPLE[2..];
        let bad = [
            // Lengths.
            String::new(),
            EXAMPLE[..54].to_owned(),
            format!("{EXAMPLE}0"),
            format!("{EXAMPLE}-"),
            format!("{EXAMPLE}-more"),
            // Version ff, digits that are none, and capitals.
            format!("ff{ids}"),
            format!("0x{ids}"),
            EXAMPLE.replace('a', "A"),
            EXAMPLE.replace('a', "g"),
            EXAMPLE.replace("-01", "-0+"),
            // Ids of zero.
            "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
            // Parts of other lengths.
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01".to_owned(),
            "000-af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
            EXAMPLE.replace('-', "_"),
            // Not ASCII where a part would be cut.
            format!("{}ä", &EXAMPLE[..54]),
        ];
        for text in bad {
            assert_eq!(TraceContext::parse(&text), None, "`{text}`");
        }
    }

    #[test]
    fn a_later_version_is_read_as_far_as_this_one_goes() {
        let later = format!("cc{}", &EXAMPLE[2..]);
        assert_eq!(TraceContext::parse(&later), TraceContext::parse(EXAMPLE));
        assert_eq!(TraceContext::parse(&format!("{later}-what-comes")), TraceContext::parse(EXAMPLE));
        assert_eq!(TraceContext::parse(&format!("{later}.what")), None);
        assert_eq!(TraceContext::parse(&format!(" {EXAMPLE}\t")), TraceContext::parse(EXAMPLE));
    }
}
