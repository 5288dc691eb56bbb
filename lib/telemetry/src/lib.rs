//! OpenTelemetry set-up, and the name, unit and description of every signal.
//!
//! [`Telemetry::start`] is called once per process. Metrics are always readable as a Prometheus page
//! ([`Telemetry::prometheus_text`]); when an OTLP endpoint is configured, metrics, traces and logs also go
//! there over gRPC. Nothing here is global but the subscriber of `tracing`.

mod instruments;
pub mod names;
mod trace;

use std::sync::OnceLock;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::TextEncoder;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

pub use instruments::Instruments;
pub use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};
pub use trace::{TraceParent, Traces};

/// How often metrics go to the collector: a dashboard's usual step.
const EXPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What may be logged when `RUST_LOG` says nothing: what ours say, and what libraries warn of.
const DEFAULT_FILTER: &str = "warn,broker=info,ingest=info,scorer=info,seal=info,sink=info,thalweg=info,trainer=info,worker=info";

/// How a process describes itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// OpenTelemetry's `service.name`, such as `thalweg-ingest`.
    pub service: &'static str,
    /// Stream that the process works on: OpenTelemetry's `service.namespace`.
    pub stream: String,
    /// OTLP endpoint (gRPC), such as `http://127.0.0.1:4317`.
    pub otlp: Option<String>,
}

/// A failure to set telemetry up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The endpoint cannot be used.
    #[error("cannot export to OTLP endpoint `{endpoint}`: {reason}")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
        /// What the exporter said.
        reason: String,
    },
    /// The Prometheus page cannot be made.
    #[error("cannot make the Prometheus page: {0}")]
    Prometheus(String),
}

/// The telemetry of one process.
pub struct Telemetry {
    registry: prometheus::Registry,
    metrics: SdkMeterProvider,
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
}

impl Telemetry {
    /// Sets metrics, traces and logs up.
    ///
    /// Needs a tokio runtime when an endpoint is configured. Logs go to standard error; the first call in a
    /// process decides where else.
    ///
    /// # Errors
    /// [`TelemetryError`] when the endpoint is not a URL.
    pub fn start(config: &Config) -> Result<Telemetry, TelemetryError> {
        let registry = prometheus::Registry::new();
        let page = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .build()
            .map_err(|error| TelemetryError::Prometheus(error.to_string()))?;
        let namespace = KeyValue::new("service.namespace", config.stream.clone());
        let resource = Resource::builder()
            .with_service_name(config.service)
            .with_attribute(namespace)
            .build();
        let mut metrics = SdkMeterProvider::builder()
            .with_reader(page)
            .with_resource(resource.clone());
        let (mut traces, mut logs) = (None, None);
        if let Some(endpoint) = &config.otlp {
            let exporters = Exporters::build(endpoint)?;
            let reader = PeriodicReader::builder(exporters.metrics)
                .with_interval(EXPORT_INTERVAL)
                .build();
            metrics = metrics.with_reader(reader);
            let provider = SdkTracerProvider::builder().with_batch_exporter(exporters.traces);
            traces = Some(provider.with_resource(resource.clone()).build());
            let provider = SdkLoggerProvider::builder().with_batch_exporter(exporters.logs);
            logs = Some(provider.with_resource(resource).build());
        }
        subscribe(logs.as_ref());
        Ok(Telemetry {
            registry,
            metrics: metrics.build(),
            traces,
            logs,
        })
    }

    /// Returns the maker of instruments for one component.
    pub fn instruments(&self, component: &'static str) -> Instruments {
        Instruments::new(self.metrics.meter(component))
    }

    /// Returns where spans go; nowhere without an endpoint.
    pub fn traces(&self, component: &'static str) -> Traces {
        Traces::new(
            self.traces
                .as_ref()
                .map(|provider| provider.tracer(component)),
        )
    }

    /// Returns all metrics in Prometheus' text format.
    ///
    /// # Errors
    /// The encoder's message.
    pub fn prometheus_text(&self) -> Result<String, TelemetryError> {
        let families = self.registry.gather();
        TextEncoder::new()
            .encode_to_string(&families)
            .map_err(|error| TelemetryError::Prometheus(error.to_string()))
    }

    /// Sends what is still buffered; waits at most some seconds.
    pub fn shutdown(&self) {
        // A collector that is down must not keep a worker from stopping: failures are logged by the SDK.
        let _ = self.metrics.shutdown();
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown();
        }
        if let Some(logs) = &self.logs {
            let _ = logs.shutdown();
        }
    }
}

struct Exporters {
    metrics: MetricExporter,
    traces: SpanExporter,
    logs: LogExporter,
}

impl Exporters {
    fn build(endpoint: &str) -> Result<Exporters, TelemetryError> {
        let refuse = |reason: String| TelemetryError::Endpoint {
            endpoint: endpoint.to_owned(),
            reason,
        };
        let failed = |error: opentelemetry_otlp::ExporterBuildError| refuse(error.to_string());
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(refuse(
                "write a URL such as http://127.0.0.1:4317".to_owned(),
            ));
        }
        Ok(Exporters {
            metrics: MetricExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(failed)?,
            traces: SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(failed)?,
            logs: LogExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(failed)?,
        })
    }
}

/// Installs the subscriber of `tracing`, once a process.
fn subscribe(logs: Option<&SdkLoggerProvider>) {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let filter =
            || EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
        let text = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
        let bridge =
            logs.map(|provider| OpenTelemetryTracingBridge::new(provider).with_filter(filter()));
        // A subscriber that the host of this library installed stays.
        let _ = tracing_subscriber::registry()
            .with(text.with_filter(filter()))
            .with(bridge)
            .try_init();
    });
}
