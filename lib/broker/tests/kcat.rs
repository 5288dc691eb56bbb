//! The broker through kcat, another build of librdkafka, where it is installed.

#![allow(clippy::unwrap_used)] // helpers of tests fail as they do

mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use support::Sandbox;

/// Runs kcat with some input and returns what it prints; `None` if it is not installed.
fn kcat(sandbox: &Sandbox, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new("kcat");
    command
        .args(["-b", &sandbox.address.to_string()])
        .args(arguments);
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    if spawned
        .as_ref()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    {
        eprintln!("kcat is not installed: nothing is tested");
        return None;
    }
    let mut child = spawned.unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "kcat {arguments:?} failed");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn kcat_lists_produces_consumes_and_finds_offsets() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(folder.path());
    sandbox.clients().create("t", 2);
    let Some(listing) = kcat(&sandbox, &["-L"], "") else {
        return;
    };
    assert!(
        listing.contains("topic \"t\" with 2 partitions"),
        "{listing}"
    );
    let lines: String = (0..1_000).map(|n| format!("{n}\n")).collect();
    for (n, codec) in ["none", "gzip", "snappy", "lz4", "zstd"].iter().enumerate() {
        let produce = ["-P", "-t", "t", "-p", "0", "-z", codec, "-H", "codec=x"];
        kcat(&sandbox, &produce, &lines).unwrap();
        let from = (n * 1_000).to_string();
        let consume = ["-C", "-t", "t", "-p", "0", "-o", &from, "-e", "-q"];
        assert_eq!(kcat(&sandbox, &consume, "").unwrap(), lines, "{codec}");
    }
    let offset = kcat(&sandbox, &["-Q", "-t", "t:0:-1"], "").unwrap();
    assert_eq!(offset.trim(), "t [0] offset 5000");
}
