//! The options that every worker has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::process::EXIT_USAGE;

/// Options that every worker has.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Contract of the stream
    #[arg(long, env = "THALWEG_CONTRACT", value_name = "FILE")]
    pub contract: PathBuf,

    /// Kafka brokers to start from, comma separated
    #[arg(
        long,
        env = "THALWEG_BROKERS",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092"
    )]
    pub brokers: String,

    /// Any property of librdkafka, such as `security.protocol=ssl`; may be repeated
    #[arg(
        long = "kafka",
        env = "THALWEG_KAFKA",
        value_name = "NAME=VALUE",
        value_delimiter = ';'
    )]
    pub kafka: Vec<String>,

    /// Where /livez, /readyz and /metrics are served; port 0 takes a free one
    #[arg(
        long,
        env = "THALWEG_HTTP",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:0"
    )]
    pub http: SocketAddr,

    /// File that gets the address of the pages once they are served
    #[arg(long, env = "THALWEG_HTTP_FILE", value_name = "FILE")]
    pub http_file: Option<PathBuf>,

    /// OTLP endpoint (gRPC) for metrics, traces and logs, such as http://127.0.0.1:4317
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp: Option<String>,
}

/// Says what is wrong with the configuration, and returns the exit code for that.
pub fn exit_usage(problem: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::from(EXIT_USAGE)
}
