//! Gives every span of the engine a place in a trace, carries it from process to process, and hands
//! finished spans to whoever exports them.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use tonic::metadata::MetadataMap;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Metadata, Span, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::trace::{TRACEPARENT, TraceContext};

/// Fields of one span that are exported; more are left out.
const FIELDS_MAX: usize = 32;

/// Field under which log lines have the trace's id.
const TRACE_FIELD: &str = "trace";

/// A span that ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Its place.
    pub context: TraceContext,
    /// Id of the span that it is part of, in this process or another.
    pub parent: Option<u64>,
    /// Whether that is in another process.
    pub is_remote: bool,
    /// Its name.
    pub name: &'static str,
    /// When it began.
    pub started: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What it says of itself.
    pub fields: Vec<(&'static str, Value)>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Anything else, as text.
    Text(String),
}

/// Takes finished spans. It is called where a span ends, so it must not wait.
pub type Sink = Box<dyn Fn(Finished) + Send + Sync>;

/// The layer that knows every span's place.
#[derive(Default)]
pub struct Traces {
    sink: Option<Sink>,
}

/// What is known of an open span.
#[derive(Debug)]
struct Open {
    context: TraceContext,
    parent: Option<u64>,
    is_remote: bool,
    started: SystemTime,
    fields: Vec<(&'static str, Value)>,
}

impl Traces {
    /// A layer; without a sink it only keeps places for logs and headers.
    pub fn new(sink: Option<Sink>) -> Self {
        Traces { sink }
    }

    /// Which spans have a place: the engine's own.
    pub fn concerns(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("graticule")
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Traces {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let Some(span) = cx.span(id) else { return };
        let parent = span.parent().and_then(|parent| parent.extensions().get::<Open>().map(|o| o.context));
        let mut open = Open {
            context: parent.and_then(|parent| parent.with_span(new_id())).unwrap_or_else(new_context),
            parent: parent.map(|parent| parent.span()),
            is_remote: false,
            started: SystemTime::now(),
            fields: Vec::new(),
        };
        if self.sink.is_some() {
            attributes.record(&mut Fields(&mut open.fields));
        }
        span.extensions_mut().insert(open);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        if self.sink.is_some()
            && let Some(span) = cx.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(&mut Fields(&mut open.fields));
        }
    }

    fn on_close(&self, id: Id, cx: Context<'_, S>) {
        let Some(sink) = &self.sink else { return };
        let Some(span) = cx.span(&id) else { return };
        let Some(open) = span.extensions_mut().remove::<Open>() else { return };
        let Open { context, parent, is_remote, started, fields } = open;
        let (name, ended) = (span.name(), SystemTime::now());
        sink(Finished { context, parent, is_remote, name, started, ended, fields });
    }
}

struct Fields<'a>(&'a mut Vec<(&'static str, Value)>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        // The trace's id is the trace's, not a field.
        if field.name() != TRACE_FIELD && self.0.len() < FIELDS_MAX {
            self.0.push((field.name(), value));
        }
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, Value::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, Value::Int(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, Value::Text(value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, Value::Text(format!("{value:?}")));
    }
}

/// Sixteen hexadecimal digits that nobody else has: the name of a request.
pub fn request_id() -> String {
    format!("{:016x}", new_id())
}

/// Not zero. The hasher's keys are random, seeded by the system.
fn new_id() -> u64 {
    loop {
        let id = RandomState::new().hash_one(0u8);
        if id != 0 {
            return id;
        }
    }
}

fn new_context() -> TraceContext {
    loop {
        let trace = u128::from(new_id()) << 64 | u128::from(new_id());
        if let Some(context) = TraceContext::new(trace, new_id(), true) {
            return context;
        }
    }
}

/// The place of a span; `None` before [`super::start`].
pub fn context_of(span: &Span) -> Option<TraceContext> {
    with(span, |open| open.context)
}

/// Makes a span, which has no parts yet, part of a trace that began elsewhere, and has its log lines say
/// the trace's id: declare `trace = tracing::field::Empty` on the span.
pub fn follow(span: &Span, parent: Option<TraceContext>) {
    let context = with(span, |open| {
        if let Some(context) = parent.and_then(|parent| parent.with_span(open.context.span())) {
            open.context = context;
            open.parent = parent.map(|parent| parent.span());
            open.is_remote = true;
        }
        open.context
    });
    if let Some(context) = context {
        span.record(TRACE_FIELD, context.trace_text());
    }
}

fn with<T>(span: &Span, act: impl FnOnce(&mut Open) -> T) -> Option<T> {
    let there = span.with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        span.extensions_mut().get_mut::<Open>().map(act)
    });
    there.flatten()
}

/// The place that a caller says its call is part of.
pub fn parent_of(metadata: &MetadataMap) -> Option<TraceContext> {
    TraceContext::parse(metadata.get(TRACEPARENT)?.to_str().ok()?)
}

/// Tells whoever is called that the call is part of `span`.
pub fn inject(metadata: &mut MetadataMap, span: &Span) {
    if let Some(context) = context_of(span)
        && let Ok(text) = context.to_string().parse()
    {
        metadata.insert(TRACEPARENT, text);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::Empty;
    use tracing::{info_span, subscriber::with_default};
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    /// What the spans of `act` are when they have ended.
    fn spans(act: impl FnOnce()) -> Vec<Finished> {
        let finished = Arc::new(Mutex::new(Vec::new()));
        let kept = finished.clone();
        let sink: Sink = Box::new(move |span| kept.lock().unwrap().push(span));
        let layer = Traces::new(Some(sink)).with_filter(filter_fn(Traces::concerns));
        with_default(tracing_subscriber::registry().with(layer), act);
        let spans = finished.lock().unwrap();
        spans.clone()
    }

    #[test]
    fn a_trace_goes_through_three_processes() {
        let spans = spans(|| {
            let mut to_coordinator = MetadataMap::new();
            let client = info_span!("compute", trace = Empty);
            follow(&client, None);
            inject(&mut to_coordinator, &client);

            let request = info_span!(parent: None, "request", trace = Empty, id = "r1", tiles = Empty);
            follow(&request, parent_of(&to_coordinator));
            request.record("tiles", 7u64);
            let mut to_worker = MetadataMap::new();
            request.in_scope(|| {
                let call = info_span!("call");
                inject(&mut to_worker, &call);
            });

            let execute = info_span!(parent: None, "execute", trace = Empty);
            follow(&execute, parent_of(&to_worker));
            execute.in_scope(|| drop(info_span!("tile")));
        });
        let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
        let chain = ["compute", "request", "call", "execute", "tile"].map(named);
        let trace = chain[0].context.trace();
        assert!(chain.iter().all(|span| span.context.trace() == trace));
        assert_eq!(chain[0].parent, None);
        for pair in chain.windows(2) {
            assert_eq!(pair[1].parent, Some(pair[0].context.span()), "{}", pair[1].name);
            assert!(pair[0].started <= pair[1].started && pair[1].started <= pair[1].ended);
        }
        assert_eq!(chain.map(|span| span.is_remote), [false, true, false, true, false]);
        let fields = [("id", Value::Text("r1".into())), ("tiles", Value::Int(7))];
        assert_eq!(named("request").fields, fields);
    }

    #[test]
    fn traces_that_have_nothing_to_do_with_each_other_are_apart() {
        let spans = spans(|| {
            let first = info_span!("first");
            follow(&first, parent_of(&MetadataMap::new()));
            let mut garbage = MetadataMap::new();
            garbage.insert(TRACEPARENT, "00-none".parse().unwrap());
            let second = info_span!("second");
            follow(&second, parent_of(&garbage));
        });
        assert_eq!(spans.len(), 2);
        assert_ne!(spans[0].context.trace(), spans[1].context.trace());
        assert!(spans.iter().all(|span| span.parent.is_none()));
    }

    #[test]
    fn without_a_log_there_is_no_place() {
        let mut metadata = MetadataMap::new();
        let span = Span::none();
        follow(&span, None);
        inject(&mut metadata, &span);
        assert!(metadata.is_empty() && context_of(&span).is_none());
    }

    #[test]
    fn ids_of_requests_differ() {
        let mut ids: Vec<String> = (0..1000).map(|_| request_id()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert!(ids.len() == 1000 && ids.iter().all(|id| id.len() == 16));
    }
}
