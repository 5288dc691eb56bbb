//! Lake and checkpoints in an object store that is no folder: S3's protocol, over the network.

use anyhow::{Context, Result, ensure};
use tests::Sandbox;

#[test]
fn lake_and_checkpoints_may_lie_on_s3() -> Result<()> {
    let (sandbox, s3) = Sandbox::start_on_s3()?;
    let producer = sandbox.produce(&[
        "--rate", "4000", "--events", "20000", "--dirt", "0.02", "--seed", "8",
    ])?;
    sandbox.until("the lake has a file", || {
        Ok(!parquet(&s3.list("a/lake/")?).is_empty())
    })?;
    sandbox.until("a checkpoint is stored", || {
        let names = s3.list("checkpoints/")?;
        Ok(names.iter().any(|name| name.ends_with(".safetensors")))
    })?;
    for worker in ["sink", "trainer", "scorer"] {
        sandbox.kill(worker)?;
    }
    sandbox.produced(producer)?;
    sandbox.until("all is where it should be", || Ok(sandbox.verify()?.0 == 0))?;
    let (_, report) = sandbox.verify()?;
    for promise in ["lake", "commits", "checkpoints"] {
        let looked_at = &report["promises"][promise]["looked_at"];
        ensure!(
            looked_at.as_u64().is_some_and(|count| 0 < count),
            "{promise}: {report}"
        );
    }

    let before = parquet(&s3.list("a/lake/")?).len();
    let packed = sandbox.compact()?;
    let (code, report) = sandbox.verify()?;
    ensure!(code == 0, "{packed} {report}");
    for command in [Sandbox::recompute, Sandbox::replay] {
        let (code, said) = command(&sandbox, &[])?;
        ensure!(code == Some(0), "{said}");
    }

    // Packed files stay until they are vacuumed: with all of them go those of the newest version.
    let files = parquet(&s3.list("a/lake/")?);
    ensure!(before <= files.len(), "{packed}");
    for file in &files {
        s3.delete(file)?;
    }
    let (code, report) = sandbox.verify()?;
    let first = report["promises"]["commits"]["first"]["what"].as_str();
    let first = first.with_context(|| format!("{report}"))?;
    ensure!(code == 1 && first.contains(".parquet"), "{first}");
    sandbox.stop()?;
    Ok(())
}

fn parquet(names: &[String]) -> Vec<String> {
    let is_data = |name: &&String| name.ends_with(".parquet") && !name.contains("_delta_log");
    names.iter().filter(is_data).cloned().collect()
}
