//! One trace through three processes, as a collector receives it: `cargo test --features otlp`.

use std::collections::BTreeMap;

use graticule_tests::colorado::Imagery;
use graticule_tests::process::Process;
use graticule_tests::soon;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::processes::{check_done, native};

/// Keeps all spans, with the name of the service that sent them.
struct Collector(watch::Sender<Vec<(String, Span)>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for of_process in request.into_inner().resource_spans {
            let attributes = of_process.resource.unwrap_or_default().attributes;
            let service = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Value::StringValue(service)) = service.value.unwrap().value else { panic!("a name") };
            let spans = of_process.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.send_modify(|kept| kept.extend(spans.map(|span| (service.clone(), span))));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_hangs_together_across_processes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = format!("http://{}", listener.local_addr().unwrap());
    let (sender, mut received) = watch::channel(Vec::new());
    let server = Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));

    let imagery = Imagery::committed();
    imagery.register();
    let data = imagery.data().display().to_string();
    let common = ["--otlp", &collector, "--data", &data];
    let coordinator = ["coordinator", "--listen", "127.0.0.1:0"];
    let mut coordinator = Process::start(common.iter().chain(&coordinator));
    let endpoint = format!("http://{}", coordinator.address().await);
    let worker = Process::start(common.iter().chain(&["worker", "--coordinator", &endpoint]));
    coordinator.logs("worker registered").await;

    let trace = "0af7651916cd43dd8448eb211c80319c";
    let given = format!("00-{trace}-b7ad6b7169203331-01");
    let graft = graticule_tests::colorado::examples().join("ndvi_median.graft.json").display().to_string();
    let out = imagery.out().join("a.npz").display().to_string();
    let compute = ["compute", &graft, "--endpoint", &endpoint, "--out", &out, "--traceparent", &given];
    check_done(&Process::start(common.iter().chain(&compute).chain(&native("30"))).ended().await);
    let log = coordinator.logs("request done").await;
    let line = log.lines().find(|line| line.contains("request done")).unwrap();
    assert!(line.contains(trace), "log lines carry the trace's id: {line}");

    let names = ["compute", "request", "plan", "call", "execute", "tile", "eval", "read", "encode"];
    let all =
        received.wait_for(|spans| names.iter().all(|name| spans.iter().any(|(_, span)| span.name == *name)));
    let spans = soon("spans of all kinds", all).await.unwrap().clone();
    let by_id: BTreeMap<Vec<u8>, &(String, Span)> =
        spans.iter().map(|kept| (kept.1.span_id.clone(), kept)).collect();
    for (_, span) in &spans {
        let id: String = span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(id, trace, "{} is of the trace that was given", span.name);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    // Every way up from a read leads through the three processes to the span that was given.
    let parent = |span: &Span| by_id.get(&span.parent_span_id).copied();
    let mut at = spans.iter().find(|(_, span)| span.name == "read").unwrap();
    let mut way = vec![at.clone()];
    while let Some(up) = parent(&at.1) {
        at = up;
        way.push(at.clone());
    }
    let way: Vec<(&str, &str)> =
        way.iter().map(|(service, span)| (service.as_str(), span.name.as_str())).collect();
    assert_eq!(
        way,
        [
            ("graticule worker", "read"),
            ("graticule worker", "eval"),
            ("graticule worker", "tile"),
            ("graticule worker", "execute"),
            ("graticule coordinator", "call"),
            ("graticule coordinator", "request"),
            ("graticule client", "compute"),
        ]
    );
    assert_eq!(at.1.parent_span_id, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]);
    drop((worker, coordinator));
}
