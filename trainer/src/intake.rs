//! Clean messages on their way in: checks that each belongs to this contract, partition and raw topic.

use schemas::clean::CleanError;
use worker::{Record, TopicPartition};

use crate::error::TrainerError;
use crate::fit::Fitter;
use crate::input::{Decoder, Part};

/// Decodes a clean message, and notes its raw topic if it is the first.
///
/// # Errors
/// A message that is no clean batch, or of another contract, partition or raw topic.
pub(crate) fn clean_part(
    decoder: &mut Decoder,
    from: &TopicPartition,
    record: &Record<'_>,
    fitter: &mut Fitter,
    part: &mut Part,
) -> Result<(), TrainerError> {
    let wrong = |source| match source {
        CleanError::OtherContract { found, expected } => TrainerError::OtherContract {
            from: from.to_string(),
            offset: record.offset(),
            found,
            expected,
        },
        source => TrainerError::Clean {
            from: from.to_string(),
            offset: record.offset(),
            source,
        },
    };
    let found = decoder.clean(record, part).map_err(wrong)?;
    if part.partition != from.partition {
        let right = "the partition that it is in";
        let name = schemas::clean::header::SOURCE_PARTITION;
        return Err(wrong(CleanError::Header { name, right }));
    }
    let expected = *fitter.source.get_or_insert(found);
    if expected == found {
        return Ok(());
    }
    Err(TrainerError::OtherSource {
        from: from.to_string(),
        found,
        expected,
    })
}
