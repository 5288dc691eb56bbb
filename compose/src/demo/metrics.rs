//! Reads the metrics page that every worker has.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use telemetry::names::Signal;

/// How long a page may take.
const DEADLINE: Duration = Duration::from_millis(500);
/// How large a page may be.
const PAGE_BYTES_MAX: u64 = 8 << 20;

/// What Prometheus' exposition puts after a name, by kind and unit.
const SUFFIXES: [&str; 5] = ["", "_total", "_ratio", "_seconds", "_bytes"];

/// One worker's figures at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Page {
    /// Fetches the page of the worker whose address is in a file; `None` while it has none or does not answer.
    pub fn fetch(address_file: &Path) -> Option<Page> {
        get(address_file, "/metrics").map(|body| Page::parse(&body))
    }

    /// Reads Prometheus' text format; lines that are not samples are left out.
    pub fn parse(text: &str) -> Page {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Page {
            samples: lines.filter_map(sample).collect(),
        }
    }

    /// Returns the sum of a metric over all its series; `None` if it is not there.
    pub fn sum(&self, signal: Signal) -> Option<f64> {
        let mut values = self.named(signal).map(|sample| sample.value).peekable();
        values.peek()?;
        Some(values.sum())
    }

    /// Returns the value of the one series with a label.
    pub fn with(&self, signal: Signal, label: &str, value: &str) -> Option<f64> {
        let wanted = |sample: &&Sample| {
            sample
                .labels
                .iter()
                .any(|(key, is)| key == label && is == value)
        };
        self.named(signal).find(wanted).map(|sample| sample.value)
    }

    /// Returns a metric's values by a label.
    pub fn by(&self, signal: Signal, label: &str) -> Vec<(String, f64)> {
        let labelled = |sample: &Sample| {
            let (_, value) = sample.labels.iter().find(|(key, _)| key == label)?;
            Some((value.clone(), sample.value))
        };
        self.named(signal).filter_map(labelled).collect()
    }

    fn named(&self, signal: Signal) -> impl Iterator<Item = &Sample> {
        let base = signal.name.replace('.', "_");
        let is = move |sample: &&Sample| {
            sample
                .name
                .strip_prefix(&base)
                .is_some_and(|suffix| SUFFIXES.contains(&suffix))
        };
        self.samples.iter().filter(is)
    }
}

/// Says whether the worker whose address is in a file has its partitions and is ready to work.
pub fn is_ready(address_file: &Path) -> bool {
    get(address_file, "/readyz").is_some()
}

/// Gets a page's body; `None` unless the answer is 200.
fn get(address_file: &Path, path: &str) -> Option<String> {
    let address: SocketAddr = std::fs::read_to_string(address_file)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    stream.set_write_timeout(Some(DEADLINE)).ok()?;
    // HTTP/1.0: the answer comes whole and ends with the connection.
    stream
        .write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
        .ok()?;
    let mut answer = String::new();
    stream
        .take(PAGE_BYTES_MAX)
        .read_to_string(&mut answer)
        .ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let is_good = head.lines().next()?.contains(" 200 ");
    is_good.then(|| body.to_owned())
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads `a="b",c="d"} rest`.
fn labels(mut text: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (key, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut chars = rest.char_indices();
        let end = loop {
            match chars.next()? {
                (at, '"') => break at,
                (_, '\\') => match chars.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((key.to_owned(), value));
        text = &rest[end + 1..];
    }
}

#[cfg(test)]
mod tests {
    use telemetry::names;

    use super::*;

    const TEXT: &str = r#"# HELP thalweg_ingest_dead_total Events refused.
# TYPE thalweg_ingest_dead_total counter
thalweg_ingest_dead_total{reason="malformed",note="a\"b, }"} 3
thalweg_ingest_dead_total{reason="duplicate"} 4 1700000000000
thalweg_model_version 1
thalweg_drift_psi_ratio{feature="carrier"} 0.02
thalweg_drift_psi_noise_ratio{feature="carrier"} 0.01
thalweg_quality_log_loss{window="all"} 4.5e-1
nonsense
"#;

    #[test]
    fn pages_are_read() {
        let page = Page::parse(TEXT);
        assert_eq!(page.sum(names::INGEST_DEAD), Some(7.0));
        assert_eq!(page.sum(names::MODEL_VERSION), Some(1.0));
        assert_eq!(page.sum(names::SINK_ROWS), None);
        assert_eq!(
            page.with(names::QUALITY_LOG_LOSS, "window", "all"),
            Some(0.45)
        );
        assert_eq!(page.sum(names::DRIFT_PSI), Some(0.02));
        let by = page.by(names::INGEST_DEAD, "reason");
        assert_eq!(
            by,
            [("malformed".to_owned(), 3.0), ("duplicate".to_owned(), 4.0)]
        );
    }

    #[test]
    fn pages_are_fetched() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.http");
        assert_eq!(Page::fetch(&file), None);
        std::fs::write(&file, listener.local_addr().unwrap().to_string()).unwrap();
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 64];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /metrics"));
            stream
                .write_all(b"HTTP/1.0 200 OK\r\n\r\nthalweg_model_version 1\n")
                .unwrap();
        });
        assert_eq!(
            Page::fetch(&file).unwrap().sum(names::MODEL_VERSION),
            Some(1.0)
        );
        served.join().unwrap();
    }
}
