//! Where receipts come from: the topic of scores, or lines of a file, read forward a pass at a time.

use std::collections::HashSet;
use std::io::{BufRead, Read};

use anyhow::{Result, ensure};
use schemas::{Digest, Offset, Partition};
use worker::{Broker, TopicPartition};

use super::receipt::{Foreign, Place, Receipts};
use super::verdict::{Difference, Verdict, Why};
use super::{Phase, Step};
use crate::tape::Tape;

/// A score is a few hundred bytes: what is longer than this is another file.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// Which receipts count.
pub(super) struct Asked {
    /// Digest of the contract given.
    pub contract: Digest,
    /// Ids that were asked for; empty is all.
    pub ids: HashSet<String>,
    /// Those of them that were found.
    pub found: HashSet<String>,
}

impl Asked {
    /// Takes the JSON of a score in; says whether it is one of those asked for.
    fn take(&mut self, place: Place, json: &[u8], into: &mut Receipts, verdict: &mut Verdict) {
        let (ids, found) = (&self.ids, &mut self.found);
        let asked = |id: &str| {
            if ids.is_empty() {
                return true;
            }
            let asked = ids.contains(id);
            if asked {
                found.insert(id.to_owned());
            }
            asked
        };
        let (id, why) = match into.add(place, json, self.contract, asked) {
            Ok(()) | Err(Foreign::Unasked) => return,
            // Nobody knows whether what cannot be read was asked for.
            Err(Foreign::Unreadable(_)) if !self.ids.is_empty() => return,
            Err(Foreign::Unreadable(problem)) => (None, Why::Unreadable(problem)),
            Err(Foreign::OtherContract { id, contract }) => {
                let given = self.contract;
                let why = Why::OtherContract {
                    receipt: contract,
                    given,
                };
                (Some(id), why)
            }
        };
        verdict.differs(Difference { place, id, why });
    }

    /// Returns the ids that were asked for and not found.
    pub fn missing(&self) -> Vec<&String> {
        let mut missing: Vec<&String> = self.ids.difference(&self.found).collect();
        missing.sort_unstable();
        missing
    }
}

/// Receipts, read forward.
pub(super) enum Source {
    /// The partitions of a topic, the next one last, and the one that is being read.
    Topic {
        /// Those that come yet.
        left: Vec<TopicPartition>,
        /// The one that is being read.
        tape: Option<Tape>,
    },
    /// Lines, and how many were read.
    Lines {
        /// The lines.
        lines: Box<dyn BufRead>,
        /// How many were read.
        read: u64,
    },
}

impl Source {
    /// Reads a topic from its beginning.
    pub fn topic(name: &str, partitions: i32) -> Source {
        let all = (0..partitions).rev();
        Source::Topic {
            left: all
                .map(|partition| (name, Partition(partition)).into())
                .collect(),
            tape: None,
        }
    }

    /// Reads lines.
    pub fn lines(lines: Box<dyn BufRead>) -> Source {
        Source::Lines { lines, read: 0 }
    }

    /// Reads receipts until there are enough; says no when there are no more.
    pub async fn fill<B: Broker>(
        &mut self,
        broker: &B,
        most: usize,
        asked: &mut Asked,
        into: &mut Receipts,
        verdict: &mut Verdict,
        progress: &mut dyn FnMut(Step),
    ) -> Result<bool> {
        match self {
            Source::Lines { lines, read } => {
                while into.list().len() < most {
                    let Some(line) = line(lines, *read + 1)? else {
                        return Ok(false);
                    };
                    *read += 1;
                    let json = line.trim_ascii();
                    if !json.is_empty() {
                        asked.take(Place::Line(*read), json, into, verdict);
                    }
                }
                Ok(true)
            }
            Source::Topic { left, tape } => {
                while into.list().len() < most {
                    if tape.is_none() {
                        let Some(next) = left.pop() else {
                            return Ok(false);
                        };
                        *tape = Some(Tape::open(broker, next, Offset(0)).await?);
                    }
                    let Some(open) = tape.as_mut() else { continue };
                    let Some(batch) = open.next(broker).await? else {
                        *tape = None;
                        continue;
                    };
                    progress(Step::new(Phase::Receipts, open.passed()));
                    for record in batch.records() {
                        let place = Place::Record {
                            partition: batch.from().partition.0,
                            offset: record.offset().0,
                        };
                        asked.take(place, record.value().unwrap_or_default(), into, verdict);
                    }
                }
                Ok(true)
            }
        }
    }
}

/// Reads the next line.
fn line(lines: &mut Box<dyn BufRead>, number: u64) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = lines
        .by_ref()
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut line)?;
    ensure!(
        (read as u64) < LINE_BYTES_MAX,
        "line {number} is longer than a score can be"
    );
    Ok((0 < read).then_some(line))
}

#[cfg(test)]
mod tests {
    use super::super::receipt::tests::{CONTRACT, json};
    use super::*;
    use worker::Simulated;

    fn asked(ids: &[&str]) -> Asked {
        Asked {
            contract: CONTRACT,
            ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            found: HashSet::new(),
        }
    }

    async fn check(ids: &[&str], passes: &[usize], missing: &[&str], differing: u64) {
        let text = format!(
            "{}\n\n{}\nnonsense\n{}",
            json("a", 0.1, 1, 1),
            json("b", 0.2, 1, 2),
            json("c", 0.3, 1, 3),
        );
        let mut source = Source::lines(Box::new(std::io::Cursor::new(text)));
        let (mut asked, mut verdict) = (asked(ids), Verdict::default());
        let mut found = Vec::new();
        let mut more = true;
        while more {
            let mut receipts = Receipts::default();
            more = source
                .fill(
                    &Simulated::default(),
                    2,
                    &mut asked,
                    &mut receipts,
                    &mut verdict,
                    &mut |_| {},
                )
                .await
                .unwrap();
            found.push(receipts.list().len());
        }
        assert_eq!(found, passes);
        assert_eq!(asked.missing(), missing);
        assert_eq!(verdict.differences(), differing);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_come_in_passes_and_only_those_asked_for() {
        check(&[], &[2, 1], &[], 1).await;
        check(&["c", "x", "a"], &[2, 0], &["x"], 0).await;
        check(&["y", "x"], &[0], &["x", "y"], 0).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_line_without_end_is_refused() {
        let text = vec![b'x'; LINE_BYTES_MAX as usize + 1];
        let mut lines: Box<dyn BufRead> = Box::new(std::io::Cursor::new(text));
        assert!(line(&mut lines, 1).is_err());
    }
}
