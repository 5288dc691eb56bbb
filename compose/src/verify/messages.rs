//! What an audit reads of a message, and no more: there are as many scores as events.

use sonic_rs::JsonValueTrait;

use super::accounts::tag;

/// What an audit needs of a score.
pub(super) struct Score {
    topic_id: [u8; 32],
    pub(super) partition: i64,
    pub(super) offset: i64,
    pub(super) tag: u16,
}

impl Score {
    /// Says whether it is of an event of this raw topic.
    pub(super) fn is_of(&self, raw_id: &str) -> bool {
        raw_id.as_bytes() == self.topic_id
    }
}

/// Reads a score; `None` if it is none. What follows after event and source, reasons above all, is not looked at.
pub(super) fn read_score(payload: &[u8]) -> Option<Score> {
    if payload.trim_ascii_end().last() != Some(&b'}') {
        return None;
    }
    let mut topic_id: Option<[u8; 32]> = None;
    let (mut id, mut partition, mut offset) = (None, None, None);
    for entry in sonic_rs::to_object_iter(payload) {
        let (key, value) = entry.ok()?;
        match &*key {
            "id" => id = Some(tag(value.as_str()?)),
            "source" => {
                for entry in sonic_rs::to_object_iter(value.as_raw_str()) {
                    let (key, value) = entry.ok()?;
                    match &*key {
                        "topic_id" => topic_id = value.as_str()?.as_bytes().try_into().ok(),
                        "partition" => partition = value.as_i64(),
                        "offset" => offset = value.as_i64(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        if id.is_some() && offset.is_some() {
            break;
        }
    }
    Some(Score {
        topic_id: topic_id?,
        partition: partition?,
        offset: offset?,
        tag: id?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_read_and_nonsense_is_not() {
        let text = include_bytes!("../../../schemas/fixtures/score-1.json");
        let expected: schemas::score::Score = serde_json::from_slice(text).unwrap();
        let score = read_score(text).unwrap();
        assert!(score.is_of(&expected.source.topic_id.to_string()));
        assert!(!score.is_of(&"00".repeat(16)));
        assert_eq!(score.partition, i64::from(expected.source.partition.0));
        assert_eq!(score.offset, expected.source.offset.0);
        assert_eq!(score.tag, tag(&expected.id));
        assert!(read_score(&text[..text.trim_ascii_end().len() - 1]).is_none());
        assert!(read_score(b"{\"id\":\"x\"}").is_none());
        assert!(read_score(b"{").is_none());
    }
}
