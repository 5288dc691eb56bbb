//! An S3 server on a free port: moto, which speaks S3's own protocol, conditional puts and listings included.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::outside::Places;
use crate::python;

const BUCKET: &str = "thalweg";

/// How long the server may take until it listens.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running server with one bucket; what it has goes with it.
pub struct S3 {
    server: Child,
    address: String,
}

impl S3 {
    /// Starts the server; what it says goes to a file in the folder.
    ///
    /// # Errors
    /// A server that does not start: `./test` sets it up.
    pub fn start(folder: &Path) -> Result<S3> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(folder.join("s3.log"))?;
        let server = Command::new(python()?.with_file_name("moto_server"))
            .args(["--host", "127.0.0.1", "--port"])
            .arg(address.port().to_string())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("moto does not start: run ./test, which sets it up")?;
        let server = S3 {
            server,
            address: address.to_string(),
        };
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(address).is_err() {
            ensure!(Instant::now() < deadline, "the S3 server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        let made = server.ask("PUT", "")?;
        ensure!(
            made.starts_with("HTTP/1.1 200"),
            "no bucket was made: {made}"
        );
        Ok(server)
    }

    /// Returns lake and checkpoints in the bucket, and what clients must know.
    pub fn places(&self) -> Places {
        let environment = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.address)),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "nobody".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "nothing".to_owned()),
        ];
        Places {
            lake: format!("s3://{BUCKET}/a/lake"),
            checkpoints: format!("s3://{BUCKET}/checkpoints"),
            environment: environment.into(),
        }
    }

    /// Returns the names of the objects that begin so.
    ///
    /// # Errors
    /// A server that does not answer.
    pub fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.ask("GET", &format!("?list-type=2&prefix={prefix}"))?;
        let names = listed.split("<Key>").skip(1);
        let names = names.filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned()));
        Ok(names.collect())
    }

    /// Deletes an object, as somebody does who knows nothing of the lake.
    ///
    /// # Errors
    /// A server that refuses.
    pub fn delete(&self, name: &str) -> Result<()> {
        let deleted = self.ask("DELETE", &format!("/{name}"))?;
        ensure!(deleted.starts_with("HTTP/1.1 204"), "{deleted}");
        Ok(())
    }

    fn ask(&self, method: &str, of: &str) -> Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        // Any signature will do.
        write!(
            stream,
            "{method} /{BUCKET}{of} HTTP/1.1\r\nhost: {}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential=nobody/20260101/us-east-1/s3/aws4_request\r\ncontent-length: 0\r\n\
             connection: close\r\n\r\n",
            self.address
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to end.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
