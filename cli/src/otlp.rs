//! Sends finished spans to an OpenTelemetry collector (OTLP over gRPC). Only with the feature `otlp`.

use std::sync::Arc;
use std::time::Duration;

use graticule_common::telemetry::TraceContext;
use graticule_common::telemetry::spans::{Finished, Sink, Value};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use crate::failure::Failure;

/// Spans that wait for the collector; further ones are dropped.
const WAITING_MAX: usize = 8192;

/// How often spans are sent.
const SEND_EVERY: Duration = Duration::from_secs(1);

/// Time for the last spans when the process ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// What sends spans; to be ended before the process does.
#[derive(Debug)]
pub struct Otlp(Arc<BatchSpanProcessor>);

impl Otlp {
    /// Starts to send to a collector, such as `http://127.0.0.1:4317`. To be called where tasks can be
    /// spawned. A collector that is not there costs nothing but its spans.
    pub fn start(collector: &str, role: &str) -> Result<(Otlp, Sink), Failure> {
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(collector).build();
        let exporter = exporter.map_err(|error| Failure::usage(format!("--otlp `{collector}`: {error}")))?;
        let batches = BatchConfigBuilder::default().with_max_queue_size(WAITING_MAX);
        let batches = batches.with_scheduled_delay(SEND_EVERY).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let name = format!("graticule {role}");
        processor.set_resource(&Resource::builder_empty().with_service_name(name).build());
        let scope =
            InstrumentationScope::builder("graticule").with_version(env!("CARGO_PKG_VERSION")).build();
        let processor = Arc::new(processor);
        let sink: Sink = {
            let processor = processor.clone();
            Box::new(move |span| processor.on_end(exported(span, scope.clone())))
        };
        Ok((Otlp(processor), sink))
    }

    /// Sends what is left.
    pub fn end(self) {
        // What does not get through is lost, like all that a collector misses.
        let _ = self.0.shutdown_with_timeout(FAREWELL);
    }
}

fn exported(span: Finished, scope: InstrumentationScope) -> SpanData {
    let is_failed = span.fields.iter().any(|(name, _)| *name == "error");
    let attribute = |(name, value)| match value {
        Value::Bool(value) => KeyValue::new::<&str, bool>(name, value),
        Value::Int(value) => KeyValue::new::<&str, i64>(name, value),
        Value::Float(value) => KeyValue::new::<&str, f64>(name, value),
        Value::Text(value) => KeyValue::new::<&str, String>(name, value),
    };
    SpanData {
        span_context: place(span.context),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
        parent_span_is_remote: span.is_remote,
        span_kind: match (span.name, span.is_remote) {
            (_, true) => SpanKind::Server,
            ("call", false) => SpanKind::Client,
            _ => SpanKind::Internal,
        },
        name: span.name.into(),
        start_time: span.started,
        end_time: span.ended,
        attributes: span.fields.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: if is_failed { Status::error("") } else { Status::Unset },
        instrumentation_scope: scope,
    }
}

fn place(context: TraceContext) -> SpanContext {
    let flags = if context.is_sampled() { TraceFlags::SAMPLED } else { TraceFlags::default() };
    SpanContext::new(
        TraceId::from_bytes(context.trace().to_be_bytes()),
        SpanId::from_bytes(context.span().to_be_bytes()),
        flags,
        false,
        TraceState::NONE,
    )
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn a_span_keeps_its_place_and_its_fields() {
        let context = TraceContext::new(7, 9, true).unwrap();
        let span = Finished {
            context,
            parent: Some(8),
            is_remote: true,
            name: "request",
            started: SystemTime::UNIX_EPOCH,
            ended: SystemTime::UNIX_EPOCH + Duration::from_secs(1),
            fields: vec![("tiles", Value::Int(3)), ("error", Value::Text("no".into()))],
        };
        let data = exported(span, InstrumentationScope::builder("graticule").build());
        assert_eq!(data.span_context.trace_id().to_string(), context.trace_text());
        assert_eq!(data.span_context.span_id().to_string(), "0000000000000009");
        assert_eq!(data.parent_span_id.to_string(), "0000000000000008");
        assert!(data.span_context.is_sampled() && data.parent_span_is_remote);
        assert_eq!(data.attributes[0], KeyValue::new("tiles", 3i64));
        assert!(matches!(data.status, Status::Error { .. }));
    }
}
