//! The continuous audit, seen from outside: its gauge is 0 while all holds, and no more once something does not.

use std::collections::HashSet;
use std::process::Child;

use anyhow::{Context, Result, ensure};
use schemas::dead::DeadHeader;
use schemas::topics::Topics;
use tests::{Sandbox, forge, log};

const BROKEN: &str = "thalweg_audit_broken_promises";

/// A program that a test has started, and that ends with it.
struct Watching(Child);

impl Watching {
    /// Tells it to stop, and returns its exit code.
    fn stop(&mut self) -> Result<Option<i32>> {
        // SAFETY: sends a signal to a process that this test started.
        let sent = unsafe { libc::kill(self.0.id() as i32, libc::SIGTERM) };
        ensure!(sent == 0, "it runs no more");
        Ok(self.0.wait()?.code())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It has ended already, or it ends now.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until an audit that began after now has come to its end.
fn audited(sandbox: &Sandbox) -> Result<()> {
    let audits = || sandbox.metric("audit", "thalweg_audit_audits_total");
    let before = audits().unwrap_or_default();
    // The next one may have begun already.
    sandbox.until("two more audits are through", || {
        Ok(before + 2.0 <= audits().unwrap_or_default())
    })
}

#[test]
fn the_gauge_is_0_until_something_is_forged_and_never_again() -> Result<()> {
    let sandbox = Sandbox::start()?;
    let producer = sandbox.produce(&[
        "--speed", "max", "--events", "2000", "--dirt", "0.02", "--seed", "12",
    ])?;
    let produced = sandbox.produced(producer)?;
    let mut watching = Watching(sandbox.watch()?);
    let looked_at = || sandbox.metric("audit", "thalweg_audit_through");
    sandbox.until("an audit has looked at everything", || {
        Ok(looked_at().is_ok_and(|through| produced.raw as f64 <= through))
    })?;
    audited(&sandbox)?;
    ensure!(
        sandbox.metric("audit", BROKEN)? == 0.0,
        "something is broken"
    );

    let topics = Topics::of("flights");
    sandbox.until("every raw record is clean or dead", || {
        Ok(sandbox.verify()?.0 == 0)
    })?;
    let letters = log::read(&sandbox.brokers, &topics.dead)?;
    let dead = letters.iter().map(|letter| {
        let header = DeadHeader::from_headers(letter.headers()).context("a dead letter")?;
        Ok((header.source.partition.0, header.source.offset.0))
    });
    let dead: HashSet<(i32, i64)> = dead.collect::<Result<_>>()?;
    let clean = (0..)
        .map(|offset| (0, offset))
        .find(|at| !dead.contains(at));
    let letter = letters.first().context("dirt is refused")?;
    forge::dead_letter(
        &sandbox.brokers,
        &topics.dead,
        letter,
        clean.context("an event")?,
    )?;
    sandbox.until("the forged letter is found", || {
        Ok(sandbox.metric("audit", BROKEN)? == 1.0)
    })?;
    audited(&sandbox)?;
    ensure!(sandbox.metric("audit", BROKEN)? == 1.0, "it is forgotten");
    ensure!(watching.stop()? == Some(1), "the exit code says so");
    sandbox.stop()?;
    Ok(())
}
